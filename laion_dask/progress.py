"""Parts begun and finished in, one line for the person who waits out: how much, how fast, how long, what is oldest."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Without a terminal a line every so often is enough for a log.
_LOG_EVERY_S = 15.0


class Progress:
    """Progress of one stage, on standard error: a bar on a terminal, a line from time to time elsewhere."""

    def __init__(self, stage: str, unit: str) -> None:
        self.stage = stage
        self.unit = unit
        self._running: dict[str, float] = {}
        self._began = self._logged = time.monotonic()
        self._parts = self._ready = self._rows = 0
        self._weight_todo = self._weight_done = 0.0
        self._seconds: dict[str, float] = {}
        self._bar: Any = None

    def start(self, parts: int, ready: Sequence[int], todo: Sequence[int]) -> None:
        """Begin with so many parts; weights of those that are finished already and of those to do."""
        self._parts, self._ready = parts, len(ready)
        self._weight_todo = float(sum(todo) or len(todo))
        self._began = self._logged = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 - only on a terminal
            from rich.live import Live  # noqa: PLC0415

            self._bar = Live(
                get_renderable=self.line, console=Console(stderr=True), refresh_per_second=4, transient=True
            )
            self._bar.start()

    def begin(self, name: str) -> None:
        """Note that a part was handed to the cluster."""
        self._running[name] = time.monotonic()

    def finish(self, name: str, weight: int, counts: Mapping[str, Any]) -> None:
        """Count a finished part; its rows are what its first ledger saw, `seconds` what it waited for."""
        self._running.pop(name, None)
        self._ready += 1
        self._weight_done += weight or 1
        ledger = next((value for value in counts.values() if isinstance(value, Mapping) and "seen" in value), None)
        self._rows += int(ledger["seen"]) if ledger else 0
        seconds = counts.get("seconds")
        for what, spent in seconds.items() if isinstance(seconds, Mapping) else ():
            self._seconds[what] = self._seconds.get(what, 0.0) + spent
        if self._bar is None and time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)  # noqa: T201 - this is what people read

    def shares(self) -> str:
        """Return which share of the parts' time went where, e.g. decode 12 %, forward 80 %, over all finished parts."""
        total = sum(self._seconds.values())
        return ", ".join(f"{what} {seconds / total:.0%}" for what, seconds in self._seconds.items()) if total else ""

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def line(self) -> str:
        """Return the state in one line."""
        now = time.monotonic()
        elapsed = max(now - self._began, 1e-3)
        words = [f"{self.stage:<9}", f"{self._ready}/{self._parts} parts"]
        if self._rows:
            words.append(f"{self._rows:,} {self.unit}, {self._rows / elapsed:,.0f}/s")
        if shares := self.shares():
            words.append(shares)
        if self._weight_done:
            left = elapsed * (self._weight_todo - self._weight_done) / self._weight_done
            words.append(f"{max(left, 0):.0f} s left")
        if self._running:
            name, since = min(self._running.items(), key=lambda item: item[1])
            words.append(f"oldest {name} {now - since:.0f} s")
        return "  ".join(words)
