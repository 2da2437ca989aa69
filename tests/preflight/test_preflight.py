"""What the parameters name is looked at before any stage runs, all of it at once."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from made.parameters import with_values

from laion_dask import params
from laion_dask.preflight import preflight
from laion_dask.preflight.preflight import FilesMissingError, PreflightError

LIST = {"name": "a", "kind": "md5", "file": "gone.txt"}
# Sections with what is missing or cannot be used -> what has to be told. The last stage is checked as the first one is.
CASES: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
    "a glob that matches nothing": (
        {"crawl": {"source": "files", "files": ["gone/*.gz"]}},
        ["crawl.files.0 = gone/*.gz"],
    ),
    "WARCs that are not there": ({"download": {"warcs": ["gone/*.warc.gz"]}}, ["download.warcs.0 = gone/*.warc.gz"]),
    "no ledger of removals": ({"catalog": {"removals": "gone.csv"}}, ["catalog.removals = gone.csv"]),
    "a ledger that cannot be read": ({"catalog": {"removals": "broken.csv"}}, ["broken.csv", "Remedy: "]),
    "a list that is not there": ({"catalog": {"lists": [LIST]}}, ["catalog.lists.0.file = gone.txt"]),
    "a model of languages that is none": (
        {"extract": {"language_model": "some.txt"}},
        ["extract.language_model: some.txt is not a fastText model"],
    ),
    "WARCs that are none": (
        {"download": {"warcs": ["some.*"]}},
        ["download.warcs.0: some.npy is not a WARC file"],
    ),
    "a gzip file that holds no WARC": (
        {"download": {"warcs": ["text.gz"]}},
        ["download.warcs.0: text.gz is not a WARC file"],
    ),
    "a version to compare with that is not there": (
        {"report": {"against": "v0.9"}},
        ["report.against = v0.9: 'v0.9' is not a folder of a release, a Git revision or a DVC experiment"],
    ),
    "a folder that is no version": (
        {"report": {"against": "folder"}},
        ["report.against = folder: 'folder' is not a folder of a release"],
    ),
    "a folder for a file": (
        {"catalog": {"lists": [{**LIST, "file": "folder"}]}},
        ["catalog.lists.0.file = folder: a folder, and a file is wanted"],
    ),
    "a file for a folder": (
        {"download": {"verify": "some.txt"}},
        ["download.verify = some.txt: a file, and a folder is wanted"],
    ),
    "an earlier download without tables": (
        {"download": {"verify": "folder"}},
        ["has no tables of an earlier download"],
    ),
    "a model without weights": (
        {"score": {"models": [{"name": "mine", "model": "local-dir:folder"}]}},
        ["folder", "Remedy: "],
    ),
    "an evaluation set with a bad line": ({"group": {"evaluation": ["some.txt"]}}, ["some.txt:1: no PDQ hash"]),
    "keywords that are not there": (
        {"filter": {"keywords": {"file": "gone.txt", "above_punsafe": 0.9}}},
        ["filter.keywords.file = gone.txt"],
    ),
    "an out of the stage itself": (
        {"filter": {"keep_uids": ["data/filter"]}},
        ["filter.keep_uids.0 = data/filter lies in data/filter, which is emptied before the stage filter reads it"],
    ),
    "an out of a later stage": (
        {"catalog": {"lists": [{**LIST, "file": "data/release/x.txt"}]}},
        ["catalog.lists.0.file = data/release/x.txt lies in data/release, which is emptied"],
    ),
    "a limit outside of the column": (
        {"filter": {"thresholds": [{"name": "t", "column": "punsafe", "max": 45}]}},
        ["filter.thresholds, t: max = 45: punsafe goes from 0 to 1"],
    ),
    "tombstones that are not there": (
        {"release": {"tombstones": "gone.parquet"}},
        ["release.tombstones = gone.parquet"],
    ),
    "a list without an entry": ({"catalog": {"lists": [{**LIST, "file": "some.txt"}]}}, ["some.txt:1: no md5 in hex"]),
    "a set of uids that is none": (
        {"filter": {"keep_uids": ["some.txt"], "drop_uids": ["some.npy"]}},
        ["filter.keep_uids.0: some.txt cannot be read", "filter.drop_uids.0: some.npy cannot be read"],
    ),
    "a folder without sets of uids": (
        {"filter": {"keep_uids": ["folder"]}},
        ["folder has no Parquet with a column uid"],
    ),
    "words that are none": (
        {"filter": {"text_entities": "empty.txt"}},
        ["filter.text_entities: empty.txt has no entries"],
    ),
    "embeddings that are none": (
        {"filter": {"image_based": {"model": "demo", "centroids": "some.npy", "targets": "empty.txt"}}},
        [
            "filter.image_based.centroids: some.npy cannot be read",
            "filter.image_based.targets: empty.txt cannot be read",
        ],
    ),
    "tombstones that are none": (
        {"release": {"tombstones": "some.txt"}},
        ["some.txt, which is not a table of tombstones"],
    ),
    "heads that are none": (
        {"score": {"heads": [{"kind": "aesthetic_v1", "file": "some.pth"}, {"kind": "violence", "file": "some.npy"}]}},
        ["score.heads.0.file: some.pth", "score.heads.1.file: some.npy"],
    ),
    "a detector that is none": ({"score": {"faces": {"file": "some.txt"}}}, ["some.txt is not a detector"]),
    "weights that are none": (
        {"score": {"models": [{"name": "mine", "model": "RN50", "pretrained": "some.txt"}]}},
        ["some.txt is not a file of weights"],
    ),
    "a name that no system takes": ({"release": {"tombstones": "x" * 5_000}}, ["cannot be read (File name too long)"]),
    "several of these at once": (
        {
            "catalog": {"removals": "broken.csv", "lists": [LIST]},
            "release": {"tombstones": "gone.parquet"},
            "group": {"evaluation": ["some.txt"]},
            "filter": {"thresholds": [{"name": "t", "column": "nonsense", "max": 4}]},
        },
        ["broken.csv", "gone.txt", "gone.parquet", "some.txt:1", "filter.thresholds, t: column = nonsense"],
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "removals.csv").write_text("kind,value,reason,date,source\n")
    (tmp_path / "broken.csv").write_text("no,ledger\n")
    for name in ("some.txt", "some.npy", "some.pth"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"no WARC"))
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_or_useless_is_told_before_the_first_stage(case: str, defaults: params.Params) -> None:
    sections, told = CASES[case]
    with pytest.raises(PreflightError) as refused:
        preflight.check(with_values(defaults, sections))
    assert [words for words in told if words not in str(refused.value)] == []
    assert "Remedy: " in str(refused.value)


@pytest.mark.usefixtures("here")
def test_what_the_demo_makes_itself_need_not_be_there(defaults: params.Params) -> None:
    for first in preflight.STAGES:
        preflight.check(defaults, first)


@pytest.mark.usefixtures("here")
def test_a_stage_asks_for_what_it_and_later_ones_read_and_not_for_what_is_done(defaults: params.Params) -> None:
    settings = with_values(
        defaults, {"crawl": {"source": "files", "files": ["gone/*.gz"]}, "release": {"tombstones": "gone.parquet"}}
    )
    with pytest.raises(FilesMissingError) as refused:
        preflight.check(settings, "filter")
    assert "release.tombstones" in str(refused.value)
    assert "crawl.files" not in str(refused.value)
    preflight.check(settings, "report")
