"""Compare the counts of a manifest with each other: rows of files, leaves of the Merkle tree, kept pairs.

Digests prove that a file is unchanged; counts prove that no rows are missing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from laion_dask.schema.values import SPLITS

_FILE: Final = re.compile(rf"(?:(?P<table>[^/]+)/)?(?P<split>{'|'.join(SPLITS)})-(?P<number>\d+)\.parquet")
_TOMBSTONES: Final = "tombstones.parquet"
MAIN: Final = "the main table"
PARTIAL: Final = ("laion-translated", "laion-coco", "recap-datacomp")
"""Tables of the pairs that have a new text: their rows are counted by the stage release."""


def contradictions(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what does not add up in a manifest as (table or file, sentence); missing numbers are not compared."""
    files: Mapping[str, Mapping[str, Any]] = manifest["files"]
    rows: dict[tuple[str, str], int] = defaultdict(int)
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name, about in files.items():
        if match := _FILE.fullmatch(name):
            place = match["table"] or "", match["split"]
            rows[place] += about.get("rows", 0)
            numbers[place].add(int(match["number"]))
    problems = [
        (table or MAIN, f"{split}-{min(missing):05d}.parquet is missing among its files")
        for (table, split), has in sorted(numbers.items())
        if (missing := set(range(max(has) + 1)) - has)
    ]
    for table, splits, source, expected in _wanted(manifest):
        has_rows = sum(rows[table, split] for split in splits)
        if has_rows != expected:
            of = f" of {splits[0]}" if len(splits) == 1 else ""
            problems.append((table or MAIN, f"its files{of} have {has_rows:,} rows, {source} says {expected:,}"))
    stones, recorded = files.get(_TOMBSTONES, {}).get("rows"), manifest.get("tombstones")
    if None not in {stones, recorded} and stones != recorded:
        problems.append((_TOMBSTONES, f"it has {stones:,} rows, the manifest says {recorded:,} tombstones"))
    return problems


def _wanted(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str], str, int]]:
    """Yield (table, splits, source, rows) for each number in the manifest that the files' rows must equal."""
    leaves = manifest.get("merkle", {}).get("leaves")
    counts = manifest.get("counts", {})
    if leaves is not None:
        yield "", SPLITS, "the Merkle tree", leaves
        for table in manifest.get("parameters", {}).get("release", {}).get("tables", ()):
            if table not in PARTIAL:
                yield table, SPLITS, "the Merkle tree", leaves
    for stage in ("filter", "release"):
        kept = counts.get(stage, {}).get("pairs", {}).get("kept")
        if kept is not None:
            yield "", SPLITS, f"the count of pairs that {stage} kept", kept
    for name, value in counts.get("release", {}).items():
        what = name.removeprefix("rows.")
        if what != name and what in SPLITS:
            yield "", (what,), f"counts.release.{name}", value
        elif what != name:
            yield "" if what == "all" else what, SPLITS, f"counts.release.{name}", value
