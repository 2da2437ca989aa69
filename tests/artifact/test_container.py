"""The container's recipe, read as text because none was built: versions, hashes, no root, no registry."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from made.places import ROOT


@dataclass
class Stage:
    """One FROM with the instructions below it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == word]


def stages(text: str) -> list[Stage]:
    """Parse a Containerfile: comments out, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].instructions.append((word, rest))
    return found


TEXT = (ROOT / "Containerfile").read_text()
STAGES = stages(TEXT)
NAMED = {stage.name: stage for stage in STAGES if stage.name}


def lineage(stage: Stage) -> Iterator[Stage]:
    """Yield a stage and the stages that it starts from."""
    yield stage
    if stage.base in NAMED:
        yield from lineage(NAMED[stage.base])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name or "last")
def test_each_base_is_an_image_with_its_whole_version_and_no_address_or_an_earlier_stage(stage: Stage) -> None:
    if stage.base in NAMED:
        return
    # Without a host in front: which registry is asked is the builder's setting.
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", stage.base), stage.base


def test_python_is_one_that_the_package_supports_and_the_same_where_it_is_built_and_where_it_runs() -> None:
    bases = {stage.base for stage in STAGES if stage.base not in NAMED}
    (base,) = bases
    minor = ".".join(base.removeprefix("python:").split("-")[0].split(".")[:2])
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {minor}" in classifiers


def installs() -> list[list[str]]:
    commands = [part for stage in STAGES for run in stage.all("RUN") for part in run.split("&&")]
    return [words for part in commands if "install" in (words := shlex.split(part)) or "sync" in words]


def test_packages_come_from_the_lock_with_hashes_and_nothing_else_is_installed() -> None:
    from_index = [words for words in installs() if words[0] in {"pip", "uv"} and "--no-deps" not in words]
    pinned = [words for words in from_index if words[:2] == ["pip", "install"]]
    locked = [words for words in from_index if words[0] == "uv"]
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [words[-1] for words in pinned] == [f"uv=={version}"]
    ((*options, file),) = locked
    assert "--require-hashes" in options
    assert file == "/src/requirements.lock"


def test_the_lock_has_a_hash_for_every_package() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text())
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_no_address_of_a_registry_or_an_index_is_named() -> None:
    assert re.findall(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host", TEXT) == []
    assert re.findall(r"\b[\w.-]+\.(?:io|com|org|dev)/", TEXT) == []


@pytest.mark.parametrize("target", ["", "gpu"], ids=["for processors", "for GPUs"])
def test_what_runs_is_not_root_and_has_no_compiler(target: str) -> None:
    stage = NAMED[target] if target else STAGES[-1]
    users = [user for one in reversed([*lineage(stage)]) for user in one.all("USER")]
    assert users
    assert users[-1] not in {"root", "0", "0:0"}
    assert int(users[-1]) >= 1000
    runs = " ".join(run for one in lineage(stage) for run in one.all("RUN"))
    assert f"useradd --uid {users[-1]} " in runs
    assert "g++" not in runs
    entry = [point for one in lineage(stage) for point in one.all("ENTRYPOINT")]
    assert entry == ['["tini", "-g", "--"]']


def test_the_variants_differ_in_what_they_see_of_gpus_alone() -> None:
    last, gpu = STAGES[-1], NAMED["gpu"]
    assert last.base == gpu.base == "runtime"
    assert {word for word, _ in (*last.instructions, *gpu.instructions)} == {"ENV"}
    assert "NVIDIA_VISIBLE_DEVICES" in gpu.all("ENV")[0]
    assert last.all("ENV") == ['CUDA_VISIBLE_DEVICES=""']


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for stage in STAGES
        for copy in stage.all("COPY")
        if "--from" not in copy
        for name in copy.split()[:-1]
    }  # fmt: skip
    assert copied == sent
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_page_says_that_nobody_has_built_it_yet() -> None:
    page = " ".join((ROOT / "docs" / "reproduce.md").read_text().split())
    assert "nobody has built it yet" in page


@pytest.mark.parametrize("base", ["python:latest", "python:3.11-slim", "host.example/python:3.11.14-slim-bookworm"])
def test_a_base_without_its_whole_version_or_with_an_address_is_refused(base: str) -> None:
    (stage,) = stages(f"FROM {base}\nUSER 1000")
    with pytest.raises(AssertionError):
        test_each_base_is_an_image_with_its_whole_version_and_no_address_or_an_earlier_stage(stage)
