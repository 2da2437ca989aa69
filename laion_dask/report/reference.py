"""Read the published numbers that the report and comparisons of versions draw beside a version's own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from laion_dask.storage import packaged, strict_rows

FOLDER: Final = packaged.file("report", "reference_tables")
"""CSV files with their sources in comment lines at the top."""


@functools.cache
def read(name: str) -> tuple[dict[str, str], ...]:
    """Return the rows of `reference_tables/<name>.csv` as text, by column."""
    # Comments become blank lines, so that error messages have the file's line numbers.
    lines = ["" if line.startswith("#") else line for line in _text(name).splitlines()]
    header, rows = strict_rows.of_text("\n".join(lines), Path(FOLDER.name, f"{name}.csv"))
    return tuple(dict(zip(header, values, strict=True)) for _, values in rows)


def source(name: str) -> str:
    """Return the comment at the top of a reference table: the meaning of its columns, and its sources."""
    return "\n".join(line.removeprefix("#").strip() for line in _text(name).splitlines() if line.startswith("#"))


def percentiles() -> dict[tuple[str, str], tuple[int, ...]]:
    """Return LAION-5B's percentiles 5, 25, 50, 75 and 95 by measure and split."""
    return {
        (row["measure"], row["split"]): tuple(int(row[column]) for column in ("p5", "p25", "p50", "p75", "p95"))
        for row in read("percentiles")
    }


def rates(measure: str) -> dict[str, float]:
    """Return LAION-5B's published share of one safety measure by split; empty if none was published."""
    rows = read("rates")
    return {row["split"]: float(row["share"]) for row in rows if (row["set"], row["measure"]) == ("LAION-5B", measure)}


def shares() -> dict[str, dict[str, float]]:
    """Return published shares by their denominator: requested pairs, downloaded ones, links with a text."""
    downloaded = {
        f"{row['set']} {row['year']}": float(row["share"]) for row in read("rates") if row["measure"] == "downloaded"
    }
    steps: dict[str, dict[str, int]] = {}
    for row in read("funnels"):
        steps.setdefault(row["set"], {})[row["kind"]] = int(row["rows"])
    table = [row for row in read("datacomp_table3") if row["scale"] == "large"]
    pool = next(int(row["samples"]) for row in table if row["filter"] == "none")
    filters = {f"DataComp {row['filter']}": int(row["samples"]) / pool for row in table if row["filter"] != "none"}
    laion = steps["LAION-5B"]
    return {
        "downloaded, of those asked for": downloaded,
        "kept, of those downloaded": filters,
        "kept, of links with a text": {"LAION-5B": laion["kept"] / laion["candidates"]},
    }


def _text(name: str) -> str:
    return (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
