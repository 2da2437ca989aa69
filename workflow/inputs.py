"""Stage inputs: digest the files that parameters name, a list for each stage, before each run, in a moment.

This stage runs each time, and each other stage depends on its own list: when a file has changed under its name, the
stages that read it run, and no others. It needs no cluster and none of the libraries that take long to load.
"""

from __future__ import annotations

import sys

from laion_dask import params
from laion_dask.inputs import part
from laion_dask.inputs.run import NAME, run
from laion_dask.storage import printable


def main() -> None:
    """Run the stage as a program: an error that a user can mend ends in one message and status 1."""
    try:
        run()
    except (part.InputsError, params.ParamsError, OSError) as error:
        sys.stderr.write(f"\n{NAME}: {printable.plain(str(error))}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
