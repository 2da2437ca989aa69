"""The steps of the stage group after its shards are read: which parts each has, and how results are joined.

Each step has as many parts as the images need, so that a part's memory does not grow with the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask.group import near, numbering, part, semantic, stored
from laion_dask.images import pdq_index
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Run
from laion_dask.schema import groups
from laion_dask.storage.files import digest

ROWS: Final = 1 << 18
"""Rows, images or hashes of one part: 30 MB with their digests."""


@dataclass(frozen=True, slots=True)
class _Steps:
    """What all steps need: how parts are run, the parts of the shards, and how images are cut into parts."""

    run: Run
    read: Sequence[Done]
    rows: int

    @property
    def folders(self) -> list[Path]:
        """The folders of the shards' parts."""
        return [done.folder for done in self.read]

    @property
    def pieces(self) -> int:
        """How many ranges of digests there are, each with a part."""
        return max(1, -(-self._images() // self.rows))

    @property
    def bits(self) -> int:
        """How many upper bits of a band choose the part of a hash."""
        return min(pdq_index.BAND_BITS, max(0, math.ceil(math.log2(max(1, self._images()) / self.rows))))

    def groups(self) -> list[tuple[int, int]]:
        """Return the groups of consecutive shards that have some `rows` together: the first shard, and the end."""
        firsts, rows = [], self.rows
        for shard, done in enumerate(self.read):
            if rows >= self.rows:
                firsts.append(shard)
                rows = 0
            rows += int(done.counts["images"])
        return list(pairwise([*firsts, len(self.read)]))

    def _images(self) -> int:
        return sum(int(done.counts["images"]) for done in self.read)

    def step(
        self, function: PartFunction, todo: Iterable[tuple[str, Mapping[str, Any]]], shape: object = None
    ) -> list[Done]:
        """Run the parts of one step; `shape` are the parameters that it and those before it depend on."""
        name = function.__name__
        every = digest([done.part.key for done in self.read], self.rows)
        return self.run(function, [Part(one, digest(name, one, every, shape), args) for one, args in todo], {})


def compare(settings: Params, read: Sequence[Done], run: Run, rows: int = ROWS) -> Sequence[Done]:
    """Find images that are near each other, by hash and by embedding, and write the groups of every shard.

    `read` are the parts of the shards; a part of a later step has some `rows`, and the outs do not depend on that.
    Returns the shards' parts, and the parts that `join_edges` reads or that count.
    """
    steps = _Steps(run, read, rows)
    united, numbered = _number(steps)
    hashed = _by_hash(steps, settings, _folders(numbered))
    return [*_by_embedding(steps, settings, united, numbered), *numbered, *hashed]


def _folders(done: Iterable[Done]) -> list[Path]:
    return [one.folder for one in done]


def _number(steps: _Steps) -> tuple[list[Done], list[Done]]:
    """Give every image its number; returns the parts by range of sha256, and those by range of uid."""
    groups_of, folders = steps.groups(), steps.folders
    cut = {"pieces": steps.pieces, "groups": [first for first, _ in groups_of]}
    todo = [
        (f"spread-{place:05d}", {"parts": folders[first:end], "first": first, "pieces": steps.pieces})
        for place, (first, end) in enumerate(groups_of)
    ]
    spread = _folders(steps.step(numbering.spread, todo))
    todo = [(f"unite-{piece:05d}", {**cut, "spread": spread, "piece": piece}) for piece in range(steps.pieces)]
    united = steps.step(numbering.unite, todo)
    args = {**cut, "united": _folders(united)}
    todo = [(f"number-{piece:05d}", {**args, "piece": piece}) for piece in range(steps.pieces)]
    return united, steps.step(numbering.number, todo)


def _by_hash(steps: _Steps, settings: Params, numbered: Sequence[Path]) -> list[Done]:
    """Find images with near hashes; returns the parts by band, and those with edges."""
    rules = settings.group
    pieces, bits, limit = steps.pieces, steps.bits, {"neighbours": rules.neighbours}
    shape = [rules.pdq_distance, rules.neighbours]

    def by_range(function: PartFunction, **args: Any) -> list[Done]:  # noqa: ANN401 - arguments of any step
        todo = [(f"{function.__name__}-{piece:05d}", {**args, "piece": piece}) for piece in range(pieces)]
        return steps.step(function, todo, shape)

    distinct = by_range(near.hashes, numbered=numbered, pieces=pieces, bits=bits)
    hashed = {"hashed": _folders(distinct), "pieces": pieces, **limit}
    total = sum(int(done.counts["hashes"]) for done in distinct)
    args = {**hashed, "bits": bits, "total": total, "radius": rules.pdq_distance}
    todo = [
        (f"band-{number:02d}-{piece:05d}", {**args, "number": number, "piece": piece})
        for number in range(pdq_index.BANDS)
        for piece in range(1 << bits)
    ]
    banded = steps.step(near.band, todo, shape)
    met = _folders(by_range(near.meet, bands=_folders(banded), pieces=pieces))
    expanded = _folders(by_range(near.expand, met=met, **hashed))
    linked = by_range(near.link, expanded=[*met, *expanded], **hashed)
    return [*banded, *by_range(near.near, linked=_folders(linked), numbered=numbered, parts=steps.folders, **limit)]


def _by_embedding(steps: _Steps, settings: Params, united: Sequence[Done], numbered: Sequence[Done]) -> list[Done]:
    """Find images with near embeddings, and describe every shard; returns the parts of both, and the centres."""
    rules = settings.group
    shape = [rules.clusters, rules.seed]
    images = {"numbered": _folders(numbered), "parts": steps.folders}
    sizes = [int(done.counts["distinct_images"]) for done in numbered]
    args: dict[str, Any] = {**images, "sizes": sizes, "asked": rules.clusters, "seed": rules.seed}
    (means,) = steps.step(semantic.centres, [("centres", args)], shape)
    todo: list[tuple[str, Mapping[str, Any]]]
    todo = [(done.part.name, {"part": done.folder, "means": means.folder}) for done in steps.read]
    assigned = _folders(steps.step(semantic.assign, todo, shape))
    sets = -(-int(means.counts["clusters"]) // semantic.SET)
    groups_of = steps.groups()
    args = {"numbered": images["numbered"], "united": _folders(united), "sets": sets}
    todo = [
        (f"gather-{piece:05d}", {**args, "assigned": assigned[first:end], "first": first, "piece": piece})
        for piece, (first, end) in enumerate(groups_of)
    ]
    gathered = _folders(steps.step(semantic.gather, todo, shape))
    args = {**images, "gathered": gathered, "floor": rules.semantic_floor, "neighbours": rules.neighbours}
    todo = [(f"clusters-{place * semantic.SET:07d}", {**args, "piece": place}) for place in range(sets)]
    edges = steps.step(semantic.semantic, todo, [*shape, rules.semantic_floor, rules.neighbours])
    files = [Path(path) for path in rules.evaluation]
    todo = []
    copies = [
        {"gathered": folder, "place": place}
        for (first, end), folder in zip(groups_of, gathered, strict=True)
        for place in range(end - first)
    ]
    for done, cluster, copied in zip(steps.read, assigned, copies, strict=True):
        args = {"name": done.part.name, "part": done.folder, "assigned": cluster, **copied}
        todo.append((done.part.name, {**args, "evaluation_files": files, "radius": rules.pdq_distance}))
    return [*steps.step(part.describe, todo, [*shape, *files, rules.pdq_distance]), means, *edges]


def join_edges(done: Sequence[Done], out: Path) -> None:
    """Publish a table for each shard, and join the edges of all parts in two tables."""
    near_edges, semantic_edges = [], []
    for one in done:
        if "images" in one.counts:
            parts.publish_files([one], out)
        elif "near" in one.counts:
            near_edges.append(one.folder / "near.parquet")
        elif "semantic" in one.counts:
            semantic_edges.append(one.folder / "semantic.parquet")
    stored.join_whole(near_edges, out / "near.parquet")
    with pq.ParquetWriter(out / "semantic.parquet", groups.EDGES.schema, compression="zstd") as writer:
        for path in semantic_edges:
            for batch in pq.ParquetFile(path).iter_batches():
                writer.write_batch(batch)
