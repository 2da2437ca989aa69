"""Running code in, the share of processor time of each part of the extraction out.

Every two milliseconds of processor time, or four where the kernel's clock ticks so, a signal looks where the main
thread is: at the innermost frame that lies in this package, so that the time of a library counts for the line that
called it. Unlike a tracing profiler it does not make small functions look dear. Shares are of samples; ten seconds give
2,500 or more.
"""

from __future__ import annotations

import linecache
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

_EVERY_S: Final = 0.002
_PACKAGE: Final = "laion_dask"

# The first that fits "module.function line of code" names the part.
_PARTS: Final = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("uid", r"uid_of|md5|_identify"),
        ("reading", r"^(wat_reader|wat_careful|ranges|remote)\."),
        ("rights and licence", r"^(rights|signals)\.|\._facts |licen[sc]e|headers_of|metas_of|opt_out"),
        ("JSON", r"^(wat_json|wat)\."),
        ("URL", r"^(urls|url_rules|hostnames)\."),
        ("language", r"^text\.(languages|_line|_predict|_\w*model) "),
        ("text", r"^text\."),
        ("personal data", r"^personal\.|personal\."),
        ("table and Parquet", r"^(runs|schema)\.|^extract\.(_table|extract) "),
        ("rules, link by link", r"^(judge|extract|verdict)\."),
    )
)
_ELSE: Final = "other"


class Samples:
    """Where the time went."""

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()

    def shares(self) -> dict[str, float]:
        """Return the share of each part, the largest first."""
        total = max(self.parts.total(), 1)
        return {part: count / total for part, count in self.parts.most_common()}

    def dearest(self, number: int) -> dict[str, float]:
        """Return the share of the functions where most time goes."""
        total = max(self.places.total(), 1)
        return {place: count / total for place, count in self.places.most_common(number)}

    def take(self, _: int, frame: FrameType | None) -> None:
        """Note where the main thread is; a handler of SIGPROF."""
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.parent.name == _PACKAGE:
                line = linecache.getline(str(path), frame.f_lineno or 0).strip()
                place = f"{path.stem}.{frame.f_code.co_name}"
                self.places[place] += 1
                self.parts[part_of(f"{place} {line}")] += 1
                return
            frame = frame.f_back
        self.places[_ELSE] += 1
        self.parts[_ELSE] += 1


def part_of(place: str) -> str:
    """Name the part that `module.function line of code` belongs to."""
    return next((name for name, pattern in _PARTS if pattern.search(place)), _ELSE)


@contextmanager
def sampling() -> Iterator[Samples]:
    """Take samples while the block runs."""
    samples = Samples()
    before = signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
