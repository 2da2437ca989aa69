"""Make a release in parts: one for each split where pairs are few, else runs of shards, then files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from laion_dask import params
from laion_dask.release import part
from laion_dask.release.tables import kinds, places, runs
from laion_dask.release.tables.kept import Shards
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.schema.values import SPLITS
from laion_dask.storage.files import digest

RANGE_PAIRS: Final = 500_000
"""Pairs of one range of uids: a part that writes files holds those of one split. So many pairs need one level of parts.

A run has half as many, on average, since a sort and a join need more memory.
"""

Run = Callable[[PartFunction, Sequence[Part]], Sequence[Done]]
"""Makes the parts that are not finished."""


def ranges(pairs: int, range_pairs: int = RANGE_PAIRS) -> int:
    """Return into how many ranges of uids so many kept pairs are cut."""
    return max(1, -(-pairs // range_pairs))


def splits(shards: Shards, settings: params.Release, models: part.Models) -> list[Part]:
    """Return a part for each split."""
    inputs = digest(*shards.paths(), settings, models)
    args = {**_paths(shards), "settings": settings, "models": models}
    return [Part(split, digest(split, inputs), {"split": split, **args}) for split in SPLITS]


def by_ranges(
    shards: Shards,
    pairs: int,
    settings: params.Release,
    models: part.Models,
    run: Run,
    range_pairs: int = RANGE_PAIRS,
) -> Sequence[Done]:
    """Make the runs of all shards, then the files, each from the ranges of uids that it spans; return the files' parts.

    `pairs` is the number of kept pairs. No part holds more than about a range of them, however many there are.
    """
    cut = ranges(pairs, range_pairs)
    sources = run(part.write_run, _runs(shards, pairs, settings, cut, range_pairs))
    found, together = kinds.kinds(settings), 2 * range_pairs
    every = digest([done.part.key for done in sources], settings, models, together)
    folders = [done.folder for done in sources]
    args = {"sources": folders, "settings": settings, "models": models}
    tables = {kind.name: len(kind.tables) for kind in found}
    todo = [
        Part(place.name, digest("files", place.name, every), {"place": place, **args}, place.rows * tables[place.kind])
        for place in places.places(found, runs.counts(folders), settings, together)
    ]
    return run(part.write_files, todo)


def _runs(shards: Shards, pairs: int, settings: params.Release, cut: int, range_pairs: int) -> list[Part]:
    """Return a part for as many shards as have half the pairs of a range, at the average of all shards."""
    size = max(1, range_pairs * len(shards.images) // (2 * max(pairs, 1)))
    todo = []
    for number, some in enumerate(shards.groups(size)):
        key = digest("run", *some.paths(), settings, cut)
        args: dict[str, Any] = {**_paths(some), "settings": settings, "ranges": cut}
        todo.append(Part(f"run-{number:07d}", key, args, sum(path.stat().st_size for path in some.images)))
    return todo


def _paths(shards: Shards) -> dict[str, Any]:
    return {name: getattr(shards, name) for name in ("images", "scores", "verdicts", "new_texts")}
