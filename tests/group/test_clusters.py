"""Clusters and what is near within one: beside a comparison of all with all, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.group import clusters


def bunched(seed: int, rows: int, bunches: int, noise: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(bunches, 16))
    return clusters.unit(middles[rng.integers(0, bunches, rows)] + noise * rng.normal(size=(rows, 16)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 80), st.floats(0.3, 0.99), st.integers(1, 80))
def test_within_a_cluster_the_nearest_earlier_rows_above_the_floor_are_found(
    seed: int, rows: int, floor: float, neighbours: int
) -> None:
    vectors = bunched(seed, rows, 4)
    cosines = vectors @ vectors.T
    expected = set()
    for b in range(rows):
        near = sorted((-cosines[b, a], a) for a in range(b) if cosines[b, a] >= np.float32(floor))
        expected |= {(a, b) for _, a in near[:neighbours]}
    a, b, cosine = clusters.within(vectors, floor, neighbours)
    assert {(int(one), int(other)) for one, other in zip(a, b, strict=True)} == expected
    assert np.allclose(cosine, cosines[a, b], atol=1e-6)


def test_a_cluster_larger_than_a_block_is_compared_as_a_whole() -> None:
    vectors = bunched(1, 2_500, 1_200, noise=0.01)
    a, b, _ = clusters.within(vectors, 0.99, 10_000)
    cosines = vectors @ vectors.T
    clear = np.triu(np.abs(cosines - 0.99) > 1e-5, 1)
    found = np.zeros_like(clear)
    found[a, b] = True
    assert np.array_equal(found & clear, (cosines >= 0.99) & clear)


def test_a_crowd_is_compared_with_its_first_members_only() -> None:
    vectors = np.ones((50, 4), np.float32) / 2
    a, b, _ = clusters.within(vectors, 0.9, 100, crowd=5)
    assert set(a.tolist()) == {0, 1, 2, 3, 4}
    assert len(a) == 4 + 3 + 2 + 1 + 5 * 45
    assert (a < b).all()


@pytest.mark.parametrize(
    ("images", "asked", "found"), [(0, None, 1), (1, None, 1), (3507, None, 59), (100, 7, 7), (5, 9, 5)]
)
def test_there_are_as_many_clusters_as_asked_or_the_square_root(images: int, asked: int | None, found: int) -> None:
    assert clusters.how_many(images, asked) == found


def test_centres_are_the_same_each_time_and_find_the_bunches() -> None:
    vectors = bunched(5, 600, 6, noise=0.05)
    rows = clusters.sample(len(vectors), 6, 3)
    assert np.array_equal(rows, clusters.sample(len(vectors), 6, 3))
    assert not np.array_equal(rows, clusters.sample(len(vectors), 6, 4))
    assert len(np.unique(rows)) == len(rows) == 6 * 64
    means = clusters.centres(vectors[rows], 6, 3)
    assert np.array_equal(means, clusters.centres(vectors[rows], 6, 3))
    assert np.allclose(np.linalg.norm(means, axis=1), 1, atol=1e-5)
    cluster, cosine = clusters.assign(vectors, means)
    assert np.array_equal(cluster, (vectors @ means.T).argmax(axis=1))
    assert np.allclose(cosine, (vectors @ means.T).max(axis=1), atol=1e-6)
    assert cosine.mean() > 0.8


def test_nothing_is_assigned_to_nothing() -> None:
    cluster, cosine = clusters.assign(np.zeros((0, 4), np.float32), np.eye(4, dtype=np.float32))
    assert (cluster.dtype, len(cluster), len(cosine)) == (np.int32, 0, 0)


def test_vectors_get_unit_length_and_zeros_stay() -> None:
    found = clusters.unit(np.array([[3, 4], [0, 0]], np.float16))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert found.dtype == np.float32
