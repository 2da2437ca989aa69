"""Estimates with intervals: published figures, edges, and how often they cover the truth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from laion_dask.statistics import intervals
from laion_dask.statistics.intervals import Estimate, Share, Stratum, names_first

STRATA = st.integers(1, 400).flatmap(
    lambda total: st.integers(0, total).flatmap(
        lambda drawn: st.integers(0, drawn).map(lambda found: Stratum(total, drawn, found))
    )
)


def test_a_stratum_that_was_looked_at_whole_leaves_no_doubt() -> None:
    assert intervals.total([Stratum(40, 40, 7), Stratum(9, 9, 0)]) == Estimate(7.0, 7.0, 7.0)


def test_one_large_stratum_has_the_exact_interval() -> None:
    found = intervals.share([Stratum(10**12, 263, 81)])
    assert (found.low, found.high) == pytest.approx((0.2527, 0.3676), abs=1e-4)  # Newcombe 1998, table I, method 5


def test_a_stratum_that_nobody_looked_at_widens_the_interval_by_its_whole_size() -> None:
    known = intervals.total([Stratum(1000, 100, 10)])
    found = intervals.total([Stratum(1000, 100, 10), Stratum(50, 0, 0)])
    assert found.value == pytest.approx(105)
    assert found.high > known.high + 5
    assert intervals.total([Stratum(50, 0, 0)]) == Estimate(None, 0.0, 50.0)


@settings(max_examples=50)
@given(st.lists(STRATA, max_size=8))
def test_estimates_stay_inside_their_intervals_and_these_inside_what_can_be(strata: list[Stratum]) -> None:
    found, rows = intervals.total(strata), sum(stratum.total for stratum in strata)
    assert 0 <= found.low <= found.high <= rows
    if found.value is not None:
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


@settings(max_examples=50)
@given(st.lists(STRATA, min_size=1, max_size=5), st.lists(STRATA, min_size=1, max_size=5))
def test_a_part_of_two_totals_lies_between_0_and_1_and_in_its_interval(one: list[Stratum], two: list[Stratum]) -> None:
    found = intervals.part(intervals.total(one), intervals.total(two))
    assert 0 <= found.low <= found.high <= 1
    if found.value is not None:
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_recall_without_a_miss_is_1_and_its_lower_limit_tells_what_may_have_been_missed() -> None:
    found = intervals.part(Estimate(100.0, 90.0, 110.0), Estimate(0.0, 0.0, 25.0))
    assert found.value == found.high == 1
    assert found.low == pytest.approx(1 / (1 + 25 / math.sqrt(90 * 110)))


def score_limits(found: int, drawn: int, other_found: int, other_drawn: int) -> tuple[float, float]:
    """Solve for the limits of the score interval of a ratio: Koopman, Biometrics 40 (1984), 513."""
    one, other = found / drawn, other_found / other_drawn

    def distance(ratio: float) -> float:
        # The most likely shares with this ratio: Miettinen and Nurminen, Statistics in Medicine 4 (1985), 213.
        square, linear = (drawn + other_drawn) * ratio, drawn * ratio + found + other_drawn + other_found * ratio
        second = (linear - math.sqrt(linear**2 - 4 * square * (found + other_found))) / (2 * square)
        first = ratio * second
        variance = first * (1 - first) / drawn + ratio**2 * second * (1 - second) / other_drawn
        return (one - ratio * other) ** 2 / variance - 3.841458820694124

    value = one / other
    return (optimize.brentq(distance, 1e-9, value) if found else 0.0), optimize.brentq(distance, value + 1e-9, 1e4)


@pytest.mark.parametrize(
    "counts",
    [
        (15, 100, 30, 150),
        (1, 1, 1000, 1200),
        (5, 5, 720, 1200),
        (0, 5, 720, 1200),
        (3, 40, 1100, 1200),
        (59, 60, 9, 90),
    ],
)
def test_the_ratio_of_two_shares_has_nearly_the_limits_of_the_score_interval(counts: tuple[int, int, int, int]) -> None:
    found = intervals.relative(*counts)
    assert found.value == pytest.approx(counts[0] / counts[1] * counts[3] / counts[2])
    assert (found.low, found.high) == pytest.approx(score_limits(*counts), rel=0.06, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((1, 1, 1000, 1200), 0.248, 1.233),
        ((0, 20, 10, 20), 0.0, 0.352),
        ((3, 3, 10, 10), 0.439, 1.384),
    ],
)
def test_a_ratio_of_few_pairs_of_which_all_or_none_pass_has_a_wide_interval(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    found = intervals.relative(*counts)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("counts", [(3, 20, 0, 20), (0, 0, 3, 20), (3, 20, 0, 0)])
def test_a_ratio_to_nothing_is_unknown(counts: tuple[int, int, int, int]) -> None:
    assert intervals.relative(*counts) == Estimate(None, 0.0, math.inf)


def test_intervals_of_rare_events_in_strata_cover_the_truth_in_93_of_100_draws() -> None:
    sizes, rates = (1131, 1167, 237, 221, 50), (0.004, 0.01, 0.0, 0.6, 0.3)
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = [round(size * rate) for size, rate in zip(sizes, rates, strict=True)]
        drawn = [min(size, 12 + size // 25) for size in sizes]
        strata = [
            Stratum(size, number, int(rng.hypergeometric(true, size - true, number)))
            for size, number, true in zip(sizes, drawn, truth, strict=True)
        ]
        found = intervals.total(strata)
        covered += found.low <= sum(truth) <= found.high
    assert covered >= 93


@dataclass(frozen=True, slots=True)
class Named(Share):
    name: str


def test_a_share_without_rows_has_no_rate_and_any_interval() -> None:
    assert Share.of(0, 0) == Share(0, 0, None, 0.0, 1.0)


def test_the_names_of_a_share_come_before_its_numbers_in_json() -> None:
    plain = asdict(Named.of(1, 2, name="unsafe"), dict_factory=names_first)
    assert list(plain) == ["name", "count", "total", "rate", "low", "high"]
    assert (plain["name"], plain["rate"]) == ("unsafe", 0.5)
