"""Fork the workers of a local cluster from one process that has imported the code; how that process starts and ends.

An import of Dask, NumPy, Arrow and the modules of a stage takes seconds of processor time, which with `spawn` each
worker and each restart would pay. The process that forks (multiprocessing's fork server) has one thread and runs no
part. It imports this module first.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import tempfile
import time
from typing import Any, Final

_METHOD: Final = "distributed.worker.multiprocessing-method"
# The address of a Unix socket has at most 107 bytes; multiprocessing adds 32 to the temporary folder.
_LONGEST_TEMPORARY_FOLDER: Final = 72
_END_S: Final = 10.0


def configuration(*, networks: bool) -> dict[str, Any]:
    """Return the Dask configuration by which local workers start, and prepare the fork server; `networks`: with torch.

    Workers are spawned where the fork server could not listen (the temporary folder's path is too long for a socket),
    or would not find the modules where this process does (a path with a colon).
    """
    from multiprocessing import set_forkserver_preload  # noqa: PLC0415 - the fork server imports this module too

    from distributed.utils import get_mp_context  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    path = [os.path.abspath(place) for place in sys.path]  # noqa: PTH100 - as importlib: "" is the working directory
    too_long = len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMPORARY_FOLDER
    if too_long or any(os.pathsep in place for place in path):
        return {_METHOD: "spawn"}
    import dask  # noqa: PLC0415

    with dask.config.set({_METHOD: "forkserver"}):
        # Its first call sets what Dask wants to have imported; what is set here replaces that.
        get_mp_context()
    ours = [name for name in sys.modules if name.startswith("laion_dask.") and name != __name__]
    heavy = ["torch", "open_clip"] if networks else []
    set_forkserver_preload([__name__, "distributed", "numpy", "pandas", "pyarrow", *heavy, *ours])
    atexit.unregister(_end)
    atexit.register(_end)
    # Spawned workers are told where this process finds its modules; the fork server is not (Python 3.11).
    return {_METHOD: "forkserver", "distributed.nanny.pre-spawn-environ.PYTHONPATH": os.pathsep.join(path)}


def _end() -> None:
    """End the fork server, and wait for it: only then does the system count its workers' time as this process's."""
    from multiprocessing import forkserver  # noqa: PLC0415

    server: Any = forkserver._forkserver  # noqa: SLF001 - there is no other way
    process = server._forkserver_pid  # noqa: SLF001
    if process is None:
        return
    os.close(server._forkserver_alive_fd)  # noqa: SLF001 - it ends when the last one is closed
    deadline = time.monotonic() + _END_S
    with contextlib.suppress(ChildProcessError):
        while not os.waitpid(process, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.005)
    server._forkserver_alive_fd = server._forkserver_address = server._forkserver_pid = None  # noqa: SLF001


def _restore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# A batch system sends SIGTERM to every process of a run. Without the fork server, Dask would wait for ever for a worker
# that was about to start.
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_restore)
