"""Read the Retry-After header of an answer.

RFC 9110 10.2.3 allows seconds or a date.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Headers = tuple[tuple[str, str], ...]
"""The headers of an answer, in their order."""


def retry_after_s(headers: Headers, came: datetime | None = None) -> float:
    """Return the seconds of a Retry-After header (RFC 9110 10.2.3); 0 where there is no valid one.

    A date is compared with the response's own Date, so that the clocks of two machines need not agree; without that
    header, with `came`, the time at which the response arrived (default: now).
    """
    value = _last(headers, "retry-after")
    if value.isdecimal():
        return float(value)
    until = _date(value) if value else None
    if until is None:
        return 0.0
    now = _date(_last(headers, "date")) or came or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _last(headers: Headers, wanted: str) -> str:
    return next((value.strip() for name, value in reversed(headers) if name.lower() == wanted), "")


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
        found.astimezone(UTC)
    except (ValueError, OverflowError):
        # OverflowError: a time zone moves a date of year 1 or 9999 out of the calendar.
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
