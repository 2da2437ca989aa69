"""Lists of known content for tests: entries in, a file and its index out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laion_dask import known, lists
from laion_dask.list_params import HashList


def index(folder: Path, kind: str, *entries: str, name: str = "partner", **more: Any) -> known.Index:  # noqa: ANN401
    """Compile hex entries, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{kind}.txt"
    path.write_text("".join(f"{entry}\n" for entry in entries))
    return lists.compiled([HashList(name=name, kind=kind, file=str(path), **more)], folder / "index")[0]
