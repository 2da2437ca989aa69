"""Caption the tars of a folder that other tools made, without a project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.caption import foreign_tar, models
from laion_dask.images import tar_folders
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.standalone import on_files
from laion_dask.standalone.on_files import FilesRun
from laion_dask.storage import numbered
from laion_dask.storage.files import digest, link

OUTS: Final = (tar_folders.IMAGES, "caption")
"""What `caption_folder` leaves in its folder; the last one says that all are there."""
MODELS: Final = "models.json"
"""Beside the captions: what identifies the models that made them."""
WORK: Final = ".caption"
"""Finished tars of a run that is not complete."""


def caption_folder(
    folder: Path, out: Path, rules: params.Caption, progress: Progress, workers: int | None = None
) -> dict[str, Any]:
    """Caption the tars of a folder into `OUTS` of another one, and return the counts as the stage does.

    Raises what `on_files.run`, `tar_folders.find` and `models.find` raise.
    """
    tars = tar_folders.find(folder)
    # Before the tars are read, so that missing weights are reported at once.
    models.find(rules)
    deciding = models.deciding(rules)
    tar_folders.counts(tars)

    def find_parts() -> list[Part]:
        todo = []
        for place, tar in enumerate(tars):
            # Path, size and time stand for a tar: reading its bytes first would take longer than a look.
            identity = [str(tar.resolve()), tar.stat().st_size, tar.stat().st_mtime_ns]
            name = numbered.name(place, len(tars))
            args = {"name": name, "tar": tar, "settings": rules}
            todo.append(Part(name, digest(identity, name, rules, deciding), args, weight=tar.stat().st_size))
        return todo

    def publish(done: Sequence[Done], fresh: Path) -> Mapping[str, Any]:
        captions, images = fresh / OUTS[1], fresh / OUTS[0]
        for empty in (captions, images):
            empty.mkdir(parents=True)
        for part in done:
            for path in part.folder.glob("*.parquet"):
                link(path, captions / path.name)
            for path in (part.folder / tar_folders.IMAGES).glob("*.parquet"):
                link(path, images / path.name)
        (captions / MODELS).write_text(json.dumps(models.about(rules), indent=2) + "\n")
        return {}

    described = FilesRun(
        stage="caption",
        unit="captions",
        find_parts=find_parts,
        function=foreign_tar.caption_tar,
        publish=publish,
        outs=outs,
        gpu=True,
    )
    return on_files.run(described, out / WORK, progress, workers)[0]


def outs(folder: Path) -> list[Path]:
    """List what `caption_folder` has left in a folder."""
    return [path for name in OUTS if (path := folder / name).exists()]
