"""Say how long something takes, for people: in seconds, minutes or hours."""

from __future__ import annotations

from typing import Final

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def duration(seconds: float) -> str:
    """Return a time as people say it: `12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes // _MINUTE_S:,} h {minutes % _MINUTE_S:02} min"


def elapsed(seconds: float) -> str:
    """Return a measured time: below a minute with a tenth of a second (`8.3 s`), else as `duration` does."""
    return f"{seconds:.1f} s" if round(seconds, 1) < _MINUTE_S else duration(seconds)
