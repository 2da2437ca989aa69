"""The progress line of an extraction: pages, pairs and stored bytes per second, over all workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from laion_dask.runner.progress import ProgressState

_LONG_S: Final = 60.0


class ExtractRates:
    """Adds up the counts of the WATs that this run has finished."""

    def __init__(self) -> None:
        self._pages = self._pairs = self._bytes = 0
        self._seconds = 0.0

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Add the counts of a WAT that finished after `seconds` of the run."""
        self._pages += counts["pages"]
        self._pairs += counts["links"]["kept"]
        self._bytes += counts["bytes"]
        self._seconds = seconds

    def rates(self) -> str:
        """Return the rates up to the last finished WAT; empty before the first one."""
        if not self._seconds:
            return ""
        pages, pairs = self._pages / self._seconds, self._pairs / self._seconds
        return f"{pages:,.0f} pages/s, {pairs:,.0f} pairs/s, {self._bytes / self._seconds / 1e6:,.1f} MB/s"

    def words(self, state: ProgressState) -> list[str]:
        """Return the fields of the line: WATs, rates, time left, and the longest-running WAT."""
        words = [f"extract  {state.ready}/{state.parts} WATs"]
        if self._seconds:
            words.append(self.rates())
        if state.left_s is not None:
            words.append(f"{state.left_s:,.0f} s left")
        # With the rates the line is too long for a narrow terminal, so only a very slow WAT is shown then.
        if state.oldest and (not self._seconds or state.oldest[1] > _LONG_S):
            words.append(f"oldest {state.oldest[0]} {state.oldest[1]:.0f} s")
        return words
