"""What happens to one part: bytes and values in, values out. No Dask, no DVC in sight."""

from importlib.metadata import version

__version__ = version("laion-dask")
