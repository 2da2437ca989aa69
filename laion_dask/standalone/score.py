"""Score the tars of a folder that other tools made, without a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.images import tar_folders
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.score import foreign_tar, join, required_files
from laion_dask.standalone import on_files
from laion_dask.standalone.on_files import FilesRun
from laion_dask.storage import numbered
from laion_dask.storage.files import digest, link

OUTS: Final = (tar_folders.IMAGES, "score")
"""What `score_folder` leaves in its folder; the last one says that all are there."""
WORK: Final = ".score"
"""Finished tars of a scoring that is not complete."""


def score_folder(
    folder: Path, out: Path, rules: params.Score, progress: Progress, workers: int | None = None
) -> dict[str, Any]:
    """Score the tars of a folder into `OUTS` of another one, and return the counts as the stage does.

    Raises what `on_files.run`, `tar_folders.find` and `required_files.find` raise.
    """
    tars = tar_folders.find(folder)
    # Before the tars are read, so that missing weights are reported at once.
    required_files.find(rules)
    deciding = required_files.deciding(rules)
    rows = max(1, *tar_folders.counts(tars))

    def find_parts() -> list[Part]:
        todo = []
        for place, tar in enumerate(tars):
            # Path, size and time stand for a tar: reading its bytes first would double the time to the first image.
            identity = [str(tar.resolve()), tar.stat().st_size, tar.stat().st_mtime_ns]
            name = numbered.name(place, len(tars))
            args = {"name": name, "tar": tar, "shard_rows": rows, "settings": rules}
            key = digest(identity, name, rows, rules, deciding)
            todo.append(Part(name, key, args, weight=tar.stat().st_size))
        return todo

    def publish(done: Sequence[Done], fresh: Path) -> Mapping[str, Any]:
        for name in OUTS:
            (fresh / name).mkdir(parents=True)
        for part in done:
            for path in (part.folder / tar_folders.IMAGES).glob("*.parquet"):
                link(path, fresh / tar_folders.IMAGES / path.name)
        return join.join(rows, done, fresh / "score")

    described = FilesRun(
        stage="score",
        unit="images",
        find_parts=find_parts,
        function=foreign_tar.score_tar,
        publish=publish,
        outs=outs,
        gpu=True,
    )
    return on_files.run(described, out / WORK, progress, workers)[0]


def outs(folder: Path) -> list[Path]:
    """List what `score_folder` has left in a folder."""
    return [path for name in OUTS if (path := folder / name).exists()]
