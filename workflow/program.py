"""Run a stage as a program: preflight, the stage, and exit statuses that say how it ended."""

from __future__ import annotations

import sys

from laion_dask import params
from laion_dask.cluster import interrupts
from laion_dask.preflight import preflight
from laion_dask.runner import stage as frame
from laion_dask.runner.stage import Stage
from laion_dask.storage import printable


def main(stage: Stage) -> None:
    """Check what all stages from this one on need, then run it.

    An error that a user can mend ends in one message and status 1, Ctrl-C in status 130, SIGTERM in 143, SIGHUP in 129.
    """
    kept = "Finished parts are kept; `make repro` goes on from here."
    try:
        with interrupts.raise_on_signals():
            preflight.check(params.load(), stage.name)
            frame.run(stage)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{stage.name}: interrupted. {kept}\n")
        sys.exit(130)
    except interrupts.Ended as ended:
        sys.stderr.write(f"\n{stage.name}: ended by {ended.name}. {kept}\n")
        sys.exit(ended.status)
    except OSError as error:
        sys.stderr.write(
            f"\n{stage.name}: {printable.plain(str(error))}. Finished parts are kept; mend the cause and run `make "
            "repro` again.\n"
        )
        sys.exit(1)
    except Exception as error:
        # Errors of this project's modules name the remedy; any other error is a bug, and its traceback is needed.
        if type(error).__module__.partition(".")[0] not in {"laion_dask", "workflow"}:
            raise
        sys.stderr.write(f"\n{stage.name}: {printable.plain(str(error))}\n")
        sys.exit(1)
