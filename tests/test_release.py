"""Verdicts in, the released tables out: LAION's columns, sorted, cut, counted and digested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables

from laion_dask import params, release, schema
from laion_dask.release import SPLITS, TOMBSTONE_REASONS
from laion_dask.verdict import KEEP, REASON_STAGE, Ledger

RULES = params.Release(name="test", rows_per_file=100, high_resolution_px=1024, aesthetic=(4.1, 7.0))


@dataclass(frozen=True)
class Version:
    """Tables that a release is made of, in shards of three rows, each stage's rows in another order."""

    folder: Path
    images: pa.Table
    scores: pa.Table
    verdicts: pa.Table

    def paths(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {"images": [], "scores": [], "verdicts": []}
        for number, start in enumerate(range(0, self.images.num_rows, 3)):
            for name, order in (("images", 1), ("scores", -1), ("verdicts", -1)):
                table = getattr(self, name).slice(start, 3)
                table = table.take(list(range(table.num_rows))[::order])
                found[name].append(tables.write(self.folder / name / f"{number:05}.parquet", table))
        return found

    def release(self, out: Path, split: str = "en", rules: params.Release = RULES) -> dict[str, Any]:
        return release.release(out, split=split, settings=rules, **self.paths())


def version(folder: Path, *rows: Mapping[str, Any]) -> Version:
    def pick(kind: schema.Table, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name in kind.names}

    images = [pick(schema.IMAGES, row) | {"reason": KEEP} for row in rows]
    return Version(
        folder,
        tables.images(*images),
        tables.scores(*(pick(schema.SCORES, row) for row in rows)),
        tables.verdicts(*(pick(schema.VERDICTS, row) for row in rows)),
    )


def read(out: Path, pattern: str = "en-*.parquet") -> list[dict[str, Any]]:
    found = [row for path in sorted(out.glob(pattern)) for row in schema.RELEASE.check(pq.read_table(path)).to_pylist()]
    return [dict(row) for row in found]


def digests(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_a_row_carries_its_pair_under_the_names_of_laion(tmp_path: Path) -> None:
    row = {
        "url": "https://a.example/x.jpg",
        "caption": "A red fox jumping",
        "uid": "8a1a06af075b20557349b444929a59de",
        "original_width": 1600,
        "original_height": 900,
        "similarity": 0.28,
        "punsafe": 0.25,
        "pwatermark": 0.5,
        "aesthetic": 6.0,
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "record_offset": 4321,
    }
    built = version(tmp_path, row)
    built.release(tmp_path / "out")
    (found,) = read(tmp_path / "out")
    image = built.images.to_pylist()[0]
    assert found == {
        "URL": row["url"],
        "TEXT": row["caption"],
        # Not swapped, as they are in the raw tables of LAION-5B.
        "WIDTH": 1600,
        "HEIGHT": 900,
        "LANGUAGE": "en",
        "LICENSE": row["license"],
        "similarity": float(np.float32(0.28)),
        "hash": 7142108453715033605,
        "punsafe": 0.25,
        "pwatermark": 0.5,
        "aesthetic": 6.0,
        **{name: image[name] for name in ("uid", "key", "md5", "sha256", "page_url", "crawl", "wat", "record_offset")},
    }


def test_columns_and_types_are_those_of_the_joined_tables() -> None:
    types = {field.name: str(field.type) for field in schema.RELEASE.schema}
    laion = {"URL": "string", "TEXT": "string", "WIDTH": "int32", "HEIGHT": "int32", "LANGUAGE": "string"}
    laion |= {"similarity": "double", "hash": "int64", "punsafe": "float", "pwatermark": "float"}
    assert laion.items() <= types.items()


@pytest.mark.parametrize("text", ["狐 and é", "", "a\nb", "\U0001f98a"])
def test_the_hash_is_of_the_bytes_in_utf_8(tmp_path: Path, text: str) -> None:
    import mmh3

    version(tmp_path, {"url": "https://a.example/é", "caption": text}).release(tmp_path / "out")
    (found,) = read(tmp_path / "out")
    assert found["hash"] == mmh3.hash64(("https://a.example/é" + text).encode(), 0, signed=True)[0]


def test_only_kept_pairs_of_the_split_come_sorted_by_uid(tmp_path: Path) -> None:
    splits = ["en", "multi", "nolang", "en", "en", "multi", "en", "en"]
    reasons = [KEEP, KEEP, KEEP, "unsafe", KEEP, "robots", KEEP, "low_similarity"]
    uids = [tables.uid(number) for number in (70, 10, 20, 30, 40, 50, 60, 5)]
    rows = [
        {"uid": uid, "split": split, "reason": reason} for uid, split, reason in zip(uids, splits, reasons, strict=True)
    ]
    built = version(tmp_path, *rows)
    counts = {split: built.release(tmp_path / "out", split) for split in SPLITS}
    found = {split: [row["uid"] for row in read(tmp_path / "out", f"{split}-*")] for split in SPLITS}
    assert found == {
        "en": [tables.uid(40), tables.uid(60), tables.uid(70)],
        "multi": [tables.uid(10)],
        "nolang": [tables.uid(20)],
    }
    assert {split: counts[split][f"rows.{split}"] for split in SPLITS} == {"en": 3, "multi": 1, "nolang": 1}
    Ledger.total(counts[split]["pairs"] for split in SPLITS).check("release", expected=reasons.count(KEEP))


def test_a_split_without_rows_has_no_files_and_counts_zero(tmp_path: Path) -> None:
    counts = version(tmp_path, {}).release(tmp_path / "out", "nolang")
    assert counts["pairs"] == {"seen": 0, "kept": 0, "dropped": {}}
    assert not (tmp_path / "out").exists()
    nothing = release.release(tmp_path / "out", split="en", images=[], scores=[], verdicts=[], settings=RULES)
    assert nothing["rows.all"] == nothing["rows.en"] == 0


@pytest.mark.parametrize(
    ("row", "subsets"),
    [
        ({"aesthetic": 1.0}, set()),
        ({"original_width": 1024, "original_height": 1024, "aesthetic": 1.0}, {"high_resolution"}),
        ({"original_width": 1023, "original_height": 4000, "aesthetic": 1.0}, set()),
        ({"original_width": 4000, "original_height": 1023, "aesthetic": 1.0}, set()),
        ({"aesthetic": 4.1}, {"aesthetic_4.1"}),
        ({"aesthetic": float(np.nextafter(np.float32(4.1), np.float32(0)))}, set()),
        ({"aesthetic": 6.9999}, {"aesthetic_4.1"}),
        ({"aesthetic": 7.0}, {"aesthetic_4.1", "aesthetic_7"}),
        ({"aesthetic": float("nan")}, set()),
        (
            {"aesthetic": 9.0, "original_width": 2000, "original_height": 1100},
            {"aesthetic_4.1", "aesthetic_7", "high_resolution"},
        ),
    ],
)
def test_a_row_is_in_the_subsets_whose_rule_it_meets(tmp_path: Path, row: dict[str, Any], subsets: set[str]) -> None:
    counts = version(tmp_path, row).release(tmp_path / "out")
    assert {path.parent.name for path in (tmp_path / "out").glob("*/en-00000.parquet")} == subsets
    assert release.subsets(RULES) == ["high_resolution", "aesthetic_4.1", "aesthetic_7"]
    assert {name for name in release.subsets(RULES) if counts[f"rows.{name}"]} == subsets
    assert counts["rows.all"] == 1
    whole = read(tmp_path / "out")
    for name in subsets:
        assert repr(read(tmp_path / "out" / name)) == repr(whole)


@pytest.mark.parametrize(
    ("rows", "limit", "lengths"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 3, [2]), (3, 1, [1, 1, 1])]
)
def test_files_are_cut_at_their_number_of_rows(tmp_path: Path, rows: int, limit: int, lengths: list[int]) -> None:
    rules = RULES.model_copy(update={"rows_per_file": limit})
    version(tmp_path, *({"aesthetic": 5.0} for _ in range(rows))).release(tmp_path / "out", rules=rules)
    for folder in (tmp_path / "out", tmp_path / "out" / "aesthetic_4.1"):
        found = sorted(folder.glob("*.parquet"))
        assert [path.name for path in found] == [f"en-{number:05}.parquet" for number in range(len(lengths))]
        assert [pq.read_metadata(path).num_rows for path in found] == lengths
    assert [row["uid"] for row in read(tmp_path / "out")] == [tables.uid(number) for number in range(rows)]


def test_a_file_goes_on_from_one_batch_of_the_query_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "_ROW_GROUP", 2048)  # of DuckDB's vectors the smallest
    built = version(tmp_path, *({} for _ in range(3200)))
    names = ("images", "scores", "verdicts")
    paths = {name: [tables.write(tmp_path / f"{name}.parquet", getattr(built, name))] for name in names}
    rules = RULES.model_copy(update={"rows_per_file": 1500})
    release.release(tmp_path / "out", split="en", settings=rules, **paths)
    found = sorted((tmp_path / "out").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in found] == [1500, 1500, 200]
    assert [row["uid"] for row in read(tmp_path / "out")] == [tables.uid(number) for number in range(3200)]


def test_the_same_input_gives_the_same_bytes_whatever_the_shards(tmp_path: Path) -> None:
    rows = [{"uid": tables.uid(97 * number % 50), "aesthetic": number / 6} for number in range(50)]
    once = version(tmp_path / "first", *rows)
    once.release(tmp_path / "out-1")
    once.release(tmp_path / "out-2")
    # Position is content here: key and slot follow the pair into other shards.
    order = list(range(50))[::-1]
    other = Version(tmp_path / "other", *(table.take(order) for table in (once.images, once.scores, once.verdicts)))
    other.release(tmp_path / "out-3")
    assert digests(tmp_path / "out-1") == digests(tmp_path / "out-2") == digests(tmp_path / "out-3") != {}


def test_tombstones_name_no_pair(tmp_path: Path) -> None:
    reasons = [*REASON_STAGE, KEEP]
    verdicts = tables.verdicts(*({"reason": reason} for reason in reasons))
    starts = range(0, len(reasons), 12)
    paths = [tables.write(tmp_path / f"{start}.parquet", verdicts.slice(start, 12)) for start in starts]
    (tmp_path / "out").mkdir()
    rows = release.write_tombstones(tmp_path / "out", paths)
    found = schema.TOMBSTONES.check(pq.read_table(tmp_path / "out" / "tombstones.parquet")).to_pylist()
    expected = {
        hashlib.sha256(row["uid"].encode()).hexdigest(): row["reason"]
        for row in verdicts.to_pylist()
        if row["reason"] in TOMBSTONE_REASONS
    }
    assert rows == len(TOMBSTONE_REASONS) == 8
    assert [(row["uid_sha256"], row["reason"]) for row in found] == sorted(expected.items())
    body = (tmp_path / "out" / "tombstones.parquet").read_bytes()
    assert not any(uid.encode() in body for uid in map(tables.uid, range(len(reasons))))


@pytest.fixture
def counts() -> dict[str, Any]:
    ledger = {"seen": 4321, "kept": 4000, "dropped": {}}
    stages = {"extract": "links", "catalog": "pairs", "download": "images", "score": "images", "filter": "pairs"}
    found: dict[str, Any] = {stage: {unit: ledger} for stage, unit in stages.items()}
    found["extract"]["links"] = ledger | {"dropped": {"no_alt": 300, "bad_url": 21}}
    return found | {"crawl": {"wats": 1}, "release": {"pairs": ledger, "rows.en": 4000, "rows.multi": 0}}


def test_the_manifest_proves_every_file_and_the_card_tells_the_counts(
    tmp_path: Path, defaults: params.Params, counts: dict[str, Any]
) -> None:
    built = version(tmp_path, {"aesthetic": 8.0}, {}, {"split": "multi"})
    out = tmp_path / "out"
    for split in SPLITS:
        built.release(out, split)
    tombstones = release.write_tombstones(out, built.paths()["verdicts"])
    model = {"demo": {"model": "demo", "splits": "all", "weights_sha256": "f" * 64}}
    manifest = release.write_manifest(out, defaults, counts, model, tombstones)
    release.write_card(out, manifest)

    on_disk = digests(out)
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == {
        name: sha256 for name, sha256 in on_disk.items() if name.endswith(".parquet")
    }
    assert {name: file["rows"] for name, file in manifest["files"].items()} == {
        "aesthetic_4.1/en-00000.parquet": 2,
        "aesthetic_4.1/multi-00000.parquet": 1,
        "aesthetic_7/en-00000.parquet": 1,
        "en-00000.parquet": 2,
        "multi-00000.parquet": 1,
        "tombstones.parquet": 0,
    }
    assert all((out / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items())
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert "report" not in manifest["parameters"]
    assert params.parse({**manifest["parameters"], "report": defaults.report.model_dump()}) == defaults

    card = (out / "README.md").read_text()
    assert "| extract | 4,321 | 4,000 | no_alt 300, bad_url 21 |" in card
    assert "| en | 4,000 |" in card
    assert "This is a demonstration" in card
    assert f"Model demo: demo, texts of all, weights sha256 `{'f' * 64}`." in card
    assert manifest["models"] == model
    assert all(f"| {column.name} |" in card for column in schema.RELEASE.columns)

    again = release.write_manifest(out, defaults, counts, model, tombstones)
    release.write_card(out, again)
    assert digests(out) == on_disk
