"""The wheel: the package alone, with the files that its commands read."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of a wheel that is built here, without the network."""
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("uv, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [uv, "build", "--wheel", "--offline", "--out-dir", folder, ROOT]
    built = programs.finished(command)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("the build backend, hatchling, is not in uv's cache")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return files.namelist()


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {re.sub(r"-[^-]+\.dist-info$", ".dist-info", top) for top in tops} == {"laion_dask", "laion_dask.dist-info"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern",
    [
        "params.yaml",
        "recipes/*.yaml",
        "report/reference_tables/*.csv",
        "*/templates/*.j2",
        "demo/captioner/*",
        "demo/model/*",
        "demo/tags.yaml",
        "demo/translator/*",
        "standalone/*.py",
    ],
)
def test_the_wheel_holds_the_files_that_commands_read(names: list[str], pattern: str) -> None:
    folder = ROOT / "laion_dask"
    expected = {f"laion_dask/{path.relative_to(folder).as_posix()}" for path in folder.glob(pattern)}
    if pattern == "params.yaml":
        expected = {"laion_dask/params.yaml"}
    assert expected
    assert expected <= set(names)
