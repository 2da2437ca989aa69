"""Show a stage's progress in one line: parts done, rate, time left, and the part that runs longest."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from laion_dask.storage import printable

# Without a terminal, seconds between two lines in the log.
_LOG_EVERY_S = 15.0
_SHORTEST_S: Final = 1e-3


@dataclass(frozen=True, slots=True)
class ProgressState:
    """The progress of a stage, in numbers."""

    stage: str
    unit: str
    parts: int
    ready: int
    """Finished parts, including those of earlier runs."""
    rows: int
    """Rows of the parts that this run has finished."""
    seconds: float
    """Since the parts were started."""
    left_s: float | None
    """An estimate; None before the first part is finished."""
    oldest: tuple[str, float] | None
    """Name of the longest-running part, and its seconds so far."""
    shares: str
    """See `Progress.shares`."""


class ProgressLine(Protocol):
    """Composes the progress line; it may add up counts of finished parts."""

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Add the counts of a part that finished `seconds` after the parts were started."""

    def words(self, state: ProgressState) -> list[str]:
        """Return the fields of the line, in order."""


class RowLine:
    """The line of most stages: parts, rows per second, time shares, time left, the oldest part."""

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Ignore the counts."""

    def words(self, state: ProgressState) -> list[str]:
        """Return the fields of the line, in order."""
        words = [f"{state.stage:<9}", f"{state.ready}/{state.parts} parts"]
        if state.rows:
            words.append(f"{state.rows:,} {state.unit}, {state.rows / state.seconds:,.0f}/s")
        if state.shares:
            words.append(state.shares)
        if state.left_s is not None:
            words.append(f"{state.left_s:.0f} s left")
        if state.oldest:
            name, seconds = state.oldest
            words.append(f"oldest {name} {seconds:.0f} s")
        return words


class Progress:
    """Progress of one stage on standard error: a bar on a terminal, elsewhere a line every 15 s."""

    def __init__(self, stage: str, unit: str, line: ProgressLine | None = None) -> None:
        self.stage = stage
        self.unit = unit
        self._line = line or RowLine()
        self._running: dict[str, float] = {}
        self._began = self._logged = self._last = time.monotonic()
        self._parts = self._ready = self._rows = 0
        self._weight_todo = self._weight_done = 0.0
        self._seconds: dict[str, float] = {}
        self._bar: Any = None
        self.again = 0
        """How many finished parts were damaged and are made again."""

    def start(self, parts: int, ready: Sequence[int], todo: Sequence[int]) -> None:
        """Begin with a number of parts, the weights of finished ones and of those to do.

        May be called several times, e.g. once for each round of a download: parts and time left start anew each time.
        """
        self._parts, self._ready = parts, len(ready)
        self._running.clear()
        self._weight_todo, self._weight_done = float(sum(todo) or len(todo)), 0.0
        self._began = self._logged = self._last = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 - only on a terminal
            from rich.live import Live  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            # As `Text`: a host such as [fe80::1] would be read as markup.
            self._bar = Live(
                get_renderable=lambda: Text(printable.line(self.line())),
                console=Console(stderr=True),
                refresh_per_second=4,
                transient=True,
            )
            self._bar.start()

    def begin(self, name: str) -> None:
        """Record that a part was submitted to the cluster."""
        self._running[name] = time.monotonic()

    def finish(self, name: str, weight: int, counts: Mapping[str, Any]) -> None:
        """Count a finished part: its rows are those that its first ledger saw, `seconds` its time by activity."""
        self._running.pop(name, None)
        self._ready += 1
        self._weight_done += weight or 1
        self._last = time.monotonic()
        ledger = next((value for value in counts.values() if isinstance(value, Mapping) and "seen" in value), None)
        self._rows += int(ledger["seen"]) if ledger else 0
        seconds = counts.get("seconds")
        for what, spent in seconds.items() if isinstance(seconds, Mapping) else ():
            self._seconds[what] = self._seconds.get(what, 0.0) + spent
        self._line.add(counts, max(self._last - self._began, _SHORTEST_S))
        if self._bar is None and time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            print(printable.plain(self.line()), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user

    def shares(self) -> str:
        """Return the share of time by activity over all finished parts, e.g. decode 12 %, forward 80 %."""
        total = sum(self._seconds.values())
        return ", ".join(f"{what} {seconds / total:.0%}" for what, seconds in self._seconds.items()) if total else ""

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def line(self) -> str:
        """Return the progress line."""
        return "  ".join(self._line.words(self._state()))

    def _state(self) -> ProgressState:
        now = time.monotonic()
        left = None
        if self._weight_done:
            # From the time of the last finished part: the estimate must not grow while no part finishes.
            remaining = (self._last - self._began) * (self._weight_todo - self._weight_done) / self._weight_done
            left = max(remaining - (now - self._last), 0.0)
        name, since = min(self._running.items(), key=lambda item: item[1], default=("", now))
        return ProgressState(
            stage=self.stage,
            unit=self.unit,
            parts=self._parts,
            ready=self._ready,
            rows=self._rows,
            seconds=max(now - self._began, _SHORTEST_S),
            left_s=left,
            oldest=(name, now - since) if name else None,
            shares=self.shares(),
        )
