"""Soft cap sampling against the published loop, and its verdicts over all shards."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import judging, over_all, tables
from scipy.special import softmax

from laion_dask import params
from laion_dask.filter import filter_checks, given_scores, rules, uid_sets
from laion_dask.filter import over_all as over_all_rules
from laion_dask.filter.sampling import soft_cap
from laion_dask.filter.sampling.soft_cap import SampleError
from laion_dask.schema.reasons import KEEP

NAN = float("nan")


def uids(rows: int, seed: int = 0) -> np.ndarray:
    rng = random.Random(seed)
    return uid_sets.halves(pa.array([f"{rng.getrandbits(128):032x}" for _ in range(rows)]))


def draw(scores: list[float], **changes: Any) -> np.ndarray:  # noqa: ANN401 - any argument
    given_ = {"size": None, "batch": 1, "penalty": 0.5, "seed": 1, **changes}
    return soft_cap.draw(uids(len(scores)), np.array(scores), **given_)


def published(scores: np.ndarray, size: int, batch: int, penalty: float, rng: np.random.Generator) -> np.ndarray:
    """Draw as formll/FLYT describes it: batches without replacement by the softmax of scores that fall when drawn."""
    current, times = scores.copy(), np.zeros(len(scores), np.int64)
    while times.sum() < size:
        drawn = rng.choice(len(scores), min(batch, size - times.sum()), replace=False, p=softmax(current))
        times[drawn] += 1
        current[drawn] -= penalty
    return times


@pytest.mark.parametrize(
    ("batch", "penalty", "size"), [(1, 0.5, 12), (3, 0.5, 12), (3, 0.0, 9), (4, 0.15, 40), (5, 2.0, 7)]
)
def test_pairs_are_drawn_as_often_as_by_the_published_loop(batch: int, penalty: float, size: int) -> None:
    scores = np.array([2.0, 1.0, 0.0, 0.0, -1.0, -3.0, 0.5])
    asked = {"size": size, "batch": batch, "penalty": penalty}
    draws = 3_000
    ours = np.array([soft_cap.draw(uids(7), scores, **asked, seed=seed) for seed in range(draws)])
    rng = np.random.default_rng(4)
    theirs = np.array([published(scores, rng=rng, **asked) for _ in range(draws)])
    assert (ours.sum(axis=1) == size).all()
    spread = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / draws) + 1e-9
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * spread).all()
    # Not only the means: how often a pair is drawn has the same spread.
    assert ours.std(axis=0) == pytest.approx(theirs.std(axis=0), rel=0.12, abs=0.03)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(1, 30),
    st.floats(0, 4),
    st.randoms(use_true_random=False),
)
def test_a_batch_has_each_pair_at_most_once_and_the_order_of_the_rows_has_no_effect(
    scores: list[float], size: int, batch: int, penalty: float, shuffle: random.Random
) -> None:
    batch = min(batch, len(scores))
    asked = {"size": size, "batch": batch, "penalty": penalty, "seed": 3}
    found = soft_cap.draw(uids(len(scores)), np.array(scores), **asked)
    assert found.sum() == size
    assert found.max() <= -(-size // batch)
    order = list(range(len(scores)))
    shuffle.shuffle(order)
    assert (soft_cap.draw(uids(len(scores))[order], np.array(scores)[order], **asked) == found[order]).all()


def test_a_penalty_above_all_differences_draws_every_pair_once_before_any_twice() -> None:
    assert (draw([3.0, 1.0, 0.0, -2.0], penalty=1_000.0) == 1).all()
    assert sorted(draw([3.0, 1.0, 0.0, -2.0], penalty=1_000.0, size=6)) == [1, 1, 2, 2]


def test_another_seed_draws_others() -> None:
    scores = [0.0] * 200
    assert (draw(scores) == draw(scores)).all()
    assert (draw(scores) != draw(scores, seed=2)).any()


def test_without_pairs_nothing_is_drawn_and_a_batch_of_more_than_all_is_refused() -> None:
    assert draw([], batch=100).tolist() == []
    with pytest.raises(SampleError, match=r"filter.sample.batch = 4: 3 pairs can be drawn.*Remedy: a batch of"):
        draw([1.0, 2.0, 3.0], batch=4, size=8)
    assert draw([1.0, 2.0, 3.0], batch=4, size=2).sum() == 2


def sampled(**changes: Any) -> params.Filter:  # noqa: ANN401 - values of any rule
    rule = {"column": "aesthetic", "size": 500, "batch": 20, "penalty": 0.3, "seed": 1}
    return judging.changed(**{"sample": rule, "duplicate_images": "keep", **changes})


def test_the_sample_is_that_of_all_shards_together_and_its_pairs_are_the_ones_that_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    beauty = np.where(rng.random(400) < 0.1, NAN, rng.normal(5, 1.5, 400))
    images = tables.images(*({} for _ in range(400)))
    unsafe = [0.9 if row % 7 == 0 else 0.1 for row in range(400)]
    scores = tables.scores(*({"aesthetic": one, "punsafe": two} for one, two in zip(beauty, unsafe, strict=True)))
    wanted = sampled()
    whole, _ = over_all.verdicts(tmp_path / "whole", [(images, scores)], wanted)
    order = rng.permutation(400)
    shards = [(images.take(rows), scores.take(rows)) for rows in np.array_split(order, 5)]
    parts, done = over_all.verdicts(tmp_path / "parts", shards, wanted)
    assert parts == whole
    reasons = [whole[tables.uid(row)] for row in range(400)]
    assert {*reasons} == {KEEP, "unsafe", "not_sampled"}
    assert all(reasons[row] in {"unsafe", "not_sampled"} for row in np.flatnonzero(np.isnan(beauty)))
    assert sum(part.counts["pairs"]["kept"] for part in done) == reasons.count(KEEP)
    assert sum(part.counts["pairs"]["seen"] for part in done) == 400
    counts, samples = {}, {}
    for name in ("whole", "parts"):
        out = tmp_path / f"{name}-out"
        counts[name] = over_all_rules.publish(wanted, tmp_path / name / "plan", out)
        samples[name] = (out / "sampled.npy").read_bytes()
    assert counts["whole"] == counts["parts"]
    assert samples["whole"] == samples["parts"]
    sample = np.load(tmp_path / "parts-out" / "sampled.npy")
    kept = uid_sets.halves(pa.array(sorted(uid for uid, reason in whole.items() if reason == KEEP)))
    unique, times = np.unique(sample, return_counts=True)
    assert (unique == kept).all()
    assert counts["parts"] == {"sample": {"draws": 500, "pairs": len(kept), "most": int(times.max())}}
    assert times.sum() == 500


def write_scores(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_given_scores_are_found_by_uid_and_missing_ones_are_none(tmp_path: Path) -> None:
    # Two uids that begin alike.
    names = [f"{7:016x}{number:016x}" for number in (9, 3)] + [tables.uid(1)]
    file = write_scores(tmp_path / "scores.parquet", {"uid": names, "flyt": [0.5, None, 2.0], "other": ["a", "b", "c"]})
    ready = given_scores.prepare(file, "flyt", tmp_path / "plan" / "flyt.npy")
    asked = pa.chunked_array([[tables.uid(1), *names[:2], tables.uid(2)]])
    found = given_scores.of_rows(ready, asked, "digest")
    assert found.tolist() == pytest.approx([2.0, 0.5, NAN, NAN], nan_ok=True)
    nothing = {"uid": pa.array([], pa.string()), "flyt": pa.array([], pa.float32())}
    empty = given_scores.prepare(write_scores(tmp_path / "e.parquet", nothing), "flyt", tmp_path / "e.npy")
    assert np.isnan(given_scores.of_rows(empty, asked, "other")).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"uid": ["a"], "flyt": [1.0]}, "cannot be read.*Remedy: 32 hex digits"),
        ({"key": [tables.uid(1)], "flyt": [1.0]}, "has no column uid. Remedy: one of key, flyt"),
        ({"uid": [tables.uid(1)], "score": [1.0]}, "has no column flyt. Remedy: one of uid, score"),
        ({"uid": [tables.uid(1)], "flyt": ["high"]}, "column flyt is string. Remedy: a column of numbers"),
        ({"uid": [tables.uid(1)] * 2, "flyt": [1.0, 2.0]}, f"has uid {tables.uid(1)} twice"),
    ],
)
def test_a_file_without_scores_by_uid_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(given_scores.GivenScoresError, match=message):
        given_scores.prepare(write_scores(tmp_path / "s.parquet", columns), "flyt", tmp_path / "s.npy")


@pytest.mark.parametrize("content", [None, b"no Parquet"])
def test_what_is_no_parquet_is_refused_by_a_look(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / "folder" / "s.parquet").write_bytes(content)
    with pytest.raises(given_scores.GivenScoresError, match="Remedy"):
        given_scores.look(tmp_path / "folder", "flyt")


def test_a_sample_is_drawn_by_given_scores(tmp_path: Path) -> None:
    columns = {"uid": [tables.uid(row) for row in range(30)], "score": [float(row) for row in range(30)]}
    file = write_scores(tmp_path / "s.parquet", columns)
    column = {"column": "flyt", "kind": "scores", "file": str(file), "file_column": "score"}
    rule = {"column": "flyt", "size": 10, "batch": 10, "penalty": 0.1, "seed": 1}
    wanted = sampled(computed=[column], sample=rule)
    files = rules.Files("digest", given={"flyt": given_scores.prepare(file, "score", tmp_path / "flyt.npy")})
    tables_ = tables.images(*({} for _ in range(40))), tables.scores(*({} for _ in range(40)))
    found, _ = over_all.verdicts(tmp_path, [tables_], wanted, files)
    kept = [row for row in range(40) if found[tables.uid(row)] == KEEP]
    # One batch of different pairs, by chances that fall by e from one to the next.
    assert len(kept) == 10
    assert min(kept) >= 15
    assert max(kept) < 30


@pytest.mark.parametrize(
    ("computed", "message"),
    [
        ({"column": "f", "kind": "scores", "file": "s"}, "Remedy: add file_column"),
        (
            {"column": "f", "kind": "scores", "file": "s", "file_column": "x", "model": "a"},
            "leave model out",
        ),
        ({"column": "f", "kind": "normsim", "targets": "t", "norm": 2}, "Remedy: add model"),
        ({"column": "f", "kind": "normsim", "model": "a", "targets": "t", "norm": 2, "file": "s"}, "leave file out"),
    ],
)
def test_a_computed_column_has_the_keys_of_its_kind(computed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judging.changed(computed=[computed])


def test_a_sample_by_a_column_that_will_not_exist_is_refused() -> None:
    wanted = sampled(sample={"column": "flit", "size": 10, "batch": 10, "penalty": 0.1, "seed": 1})
    known = filter_checks.joined(tables.scores({}).schema)
    with pytest.raises(filter_checks.FilterError, match=r"filter\.sample: column = flit"):
        filter_checks.check(wanted, known)
