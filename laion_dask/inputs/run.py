"""Run the stage inputs: write the digests of the files that parameters name, a list for each stage."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.inputs import part

NAME: Final = "inputs"


def run() -> dict[str, int]:
    """Write `data/inputs/<stage>.json` and `metrics/inputs.json`, and return the counts."""
    began = time.monotonic()
    settings = params.load()
    home = Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask").absolute()
    out = Path("data") / NAME
    fresh = out.with_name(f".{NAME}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    counts = part.write(settings, part.Digests(home / part.CACHE), fresh)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    path = Path("metrics") / f"{NAME}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(counts, indent=2) + "\n")
    line = f"{NAME:<9} {counts['files']:>7,} files named in {time.monotonic() - began:.1f} s"
    if counts["not_digested"]:
        line += f"; {counts['not_digested']} more are remote, where changes are not detected: see data/{NAME}"
    print(line, flush=True)  # noqa: T201 - the command's result
    return counts
