"""Choose the few numbers of a version that DVC compares: metrics/summary.json.

`dvc metrics show` prints a column for each and never wraps, so names are short and there are ten of them. No time is
among them: metrics are part of a version, and a version has nothing that a clock decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from laion_dask.schema.values import SPLITS

NAME: Final = "summary"
"""The file in metrics/, beside those of the stages."""
_COUNTS: Final = {"links": ("extract", "links", "seen"), "images": ("download", "images", "kept")}
_SHARES: Final = {"unsafe": "unsafe_of_kept", "marked": "watermark_of_kept"}


def choose(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers from the counts of the stages, the report's among them; one that is missing is left out.

    `links` seen, `images` downloaded, `kept` pairs and those of each split; of what is kept the shares `unsafe` and
    `marked` (with a watermark), as LAION-5B counted them; `precision` and `recall` of keeping, where labels are known.
    """
    report = counts.get("report", {})
    found = {name: _at(counts, *path) for name, path in _COUNTS.items()}
    found |= {"kept": _at(report, "kept", "all")} | {split: _at(report, "kept", split) for split in SPLITS}
    found |= {name: _at(report, "safety", rate, "all", "rate") for name, rate in _SHARES.items()}
    found |= {name: _at(report, "truth", "keep", name) for name in ("precision", "recall")}
    return {name: value for name, value in found.items() if value is not None}


def write(folder: Path, counts: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write summary.json into the folder of the metrics, at once and whole."""
    path = folder / f"{NAME}.json"
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(choose(counts), indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def _at(counts: Mapping[str, Any], *path: str) -> float | None:
    value: Any = counts
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None
