"""Where unfinished work lies: parts, the embedded database, files of the cluster."""

from __future__ import annotations

import os
from pathlib import Path


def work_folder() -> Path:
    """Return the absolute path of LAION_DASK_HOME, or of .laion_dask: workers have other working directories."""
    return Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask").absolute()
