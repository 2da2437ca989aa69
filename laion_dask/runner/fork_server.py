"""Keep SIGTERM from ending the process that forks a local cluster's workers; the first module that it imports.

A batch system sends SIGTERM to every process of a run. Without the process that forks, Dask would wait for ever for a
worker that was about to start. It ends by itself as soon as the driver and all workers have ended.
"""

from __future__ import annotations

import os
import signal
import sys


def _restore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_restore)
