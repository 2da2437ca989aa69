"""A list of 20 million hashes made, compiled and searched: seconds, memory, look-ups a second; the last line is JSON.

    python -m benchmarks.lists.bench [--entries 20000000] [--kinds md5 pdq] [--quick]

Beside it in the same run: a Python set of a tenth of the entries, for its memory and its look-ups.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bars import Bar, report
from laion_dask.blocklists import known_lists
from laion_dask.blocklists.known_index import Bytes, Index
from laion_dask.params.lists import HashList

CHUNK = 1_000_000
ASKED = {"pdq": 200}


def main() -> None:
    """Measure each kind in a process of its own, so that its peak of memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000_000)
    parser.add_argument("--kinds", nargs="+", default=["md5", "pdq"], choices=sorted(known_lists.WIDTHS))
    parser.add_argument("--quick", action="store_true", help="one million entries: to see that all of it runs")
    asked = parser.parse_args()
    if asked.quick:
        asked.entries = CHUNK
    if asked.entries < CHUNK:
        parser.error(f"--entries is {asked.entries:,}: at least {CHUNK:,}, for so many are looked up")
    found: dict[str, Any] = {"entries": asked.entries}
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.kinds:
            path = Path(folder) / f"{kind}.txt"
            write(path, kind, asked.entries)
            for step in (build, search, bare_set):
                with get_context("spawn").Pool(1) as pool:
                    measured = pool.apply(step, (path, kind))
                found |= {f"{kind}.{name}": value for name, value in measured.items()}
                sys.stdout.write(f"{kind} {json.dumps(measured)}\n")
            path.unlink()
    # Memory is bounded by the rule for 20 million entries; five minutes to compile are a wish of ours.
    bars = [
        Bar(f"{kind}: {told}", found[f"{kind}.{name}"], bar, at_most=True)
        for kind in asked.kinds
        for told, name, bar in (
            ("peak MB while compiled", "build_peak_mb", 2_000),
            ("peak MB while searched", "search_peak_mb", 2_000),
            ("seconds to compile", "build_s", 300),
        )
    ]
    report("lists", bars, quick=asked.quick, entries=asked.entries)


def rows(kind: str, number: int, count: int) -> Bytes:
    """Return a part of the list, the same each time."""
    return np.random.default_rng([number, len(kind)]).integers(0, 256, (count, known_lists.WIDTHS[kind]), np.uint8)


def write(path: Path, kind: str, entries: int) -> None:
    """Write a list of random entries, one a line."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    with path.open("wb") as stream:
        for number, start in enumerate(range(0, entries, CHUNK)):
            part = rows(kind, number, min(CHUNK, entries - start))
            lines = np.full((len(part), 2 * part.shape[1] + 1), ord("\n"), np.uint8)
            lines[:, 0:-1:2], lines[:, 1:-1:2] = digits[part >> 4], digits[part & 15]
            stream.write(lines.tobytes())


def _index(path: Path, kind: str) -> Index:
    return known_lists.compiled([HashList(name="bench", kind=kind, file=str(path))], path.parent / "index")[0]


def build(path: Path, kind: str) -> dict[str, Any]:
    """Compile the list."""
    began = time.perf_counter()
    index = _index(path, kind)
    seconds = time.perf_counter() - began
    disk = sum(file.stat().st_size for file in index.folder.iterdir())
    return {"build_s": round(seconds, 1), "build_peak_mb": _peak_mb(), "index_mb": disk // 1_000_000}


def search(path: Path, kind: str) -> dict[str, Any]:
    """Look up entries that are there, near copies of them (PDQ), and as many that are not."""
    index = _index(path, kind)
    count = ASKED.get(kind, 1_000_000)
    there, others = rows(kind, 0, CHUNK)[:count], rows(kind, 10**6, count)
    if kind == "pdq":
        there = there.copy()
        there[:, :3] ^= 0xFF  # 24 bits of 256
    began = time.perf_counter()
    hits, misses = index.find(there), index.find(others)
    seconds = time.perf_counter() - began
    if not hits.all() or misses.any():
        message = f"{kind}: {hits.sum()} of {count} found, {misses.sum()} of {count} others"
        raise SystemExit(message)
    return {"lookups_per_s": round(2 * count / seconds), "search_peak_mb": _peak_mb()}


def bare_set(path: Path, kind: str) -> dict[str, Any]:
    """Hold a tenth of the entries in a Python set."""
    count = int(_index(path, kind).entries) // 10
    before = _peak_mb()
    found = {row.tobytes() for row in rows(kind, 0, min(CHUNK, count))}
    for number in range(1, count // CHUNK):
        found |= {row.tobytes() for row in rows(kind, number, CHUNK)}
    return {"set_of_a_tenth_mb": _peak_mb() - before}


def _peak_mb() -> int:
    """Return the peak of resident memory of this process, Python and all; pages of mapped files are among it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    main()
