"""Write what `laion-dask export` gives of a whole version: RO-Crate, summary of training content."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LAYOUTS: Final = ("ro-crate", "eu-summary")


def write(layout: str, fresh: Path, out: Path, *, small: bool, answers: Path | None) -> str:
    """Write the version of this folder into the new folder `fresh`; return a sentence that names its place `out`."""
    if layout == "eu-summary":
        from laion_dask.share import summary

        given = summary.read_answers(answers) if answers is not None else {}
        still = summary.write(Path("data"), fresh, small=small, given=given)
        page = out / summary.PAGE
        return f"{page}: {still} answers are marked that people must add" if still else f"{page}: all answers are given"
    from laion_dask import params
    from laion_dask.share import crate

    written = crate.write(Path(), fresh, params.load())
    times = f"; no times of {', '.join(written.untimed)}" if written.untimed else ""
    return f"{written.entities:,} entities and {written.files:,} files into {out} as ro-crate{times}"
