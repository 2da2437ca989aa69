"""Parts begun and finished in, one line for the person who waits out: how much, how fast, how long, what is oldest."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laion_dask.storage import printable

# Without a terminal a line every so often is enough for a log.
_LOG_EVERY_S = 15.0
_REASONS: Final = 3
_HOSTS: Final = 2


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
        self.again = 0
        """Finished parts that were damaged and are made again."""

    def start(self, parts: int, ready: Sequence[int], todo: Sequence[int]) -> None:
        """Begin with so many parts; weights of those that are finished already and of those to do."""
        self._parts, self._ready = parts, len(ready)
        self._weight_todo = float(sum(todo) or len(todo))
        self._began = self._logged = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 - only on a terminal
            from rich.live import Live  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            # As a text: a host such as [fe80::1] is no markup.
            self._bar = Live(
                get_renderable=lambda: Text(printable.line(self.line())),
                console=Console(stderr=True),
                refresh_per_second=4,
                transient=True,
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
            print(printable.plain(self.line()), file=sys.stderr, flush=True)  # noqa: T201 - this is what people read

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


class Downloads(Progress):
    """Progress of a download: images/s, the share of successes, the top reasons, the slowest hosts, time left.

    Takes the counts of `download.download`; parts that only join rounds have no `slow` and tell nothing new. Rates are
    of this run: what an earlier one has finished counts for the parts, not for the speed.
    """

    def __init__(self, stage: str = "download", unit: str = "images") -> None:
        super().__init__(stage, unit)
        self._kept = self._tried = self._bytes = 0
        self._reasons: Counter[str] = Counter()
        self._slow: dict[str, float] = {}
        self._first = time.monotonic()

    def start(self, parts: int, ready: Sequence[int], todo: Sequence[int]) -> None:
        """Begin a round: its parts and rows count anew, rates and reasons go on."""
        self._running.clear()
        self._weight_done = 0.0
        super().start(parts, ready, todo)

    def finish(self, name: str, weight: int, counts: Mapping[str, Any]) -> None:
        """Count a finished part."""
        if "slow" in counts:
            images = counts["images"]
            self._tried += images["seen"]
            self._kept += images["kept"]
            self._bytes += counts.get("bytes", 0)
            self._reasons.update(images["dropped"])
            for host in counts["slow"]:
                self._slow[host["host"]] = max(host["seconds"] / host["tries"], self._slow.get(host["host"], 0.0))
            self._slow = dict(sorted(self._slow.items(), key=lambda item: -item[1])[:_HOSTS])
        super().finish(name, weight, counts)

    def rates(self) -> str:
        """Return what was done a second until now, and the share of successes; empty before the first part."""
        if not self._tried:
            return ""
        elapsed = max(time.monotonic() - self._first, 1e-3)
        speeds = f"{self._tried / elapsed:,.0f} {self.unit}/s, {self._bytes / elapsed / 1e6:,.1f} MB/s"
        return f"{speeds}, {self._kept / self._tried:.1%} success"

    def slowest(self) -> str:
        """Return the hosts with the longest mean time of a try; empty where none is known."""
        return ", ".join(f"{host} {seconds:.1f} s" for host, seconds in self._slow.items())

    def line(self) -> str:
        """Return the state in one line."""
        now = time.monotonic()
        words = [f"{self.stage} {self._ready}/{self._parts} parts"]
        if self._tried:
            rate = self._tried / max(now - self._first, 1e-3)
            words.append(f"{self._tried:,} {self.unit}, {rate:,.0f}/s, {self._kept / self._tried:.0%} good")
        if self._weight_done:
            left = (now - self._began) * (self._weight_todo - self._weight_done) / self._weight_done
            words.append(f"{max(left, 0):,.0f} s left")
        if self._reasons:
            words.append(", ".join(f"{reason} {rows:,}" for reason, rows in self._reasons.most_common(_REASONS)))
        if self._slow:
            words.append(f"slowest {self.slowest()}")
        return "  ".join(words)
