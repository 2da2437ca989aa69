"""Verdicts in, the released tables out: LAION's columns, sorted, cut, counted and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import tables

from laion_dask import params, schema
from laion_dask.release import layouts, part
from laion_dask.release.tables import files, kinds
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, REASON_STAGE, WITHHELD
from laion_dask.schema.values import SPLITS

RULES = params.Release(
    name="test",
    version="1.0.0",
    published=None,
    creator="the tests",
    contact="the tests",
    url="https://dataset.example/test",
    tables=(),
    tombstones=None,
    rows_per_file=100,
    high_resolution_px=1024,
    aesthetic=(4.1, 7.0),
)
WHOLE = tuple(name for name in layouts.NAMES if name not in layouts.HAVING)
MODELS = {"l14": {"model": "ViT-L-14-quickgelu"}, "own": {"model": "demo"}}


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
        return part.release(out, split=split, settings=rules, models=MODELS, new_texts={}, **self.paths())


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
    nothing = part.release(
        tmp_path / "out", split="en", images=[], scores=[], verdicts=[], new_texts={}, settings=RULES, models={}
    )
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
    assert kinds.subsets(RULES) == ["high_resolution", "aesthetic_4.1", "aesthetic_7"]
    assert {name for name in kinds.subsets(RULES) if counts[f"rows.{name}"]} == subsets
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
    monkeypatch.setattr(files, "ROW_GROUP", 2048)  # of DuckDB's vectors the smallest
    built = version(tmp_path, *({} for _ in range(3200)))
    names = ("images", "scores", "verdicts")
    paths = {name: [tables.write(tmp_path / f"{name}.parquet", getattr(built, name))] for name in names}
    rules = RULES.model_copy(update={"rows_per_file": 1500})
    part.release(tmp_path / "out", split="en", settings=rules, models={}, new_texts={}, **paths)
    found = sorted((tmp_path / "out").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in found] == [1500, 1500, 200]
    assert [row["uid"] for row in read(tmp_path / "out")] == [tables.uid(number) for number in range(3200)]


def test_the_same_input_gives_the_same_bytes_whatever_the_shards(tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"tables": WHOLE})
    rows = [{"uid": tables.uid(97 * number % 50), "aesthetic": number / 6} for number in range(50)]
    once = version(tmp_path / "first", *rows)
    once.release(tmp_path / "out-1", rules=rules)
    once.release(tmp_path / "out-2", rules=rules)
    # Position is content here: key and slot follow the pair into other shards.
    order = list(range(50))[::-1]
    other = Version(tmp_path / "other", *(table.take(order) for table in (once.images, once.scores, once.verdicts)))
    other.release(tmp_path / "out-3", rules=rules)
    assert digests(tmp_path / "out-1") == digests(tmp_path / "out-2") == digests(tmp_path / "out-3") != {}


def test_tombstones_name_no_pair(tmp_path: Path) -> None:
    reasons = [*REASON_STAGE, KEEP]
    verdicts = tables.verdicts(*({"reason": reason} for reason in reasons))
    starts = range(0, len(reasons), 12)
    paths = [tables.write(tmp_path / f"{start}.parquet", verdicts.slice(start, 12)) for start in starts]
    (tmp_path / "out").mkdir()
    rows = part.write_tombstones(tmp_path / "out", paths, "1.2.0")
    found = schema.TOMBSTONES.check(pq.read_table(tmp_path / "out" / "tombstones.parquet")).to_pylist()
    expected = {
        hashlib.sha256(row["uid"].encode()).hexdigest(): row["reason"]
        for row in verdicts.to_pylist()
        if row["reason"] in WITHHELD
    }
    assert rows == len(WITHHELD) == 9
    assert [(row["uid_sha256"], row["reason"]) for row in found] == sorted(expected.items())
    assert {row["since"] for row in found} == {"1.2.0"}
    body = (tmp_path / "out" / "tombstones.parquet").read_bytes()
    assert not any(uid.encode() in body for uid in map(tables.uid, range(len(reasons))))


def test_tombstones_keep_their_first_version_and_outlive_the_crawl(tmp_path: Path) -> None:
    def write(name: str, version: str, before: Path | None, **reasons: str) -> dict[str, tuple[str, str]]:
        rows = tables.verdicts(*({"uid": tables.uid(int(uid[1:])), "reason": why} for uid, why in reasons.items()))
        (tmp_path / name).mkdir()
        path = tables.write(tmp_path / f"{name}.parquet", rows)
        part.write_tombstones(tmp_path / name, [path], version, before)
        found = pq.read_table(tmp_path / name / "tombstones.parquet").to_pylist()
        return {row["uid_sha256"]: (row["reason"], row["since"]) for row in found}

    one, two, three = (hashlib.sha256(tables.uid(number).encode()).hexdigest() for number in (1, 2, 3))
    first = write("v1", "1.0.0", None, u1="removed_later", u2="removed_url", u3=KEEP)
    assert first == {one: ("removed_later", "1.0.0"), two: ("removed_url", "1.0.0")}
    # The second crawl lacks pair 2; of pair 1 the reason is another one now.
    second = write("v2", "2.0.0", tmp_path / "v1" / "tombstones.parquet", u1="removed_url", u3="listed_hash")
    assert second == {one: ("removed_url", "1.0.0"), two: ("removed_url", "1.0.0"), three: ("listed_hash", "2.0.0")}


def test_earlier_tombstones_that_are_none_are_refused(tmp_path: Path) -> None:
    wrong = tables.write(tmp_path / "wrong.parquet", tables.verdicts({}))
    for path in (wrong, tmp_path / "missing.parquet"):
        with pytest.raises(part.TombstonesError, match=f"release.tombstones names {path}, .* Remedy: name that of"):
            part.write_tombstones(tmp_path, [wrong], "1.0.0", path)


def test_no_split_of_a_table_has_more_files_than_laion_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 4)
    rules = RULES.model_copy(update={"rows_per_file": 2, "tables": ("datacomp",)})
    version(tmp_path, *({"aesthetic": 5.0} for _ in range(11))).release(tmp_path / "out", rules=rules)
    for folder in ("", "aesthetic_4.1", "datacomp"):
        found = sorted((tmp_path / "out" / folder).glob("*.parquet"))
        assert [pq.read_metadata(path).num_rows for path in found] == [3, 3, 3, 2]


@pytest.mark.slow
def test_row_groups_are_full_also_in_a_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROW_GROUP", 2048)
    beauty = [{"aesthetic": 9.0 if number % 2 else 1.0} for number in range(9000)]
    built = version(tmp_path, *beauty)
    paths = {name: [tables.write(tmp_path / f"{name}.parquet", getattr(built, name))] for name in built.paths()}
    rules = RULES.model_copy(update={"rows_per_file": 100_000})
    part.release(tmp_path / "out", split="en", settings=rules, models={}, new_texts={}, **paths)
    metadata = pq.read_metadata(tmp_path / "out" / "aesthetic_7" / "en-00000.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [2048, 2048, 404]


ROW = {
    "url": "https://a.example/x.jpg",
    "caption": "A red fox jumping",
    "uid": "8a1a06af075b20557349b444929a59de",
    "original_width": 1600,
    "original_height": 900,
    "similarity": 0.25,
    "punsafe": 0.25,
    "pwatermark": 0.5,
    "aesthetic": 6.0,
    "license": "CC-BY-4.0",
    "md5": "a" * 32,
    "sha256": "b" * 64,
}
SAFETY = {"punsafe": 0.25, "pwatermark": 0.5}
HASH = {"hash": 7142108453715033605}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            "laion-400m",
            {
                "SAMPLE_ID": int("8a1a06af075b205", 16),
                "URL": ROW["url"],
                "TEXT": ROW["caption"],
                "HEIGHT": 900,
                "WIDTH": 1600,
                "LICENSE": "CC-BY-4.0",
                "NSFW": "UNLIKELY",
                "similarity": 0.25,
            },
        ),
        (
            "laion-5b",
            {"URL": ROW["url"], "TEXT": ROW["caption"], "WIDTH": 1600, "HEIGHT": 900, "similarity": 0.25}
            | {"LANGUAGE": "en", **HASH, **SAFETY},
        ),
        (
            "re-laion",
            {"url": ROW["url"], "caption": ROW["caption"], "width": 1600, "height": 900, "similarity": 0.25}
            | {"language": "en", **HASH, **SAFETY, "aesthetic": 6.0, "md5": "a" * 32},
        ),
        (
            "datacomp",
            {"uid": ROW["uid"], "url": ROW["url"], "text": ROW["caption"]}
            | {"original_width": 1600, "original_height": 900, "sha256": "b" * 64}
            | {"clip_l14_similarity_score": 0.125, "clip_own_similarity_score": 0.75},
        ),
        (
            "img2dataset",
            {"url": ROW["url"], "caption": ROW["caption"], "uid": ROW["uid"], "md5": "a" * 32, "sha256": "b" * 64},
        ),
    ],
)
def test_a_layout_has_the_names_the_order_and_the_values_of_its_data_set(
    tmp_path: Path, layout: str, expected: dict[str, Any]
) -> None:
    built = version(tmp_path, ROW)
    scores = built.scores
    for name, value in (("similarity_l14", 0.125), ("similarity_own", 0.75)):
        scores = scores.append_column(name, pa.array([value], pa.float32()))
    scores = scores.append_column(layouts.NSFW, pa.array(["UNLIKELY"]))
    rules = RULES.model_copy(update={"tables": (layout,)})
    Version(tmp_path, built.images, scores, built.verdicts).release(tmp_path / "out", rules=rules)
    table = pq.read_table(tmp_path / "out" / layout / "en-00000.parquet")
    assert table.to_pylist() == [expected]
    assert table.column_names == list(expected)
    assert layouts.layout(layout, MODELS).table.check(table).num_rows == 1


def test_what_was_not_scored_is_null_in_a_layout(tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"tables": ("laion-400m", "datacomp")})
    version(tmp_path, ROW).release(tmp_path / "out", rules=rules)
    (old,) = pq.read_table(tmp_path / "out" / "laion-400m" / "en-00000.parquet").to_pylist()
    (pool,) = pq.read_table(tmp_path / "out" / "datacomp" / "en-00000.parquet").to_pylist()
    assert old["NSFW"] is pool["clip_l14_similarity_score"] is None


def test_layouts_have_the_rows_of_the_main_table_in_its_order(tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"rows_per_file": 4, "tables": WHOLE})
    version(tmp_path, *({"uid": tables.uid(7 * number % 10)} for number in range(10))).release(
        tmp_path / "out", rules=rules
    )
    main = [row["URL"] for row in read(tmp_path / "out")]
    for name in WHOLE:
        files = sorted((tmp_path / "out" / name).glob("*.parquet"))
        rows = [row for path in files for row in pq.read_table(path).to_pylist()]
        assert [row.get("URL", row.get("url")) for row in rows] == main
        assert len(files) == 3
