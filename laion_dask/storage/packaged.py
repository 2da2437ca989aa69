"""Find the files that the package carries beside its code: models, templates, tables, defaults."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(str(resources.files("laion_dask")))
"""The folder of the installed package, or of the checkout."""
PROJECT: Final = PACKAGE.parent
"""What Python needs on its path to import the package; in a checkout, the project's root."""


def file(*names: str) -> Path:
    """Return the path of a file or folder of the package, named from its root."""
    return PACKAGE.joinpath(*names)


def parameters() -> Path:
    """Return the params.yaml that the package carries: a wheel has it inside, a checkout beside the package."""
    inside = file("params.yaml")
    return inside if inside.is_file() else PROJECT / "params.yaml"
