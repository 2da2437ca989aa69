"""Take over scores and embeddings from earlier parts, for pictures with the same bytes and the same text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from laion_dask.runner import takeover as takeovers
from laion_dask.runner.takeover import Earlier
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import embeddings

_INPUTS: Final = pa.schema([("uid", pa.string()), ("digest", pa.string())])
_OWN: Final = frozenset({"uid", "slot", "reason"})


@dataclass(slots=True)
class Takeover:
    """What one shard takes over: the earlier rows of the rows whose picture and text are the same."""

    rows: Mapping[str, int]
    """Row of the table by key."""
    texts: Mapping[str, str]
    """What is scored beside the picture, by key: uid, text and split."""
    earlier: Mapping[str, tuple[Earlier, str]]
    """By key, the earlier row of the pair, and the digest of what was scored then."""
    digests: dict[str, str] = field(default_factory=dict)
    """By key, the digest of what is scored now."""
    taken: dict[int, Earlier] = field(default_factory=dict)
    """The earlier row of each row that is not scored again."""

    def new(self, pictures: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """Yield the pictures (key, bytes) that must be scored, and note the others."""
        for key, body in pictures:
            digest = hashlib.blake2b(body, digest_size=16)
            digest.update(self.texts[key].encode())
            self.digests[key] = digest.hexdigest()
            earlier = self.earlier.get(key)
            if earlier is not None and earlier[1] == self.digests[key]:
                self.taken[self.rows[key]] = earlier[0]
            else:
                yield key, body

    def fill(self, columns: dict[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]], reasons: np.ndarray) -> int:
        """Fill in columns, embeddings (rows, dimension) and reasons of the rows that are taken over; count them."""
        found = takeovers.rows_of(self.taken.values())
        for row, one in self.taken.items():
            before = found[one]
            reasons[row] = before["reason"]
            for name in columns.keys() - _OWN:
                columns[name][row] = _like(columns[name], before[name])
        by_table: dict[Path, list[tuple[int, Earlier]]] = {}
        for row, one in self.taken.items():
            by_table.setdefault(one.table, []).append((row, one))
        for table, some in by_table.items():
            group = zarr.open_group(table.parent / embeddings.STORE, mode="r")
            slots = np.array([found[one]["slot"] for _, one in some])
            for model, of_model in arrays.items():
                for name, values in of_model.items():
                    stored = embeddings.array(group, f"{model}/{name}")
                    values[[row for row, _ in some]] = np.asarray(stored.oindex[slots % stored.shape[0]])
        return len(self.taken)

    def write(self, out: Path, name: str) -> None:
        """Write what was scored, so that later versions can take it over: beside the scores, in no version."""
        keys = sorted(self.digests)
        uids = [self.texts[key].split("\n", 1)[0] for key in keys]
        table = pa.table([uids, [self.digests[key] for key in keys]], schema=_INPUTS)
        path = _inputs(out / f"{name}.parquet")
        path.parent.mkdir()
        pq.write_table(table, path, compression="zstd")

    def counts(self) -> dict[str, int]:
        """Count the pictures that were scored and those that were not scored again."""
        return takeovers.counted(len(self.digests) - len(self.taken), len(self.taken))


def find(index: Path | None, name: str, table: pa.Table) -> Takeover:
    """Return what a shard may take over; `table` has key, uid, caption, split and reason of its rows."""
    columns = (table[name_].to_pylist() for name_ in ("key", "uid", "caption", "split", "reason"))
    rows = [(place, *row) for place, row in enumerate(zip(*columns, strict=True))]
    kept = [(place, key, uid, caption, split) for place, key, uid, caption, split, reason in rows if reason == KEEP]
    by_uid = takeovers.of_shard(index, name)
    intact = takeovers.intact((by_uid[uid] for _, _, uid, _, _ in kept if uid in by_uid), _beside)
    digests = _digests(intact)
    earlier = {
        key: (by_uid[uid], digests[by_uid[uid].table, uid])
        for _, key, uid, _, _ in kept
        if uid in by_uid and (by_uid[uid].table, uid) in digests
    }
    texts = {key: f"{uid}\n{split}\n{caption}" for _, key, uid, caption, split in kept}
    return Takeover({key: place for place, key, *_ in kept}, texts, earlier)


def _inputs(table: Path) -> Path:
    return table.parent / "inputs" / table.name


def _beside(table: Path) -> list[Path]:
    """Return the files of an earlier part that are read beside its table."""
    arrays = sorted(path for path in (table.parent / embeddings.STORE).rglob("*") if path.is_file())
    return [_inputs(table), *arrays]


def _digests(tables: Iterable[Path]) -> dict[tuple[Path, str], str]:
    found: dict[tuple[Path, str], str] = {}
    for path in sorted(tables):
        stored = pq.read_table(_inputs(path))
        pairs = zip(stored["uid"].to_pylist(), stored["digest"].to_pylist(), strict=True)
        found |= {(path, uid): digest for uid, digest in pairs}
    return found


def _like(column: Any, value: object) -> object:  # noqa: ANN401 - an array of any type, or a list
    """Return an earlier value as the column has it: NaN stands for null in columns of numbers."""
    if value is None and isinstance(column, np.ndarray) and column.dtype != object:
        return np.nan
    return value
