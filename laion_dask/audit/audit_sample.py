"""Draw a seeded, stratified sample of a version's pairs for people to label, with the sizes of strata.

Strata are verdict and split. Pairs without a picture, or whose picture may not be shown, are not drawn but counted
separately. Every stratum's size is counted exactly, and so is how often each question's decision fires in it.
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

# Decisions of these questions come from the score, even if another rule dropped the pair first, as in `truth`.
SCORED: Final = {"unsafe": "punsafe", "watermark": "pwatermark", "low_similarity": "similarity"}
_COLUMNS: Final = ("key", "caption", "split", "sha256", "rights", "page_signals")
_LEAST: Final = 4
"""Pairs that are drawn from every stratum at least, or all if it has fewer."""

Stratum = tuple[str, str]
"""(verdict, split)."""


class AuditError(Exception):
    """A sample cannot be drawn, read or scored; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One pair of the sample: its stratum, each question's decision on it (None: no score), and its picture."""

    uid: str
    stratum: Stratum
    caption: str
    decided: Mapping[str, bool | None]
    tar: Path
    key: str


@dataclass(frozen=True, slots=True)
class AuditSample:
    """A sample, with the sizes of its strata and the decisions in them.

    `cells` counts (verdict, split, question, decided) over all pairs that could be drawn; `outside` counts the others
    by reason.
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

    After a few of every stratum, half of the rest are kept pairs and half dropped ones, in proportion to the strata.
    Pairs are drawn by the hash of seed and uid, so the order of shards does not matter, and shown in the order of
    another hash, so that labelers cannot tell the strata apart. Memory: `size` candidates a stratum.
    """
    if size < 1:
        raise AuditError(f"--size {size} is not a number of pairs. Remedy: 1 or more")
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
            # Negative: the heap drops its smallest item, and we keep the smallest hashes.
            rank = -_hash(seed, row["uid"])
            heap = best.setdefault(stratum, [])
            if len(heap) < size or rank > heap[0][0]:
                pair = Drawn(row["uid"], stratum, row["caption"], fires, shard.tar, row["key"])
                (heapq.heappush if len(heap) < size else heapq.heapreplace)(heap, (rank, pair))
    outside["removed before download"] += attempts.removed(data).num_rows
    if not sizes:
        raise AuditError(f"{data} has no picture that could be shown. Remedy: run the stages up to filter first")
    quota = allocate(sizes, size)
    chosen = [item for stratum, heap in best.items() for item in heapq.nlargest(quota[stratum], heap, key=_rank)]
    # Another hash than that of the draw: there a large stratum has only small hashes, and would always come first.
    drawn = tuple(sorted((pair for _, pair in chosen), key=lambda pair: _hash(seed, f"order:{pair.uid}")))
    text = repr((seed, [pair.uid for pair in drawn], [question.model_dump() for question in questions]))
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return AuditSample(
        name, seed, tuple(questions), drawn, dict(_ordered(sizes)), dict(cells), {k: v for k, v in outside.items() if v}
    )


def allocate(sizes: Mapping[Stratum, int], wanted: int) -> dict[Stratum, int]:
    """Return how many pairs to draw from each stratum: at least a few, at most all, about `wanted` in total."""
    quota = {stratum: min(rows, _LEAST) for stratum, rows in sizes.items()}
    for kept in (True, False):
        group = {stratum: rows for stratum, rows in sizes.items() if (stratum[0] == KEEP) == kept}
        # If one half has too few pairs, the other gets no more: its intervals would gain little.
        left = max(0, wanted // 2 - sum(quota[stratum] for stratum in group))
        free = {stratum: rows - quota[stratum] for stratum, rows in group.items()}
        for stratum, rows in _in_proportion(free, left).items():
            quota[stratum] += rows
    return quota


def _in_proportion(free: Mapping[Stratum, int], left: int) -> dict[Stratum, int]:
    whole = sum(free.values())
    if not whole or not left:
        return {}
    left = min(left, whole)
    exact = {stratum: left * rows / whole for stratum, rows in free.items()}
    quota = {stratum: int(rows) for stratum, rows in exact.items()}
    rest = left - sum(quota.values())
    # Largest remainders; ties by name.
    for stratum in sorted(exact, key=lambda name: (quota[name] - exact[name], name))[:rest]:
        quota[stratum] += 1
    return quota


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
