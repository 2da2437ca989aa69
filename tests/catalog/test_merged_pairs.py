"""Files of WATs merged by bucket: each bucket reads from them the table that it would read from the files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask import schema
from laion_dask.catalog import merged_pairs, pair_files, pair_manifest
from laion_dask.catalog.connections import CatalogError
from laion_dask.catalog.pair_manifest import Listed
from laion_dask.storage.files import sha256
from laion_dask.workers.checks import WorkerRefusedError

# Uids close to the borders of buckets, and few enough that files share some.
EDGES = [number << 116 for number in (0, 1, 7, 8, 2047, 2048, 4095)]
UIDS = st.sampled_from([uid for edge in EDGES for uid in (edge, edge + 1, max(edge - 1, 0))])
WATS = st.lists(st.lists(UIDS, max_size=12), min_size=1, max_size=7)


def wat(path: Path, place: int, uids: list[int], row_group: int) -> Path:
    rows = [
        {
            "uid": f"{uid:032x}",
            "text": f"{place} {number}",
            "wat": f"wat-{place}",
            "wat_order": place,
            "record_offset": number,
            "language": ("en", "de", "")[(uid + number) % 3],
        }
        for number, uid in enumerate(sorted(uids))
    ]
    pq.write_table(tables.pairs(*rows), path, row_group_size=row_group)
    return path


def decoded(table: pa.Table) -> pa.Table:
    return pair_files.plain(table, schema.PAIRS)


def merged(folder: Path, files: list[Path], buckets: int) -> Path:
    folder.mkdir()
    merged_pairs.merge(folder, files=files, buckets=buckets)
    return folder / merged_pairs.FILE


@settings(deadline=None, max_examples=40)
@example(
    wats=[[EDGES[1], EDGES[5]], [], [EDGES[1], EDGES[1], EDGES[6]]],
    cuts=[False] * 7,
    unmerged=[False] * 7,
    row_group=2,
    buckets=4096,
    step_rows=2,
)
@given(
    wats=WATS,
    cuts=st.lists(st.booleans(), min_size=7, max_size=7),
    unmerged=st.lists(st.booleans(), min_size=7, max_size=7),
    row_group=st.integers(1, 5),
    buckets=st.sampled_from([1, 2, 16, 64]),
    step_rows=st.sampled_from([1, 3, 1000]),
)
def test_a_bucket_has_the_same_rows_in_the_same_order_from_any_groups_as_from_the_files(
    tmp_path_factory: pytest.TempPathFactory,
    wats: list[list[int]],
    cuts: list[bool],
    unmerged: list[bool],
    row_group: int,
    buckets: int,
    step_rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("wats")
    files = [wat(folder / f"{place}.parquet", place, uids, row_group) for place, uids in enumerate(wats)]
    groups: list[list[Path]] = []
    for file, cut in zip(files, cuts, strict=False):
        if cut or not groups:
            groups.append([])
        groups[-1].append(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merged_pairs, "STEP_ROWS", step_rows)
        entries = []
        for place, (group, left) in enumerate(zip(groups, unmerged, strict=False)):
            if left:
                entries += [Listed.of(file, merged=False) for file in group]
            else:
                entries.append(Listed.of(merged(folder / str(place), group, buckets), merged=True))
    manifest = pair_manifest.write(folder / "manifests", entries)
    # Of many buckets, those with pairs and their neighbours.
    width = 2**128 // buckets
    near = {uid // width + beside for uids in wats for uid in uids for beside in (-1, 0, 1)}
    for bucket in sorted({0, buckets - 1} | {bucket for bucket in near if 0 <= bucket < buckets}):
        from_files = pair_files.read(files, bucket, buckets)
        found = pair_manifest.read(manifest, bucket, buckets)
        assert found.schema == from_files.schema
        assert decoded(found).equals(decoded(from_files))
        assert all(column.num_chunks <= 1 for column in found.columns)
        uids_alone = pair_manifest.read(manifest, bucket, buckets, ["uid"])
        assert uids_alone.equals(from_files.select(["uid"]))


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    files = [wat(tmp_path / f"{place}.parquet", place, [*range(place, 900, 7)], 50) for place in range(5)]
    assert len({sha256(merged(tmp_path / str(again), files, 16)) for again in range(2)}) == 1


def test_a_step_of_a_merge_may_meet_values_that_no_earlier_one_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_pairs, "STEP_ROWS", 1)
    width = 2**128 // 16
    files = [wat(tmp_path / f"{place}.parquet", place, [place * width, 15 * width + place], 1) for place in range(16)]
    path = merged(tmp_path / "merged", files, 16)
    found = [merged_pairs.read(path, bucket, 16)["wat"].to_pylist() for bucket in range(16)]
    names = [f"wat-{place}" for place in range(16)]
    assert found == [*([name] for name in names[:15]), [*names, names[15]]]


def test_a_merge_says_how_many_rows_it_has_read(tmp_path: Path) -> None:
    files = [wat(tmp_path / f"{place}.parquet", place, [*range(place)], 2) for place in range(4)]
    (tmp_path / "out").mkdir()
    assert merged_pairs.merge(tmp_path / "out", files=files, buckets=2) == {"rows": 6}


@pytest.mark.parametrize("uids", [["b" * 32, "1" * 32, "c" * 32], ["b" * 32, "c" * 32, "1" * 32]])
def test_a_file_that_is_not_sorted_is_refused_by_its_name(tmp_path: Path, uids: list[str]) -> None:
    rows = pa.concat_tables(tables.pairs({"uid": uid}) for uid in uids)
    pq.write_table(rows, tmp_path / "0.parquet", row_group_size=2)
    with pytest.raises(CatalogError, match=r"0\.parquet is not sorted by uid\. Remedy: run the stage extract again"):
        merged(tmp_path / "out", [tmp_path / "0.parquet"], 4)


@pytest.mark.parametrize("uid", ["0" * 31, "0" * 33, "z" * 32, "A" * 32])
def test_a_uid_that_belongs_to_no_bucket_is_refused_and_not_left_out(tmp_path: Path, uid: str) -> None:
    path = tables.write(tmp_path / "0.parquet", tables.pairs({"uid": uid}))
    with pytest.raises(CatalogError, match=r"a uid is not 32 hex digits"):
        merged(tmp_path / "out", [path], 4)


def test_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "0.parquet", tables.pairs({}).drop_columns(["ips"]))
    with pytest.raises(schema.SchemaError, match=r"missing \['ips'\]"):
        merged(tmp_path / "out", [path], 4)


def test_a_file_that_was_merged_for_other_buckets_is_not_read(tmp_path: Path) -> None:
    path = merged(tmp_path / "out", [wat(tmp_path / "0.parquet", 0, [1], 1)], 4)
    with pytest.raises(CatalogError, match=r"has 4 buckets, not 8\. Remedy: remove the folder"):
        merged_pairs.read(path, 0, 8)


def test_a_bucket_is_not_read_from_a_file_that_has_changed_since_the_driver_listed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laion_dask.workers.checks._WAIT_S", 0.0)
    path = wat(tmp_path / "0.parquet", 0, [1, 2], 1)
    manifest = pair_manifest.write(tmp_path / "manifests", [Listed.of(path, merged=False)])
    wat(path, 0, [1, 2, 3], 1)
    with pytest.raises(WorkerRefusedError, match=r"0\.parquet is missing there, or another file than the driver's"):
        pair_manifest.read(manifest, 0, 1)


def test_a_manifest_keeps_its_path_as_long_as_its_files_are_the_same(tmp_path: Path) -> None:
    entries = [Listed.of(wat(tmp_path / f"{place}.parquet", place, [place], 1), merged=False) for place in range(2)]
    first = pair_manifest.write(tmp_path / "manifests", entries)
    assert pair_manifest.write(tmp_path / "manifests", entries) == first
    other = pair_manifest.write(tmp_path / "manifests", entries[:1])
    assert other != first
    assert sorted((tmp_path / "manifests").iterdir()) == sorted([first, other])
