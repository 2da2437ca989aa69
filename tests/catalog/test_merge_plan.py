"""Which files of pairs are merged: groups bounded in rows and files, cut so that what is added leaves earlier ones."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask import schema
from laion_dask.catalog import merge_plan
from laion_dask.catalog.merge_plan import FEW_FILES, OPEN_ROWS, PairFile
from laion_dask.runner import part_files
from laion_dask.runner.part import Done
from laion_dask.storage import files as storage_files
from laion_dask.storage.files import sha256

PAIRS = st.one_of(st.integers(0, 1_000), st.integers(0, 400_000))


def crawl_of(name: str, pairs: list[int], first: int = 0) -> list[PairFile]:
    return [
        PairFile(Path(f"pairs/{first + place:06d}.parquet"), name, count, f"{name} {place} {count}")
        for place, count in enumerate(pairs)
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(PAIRS, max_size=400), st.lists(PAIRS, max_size=100), st.sampled_from([1, 8, 512, 4096]))
def test_groups_have_every_file_once_in_order_and_files_of_one_crawl(
    first: list[int], second: list[int], buckets: int
) -> None:
    files = crawl_of("a", first) + crawl_of("b", second, len(first))
    found = merge_plan.groups(files, buckets)
    assert [file for group in found for file in group.files] == files
    for group in found:
        assert {file.crawl for file in group.files} == {group.crawl}
        assert group.merged == (sum(file.crawl == group.crawl for file in files) > FEW_FILES)
        assert not group.merged or sum(min(file.pairs, 10_000) for file in group.files) <= OPEN_ROWS
    parts = merge_plan.parts(found, buckets)
    assert [part.args["files"] for part in parts] == [
        [file.path for file in group.files] for group in found if group.merged
    ]
    assert len({part.name for part in parts}) == len({part.key for part in parts}) == len(parts)


@settings(deadline=None, max_examples=50)
@given(st.lists(PAIRS, min_size=65, max_size=400), st.lists(PAIRS, max_size=100), st.integers(0, 400_000))
def test_a_further_crawl_changes_no_group_and_a_further_wat_the_last_group_only(
    pairs: list[int], other: list[int], more: int
) -> None:
    earlier = merge_plan.groups(crawl_of("a", pairs), 512)
    keys = [part.key for part in merge_plan.parts(earlier, 512)]
    with_crawl = merge_plan.groups(crawl_of("a", pairs) + crawl_of("b", other, len(pairs)), 512)
    assert with_crawl[: len(earlier)] == earlier
    assert [part.key for part in merge_plan.parts(with_crawl, 512)][: len(keys)] == keys
    with_wat = merge_plan.groups(crawl_of("a", [*pairs, more]), 512)
    assert with_wat[: len(earlier) - 1] == earlier[:-1]


@pytest.mark.parametrize(
    ("wats", "pairs", "buckets", "sizes"),
    [
        pytest.param(0, 0, 8, [], id="no WAT"),
        pytest.param(64, 300_000, 4096, [64], id="few files, not merged"),
        pytest.param(200, 300_000, 4096, [64, 64, 64, 8], id="WATs of Common Crawl: bounded by the rows held"),
        pytest.param(200, 1_000, 8, [64, 64, 64, 8], id="small WATs, few buckets: groups for many tasks"),
        pytest.param(5_000, 300, 512, [2133, 2133, 734], id="small WATs, many buckets: bounded by the rows held"),
        pytest.param(3_000, 0, 1, [2133, 867], id="empty WATs"),
    ],
)
def test_groups_are_cut_by_pairs_and_files(wats: int, pairs: int, buckets: int, sizes: list[int]) -> None:
    found = merge_plan.groups(crawl_of("a", [pairs] * wats), buckets)
    assert [len(group.files) for group in found] == sizes


def test_a_key_is_of_the_content_of_the_files_in_their_order_and_of_the_buckets() -> None:
    files = crawl_of("a", [10] * 70)

    def key(files: list[PairFile], buckets: int = 8) -> str:
        return merge_plan.parts([merge_plan.Group(tuple(files), merged=True)], buckets)[0].key

    moved = [file._replace(path=Path("elsewhere") / file.path.name) for file in files]
    assert key(moved) == key(files)
    changed = [files[0]._replace(sha256="other"), *files[1:]]
    assert len({key(files), key(changed), key(files[::-1]), key(files[:-1]), key(files, 16)}) == 5


# What the stage extract has published


def publish(folder: Path, orders: list[int], *, linked: bool = True) -> tuple[Path, Path]:
    """Write parts of WATs, sealed, and an out with links to their pairs, or copies of these."""
    out, parts = folder / "extract", folder / "parts"
    (out / "pairs").mkdir(parents=True)
    readings = []
    for order in orders:
        part = parts / f"key-{order}"
        tables.write(part / "pairs.parquet", tables.pairs({"wat_order": order}, {"text": str(order)}))
        part_files.seal(part, {})
        target = out / "pairs" / f"{order:06d}.parquet"
        if linked:
            os.link(part / "pairs.parquet", target)
        else:
            target.write_bytes((part / "pairs.parquet").read_bytes())
        blank = {column.name: "" if column.type == pa.string() else 0 for column in schema.READS.columns}
        readings.append({**blank, "order": order, "crawl": "demo", "pairs": 2})
    pq.write_table(pa.Table.from_pylist(readings, schema.READS.schema), out / "reads.parquet")
    return out, parts


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to compute their digest."""
    found: list[Path] = []

    def noting(path: Path) -> str:
        found.append(path)
        return storage_files.sha256(path)

    monkeypatch.setattr(merge_plan, "sha256", noting)
    return found


def test_files_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Names of different lengths do not sort like their numbers."""
    out, parts = publish(tmp_path, [2_000_001, 1_000_000, 999_999, 0])
    found = merge_plan.listed(out, parts)
    assert [file.path.stem for file in found] == ["000000", "999999", "1000000", "2000001"]
    assert [(file.crawl, file.pairs) for file in found] == [("demo", 2)] * 4


def test_the_digest_that_a_part_has_noted_is_taken_and_the_file_not_read(tmp_path: Path, hashed: list[Path]) -> None:
    out, parts = publish(tmp_path, [0, 1])
    found = merge_plan.listed(out, parts)
    assert hashed == []
    assert [file.sha256 for file in found] == [sha256(file.path) for file in found]


@pytest.mark.parametrize("case", ["copied", "no parts", "written since", "replaced", "damaged note"])
def test_a_digest_is_computed_where_the_file_may_differ_from_what_its_part_has_noted(
    tmp_path: Path, hashed: list[Path], case: str
) -> None:
    out, parts = publish(tmp_path, [0, 1], linked=case != "copied")
    path = out / "pairs" / "000001.parquet"
    if case == "no parts":
        parts = tmp_path / "nowhere"
    elif case == "written since":
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
        later = (parts / "key-1" / part_files.COUNTS_FILE).stat().st_mtime_ns + 1
        os.utime(path, ns=(later, later))
    elif case == "replaced":
        path.unlink()
        tables.write(path, tables.pairs({"text": "another"}))
    elif case == "damaged note":
        (parts / "key-1" / part_files.COUNTS_FILE).write_text("{")
    found = merge_plan.listed(out, parts)
    assert path in hashed
    assert (len(hashed) == 1) == (case in {"written since", "replaced", "damaged note"})
    assert [file.sha256 for file in found] == [sha256(file.path) for file in found]


def test_a_manifest_has_merged_files_and_those_of_small_crawls_in_the_order_of_the_wats(tmp_path: Path) -> None:
    out, _ = publish(tmp_path, [0, 1, 2, 3])
    files = [PairFile(out / "pairs" / f"{order:06d}.parquet", "x", 2, "") for order in range(4)]
    found = [
        merge_plan.Group((files[0],), merged=False),
        merge_plan.Group((files[1], files[2]), merged=True),
        merge_plan.Group((files[3],), merged=False),
    ]
    (part,) = merge_plan.parts(found, 8)
    tables.write(tmp_path / "merged" / "pairs.arrow", tables.pairs({}))
    entries = merge_plan.entries(found, [Done(part, tmp_path / "merged", {})])
    assert [(entry.path, entry.merged) for entry in entries] == [
        (str(files[0].path), False),
        (str(tmp_path / "merged" / "pairs.arrow"), True),
        (str(files[3].path), False),
    ]
