"""What happens to one part: bytes and values in, values out. No Dask, no DVC in sight."""

from laion_dask import interrupts

# First of all: what follows imports, and Ctrl-C while a program of ours imports is no traceback.
interrupts.at_once_in_programs()

from importlib.metadata import version  # noqa: E402 - see above

__version__ = version("laion-dask")
