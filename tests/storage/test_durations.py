"""Times as people say them."""

from __future__ import annotations

import pytest

from laion_dask.storage import durations


@pytest.mark.parametrize(
    ("seconds", "said", "measured"),
    [
        (0, "0 s", "0.0 s"),
        (8.26, "8 s", "8.3 s"),
        (59.94, "1 min 00 s", "59.9 s"),
        (59.96, "1 min 00 s", "1 min 00 s"),
        (200, "3 min 20 s", "3 min 20 s"),
        (3599.6, "1 h 00 min", "1 h 00 min"),
        (7500, "2 h 05 min", "2 h 05 min"),
        (4_000_000, "1,111 h 07 min", "1,111 h 07 min"),
    ],
)
def test_a_time_is_in_seconds_minutes_or_hours(seconds: float, said: str, measured: str) -> None:
    assert durations.duration(seconds) == said
    assert durations.elapsed(seconds) == measured
