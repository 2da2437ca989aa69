"""What a number of WATs would give and cost: arithmetic on stated measurements, and nothing without a source."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.crawl.estimate import MEASURED, estimate, value

COUNTS = st.integers(1, 10**6)
CORES = st.integers(1, 10**4)
SIZES = st.lists(st.integers(1, 2 * 10**9), min_size=1, max_size=50)
GROWING = ("read_bytes", "image_links", "alt_links", "pairs", "written_bytes", "core_hours", "hours")


@pytest.mark.parametrize("name", MEASURED)
def test_every_measurement_has_a_value_a_unit_and_a_source(name: str) -> None:
    measure = MEASURED[name]
    assert math.isfinite(measure.value)
    assert measure.value > 0
    assert measure.unit
    assert len(measure.source) > 20


def test_the_measurements_cannot_be_changed_by_who_reads_them() -> None:
    with pytest.raises(TypeError):
        MEASURED["kept"] = MEASURED["different"]  # type: ignore[index]


def test_shares_are_shares_and_fewer_links_have_a_text() -> None:
    assert all(0 < value(name) <= 1 for name in ("kept", "different", "efficiency"))
    assert value("alt_links") < value("image_links")


def test_one_wat_gives_what_was_counted_in_one() -> None:
    one = estimate(1, 1)
    assert (one.image_links, one.alt_links) == (733_994, 405_232)
    assert one.wat_bytes == value("wat_bytes")
    assert math.isnan(one.wat_bytes_error)
    assert one.core_hours == one.hours == pytest.approx(value("wat_bytes") / value("bytes_per_second") / 3600)


@given(wats=COUNTS, cores=CORES, sizes=SIZES)
def test_twice_the_wats_give_and_cost_twice(wats: int, cores: int, sizes: list[int]) -> None:
    once, twice = asdict(estimate(wats, cores, sizes)), asdict(estimate(2 * wats, cores, sizes))
    assert {name: twice[name] for name in GROWING} == pytest.approx({name: 2 * once[name] for name in GROWING})


@given(wats=COUNTS, cores=st.integers(2, 10**4), sizes=SIZES)
def test_cores_share_the_hours_and_change_nothing_else(wats: int, cores: int, sizes: list[int]) -> None:
    alone, many = estimate(wats, 1, sizes), estimate(wats, cores, sizes)
    assert many.hours * cores * value("efficiency") == pytest.approx(alone.hours)
    assert many.core_hours == alone.core_hours
    assert many.bytes_per_second == pytest.approx(cores * value("efficiency") * alone.bytes_per_second)
    assert many.read_bytes == pytest.approx(many.bytes_per_second * many.hours * 3600)


@given(wats=COUNTS, sizes=SIZES)
def test_the_mean_of_the_sizes_that_are_known_stands_for_all(wats: int, sizes: list[int]) -> None:
    one = estimate(wats, 4, sizes)
    assert one.asked == len(sizes)
    assert min(sizes) <= one.wat_bytes * (1 + 1e-9)
    assert one.wat_bytes <= max(sizes) * (1 + 1e-9)
    assert one.read_bytes == pytest.approx(wats * sum(sizes) / len(sizes))
    assert math.isnan(one.wat_bytes_error) == (len(sizes) == 1)


def test_the_error_of_the_mean_is_the_standard_error() -> None:
    assert estimate(9, 1, [1, 2, 3, 4]).wat_bytes_error == pytest.approx(math.sqrt(5 / 3) / 2)


def test_json_has_no_nan_and_no_more_digits_than_it_can_say() -> None:
    plain = estimate(90_000, 100).as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["wats"] == 90_000
    assert plain["wat_bytes_error"] is None
    assert plain["pairs"] == float(f"{estimate(90_000, 100).pairs:.4g}")
