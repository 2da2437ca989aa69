"""WATs of ../shared with the counts that were measured for them, and the extraction of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from laion_dask import params
from laion_dask.extract.part import extract


def run(path: Path, out: Path, chosen: params.Extract) -> dict[str, Any]:
    """Extract a WAT."""
    out.mkdir(exist_ok=True)
    return extract(out, name="part", location=str(path), crawl="X", wat=path.name, order=0, settings=chosen)


NOTES = ("wat_expected.json", "golden_cc2dataset/expected.json")


def notes(shared_data: Path) -> dict[str, dict[str, Any]]:
    """Return the measured counts of every WAT by its path."""
    found: dict[str, dict[str, Any]] = {}
    for name in NOTES:
        folder = name.rpartition("/")[0]
        files = json.loads((shared_data / name).read_text())["files"]
        found |= {f"{folder}/{path}".removeprefix("/"): expected for path, expected in files.items()}
    return found
