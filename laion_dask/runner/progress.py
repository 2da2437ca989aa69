"""Show a stage's progress in one line: parts done, rate, time left, and the part that runs longest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from laion_dask.runner.progress_line import Field, ProgressLine, ProgressState, RowLine, fit
from laion_dask.storage import printable

# Without a terminal, seconds between two lines in the log.
_LOG_EVERY_S = 15.0
_SHORTEST_S: Final = 1e-3


class Progress:
    """Progress of one stage on standard error: a bar on a terminal, elsewhere a line every 15 s."""

    def __init__(self, stage: str, unit: str, line: ProgressLine | None = None, *, shown: bool = True) -> None:
        self.stage = stage
        self.unit = unit
        self._line = line or RowLine()
        self._shown = shown
        self._submitted: set[str] = set()
        self._started: dict[str, float] = {}
        self._began = self._logged = self._last = time.monotonic()
        self._parts = self._ready = self._rows = 0
        self._weight_todo = self._weight_done = 0.0
        self._seconds: dict[str, float] = {}
        self._bar: Any = None
        self.ahead: Callable[[], str] = str
        """Says what of the next stage is done; "" for nothing."""
        self.again = 0
        """How many finished parts were damaged and are made again."""

    def start(self, parts: int, ready: Sequence[int], todo: Sequence[int]) -> None:
        """Begin with a number of parts, the weights of finished ones and of those to do.

        May be called several times, e.g. once for each round of a download: parts and time left start anew each time.
        """
        self._parts, self._ready = parts, len(ready)
        self._submitted.clear()
        self._started.clear()
        self._weight_todo, self._weight_done = float(sum(todo) or len(todo)), 0.0
        self._began = self._logged = self._last = time.monotonic()
        if self._shown and sys.stderr.isatty():
            from rich.cells import cell_len  # noqa: PLC0415 - only on a terminal
            from rich.console import Console  # noqa: PLC0415
            from rich.live import Live  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            console = Console(stderr=True)
            # As `Text`: a host such as [fe80::1] would be read as markup. The width is asked each time: people resize.
            self._bar = Live(
                get_renderable=lambda: Text(self.line(console.width, cell_len), no_wrap=True, overflow="ellipsis"),
                console=console,
                refresh_per_second=4,
                transient=True,
            )
            self._bar.start()

    def begin(self, name: str) -> None:
        """Record that a part was submitted to the cluster; again, where its worker has died."""
        self._submitted.add(name)
        self._started.pop(name, None)

    def started(self, name: str, seconds_ago: float = 0.0) -> None:
        """Record that a worker has begun with a part; what is heard of a part that has finished is ignored."""
        if name in self._submitted:
            self._started[name] = time.monotonic() - max(seconds_ago, 0.0)

    def finish(self, name: str, weight: int, counts: Mapping[str, Any]) -> None:
        """Count a finished part: its rows are those that its first ledger saw, `seconds` its time by activity."""
        self._submitted.discard(name)
        self._started.pop(name, None)
        self._ready += 1
        self._weight_done += weight or 1
        self._last = time.monotonic()
        ledger = next((value for value in counts.values() if isinstance(value, Mapping) and "seen" in value), None)
        self._rows += int(ledger["seen"]) if ledger else 0
        seconds = counts.get("seconds")
        for what, spent in seconds.items() if isinstance(seconds, Mapping) else ():
            self._seconds[what] = self._seconds.get(what, 0.0) + spent
        self._line.add(counts, max(self._last - self._began, _SHORTEST_S))
        if self._shown and self._bar is None and time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            print(printable.line(self.line()), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user

    def shares(self) -> str:
        """Return the share of time by activity over all finished parts, e.g. decode 12 %, forward 80 %."""
        total = sum(self._seconds.values())
        return ", ".join(f"{what} {seconds / total:.0%}" for what, seconds in self._seconds.items()) if total else ""

    def say(self, message: str) -> None:
        """Print a message to the user, above the bar if there is one."""
        text = f"{self.stage}: {message}"
        if self._bar is not None:
            from rich.text import Text  # noqa: PLC0415 - only on a terminal

            self._bar.console.print(Text(printable.line(text)), soft_wrap=True)
        else:
            print(printable.line(text), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def line(self, width: int | None = None, size: Callable[[str], int] = len) -> str:
        """Return the progress line, of at most `width` columns as `size` measures them; None: with all of its fields.

        It has no characters that could control the terminal.
        """
        fields = self._line.fields(self._state())
        if beside := self.ahead():
            fields.append(Field.of(2, beside))
        safe = [replace(one, forms=[printable.line(form) for form in one.forms]) for one in fields]
        return fit(safe, width, size)

    def _state(self) -> ProgressState:
        now = time.monotonic()
        left = None
        if self._weight_done:
            # From the time of the last finished part: the estimate must not grow while no part finishes.
            remaining = (self._last - self._began) * (self._weight_todo - self._weight_done) / self._weight_done
            left = max(remaining - (now - self._last), 0.0)
        # A copy: the thread that hears of parts may add one meanwhile.
        name, since = min([*self._started.items()], key=lambda item: item[1], default=("", now))
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
