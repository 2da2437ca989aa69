"""Find the data files of the package: models, templates, tables, defaults."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(str(resources.files("laion_dask")))
"""The folder of the installed package, or of the checkout."""
PROJECT: Final = PACKAGE.parent
"""The folder on Python's path that contains the package; in a checkout, the project's root."""


def file(*names: str) -> Path:
    """Return the path of a file or folder of the package, named from its root."""
    return PACKAGE.joinpath(*names)


def parameters() -> Path:
    """Return the package's params.yaml: inside the package in a wheel, beside it in a checkout."""
    inside = file("params.yaml")
    return inside if inside.is_file() else PROJECT / "params.yaml"
