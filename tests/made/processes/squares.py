"""Parts that square a number in, their files and counts out: the simplest stage there is, to see how parts run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed import Client

from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.runner.trace import MEASURES
from laion_dask.storage.files import digest

calls: list[int] = []


def square(out: Path, *, number: int, bad: int | None = None) -> dict[str, Any]:
    calls.append(number)
    (out / "folder").mkdir()
    (out / "folder" / f"{number}.txt").write_text(str(number**2))
    if number == bad:
        message = f"cannot square {number}\nsecond line"
        raise ValueError(message)
    return {"numbers": {"seen": 1, "kept": 1, "dropped": {}}, "sum": number**2}


def numbers(*wanted: int, redo: bool = False) -> list[Part]:
    return [Part(f"{n:02}", digest("square", n), {"number": n}, weight=n, redo=redo) for n in wanted]


def run(todo: list[Part], work: Path, client: Client, **shared: object) -> list[Done]:
    return parts.run(square, todo, work, client, shared=shared, progress=Progress("square", "numbers"))


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without what the parts there took."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if MEASURES not in path.parts}
