"""Write Dask's own performance report of a stage: every task by worker, the scheduler's load, transfers.

The setting `laion-dask.cluster.performance-report`: `auto` (default) writes it for a stage that took a minute or
longer, true always, false never.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laion_dask.storage import printable

if TYPE_CHECKING:
    from distributed import Client

_LONG_S: Final = 60.0
# The only thing that a browser would fetch for the page: an icon of docs.dask.org.
_FETCHED: Final = re.compile(r'<link rel="shortcut icon"[^>]*>')


@contextmanager
def reported(client: Client, path: Path, wanted: bool | None) -> Iterator[None]:  # noqa: FBT001 - as the setting
    """Collect what the tasks of the block do, and write it as one HTML page to `path` at the end.

    `wanted` is the value of the setting, None for auto. A page that cannot be written fails no stage: it is reported on
    standard error. A run that a signal ends writes none.
    """
    if wanted is False:
        yield
        return
    start, count = time.time(), _begin(client)
    try:
        yield
    except Exception:
        _end(client, path, start, count, wanted)
        raise
    _end(client, path, start, count, wanted)


def _begin(client: Client) -> int:
    """Let the scheduler list tasks from now on; return how many measurements of its own load it has."""
    client.get_task_stream(start=0, stop=0)  # which starts the list; it returns nothing
    # A nested function is pickled by value: the scheduler need not have this package.
    return int(client.run_on_scheduler(lambda dask_scheduler: int(dask_scheduler.monitor.count)))


def _end(client: Client, path: Path, start: float, count: int, wanted: bool | None) -> None:  # noqa: FBT001
    if wanted is None and time.time() - start < _LONG_S:
        return
    try:
        # The scheduler draws it, with bokeh, which is imported now. "inline": with all scripts in the page.
        scheduler: Any = client.scheduler
        page = client.sync(
            scheduler.performance_report,
            start=start,
            last_count=count,
            code=f"stage {path.stem}",
            mode="inline",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(_FETCHED.sub("", page), encoding="utf-8")
        fresh.replace(path)
    except Exception as error:  # noqa: BLE001 - whatever a scheduler or bokeh raises, the stage has its result
        message = f"{path.stem}: no performance report was written: {type(error).__name__}: {error}"
        print(printable.line(message), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user
