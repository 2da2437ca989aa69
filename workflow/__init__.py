"""One Dask graph for each stage; graphs wire, functions decide."""

import laion_dask  # noqa: F401 - first of all: Ctrl-C while a stage imports its libraries is no traceback
