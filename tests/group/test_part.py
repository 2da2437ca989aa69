"""The stage group on a few shards, beside a comparison of all images with all: every edge, and no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import tables

from laion_dask import params
from laion_dask.group import clusters
from laion_dask.runner import tasks
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.schema import groups
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import embeddings
from workflow import group

FEATURES = 16


class Crawl:
    """Rows of made-up images, some of them copies of others, near to others, vague, or failed."""

    def __init__(self, rows: int = 160, seed: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self.sha256 = [f"{number:064x}" for number in range(rows)]
        self.quality = np.full(rows, 100)
        bits = rng.integers(0, 2, (rows, 256), dtype=np.uint8)
        vectors = rng.normal(size=(rows, FEATURES))
        for row in range(1, rows):
            other = int(rng.integers(row))
            kind = rng.integers(8)
            if kind < 3:
                bits[row] = bits[other]
                bits[row, rng.choice(256, int(rng.integers(0, 40)), replace=False)] ^= 1
                vectors[row] = vectors[other] + 0.1 * kind * rng.normal(size=FEATURES)
            elif kind == 3:
                self.sha256[row], bits[row], vectors[row] = self.sha256[other], bits[other], vectors[other]
            elif kind == 4:
                self.quality[row] = rng.integers(0, 60)
                bits[row] = bits[other]
        for row, own in enumerate(self.sha256):
            first = self.sha256.index(own)
            self.quality[row], bits[row] = self.quality[first], bits[first]
        self.bits = bits
        self.vectors = clusters.unit(vectors).astype(np.float16)
        self.reasons = ["timeout" if row % 11 == 5 else KEEP for row in range(rows)]
        self.scored = ["unreadable_image" if row % 17 == 3 else self.reasons[row] for row in range(rows)]
        self.uids = [tables.uid(number) for number in rng.permutation(rows)]

    def write(self, folder: Path, shard_rows: int) -> None:
        """Write download tables, scores in another order, and arrays, in shards of so many rows."""
        rows = len(self.uids)
        starts = range(0, rows, shard_rows)
        arrays = np.full((len(starts) * shard_rows, FEATURES), np.nan, np.float16)
        for number, start in enumerate(starts):
            some = range(start, min(rows, start + shard_rows))
            images, scores = [], []
            for row in some:
                got = self.reasons[row] == KEEP
                own = {"sha256": self.sha256[row], "pdq": np.packbits(self.bits[row]).tobytes().hex()}
                own |= {"pdq_quality": int(self.quality[row])}
                images.append({"uid": self.uids[row], "reason": self.reasons[row]} | (own if got else {}))
                slot = number * shard_rows + row - start
                scores.append({"uid": self.uids[row], "reason": self.scored[row], "slot": slot})
                if self.scored[row] == KEEP:
                    arrays[slot] = self.vectors[row]
            tables.write(folder / "data" / "download" / f"{number:05}.parquet", tables.images(*images))
            tables.write(folder / "data" / "score" / f"{number:05}.parquet", tables.scores(*reversed(scores)))
        about = {"demo": {"model": "demo"}}
        store = folder / "data" / "score" / embeddings.STORE
        made = embeddings.create(store, about, shards=len(starts), shard_rows=shard_rows, dimensions={"demo": FEATURES})
        embeddings.array(made, "demo/image")[:] = arrays

    def standing(self) -> dict[str, int]:
        """Return the row of each image by the lowest uid that has its bytes."""
        lowest: dict[str, int] = {}
        for row in np.argsort(self.uids):
            if self.scored[row] == KEEP:
                lowest.setdefault(self.sha256[row], int(row))
        return {self.uids[row]: row for row in lowest.values()}


def run_stage(folder: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every part in this process, as a worker would, and publish; returns the out."""
    monkeypatch.chdir(folder)

    def run(function: PartFunction, todo: Sequence[Part], shared: Mapping[str, Any]) -> list[Done]:
        done = []
        for part in sorted(todo, key=lambda part: part.name):
            at = folder / "work" / part.key
            done.append(Done(part, at, tasks.finish_part(function, str(at), {**part.args, **shared})))
        return done

    read = run(group.STAGE.function, group.STAGE.find_parts(settings, {}), {})
    done = group.STAGE.further(settings, {}, read, run)
    out = folder / "data" / "group"
    out.mkdir()
    group.STAGE.publish(settings, done, out)
    return out


def changed(defaults: params.Params, **changes: Any) -> params.Params:  # noqa: ANN401 - values of any parameter
    return defaults.model_copy(update={"group": defaults.group.model_copy(update=changes)})


def edges(path: Path) -> dict[tuple[str, str], tuple[int | None, float]]:
    table = groups.EDGES.check(pq.read_table(path))
    return {(row["uid_a"], row["uid_b"]): (row["distance"], row["cosine"]) for row in table.to_pylist()}


@pytest.fixture(scope="module")
def crawl() -> Crawl:
    return Crawl()


def test_every_pair_of_near_hashes_is_found_and_has_its_cosine(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path, 32)
    found = edges(run_stage(tmp_path, changed(defaults, neighbours=1_000), monkeypatch) / "near.parquet")
    expected = {}
    standing = crawl.standing()
    clear = {uid: row for uid, row in standing.items() if crawl.quality[row] >= 50}
    for a, one in clear.items():
        for b, other in clear.items():
            distance = int((crawl.bits[one] != crawl.bits[other]).sum())
            if a < b and distance <= 31:
                expected[a, b] = distance
    assert {pair: distance for pair, (distance, _) in found.items()} == expected
    assert len(expected) > 20
    wide = clusters.unit(crawl.vectors)
    for (a, b), (_, cosine) in found.items():
        assert cosine == pytest.approx(float(wide[standing[a]] @ wide[standing[b]]), abs=1e-5)


def test_within_one_cluster_every_pair_above_the_floor_is_found(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path, 32)
    settings = changed(defaults, clusters=1, neighbours=1_000, semantic_floor=0.8)
    found = edges(run_stage(tmp_path, settings, monkeypatch) / "semantic.parquet")
    standing = crawl.standing()
    wide = clusters.unit(crawl.vectors)
    cosines = {
        (a, b): float(wide[one] @ wide[other]) for a, one in standing.items() for b, other in standing.items() if a < b
    }
    assert {pair for pair, cosine in cosines.items() if cosine >= 0.8} == found.keys()
    assert len(found) > 20
    assert all(distance is None for distance, _ in found.values())


def test_edges_of_several_clusters_join_images_of_the_same_one(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path, 64)
    out = run_stage(tmp_path, changed(defaults, clusters=20, semantic_floor=0.8), monkeypatch)
    rows = pa.concat_tables(pq.read_table(path) for path in sorted(out.glob("0*.parquet"))).to_pylist()
    cluster = {row["uid"]: row["cluster"] for row in rows}
    found = edges(out / "semantic.parquet")
    assert len({*cluster.values()}) > 5
    assert found
    assert all(cluster[a] == cluster[b] for a, b in found)
    assert all(0 < row["centroid_cosine"] <= 1.001 for row in rows)


def test_a_row_for_each_scored_image_names_the_lowest_uid_of_its_bytes(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path, 32)
    out = run_stage(tmp_path, defaults, monkeypatch)
    rows = []
    for path in sorted(out.glob("0*.parquet")):
        rows += groups.GROUPS.check(pq.read_table(path)).to_pylist()
    stands = {crawl.sha256[row]: uid for uid, row in crawl.standing().items()}
    expected = {uid: stands[crawl.sha256[row]] for row, uid in enumerate(crawl.uids) if crawl.scored[row] == KEEP}
    assert {row["uid"]: row["image"] for row in rows} == expected
    assert len(rows) == len(expected)
    assert any(row["image"] != row["uid"] for row in rows)
    assert all(np.isnan(row[f"evaluation_{name}"]) for row in rows for name in ("distance", "cosine"))


def test_edges_do_not_depend_on_how_images_are_cut_into_shards(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for shard_rows in (16, 160):
        folder = tmp_path / str(shard_rows)
        crawl.write(folder, shard_rows)
        out = run_stage(folder, defaults, monkeypatch)
        found.append([(out / name).read_bytes() for name in ("near.parquet", "semantic.parquet")])
    assert found[0] == found[1]


def test_of_many_neighbours_the_nearest_earlier_ones_are_recorded(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path / "all", 32)
    every = edges(run_stage(tmp_path / "all", changed(defaults, neighbours=1_000), monkeypatch) / "near.parquet")
    crawl.write(tmp_path / "one", 32)
    found = edges(run_stage(tmp_path / "one", changed(defaults, neighbours=1), monkeypatch) / "near.parquet")
    nearest = {}
    for (a, b), (distance, _) in every.items():
        nearest[b] = min(nearest.get(b, (999, "")), (distance, a))
    assert {(a, b) for b, (_, a) in nearest.items()} == found.keys()
    assert len(found) < len(every)


def test_images_are_compared_with_evaluation_sets(
    crawl: Crawl, defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.write(tmp_path, 32)
    np.save(tmp_path / "sets.npy", crawl.vectors[:5].astype(np.float32))
    bits = crawl.bits[7].copy()
    bits[:9] ^= 1
    (tmp_path / "sets.txt").write_text(np.packbits(bits).tobytes().hex() + "\n")
    files = (str(tmp_path / "sets.npy"), str(tmp_path / "sets.txt"))
    out = run_stage(tmp_path, changed(defaults, evaluation=files), monkeypatch)
    found = {row["uid"]: row for path in out.glob("0*.parquet") for row in pq.read_table(path).to_pylist()}
    assert found[crawl.uids[7]]["evaluation_distance"] == 9
    wide = clusters.unit(crawl.vectors)
    for row, uid in enumerate(crawl.uids):
        if uid in found:
            distance = int((crawl.bits[row] != bits).sum())
            clear = crawl.quality[row] >= 50 and distance <= 31
            assert (
                (found[uid]["evaluation_distance"] == distance)
                if clear
                else np.isnan(found[uid]["evaluation_distance"])
            )
            assert found[uid]["evaluation_cosine"] == pytest.approx((wide[:5] @ wide[row]).max(), abs=1e-5)


def test_without_any_image_the_tables_are_empty(
    defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl = Crawl(8)
    crawl.reasons = crawl.scored = ["timeout"] * 8
    crawl.write(tmp_path, 16)
    out = run_stage(tmp_path, defaults, monkeypatch)
    assert sorted(path.name for path in out.iterdir()) == ["00000.parquet", "near.parquet", "semantic.parquet"]
    assert all(pq.read_table(path).num_rows == 0 for path in out.iterdir())
