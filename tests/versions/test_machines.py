"""What a version was built with: the machine without a name, and packages beside requirements.lock."""

from __future__ import annotations

import socket
from importlib import metadata
from pathlib import Path

import pytest
from made.places import ROOT

from laion_dask.versions import machines

X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2.10GHz\nflags\t\t: fpu avx avx2 avx512f sse2\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\n"


@pytest.mark.parametrize(
    ("text", "processor", "instructions"),
    [(X86, "Some CPU @ 2.10GHz", ["avx2", "avx512f"]), (ARM, None, ["asimd", "sve"]), ("", None, [])],
)
def test_the_processor_and_its_instructions_are_read_from_cpuinfo(
    tmp_path: Path, text: str, processor: str | None, instructions: list[str]
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = machines.here(tmp_path / "cpuinfo")
    assert found["instructions"] == instructions
    assert found["processor"]
    assert processor in {None, found["processor"]}


def test_settings_by_which_libraries_choose_their_kernels_are_recorded_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("A_TOKEN", "secret")
    assert "ATEN_CPU_CAPABILITY=default" in machines.here()["settings"]
    assert "secret" not in str(machines.here())


def test_no_name_of_the_machine_or_its_user_is_recorded() -> None:
    said = str(machines.here())
    assert socket.gethostname() not in said
    assert str(Path.home()) not in said


def test_a_version_of_the_lock_is_right_where_it_has_several_and_what_is_not_installed_is_left_out() -> None:
    installed = metadata.version("pytest")
    lock = (
        f"pytest==0.1 ; python_version < '3' \\\n  --hash=sha256:1\npytest=={installed} ; x\nnot-there==1\nPyYAML==0.0"
    )
    assert machines.pins(lock)["pytest"] == {"0.1", installed}
    (other,) = machines.other_packages(lock)
    assert other.startswith("pyyaml ")
    assert other.endswith(", not 0.0")


def test_the_projects_own_lock_is_read_whole() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert sum(map(len, machines.pins(text).values())) == len(
        [line for line in text.splitlines() if line[:1].isalnum()]
    )
