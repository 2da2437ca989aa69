"""The files that parameters name: digested for the stages that read them, again only where they changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT
from made.processes import programs

from laion_dask import params
from laion_dask.inputs import named_files, part
from laion_dask.inputs.part import Digests, InputsError


def sha256(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def settings(defaults: params.Params, **changes: object) -> params.Params:
    values = defaults.model_dump(mode="json")
    for key, value in changes.items():
        section, name = key.split("__")
        values[section][name] = value
    return params.parse(values)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("removals.csv").write_text("kind,value,reason,date,source\n")
    return tmp_path / "project"


def described(of: params.Params, cache: Path = Path(".laion_dask/inputs.json")) -> dict[str, list[dict[str, Any]]]:
    digests = Digests(cache)
    found = part.describe(of, digests)
    digests.save()
    return found


@pytest.mark.usefixtures("here")
def test_each_stage_names_what_it_reads_and_no_other_does(defaults: params.Params) -> None:
    for name in ("wats/b.gz", "wats/a.gz", "words.txt", "earlier/00000.parquet", "earlier/00000.tar", "clip/c.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    found = described(
        settings(
            defaults,
            crawl__source="files",
            crawl__files=["wats/*.gz", "https://bucket.example/a.gz"],
            download__verify="earlier",
            score__models=[
                {"name": "a", "model": "local-dir:clip"},
                {"name": "b", "model": "ViT-B-32", "pretrained": "openai"},
                {"name": "c", "model": "hf-hub:org/name"},
                {"name": "d", "model": "demo"},
            ],
            translate__model="local-dir:clip",
            caption__model="hf-hub:org/name",
            caption__rank=[
                {"name": "a", "model": "local-dir:clip", "keep": 2},
                {"name": "b", "model": "ViT-B-32", "pretrained": "openai", "keep": 1},
            ],
            caption__repair={"model": "hf-hub:org/small"},
            filter__text_entities="words.txt",
            report__against="v1",
        )
    )
    wats = [
        {"key": "crawl.files.0", "path": "wats/*.gz", "files": {n: sha256(n) for n in ("wats/a.gz", "wats/b.gz")}},
        {"key": "crawl.files.1", "path": "https://bucket.example/a.gz", "digested": False},
    ]
    ledger = {"key": "catalog.removals", "path": "removals.csv"}
    ledger |= {"files": {"removals.csv": hashlib.sha256(Path("removals.csv").read_bytes()).hexdigest()}}
    words = {"key": "filter.text_entities", "path": "words.txt", "files": {"words.txt": sha256("words.txt")}}
    earlier = {"00000.parquet": sha256("earlier/00000.parquet")}
    assert found == {
        "crawl": wats,
        "extract": wats,
        "catalog": [ledger],
        "download": [{"key": "download.verify", "path": "earlier", "files": earlier}],
        "score": [
            {"key": "score.models.0.model", "path": "clip", "files": {"c.json": sha256("clip/c.json")}},
            {"key": "score.models.1.pretrained", "path": "ViT-B-32/openai", "digested": False},
            {"key": "score.models.2.model", "path": "hf-hub:org/name", "digested": False},
        ],
        "group": [],
        "filter": [ledger, words],
        "translate": [{"key": "translate.model", "path": "clip", "files": {"c.json": sha256("clip/c.json")}}],
        "caption": [
            {"key": "caption.model", "path": "hf-hub:org/name", "digested": False},
            {"key": "caption.rank.0.model", "path": "clip", "files": {"c.json": sha256("clip/c.json")}},
            {"key": "caption.rank.1.pretrained", "path": "ViT-B-32/openai", "digested": False},
            {"key": "caption.repair.model", "path": "hf-hub:org/small", "digested": False},
        ],
        "release": [ledger],
        "report": [{"key": "report.against", "path": "v1", "digested": False}],
    }


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crawl__source": "files", "crawl__files": ["w/*.gz"]}, r"crawl\.files\.0 = w/\*\.gz"),
        ({"group__evaluation": ["none.npy"]}, r"group\.evaluation\.0 = none\.npy"),
        ({"download__verify": "gone"}, r"download\.verify = gone"),
        ({"score__models": [{"name": "a", "model": "local-dir:gone"}]}, r"score\.models\.0\.model = gone"),
    ],
)
def test_what_is_missing_is_refused_with_key_value_and_remedy(
    defaults: params.Params, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputsError, match=rf"^missing files: {said}\. Remedy: put the files there, or correct"):
        described(settings(defaults, **changes))


@pytest.mark.usefixtures("here")
def test_what_an_earlier_stage_makes_is_left_to_dvc(defaults: params.Params) -> None:
    found = described(settings(defaults, download__source="replay", download__warcs=["data/crawl/*.warc.gz"]))
    assert found["download"] == []


def other_bytes(path: Path) -> None:
    path.write_text("Words")


def other_bytes_at_the_same_time(path: Path) -> None:
    about = path.stat()
    path.write_text("Words")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def another_file_of_this_name(path: Path) -> None:
    about = path.stat()
    path.with_name("new").write_text("Words")
    os.utime(path.with_name("new"), ns=(about.st_atime_ns, about.st_mtime_ns))
    path.with_name("new").replace(path)


def long_ago(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that was written until now be older than what a clock could hide."""
    os.utime(path, (1, 1))
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + 60)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("change", [other_bytes, other_bytes_at_the_same_time, another_file_of_this_name])
def test_a_file_that_changes_under_its_name_is_read_again(
    defaults: params.Params, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("words.txt").write_text("words")
    long_ago(Path("words.txt"), monkeypatch)
    wanted = settings(defaults, filter__text_entities="words.txt")
    first = described(wanted)
    assert described(wanted) == first
    change(Path("words.txt"))
    again = described(wanted)
    assert again["filter"][1]["files"] == {"words.txt": sha256("Words")}
    assert {stage for stage in again if again[stage] != first[stage]} == {"filter"}


@pytest.mark.usefixtures("here")
def test_a_file_that_did_not_change_is_not_read_again(defaults: params.Params, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("words.txt").write_text("words")
    long_ago(Path("words.txt"), monkeypatch)
    wanted = settings(defaults, filter__text_entities="words.txt")
    first = described(wanted)

    def refuse(*_: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    assert described(wanted) == first


@pytest.mark.usefixtures("here")
def test_a_file_that_was_changed_a_moment_before_the_cache_is_read_again(defaults: params.Params) -> None:
    Path("words.txt").write_text("words")
    wanted = settings(defaults, filter__text_entities="words.txt")
    described(wanted)
    assert [place for place in json.loads(Path(".laion_dask/inputs.json").read_text()) if "words" in place] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("body", ["", "{", "[]", '{"a": 1}'])
def test_a_damaged_cache_is_as_none(defaults: params.Params, body: str) -> None:
    Path("cache.json").write_text(body)
    assert described(defaults, Path("cache.json")) == described(defaults, Path("none.json"))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return programs.finished([sys.executable, *arguments], cwd=folder, env=environment)


def test_the_stage_needs_none_of_the_libraries_that_take_long_to_load(here: Path) -> None:
    (here / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    code = (
        "import sys, workflow.inputs; workflow.inputs.main(); "
        "print([n for n in ('dask', 'distributed', 'torch', 'pyarrow', 'numpy', 'open_clip') if n in sys.modules])"
    )
    done = python(here, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert json.loads((here / "metrics" / "inputs.json").read_text()) == {"named": 3, "files": 1, "not_digested": 0}
    assert len(list((here / "data" / "inputs").iterdir())) == len(named_files.STAGES)
    assert str(here) not in "".join(path.read_text() for path in (here / "data" / "inputs").iterdir())


def test_what_is_missing_ends_the_stage_with_one_message_before_anything_runs(here: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert "  evaluation: []" in text
    (here / "params.yaml").write_text(text.replace("  evaluation: []", "  evaluation: [none.npy]"))
    done = python(here, "-m", "workflow.inputs")
    assert done.returncode == 1
    assert done.stderr.startswith("\ninputs: missing files: group.evaluation.0 = none.npy. Remedy: ")
    assert "Traceback" not in done.stderr
    assert not (here / "data" / "inputs").exists()
