"""Top fractions: DataComp's threshold to the last tie, whatever the values and however they are cut into shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.filter import top_fraction

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 0.3, float(np.float32(0.3)), -1.0]),
)


def datacomp(scores: np.ndarray, fraction: float) -> float:
    """Return the threshold as baselines/apply_filter.py takes it; upstream has no answer where the place is n."""
    place = int(len(scores) * fraction)
    return float(-np.sort(-scores)[place]) if place < len(scores) else float("-inf")


@settings(deadline=None, max_examples=150)
@given(st.lists(numbers, max_size=40), st.floats(0.01, 1.0), st.sampled_from([0, 2, 1_000]))
def test_the_threshold_is_the_one_of_datacomp(values: list[float], fraction: float, at_once: int) -> None:
    array = np.array(values, np.float64)
    pieces = np.array_split(array, 3)
    total = top_fraction.count(lambda: pieces)
    own = array[~np.isnan(array)]
    assert total == len(own)
    assert top_fraction.cut(lambda: pieces, fraction, total, at_once=at_once) == datacomp(own, fraction)


def test_all_that_equal_the_last_one_stay() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    assert (scores >= top_fraction.cut(lambda: [scores], 0.2, 5)).sum() == 4


@pytest.mark.parametrize(("fraction", "total", "kept"), [(0.5, 10, 4), (0.2, 10, 3), (0.1, 10, 2), (1.0, 4, 4)])
def test_the_fraction_may_be_of_a_larger_pool(fraction: float, total: int, kept: int) -> None:
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    assert (scores >= top_fraction.cut(lambda: [scores], fraction, total)).sum() == kept
