"""Try a cluster: a tiny part for each worker, and what the driver reads of it afterwards."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laion_dask.runner import parts
from laion_dask.runner.part import Part
from laion_dask.runner.progress import Progress
from laion_dask.workers.pool import Member, Pool


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it."""

    members: tuple[Member, ...]
    refused: tuple[str, ...]
    """Why, for each worker that may not work."""
    first_s: float
    """Seconds until the first tiny part was finished: with a queue, mostly the wait for a worker."""
    ran_on: tuple[str, ...]
    """Hosts that have run tiny parts."""


def tiny(out: Path, *, number: int) -> dict[str, Any]:
    """Write one small file that says which process has written it."""
    (out / f"{number}.txt").write_text(f"{socket.gethostname()} {os.getpid()}\n")
    return {"tiny": {"seen": 1, "kept": 1, "dropped": {}}}


def try_out(pool: Pool, folder: Path, progress: Progress) -> Tried:
    """Run a tiny part on the first worker that comes, then one for each worker that is there.

    Raises what `parts.run` raises, e.g. where all workers are refused.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix="cluster-") as place:
        work = Path(place)
        done = parts.run(tiny, _parts(0, 1), work, pool.client, progress=progress)
        first_s = time.monotonic() - began
        members = pool.settle()
        done += parts.run(tiny, _parts(1, 1 + 2 * len(members)), work, pool.client, progress=progress)
        hosts = {(one.folder / f"{int(one.part.name)}.txt").read_text().split()[0] for one in done}
    by_name = sorted(pool.members().values(), key=lambda one: (one.host, one.address))
    return Tried(tuple(by_name), tuple(pool.refused.values()), first_s, tuple(sorted(hosts)))


def _parts(first: int, end: int) -> list[Part]:
    return [Part(f"{number:05}", f"tiny-{number}", {"number": number}) for number in range(first, end)]
