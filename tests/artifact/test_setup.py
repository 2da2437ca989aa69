"""Setting up: a machine that lacks something is told before anything is installed; without a GPU, nothing for one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs

CHECK = ROOT / "setup" / "check_machine.sh"
NEEDED = ("sh", "uname", "df", "dirname", "mktemp", "rm", "getconf", "git", "c++", "as", "ld", "python3")
CASES: dict[str, tuple[set[str], list[str]]] = {
    "no compiler": ({"c++"}, [r"there is no C\+\+ compiler \(\S+\), and fastText is built from source"]),
    "a compiler without a linker": ({"ld"}, [r"the C\+\+ compiler \S+ does not build a program"]),
    "no Python": ({"python3"}, ["there is no program python3; Python 3.11, 3.12 or 3.13 is needed"]),
    "no Git": ({"git"}, ["there is no program git, which DVC needs"]),
    "nothing of all that": (
        {"c++", "git", "python3"},
        ["there is no program python3", r"there is no C\+\+ compiler", "there is no program git"],
    ),
}
MANAGERS = {
    "apt-get": ("apt-get install ", ("dnf", "brew", "xcode")),
    "dnf": ("dnf install ", ("apt-get", "brew", "xcode")),
    "brew": ("(brew install |xcode-select --install)", ("apt-get", "dnf")),
    "": ("Debian, Ubuntu: apt-get install .*; Fedora: dnf install .*; macOS: ", ()),
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS finds programs that are not on the path")


def path(folder: Path, *without: str, more: str = "") -> Path:
    """Make a folder of links to the programs that are needed, without some, with a package manager."""
    folder.mkdir()
    for name in NEEDED:
        found = sys.executable if name == "python3" else shutil.which(name)
        if name not in without and found is not None:
            (folder / name).symlink_to(found)
    if more:
        (folder / more).symlink_to("/bin/true")
    return folder


def check(folder: Path, on: Path, *needs: object, python: str = "python3", **environment: str) -> tuple[int, str]:
    """Run the check in a folder with these programs only, and return its status and what it says."""
    command = [shutil.which("sh") or "sh", str(CHECK), python, ".venv", *map(str, needs or (0, 0))]
    given = {"PATH": str(on), "HOME": str(folder), "CXX": "c++", **environment}
    done = programs.finished(command, cwd=folder, env=given)
    assert done.stdout == ""
    return done.returncode, done.stderr


class TestMachine:
    def test_one_that_lacks_nothing_hears_nothing(self, tmp_path: Path) -> None:
        status, told = check(tmp_path, path(tmp_path / "a bin"))
        assert (status, [line for line in told.splitlines() if ": note: " not in line]) == (0, [])

    @pytest.mark.parametrize("case", CASES)
    def test_all_that_is_missing_is_told_at_once_and_nothing_is_left(self, tmp_path: Path, case: str) -> None:
        without, expected = CASES[case]
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        status, told = check(tmp_path, path(tmp_path / "bin", *without), TMPDIR=str(scratch))
        lines = told.splitlines()
        assert status == 1
        assert lines[-1] == "setup: nothing was installed. UNCHECKED=1 make setup tries without these checks"
        assert len(lines) == len(expected) + 1, told
        for line, pattern in zip(lines, expected, strict=False):
            assert re.match(f"setup: {pattern}.*. Remedy: ", line), line
        assert list(scratch.iterdir()) == []
        assert not (tmp_path / ".venv").exists()

    @pytest.mark.parametrize("manager", MANAGERS)
    def test_the_remedy_is_that_of_the_system(self, tmp_path: Path, manager: str) -> None:
        wanted, others = MANAGERS[manager]
        _, told = check(tmp_path, path(tmp_path / "bin", "c++", "git", "python3", more=manager))
        remedies = [line.partition("Remedy: ")[2] for line in told.splitlines()[:-1]]
        assert len(remedies) == 3
        assert all(re.match(wanted, remedy) for remedy in remedies), remedies
        assert not any(other in remedy for other in others for remedy in remedies)

    def test_a_python_without_headers_is_told(self, tmp_path: Path) -> None:
        # A Python whose prefix has its library, and no folder include.
        prefix = tmp_path / "python"
        (prefix / "bin").mkdir(parents=True)
        base = Path(sys.base_prefix)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        shutil.copy2(Path(sys.executable).resolve(), prefix / "bin" / version)
        (prefix / "lib").symlink_to(base / "lib")
        on = path(tmp_path / "bin", more="apt-get")
        where = {"LD_LIBRARY_PATH": str(base / "lib")}
        status, told = check(tmp_path, on, python=str(prefix / "bin" / version), **where)
        assert status == 1
        assert re.match(r"setup: the headers of Python 3\.\d+ are missing \(.*/Python.h\)", told), told
        assert f"apt-get install {version}-dev" in told

    def test_a_python_that_is_too_old_is_told_with_its_version(self, tmp_path: Path) -> None:
        on = path(tmp_path / "bin", "python3", more="dnf")
        code = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[2])"
        (on / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        (on / "python3").chmod(0o755)
        status, told = check(tmp_path, on)
        assert status == 1
        assert "python3 is Python 3.9; 3.11, 3.12 or 3.13 is needed. Remedy: dnf install python3.12" in told
        assert "make PYTHON=python3.12 setup" in told

    def test_a_program_that_is_no_python_is_told(self, tmp_path: Path) -> None:
        status, told = check(tmp_path, path(tmp_path / "bin"), python="git")
        assert status == 1
        assert "setup: git does not run: " in told

    def test_too_little_disk_is_told_for_the_folder_and_for_the_cache_on_another_disk(self, tmp_path: Path) -> None:
        on = path(tmp_path / "bin")
        status, told = check(tmp_path, on, 10**6, 0)
        assert status == 1
        assert re.search(r"this folder has \d+\.\d GB of free disk, and 1000000 GB are needed. Remedy: free some", told)
        assert "the cache" not in told
        # What is installed already is replaced.
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / ".ready").touch()
        assert check(tmp_path, on, 10**6, 0)[0] == 0

    def test_a_small_disk_under_the_cache_is_told(self, tmp_path: Path) -> None:
        small = Path("/dev/shm")  # noqa: S108 - nothing is written there
        if not small.is_dir() or small.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("no file system of its own at /dev/shm")
        need = shutil.disk_usage(small).free // 10**9 + 1
        if shutil.disk_usage(tmp_path).free // 10**9 < need:
            pytest.skip("the disk is smaller than /dev/shm")
        status, told = check(tmp_path, path(tmp_path / "bin"), need, 0, UV_CACHE_DIR=str(small / "not" / "there"))
        assert status == 1
        assert told.startswith("setup: the cache of packages (/dev/shm/not/there) has ")
        assert "this folder" not in told

    def test_too_little_memory_is_told_also_where_a_limit_is_what_lacks(self, tmp_path: Path) -> None:
        on = path(tmp_path / "bin")
        status, told = check(tmp_path, on, 0, 10**6)
        assert status == 1
        assert re.match(r"setup: there are \d+\.\d GB of memory for this process, and 1000000 GB are needed", told)
        limited = f"ulimit -v 1900000; exec sh '{CHECK}' python3 .venv 0 3"
        done = programs.finished(["/bin/sh", "-c", limited], cwd=tmp_path, env={"PATH": str(on), "CXX": "c++"})
        assert done.returncode == 1
        assert "there are 1.9 GB of memory for this process, and 3 GB are needed" in done.stderr


def project(folder: Path) -> Path:
    """Make a project with this one's Makefile and setup, and one tiny package for each kind that its lock has."""
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "setup", folder / "setup", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1"\n'
    )
    (folder / "backend.py").write_text(
        "import zipfile\n"
        "def build_editable(folder, *_):\n"
        "    with zipfile.ZipFile(f'{folder}/tiny-1-py3-none-any.whl', 'w') as wheel:\n"
        "        wheel.writestr('tiny-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n')\n"
        "        about = 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'\n"
        "        wheel.writestr('tiny-1.dist-info/WHEEL', about)\n"
        "        wheel.writestr('tiny-1.dist-info/RECORD', '')\n"
        "    return 'tiny-1-py3-none-any.whl'\n"
    )
    return folder


def wheel(index: Path, name: str, version: str, code: str = "") -> str:
    """Write a package of one module into an index of packages, and return the digest of its wheel."""
    stem = name.replace("-", "_")
    place = index / name / f"{stem}-{version}-py3-none-any.whl"
    place.parent.mkdir(parents=True)
    info = f"{stem}-{version}.dist-info"
    with zipfile.ZipFile(place, "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
        file.writestr(f"{stem}.py", code)
    (place.parent / "index.html").write_text(f'<a href="{place.name.replace("+", "%2B")}">{place.name}</a>')
    return hashlib.sha256(place.read_bytes()).hexdigest()


# Name and version, and who asks for it.
LOCKED = {
    "click==8.5.1": "    # via\n    #   dask-cuda\n    #   tiny (pyproject.toml)",
    "cuda-core==1.2.2": "    # via dask-cuda",
    "dask-cuda==26.10.0": "    # via tiny (pyproject.toml)",
    "nvidia-cudnn-cu13==9.20.0": "    # via torch",
    "rapids-dask-dependency==26.10.0": "    # via dask-cuda",
    "sympy==1.14.0": "    # via torch",
    "torch==2.13.0": "    # via\n    #   tiny (pyproject.toml)\n    #   torchvision",
    "torchvision==0.28.0": "    # via tiny (pyproject.toml)",
    "triton==3.7.1": "    # via torch",
}


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_", "MAKE"))}
    given |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", **environment}
    return programs.finished(["make", f"PYTHON={sys.executable}", *words], cwd=folder, env=given)


def installed(folder: Path) -> set[str]:
    """Name the distributions in the environment of a project, but for those that install."""
    found = {path.name.removesuffix(".dist-info") for path in (folder / ".venv").rglob("*.dist-info")}
    return {name.replace("_", "-") for name in found if name.split("-")[0] not in {"pip", "uv", "setuptools"}}


class TestMake:
    def test_the_make_of_macos_is_told_which_one_is_needed(self, tmp_path: Path) -> None:
        # What the make of macOS calls itself; the rest is this Makefile.
        done = make(project(tmp_path / "a project"), "MAKE_VERSION=3.81", "setup")
        assert done.returncode == 2
        assert "make 3.81 is too old, GNU make 4 is needed. Remedy: brew install make, then gmake" in done.stderr
        assert not (tmp_path / "a project" / ".venv").exists()

    def test_nothing_is_installed_where_the_check_fails(self, tmp_path: Path) -> None:
        folder = project(tmp_path / "a project")
        (folder / "requirements.lock").touch()
        done = make(folder, "DISK_GB=1000000", "setup")
        assert done.returncode == 2
        assert "GB of free disk, and 1000000 GB are needed" in done.stderr
        assert not (folder / ".venv").exists()

    @pytest.mark.slow
    def test_with_an_index_for_processors_nothing_for_gpus_is_installed_and_the_index_is_remembered(
        self, tmp_path: Path
    ) -> None:
        folder = project(tmp_path / "a project")
        lines = []
        for pin, via in LOCKED.items():
            name, version = pin.split("==")
            lines.append(f"{pin} \\\n    --hash=sha256:{wheel(tmp_path / 'index', name, version)}\n{via}\n")
        (folder / "requirements.lock").write_text("".join(lines))
        # One index with builds for processors, one with a build for GPUs, one whose two packages do not fit.
        unfit = "raise RuntimeError('operator torchvision::nms does not exist')"
        for place, cuda, code in (("processors", "None", ""), ("gpus", "'13.0'", ""), ("unfit", "None", unfit)):
            wheel(tmp_path / place, "torch", "2.13.0+cpu", f"class version:\n    cuda = {cuda}\n")
            wheel(tmp_path / place, "torchvision", "0.28.0+cpu", code)
        # An environment that has uv already: nothing is fetched.
        venv.create(folder / ".venv", with_pip=True, symlinks=True)
        packages = next((folder / ".venv" / "lib").glob("python3*/site-packages"))
        ours = Path(sysconfig.get_path("purelib"))
        for place in [ours / "uv", *ours.glob("uv-*.dist-info")]:
            shutil.copytree(place, packages / place.name)
        shutil.copy(Path(sys.executable).parent / "uv", folder / ".venv" / "bin" / "uv")
        index = {"UV_DEFAULT_INDEX": (tmp_path / "index").as_uri(), "UV_CACHE_DIR": str(tmp_path / "cache")}

        everything = {pin.replace("==", "-") for pin in LOCKED}
        done = make(folder, "setup", **index)
        assert done.returncode == 0, done.stdout + done.stderr
        assert installed(folder) == everything | {"tiny-1"}

        processors = {"click-8.5.1", "sympy-1.14.0", "torch-2.13.0+cpu", "torchvision-0.28.0+cpu", "tiny-1"}
        address = (tmp_path / "processors").as_uri()
        done = make(folder, "setup", f"CPU_INDEX={address}", **index)
        assert done.returncode == 0, done.stdout + done.stderr
        assert installed(folder) == processors
        assert address not in done.stdout + done.stderr

        done = make(folder, "setup", **index)
        assert "Nothing to be done for 'setup'" in done.stdout
        (folder / "requirements.lock").touch()
        assert make(folder, "setup", **index).returncode == 0
        assert installed(folder) == processors

        for place, problem in (("gpus", "it was built for CUDA 13.0"), ("unfit", "operator torchvision::nms does not")):
            done = make(folder, "setup", f"CPU_INDEX={(tmp_path / place).as_uri()}", **index)
            assert done.returncode == 2
            assert "the torch and torchvision of CPU_INDEX are no builds for processors: " + problem in done.stderr
            assert "Remedy: an index that has them (docs/install.md), or make setup CPU_INDEX=" in done.stderr

        done = make(folder, "setup", "CPU_INDEX=", **index)
        assert done.returncode == 0, done.stdout + done.stderr
        assert installed(folder) == everything | {"tiny-1"}

    def test_of_the_lock_only_packages_for_gpus_are_left_out(self, tmp_path: Path) -> None:
        command = [sys.executable, str(ROOT / "setup" / "for_processors.py"), str(ROOT / "requirements.lock")]
        programs.finished([*command, str(tmp_path)], check=True)

        def names(text: str) -> set[str]:
            return set(re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE))

        kept, torch = ((tmp_path / name).read_text() for name in ("processors.lock", "torch.txt"))
        gone = names((ROOT / "requirements.lock").read_text()) - names(kept)
        assert names(torch) == {"torch", "torchvision"}
        named = {name for name in gone if re.match("(nvidia|cuda)-", name)}
        assert gone - named == {"torch", "torchvision", "triton", "dask-cuda", "rapids-dask-dependency"}
        assert len(named) > 15
        assert {"sympy", "filelock", "networkx", "distributed", "onnxruntime"} <= names(kept)
        assert kept.count("--hash=sha256:") > len(names(kept))
