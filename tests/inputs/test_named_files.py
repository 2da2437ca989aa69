"""Every path of params.yaml is named once for each stage that reads it, with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made.parameters import with_values

from laion_dask import params
from laion_dask.inputs.named_files import NamedFile, named_files

# (section, values) -> what has to be named: stage, key, path, kind.
CASES: dict[str, tuple[dict[str, dict[str, Any]], list[tuple[str, str, str, str]]]] = {
    "WATs, which two stages read": (
        {"crawl": {"source": "files", "files": ["wats/*.gz", "more/*.gz"]}},
        [
            ("crawl", "crawl.files.0", "wats/*.gz", "glob"),
            ("crawl", "crawl.files.1", "more/*.gz", "glob"),
            ("extract", "crawl.files.0", "wats/*.gz", "glob"),
        ],
    ),
    "a model of languages": (
        {"extract": {"language_model": "lid.bin"}},
        [("extract", "extract.language_model", "lid.bin", "file")],
    ),
    "the ledger of removals, which three stages read": (
        {"catalog": {"removals": "taken.csv"}},
        [(stage, "catalog.removals", "taken.csv", "file") for stage in ("catalog", "filter", "release")],
    ),
    "lists of known content, which three stages read": (
        {"catalog": {"lists": [{"name": "a", "kind": "md5", "file": "a.txt"}]}},
        [(stage, "catalog.lists.0.file", "a.txt", "file") for stage in ("catalog", "download", "filter")],
    ),
    "WARCs and an earlier download": (
        {"download": {"source": "archive", "warcs": ["w/*.warc.gz"], "verify": "earlier"}},
        [("download", "download.warcs.0", "w/*.warc.gz", "glob"), ("download", "download.verify", "earlier", "folder")],
    ),
    "models, heads, tags and a detector": (
        {
            "score": {
                "models": [{"name": "mine", "model": "local-dir:clips/mine"}],
                "heads": [{"kind": "watermark", "file": "w.pth"}],
                "tags": [{"kind": "zero_shot", "file": "t.yaml"}],
                "faces": {"file": "f.onnx"},
            },
        },
        [
            ("score", "score.models.0.model", "clips/mine", "folder"),
            ("score", "score.heads.0.file", "w.pth", "file"),
            ("score", "score.tags.0.file", "t.yaml", "file"),
            ("score", "score.faces.file", "f.onnx", "file"),
        ],
    ),
    "evaluation sets": ({"group": {"evaluation": ["e.npy"]}}, [("group", "group.evaluation.0", "e.npy", "file")]),
    "every file of the filter": (
        {
            "filter": {
                "keep_uids": ["k.npy", "k/"],
                "drop_uids": ["d.npy"],
                "keywords": {"file": "w.txt", "above_punsafe": 0.9},
                "text_entities": "n.txt",
                "balance": {"entries": "b.json", "t": 20, "seed": 1},
                "image_based": {"model": "demo", "centroids": "c.npy", "targets": "t.npy"},
                "computed": [
                    {"column": "n", "kind": "normsim", "model": "demo", "targets": "i.npy", "norm": 2},
                    {"column": "s", "kind": "scores", "file": "s.parquet", "file_column": "score"},
                ],
            },
        },
        [
            ("filter", "filter.keep_uids.0", "k.npy", "either"),
            ("filter", "filter.keep_uids.1", "k/", "either"),
            ("filter", "filter.drop_uids.0", "d.npy", "either"),
            ("filter", "filter.computed.1.file", "s.parquet", "either"),
            ("filter", "filter.keywords.file", "w.txt", "file"),
            ("filter", "filter.text_entities", "n.txt", "file"),
            ("filter", "filter.balance.entries", "b.json", "file"),
            ("filter", "filter.image_based.centroids", "c.npy", "file"),
            ("filter", "filter.image_based.targets", "t.npy", "file"),
            ("filter", "filter.computed.0.targets", "i.npy", "file"),
        ],
    ),
    "lists by language": (
        {"filter": {"balance": {"by_language": "lists", "t": 20, "seed": 1}}},
        [("filter", "filter.balance.by_language", "lists", "folder")],
    ),
    "tombstones of the version before": (
        {"release": {"tombstones": "t.parquet"}},
        [("release", "release.tombstones", "t.parquet", "file")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_path_of_the_parameters_is_named_with_stage_and_key(case: str, defaults: params.Params) -> None:
    sections, wanted = CASES[case]
    found = [tuple(one) for one in named_files(with_values(defaults, sections))]
    assert [one for one in wanted if one not in found] == []
    assert len({*found}) == len(found)


def test_the_defaults_name_the_ledger_and_what_the_demo_makes_itself(defaults: params.Params) -> None:
    named = {(one.key, one.path): one.made_by() for one in named_files(defaults)}
    assert named == {
        ("catalog.removals", "removals.csv"): None,
        ("catalog.lists.0.file", "data/crawl/known.txt"): "crawl",
        ("download.warcs.0", "data/crawl/warc/*.warc.gz"): "crawl",
    }


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("data/crawl/known.txt", "crawl"),
        ("./data/../data/filter", "filter"),
        ("data/mine/known.txt", None),
        ("data", None),
        ("../data/crawl/x", None),
        ("/data/crawl/x", None),
    ],
)
def test_only_what_lies_in_the_out_of_a_stage_is_made_by_it(path: str, stage: str | None) -> None:
    assert NamedFile("filter", "key", path).made_by() == stage


def test_an_absolute_path_into_an_out_is_made_by_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert NamedFile("filter", "key", str(tmp_path / "data" / "score" / "0.parquet")).made_by() == "score"


def test_a_tag_or_a_revision_is_listed_only_where_a_file_has_its_name(
    defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = {"name": "mine", "model": "ViT-B-32", "pretrained": "mine.pt"}
    settings = with_values(defaults, {"score": {"models": [model]}, "report": {"against": "before"}})
    keys = {"score.models.0.pretrained", "report.against"}
    assert not keys & {one.key for one in named_files(settings)}
    (tmp_path / "mine.pt").touch()
    (tmp_path / "before").mkdir()
    assert keys <= {one.key for one in named_files(settings)}


def test_a_place_is_found_as_what_the_glob_matches_or_as_itself(tmp_path: Path) -> None:
    for name in ("b.gz", "a.gz", "c.txt"):
        (tmp_path / name).touch()
    assert NamedFile("crawl", "k", f"{tmp_path}/*.gz", "glob").found() == [tmp_path / "a.gz", tmp_path / "b.gz"]
    assert NamedFile("crawl", "k", str(tmp_path / "c.txt")).found() == [tmp_path / "c.txt"]
    assert NamedFile("crawl", "k", str(tmp_path / "d.txt")).found() == []


def test_what_exists_under_a_name_is_that_file_whatever_characters_it_has(tmp_path: Path) -> None:
    for name in ("a[1].warc.gz", "a1.warc.gz"):
        (tmp_path / name).touch()
    named = NamedFile("download", "download.warcs.0", f"{tmp_path}/a[1].warc.gz", "glob")
    assert named.found() == [tmp_path / "a[1].warc.gz"]
    assert [path.name for path in named._replace(path=f"{tmp_path}/*[1].warc.gz").found()] == ["a1.warc.gz"]
