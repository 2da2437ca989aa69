"""The stage group cut into many small parts: the same files, and the edges that a comparison of all with all gives."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask import params
from laion_dask.group import clusters, numbering, part, slices, steps, stored
from laion_dask.images import pdq_index
from laion_dask.removals.traces import trace_files
from laion_dask.removals.traces.trace_values import Traces
from laion_dask.runner import tasks
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.schema import groups

FEATURES = 8


class Rows:
    """Images with random uids: many have the bytes or the hash of another, or a hash that is near it."""

    def __init__(self, seed: int, rows: int, origins: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.uids = sorted(hashlib.md5(rng.bytes(8)).hexdigest() for _ in range(rows))
        rng.shuffle(self.uids)
        bits = rng.integers(0, 2, (rows, 256), dtype=np.uint8)
        vectors = rng.normal(size=(rows, FEATURES))
        digests = [hashlib.sha256(rng.bytes(8)).hexdigest() for _ in range(rows)]
        self.hashed = rng.random(rows) < 0.95
        for row in range(1, rows):
            other, kind = int(rng.integers(min(row, origins))), rng.integers(6)
            if kind < 4:
                bits[row] = bits[other]
                turned = int(rng.integers(0, 20)) if kind < 3 else 0
                bits[row, rng.choice(256, turned, replace=False)] ^= 1
                vectors[row] = vectors[other] + 0.05 * kind * rng.normal(size=FEATURES)
            elif kind == 4:
                digests[row], bits[row], vectors[row] = digests[other], bits[other], vectors[other]
                self.hashed[row] = self.hashed[other]
        self.sha256 = digests
        self.pdq = [
            row.tobytes() if ok else None for row, ok in zip(np.packbits(bits, axis=1), self.hashed, strict=True)
        ]
        self.vectors = clusters.unit(vectors).astype(np.float16)

    def write(self, folder: Path, shard_rows: int) -> list[Done]:
        """Write the parts that the step `read` makes of the shards."""
        done = []
        for number, low in enumerate(range(0, len(self.uids), shard_rows)):
            some = slice(low, low + shard_rows)
            name = f"{number:05d}"
            (folder / name).mkdir(parents=True)
            columns = {
                "uid": self.uids[some],
                "sha256": self.sha256[some],
                "pdq": pa.array(self.pdq[some], pa.binary()),
            }
            pq.write_table(pa.table(columns), folder / name / part.ROWS)
            np.save(folder / name / part.VECTORS, self.vectors[some])
            done.append(Done(Part(name, f"key-{name}"), folder / name, {"images": len(self.uids[some])}))
        return done

    def images(self) -> list[tuple[str, bytes | None]]:
        """Return uid and hash of each image, in the order of the uids that represent them."""
        first: dict[str, tuple[str, bytes | None]] = {}
        for uid, digest, pdq in sorted(zip(self.uids, self.sha256, self.pdq, strict=True)):
            first.setdefault(digest, (uid, pdq))
        return list(first.values())


def outs(rows: Rows, settings: params.Params, shard_rows: int, cut: int) -> tuple[dict[str, bytes], dict[str, int]]:
    """Run the stage with parts of so many rows; returns the published files and the sums of counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(function: PartFunction, todo: Sequence[Part], shared: Mapping[str, Any]) -> list[Done]:
            done = []
            for one in sorted(todo, key=lambda one: one.name):
                at = folder / "work" / one.key
                done.append(Done(one, at, tasks.finish_part(function, str(at), {**one.args, **shared})))
            return done

        done = steps.compare(settings, rows.write(folder / "read", shard_rows), run, cut)
        (folder / "out").mkdir()
        steps.join_edges(done, folder / "out")
        counts: dict[str, int] = {}
        for one in done:
            for count, value in one.counts.items():
                if isinstance(value, int):
                    counts[count] = counts.get(count, 0) + value
        return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}, counts


def table(raw: bytes) -> pa.Table:
    return groups.EDGES.check(pq.read_table(pa.BufferReader(raw)))


def in_band(hashes: Sequence[bytes], band: int, radius: int, neighbours: int, crowd: int) -> dict[tuple[int, int], int]:
    """Return by the rule of the index, one pair after the other, what a band finds."""
    bits = np.unpackbits(np.frombuffer(b"".join(hashes), np.uint8)).reshape(-1, 256)
    values = np.frombuffer(b"".join(hashes), np.uint16).reshape(-1, 16)[:, band].tolist()
    order = [sum(other == value for other in values[:row]) for row, value in enumerate(values)]
    window = np.concatenate([np.arange(16) + 16 * ((band + step) % 16) for step in range(4)])
    found: dict[int, list[tuple[int, int]]] = {}
    for right in range(len(hashes)):
        for left in range(right):
            turned = (values[left] ^ values[right]).bit_count()
            upper = left if values[left] > values[right] else right
            kept = order[upper] < crowd if turned else max(order[left], order[right]) < crowd
            differs = bits[left] != bits[right]
            if turned <= (radius >= 16) and kept and differs[window].sum() <= radius // 4 and differs.sum() <= radius:
                found.setdefault(right, []).append((int(differs.sum()), left))
    return {(left, right): far for right, near in found.items() for far, left in sorted(near)[:neighbours]}


def near_edges(images: Sequence[tuple[str, bytes | None]], radius: int, neighbours: int) -> dict[tuple[str, str], int]:
    """Return the edges by hash, without any index of images: pairs of hashes by band, then of images."""
    members: dict[bytes, list[int]] = {}
    for number, (_, pdq) in enumerate(images):
        if pdq is not None:
            members.setdefault(pdq, []).append(number)
    hashes = list(members)
    pairs = {(row, row): 0 for row in range(len(hashes))}
    for band in range(pdq_index.BANDS):
        pairs |= in_band(hashes, band, radius, neighbours, pdq_index.CROWD)
    pairs |= {(right, left): far for (left, right), far in pairs.items()}
    nearest: dict[int, list[tuple[int, int]]] = {}
    for (source, target), far in pairs.items():
        for b in members[hashes[target]]:
            nearest.setdefault(b, []).extend((far, a) for a in members[hashes[source]] if a < b)
    return {(images[a][0], images[b][0]): far for b, all_ in nearest.items() for far, a in sorted(all_)[:neighbours]}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 70), st.integers(1, 6), st.sampled_from([5, 15, 31]), st.integers(9, 40))
def test_edges_by_hash_are_those_of_all_with_all_however_small_the_parts_are(
    defaults: params.Params, seed: int, count: int, neighbours: int, radius: int, cut: int
) -> None:
    rows = Rows(seed, count)
    changed = {"neighbours": neighbours, "pdq_distance": radius, "clusters": 3, "semantic_floor": 0.8}
    settings = defaults.model_copy(update={"group": defaults.group.model_copy(update=changed)})
    files, counts = outs(rows, settings, 20, cut)
    found = {(row["uid_a"], row["uid_b"]): row["distance"] for row in table(files["near.parquet"]).to_pylist()}
    images = rows.images()
    assert found == near_edges(images, radius, neighbours)
    assert counts["distinct_images"] == len(images)
    assert counts["hashes"] == len({pdq for _, pdq in images} - {None})
    assert counts["vague"] == sum(pdq is None for _, pdq in images)
    assert (counts["near"], counts.get("semantic", 0)) == (len(found), len(table(files["semantic.parquet"])))


@pytest.mark.parametrize("cut", [12, 64, 200])
def test_files_do_not_depend_on_how_many_rows_a_part_has(defaults: params.Params, cut: int) -> None:
    rows = Rows(7, 250, origins=12)
    changed = {"neighbours": 4, "clusters": 40, "semantic_floor": 0.8}
    settings = defaults.model_copy(update={"group": defaults.group.model_copy(update=changed)})
    whole, counts = outs(rows, settings, 25, steps.ROWS)
    assert (counts["near"] > 200, counts["semantic"] > 100, counts["full_near"] > 0) == (True, True, True)
    assert outs(rows, settings, 25, cut) == (whole, counts)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(0, 50),
    st.sampled_from([7, 15, 16, 31]),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(0, 16),
    st.integers(0, 15),
    st.sampled_from([1, 5, 30, 1_000]),
)
def test_the_pieces_of_a_band_find_together_what_the_rule_of_the_index_gives(
    seed: int, count: int, radius: int, neighbours: int, crowd: int, bits: int, band: int, batch: int
) -> None:
    rng = np.random.default_rng(seed)
    origins = rng.integers(0, 2, (3, 256), dtype=np.uint8)
    turned = origins[rng.integers(0, 3, count)] ^ (rng.random((count, 256)) < rng.choice([0.01, 0.03, 0.06]))
    packed = np.packbits(turned.astype(np.uint8), axis=1)
    _, first = np.unique(packed, axis=0, return_index=True)
    hashes = packed[np.sort(first)] if count else packed
    numbers = np.cumsum(rng.integers(1, 1 << 34, len(hashes)))
    upper = np.ascontiguousarray(hashes).view(np.uint16)[:, band].astype(int) >> (16 - bits)

    def load(piece: int) -> pdq_index.Piece:
        return pdq_index.Piece(hashes[upper == piece], numbers[upper == piece])

    limits = pdq_index.Limits(radius, neighbours, crowd)
    found, crowded = {}, 0
    with pytest.MonkeyPatch.context() as patched:
        # Small batches, so that pairs are dropped and given out in many.
        patched.setattr(pdq_index, "_BATCH", batch)
        patched.setattr(pdq_index, "_PAIRS", batch)
        for piece in set(upper.tolist()):
            for some in pdq_index.within_piece(load(piece), load, piece, bits, band, limits):
                crowded += some.crowded
                sides = (np.searchsorted(numbers, side).tolist() for side in (some.left, some.right))
                found |= dict(zip(zip(*sides, strict=True), some.distance.tolist(), strict=True))
    assert found == in_band([row.tobytes() for row in hashes], band, radius, neighbours, crowd)
    whole = pdq_index.Piece(hashes, numbers)
    assert crowded == sum(one.crowded for one in pdq_index.within_piece(whole, load, 0, 0, band, limits))


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(7, 9))
def test_the_pieces_of_a_file_have_its_records_in_their_order(piece: list[int], pieces: int) -> None:
    records = np.zeros(len(piece), slices.MEMBER)
    records["image"] = np.arange(len(piece))
    with tempfile.TemporaryDirectory() as name:
        for folder in ("a", "b"):
            (Path(name) / folder).mkdir()
            slices.write(Path(name) / folder / "rows", records, np.array(piece, np.int64), pieces)
        for one in range(pieces):
            found = slices.read([Path(name) / "a", Path(name) / "b"], "rows", one, slices.MEMBER)
            assert found["image"].tolist() == 2 * [place for place, mine in enumerate(piece) if mine == one]


@pytest.mark.parametrize("cuts", [[250_000], [1, 99_999, 150_000], [70_000, 70_000, 0, 110_000]])
def test_joined_edges_have_full_row_groups_and_equal_bytes(tmp_path: Path, cuts: list[int]) -> None:
    rng = np.random.default_rng(1)
    uids = pa.array([f"{number:032x}" for number in rng.integers(0, 1 << 20, 250_000).tolist()])
    edges = pa.table(
        [uids, uids[::-1], pa.array(np.arange(250_000), pa.int32()), rng.random(250_000, np.float32)],
        groups.EDGES.schema.names,
    )
    pq.write_table(
        edges.cast(groups.EDGES.schema), tmp_path / "expected.parquet", compression="zstd", row_group_size=100_000
    )
    low, paths = 0, []
    for number, rows in enumerate(cuts):
        paths.append(tmp_path / f"{number}.parquet")
        pq.write_table(edges.slice(low, rows).cast(groups.EDGES.schema), paths[-1], row_group_size=30_000)
        low += rows
    stored.join_whole(paths, tmp_path / "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()


def test_digests_lie_in_the_files_of_parts_as_their_bytes_where_a_purge_looks_for_them(tmp_path: Path) -> None:
    rows = Rows(5, 60, origins=3)
    read = [done.folder for done in rows.write(tmp_path, 30)]
    for folder in ("spread", "united-0", "united-1"):
        (tmp_path / folder).mkdir()
    numbering.spread(tmp_path / "spread", parts=read, first=0, pieces=2)
    for piece in (0, 1):
        numbering.unite(tmp_path / f"united-{piece}", spread=[tmp_path / "spread"], piece=piece, pieces=2, groups=[0])
    content = {path: path.read_bytes() for path in tmp_path.glob("[su]*/*")}
    united = b"".join(raw for path, raw in content.items() if path.parent.name != "spread")
    images = rows.images()
    assert len(images) < len(rows.uids)
    assert all(bytes.fromhex(uid) in united and (pdq is None or pdq in united) for uid, pdq in images)
    for uid, digest in zip(rows.uids, rows.sha256, strict=True):
        assert bytes.fromhex(uid) in content[tmp_path / "spread" / "rows"]
        assert bytes.fromhex(digest) in content[tmp_path / "spread" / "rows"]
        for path, raw in content.items():
            traces = Traces(digests=frozenset({digest}))
            assert bool(trace_files.look(path, traces, trace_files.Seen())) == (bytes.fromhex(digest) in raw)
