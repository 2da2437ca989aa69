"""Export the kept pairs as shards for training, with one of the texts of each pair as its caption.

The chance of each kind of text is a parameter: a mix of alt texts and captions trained better models than either alone
(arXiv 2307.10350). The draw depends on seed and uid alone, so the same mix gives the same shards everywhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.release.exports import DatasetFolders, ExportError
from laion_dask.storage import shards

ALT: Final = "alt"
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "english": ("translate", "english"),
    "caption": ("caption", "top_caption"),
}
"""Kinds of text beside the alt text: the stage that wrote it, and its column."""
_FURTHER: Final = ("alt_text", "english", "top_caption", "caption_from")
_UNIT: Final = 2.0**-64


def parse(text: str) -> dict[str, float]:
    """Read a mix such as `alt=0.5,caption=0.5` or `caption`; returns shares that sum to 1. Raises `ExportError`."""
    mix: dict[str, float] = {}
    for part in text.split(","):
        kind, _, share = part.strip().partition("=")
        try:
            value = float(share or 1)
        except ValueError:
            value = -1.0
        if kind not in {ALT, *KINDS} or kind in mix or not 0 < value <= 1:
            message = (
                f"--mix {text!r}: {part!r} is no share of a text. Remedy: alt=0.5,caption=0.5, of alt, english, caption"
            )
            raise ExportError(message)
        mix[kind] = value
    total = sum(mix.values())
    if abs(total - 1) > 1e-6:
        message = f"--mix {text!r}: the shares sum to {total:g}. Remedy: shares that sum to 1"
        raise ExportError(message)
    return mix


def write(source: DatasetFolders, data: Path, out: Path, mix: Mapping[str, float], seed: int) -> Counter[str]:
    """Write the kept pairs as shards of webdataset; return how many pairs have each kind of text.

    `data` has the folders of the stages. The JSON of each sample has all of its texts: `alt_text`, `english`,
    `top_caption`, and `caption_from` says which of them is its caption. Where the drawn text is missing, another one of
    the mix is drawn, and the alt text is taken where there is none. Raises `ExportError` where a stage has no texts.
    """
    tables = {kind: data / stage for kind, (stage, _) in KINDS.items()}
    for kind in mix:
        if kind != ALT and not any(tables[kind].glob("*.parquet")):
            stage = KINDS[kind][0]
            message = (
                f"--mix names {kind}, and {tables[kind]} has no texts. Remedy: name a model in {stage}, and run it"
            )
            raise ExportError(message)
    out.mkdir(parents=True, exist_ok=True)
    columns = schema.IMAGES.schema
    for name in _FURTHER:
        columns = columns.append(pa.field(name, pa.string()))
    counts: Counter[str] = Counter()
    for name, rows in source.rows():
        texts = {kind: _texts(folder / f"{name}.parquet", KINDS[kind][1]) for kind, folder in tables.items()}
        by_key = {row["key"]: row for row in rows.select(schema.IMAGES.names).to_pylist()}
        with shards.ShardWriter(out, name, columns) as writer:
            for key, body in shards.read_shard(source.images / f"{name}.tar"):
                if (row := by_key.pop(key, None)) is None:
                    continue
                has = {ALT: row["caption"]} | {kind: found.get(row["uid"]) for kind, found in texts.items()}
                kind = draw(row["uid"], mix, [kind for kind, text in has.items() if text], seed)
                counts[kind] += 1
                writer.add(_row(row, has, kind), body)
        if by_key:
            message = f"{source.images / name}.tar lacks {len(by_key)} images of its table. Remedy: run download again"
            raise ExportError(message)
    shards.write_sizes(out)
    return counts


def draw(uid: str, mix: Mapping[str, float], available: list[str], seed: int) -> str:
    """Draw one of the kinds of text that a pair has, by their shares in the mix; the alt text where it has none."""
    among = [kind for kind in mix if kind in available]
    if not among:
        return ALT
    digest = hashlib.sha256(f"{seed}:{uid}".encode()).digest()
    left = int.from_bytes(digest[:8], "big") * _UNIT * sum(mix[kind] for kind in among)
    for kind in among:
        left -= mix[kind]
        if left < 0:
            return kind
    return among[-1]


def _row(row: Mapping[str, Any], has: Mapping[str, str | None], kind: str) -> dict[str, Any]:
    named = {"alt_text": has[ALT], "english": has["english"], "top_caption": has["caption"], "caption_from": kind}
    return {**row, **named, "caption": has[kind] or ""}


def _texts(path: Path, column: str) -> dict[str, str]:
    """Return the texts of one shard by uid; {} where the stage is off."""
    if not path.is_file():
        return {}
    table = pq.read_table(path, columns=["uid", column])
    rows = zip(table["uid"].to_pylist(), table[column].to_pylist(), strict=True)
    return {uid: text for uid, text in rows if text}
