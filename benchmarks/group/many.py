"""Write images as the step `read` of group does, and measure the memory and the processor time of calls."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import peak_mb
from laion_dask import params
from laion_dask.filter import duplicates
from laion_dask.group import clusters
from laion_dask.group.part import ROWS, VECTORS
from laion_dask.runner import tasks
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part

_SHARD_ROWS: Final = 10_000
_TOPIC_IMAGES: Final = 200  # images around one topic
_ORIGINALS: Final = 20  # images for each picture that others resemble
_KINDS: Final = ("own", "near", "equal", "copy", "logo", "vague")
_SHARES: Final = (0.83, 0.05, 0.05, 0.05, 0.01, 0.01)


def make(folder: Path, images: int, features: int) -> list[Done]:
    """Write the parts of all shards: a twentieth of the images each near, equal or the same as one of the originals."""
    rng = np.random.default_rng(images)
    originals = rng.integers(0, 256, (max(1, images // _ORIGINALS), 32), dtype=np.uint8)
    topics = clusters.unit(rng.standard_normal((max(1, images // _TOPIC_IMAGES), features), np.float32))
    pictures = _around(topics[rng.integers(0, len(topics), len(originals))], 0.75, rng)
    done = []
    for number, low in enumerate(range(0, images, _SHARD_ROWS)):
        rows = min(_SHARD_ROWS, images - low)
        kind = rng.choice(len(_KINDS), rows, p=_SHARES)
        of = np.where(kind == _KINDS.index("logo"), 0, rng.integers(0, len(originals), rows))
        hashes = rng.integers(0, 256, (rows, 32), dtype=np.uint8)
        like = np.isin(kind, [_KINDS.index(name) for name in ("near", "equal", "copy", "logo")])
        hashes[like] = originals[of[like]]
        # Some 14 of 256 bits: nearly all below 32.
        turned = np.isin(kind, [_KINDS.index(name) for name in ("near", "logo")])
        flips = np.packbits(rng.random((int(turned.sum()), 256), np.float32) < 0.055, axis=1)
        hashes[turned] ^= flips
        vectors = _around(topics[rng.integers(0, len(topics), rows)], 0.75, rng)
        vectors[like] = _around(pictures[of[like]], 0.15, rng)
        sha256 = [f"{digest:064x}" if digest else rng.bytes(32).hex() for digest in _digests(kind, of)]
        vague = kind == _KINDS.index("vague")
        pdq = [None if flat else row.tobytes() for row, flat in zip(hashes, vague, strict=True)]
        name = f"{number:05d}"
        at = folder / "read" / name
        at.mkdir(parents=True)
        uids = [rng.bytes(16).hex() for _ in range(rows)]
        pq.write_table(pa.table({"uid": uids, "sha256": sha256, "pdq": pa.array(pdq, pa.binary())}), at / ROWS)
        np.save(at / VECTORS, vectors.astype(np.float16))
        verdict = folder / "verdicts" / f"{name}.parquet"
        verdict.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"uid": uids, "reason": ["keep"] * rows}), verdict)
        done.append(Done(Part(name, name), at, {"images": rows}))
    return done


def _around(middles: np.ndarray, far: float, rng: np.random.Generator) -> np.ndarray:
    """Return a vector near each middle, float32 (rows, features), unit length."""
    return clusters.unit(middles + far * clusters.unit(rng.standard_normal(middles.shape, np.float32)))


def _digests(kind: np.ndarray, of: np.ndarray) -> list[int]:
    """Return for each copy the same number as for all others of its original, spread as digests are; 0 for the rest."""
    copy = kind == _KINDS.index("copy")
    return [(int(one) + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128) << 128 if is_copy else 0
            for one, is_copy in zip(of, copy, strict=True)]  # fmt: skip


def measured(function: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:  # noqa: ANN401 - of any function
    """Call a function in a new process; returns its result, the peak of the process in MB, and its processor time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_call, function, args).result()


def _call(function: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, float, float]:
    began = time.process_time()
    found = function(*args)
    return found, peak_mb(), time.process_time() - began


def every_part(calls: Sequence[tuple[PartFunction, str, Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Run parts one after the other, and return the counts of each."""
    return [tasks.finish_part(function, at, args) for function, at, args in calls]


def nothing() -> None:
    """Do nothing: the process has what the libraries hold."""


def decide(folder: Path, settings: params.Params) -> None:
    """Let the filter decide among all pairs, as if all pass its other rules."""
    tables = sorted((folder / "out").glob("[0-9]*.parquet"))
    duplicates.find(sorted((folder / "verdicts").iterdir()), tables, folder / "out", settings.filter)
