"""The property of `fuzz_wat` for a few seconds: whatever bytes come in, reading ends and keeps what is whole."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from made.crawls.fuzz_wat import BLOCKS, Made, check, wats


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(wats(), BLOCKS)
def test_whatever_bytes_come_in_reading_ends_and_keeps_what_lies_before_the_damage(
    tmp_path_factory: pytest.TempPathFactory, made: Made, block_bytes: int
) -> None:
    check(made, block_bytes, tmp_path_factory.getbasetemp())
