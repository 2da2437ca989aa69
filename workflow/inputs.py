"""Parameters in, a list for each stage of the files they name with their digests out: before each run, in a moment.

This stage runs each time, and each other stage depends on its own list: a file that has changed under its name makes
those stages run that read it, and no others. It needs no cluster and none of the libraries that take long to load.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.inputs import part
from laion_dask.storage import printable

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
        line += f"; {counts['not_digested']} more lie elsewhere, where a change is not noticed: see data/{NAME}"
    print(line, flush=True)  # noqa: T201 - this is what people read
    return counts


def main() -> None:
    """Run the stage as a program: what a user can mend ends in one message and status 1."""
    try:
        run()
    except (part.InputsError, params.ParamsError, OSError) as error:
        sys.stderr.write(f"\n{NAME}: {printable.plain(str(error))}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
