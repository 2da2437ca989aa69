"""Draw a seeded, stratified sample of a version's pairs for people to label, and keep what each pair stands for.

Strata are verdict and split. Pairs without a picture are not drawn, nor those whose picture nobody may be shown: they
are counted apart. Every stratum's size is known exactly, and so is how often each question's decision fires in it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from laion_dask import params
from laion_dask.audit.questions import Question
from laion_dask.report import gallery
from laion_dask.schema.reasons import KEEP, REASON_STAGE
from laion_dask.schema.values import SPLITS
from laion_dask.storage import attempts

# Questions about these are judged by the score, whatever other rule came first, as `truth` does.
SCORED: Final = {"unsafe": "punsafe", "watermark": "pwatermark", "low_similarity": "similarity"}
_COLUMNS: Final = ("key", "caption", "split", "sha256", "rights", "page_signals")
_LEAST: Final = 4
"""Pairs of every stratum that are drawn whatever its size, or all that there are."""

Stratum = tuple[str, str]
"""(verdict, split)."""


class AuditError(Exception):
    """A sample cannot be drawn, read or scored; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One pair of the sample: its stratum, what each question's decision said of it (None: no score), its picture."""

    uid: str
    stratum: Stratum
    caption: str
    decided: Mapping[str, bool | None]
    tar: Path
    key: str


@dataclass(frozen=True, slots=True)
class AuditSample:
    """A sample and what it was drawn from: pairs of each stratum, and of them those that each decision fires for.

    `cells` counts (verdict, split, question, decided) over all pairs that could be drawn; `outside` says how many
    could not, by why.
    """

    name: str
    seed: int
    questions: tuple[Question, ...]
    drawn: tuple[Drawn, ...]
    sizes: Mapping[Stratum, int]
    cells: Mapping[tuple[str, str, str, bool | None], int]
    outside: Mapping[str, int]


def sample(data: Path, settings: params.Params, questions: Sequence[Question], *, size: int, seed: int) -> AuditSample:
    """Draw about `size` pairs; the same version, questions, size and seed give the same sample.

    Half of what is left after a few of every stratum goes to kept pairs, half to dropped ones, in proportion to the
    strata. Drawn by the hash of seed and uid, so that the order of the shards does not matter; shown in the order of
    another hash, so that labelers cannot tell the strata apart. Memory: `size` candidates a stratum.
    """
    if size < 1:
        raise AuditError(f"--size {size} is no number of pairs. Remedy: 1 or more")
    hidden = gallery.known(data)
    best: dict[Stratum, list[tuple[int, Drawn]]] = {}
    sizes, outside = Counter[Stratum](), Counter[str]()
    cells = Counter[tuple[str, str, str, bool | None]]()
    scores = [*dict.fromkeys(SCORED[one.decision] for one in questions if one.decision in SCORED)]
    for shard in attempts.attempts(data, _COLUMNS, scores):
        got = shard.table.filter(shard.table["downloaded"])
        outside["no picture"] += shard.table.num_rows - got.num_rows
        decided = {one.name: _decided(got, one, settings) for one in questions}
        for place, row in enumerate(got.select(["uid", "verdict", *_COLUMNS]).to_pylist()):
            if gallery.held_back(row, hidden):
                outside["held back by a list, a removal or an opt-out"] += 1
                continue
            stratum = (row["verdict"], row["split"])
            sizes[stratum] += 1
            fires = {name: values[place] for name, values in decided.items()}
            cells.update((*stratum, name, fired) for name, fired in fires.items())
            # Lowest rank last: a heap gives up its smallest, and we keep the smallest ranks.
            rank = -_hash(seed, row["uid"])
            heap = best.setdefault(stratum, [])
            if len(heap) < size or rank > heap[0][0]:
                pair = Drawn(row["uid"], stratum, row["caption"], fires, shard.tar, row["key"])
                (heapq.heappush if len(heap) < size else heapq.heapreplace)(heap, (rank, pair))
    outside["removed before download"] += attempts.removed(data).num_rows
    if not sizes:
        raise AuditError(f"{data} has no picture that could be shown. Remedy: run the stages up to filter first")
    wanted = allocate(sizes, size)
    chosen = [item for stratum, heap in best.items() for item in heapq.nlargest(wanted[stratum], heap, key=_rank)]
    # Another hash than that of the draw: a large stratum has small ranks only, and would show by its place.
    drawn = tuple(sorted((pair for _, pair in chosen), key=lambda pair: _hash(seed, f"order:{pair.uid}")))
    text = repr((seed, [pair.uid for pair in drawn], [question.model_dump() for question in questions]))
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return AuditSample(
        name, seed, tuple(questions), drawn, dict(_ordered(sizes)), dict(cells), {k: v for k, v in outside.items() if v}
    )


def allocate(sizes: Mapping[Stratum, int], wanted: int) -> dict[Stratum, int]:
    """Say how many pairs of each stratum are drawn: never more than it has, at least a few, about `wanted` in all."""
    given = {stratum: min(rows, _LEAST) for stratum, rows in sizes.items()}
    for kept in (True, False):
        group = {stratum: rows for stratum, rows in sizes.items() if (stratum[0] == KEEP) == kept}
        # What one half cannot take is not given to the other: its intervals would gain little.
        left = max(0, wanted // 2 - sum(given[stratum] for stratum in group))
        free = {stratum: rows - given[stratum] for stratum, rows in group.items()}
        for stratum, rows in _in_proportion(free, left).items():
            given[stratum] += rows
    return given


def _in_proportion(free: Mapping[Stratum, int], left: int) -> dict[Stratum, int]:
    whole = sum(free.values())
    if not whole or not left:
        return {}
    left = min(left, whole)
    exact = {stratum: left * rows / whole for stratum, rows in free.items()}
    given = {stratum: int(rows) for stratum, rows in exact.items()}
    rest = left - sum(given.values())
    # Largest remainders; a tie goes to the name.
    for stratum in sorted(exact, key=lambda name: (given[name] - exact[name], name))[:rest]:
        given[stratum] += 1
    return given


def _decided(table: pa.Table, question: Question, settings: params.Params) -> list[bool | None]:
    rules = settings.filter
    column = SCORED.get(question.decision)
    if column is None:
        return [verdict == question.decision for verdict in table["verdict"].to_pylist()]
    score = table[column].to_numpy()
    if question.decision == "low_similarity":
        least = {split: getattr(rules.similarity, split) for split in SPLITS}
        fired = score < np.asarray([least[split] for split in table["split"].to_pylist()], np.float32)
    else:
        fired = score > (rules.max_punsafe if question.decision == "unsafe" else rules.max_pwatermark)
    return [bool(one) if known else None for one, known in zip(fired, np.isfinite(score), strict=True)]


def _hash(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest())


def _rank(item: tuple[int, Drawn]) -> int:
    return item[0]


def _ordered(sizes: Mapping[Stratum, int]) -> Iterable[tuple[Stratum, int]]:
    order = {reason: place for place, reason in enumerate((KEEP, *REASON_STAGE))}
    return sorted(sizes.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0]))
