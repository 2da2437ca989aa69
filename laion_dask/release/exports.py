"""Export scored shards in the layouts of clip-retrieval and DataComp, as subset files, or with faces blurred.

Formats: clip-retrieval's writer (img_emb, text_emb, metadata); DataComp's `<stem>.npz` beside `<stem>.parquet`, and its
subset files of two 64-bit halves of each uid. One shard is in memory at a time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr
from PIL import Image

from laion_dask import schema
from laion_dask.images import prepare
from laion_dask.images.blur import blur
from laion_dask.release import layouts
from laion_dask.schema import faces
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import SAMPLED
from laion_dask.storage import embeddings, numbered, shards
from laion_dask.storage.uids import rows_of, to_bytes

SUBSET: Final = "subset.npy"
_QUALITY: Final = 95
_HALVES: Final = np.dtype("u8,u8").newbyteorder("<")
# DataComp's column names, and ours.
_METADATA: Final = {
    "uid": "uid",
    "url": "url",
    "text": "caption",
    "original_width": "original_width",
    "original_height": "original_height",
    "face_bboxes": "face_bboxes",
    "sha256": "sha256",
}


class ExportError(Exception):
    """An export is not possible; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class DatasetFolders:
    """The folders of an export: images tables, scores with their arrays, and verdicts, if they are to be applied."""

    images: Path
    score: Path
    verdicts: Path | None = None

    @property
    def store(self) -> Path:
        """The arrays."""
        return self.score / embeddings.STORE

    def tables(self) -> list[Path]:
        """Return the tables of scores; `ExportError` if there is none."""
        paths = numbered.tables(self.score)
        if not paths:
            message = f"{self.score} has no scores. Remedy: run score first, or give its output folder"
            raise ExportError(message)
        return paths

    def rows(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the name of each shard and its scored rows: columns of images, then of scores, joined by uid.

        Rows that a verdict drops are left out. `ExportError` names a missing table.
        """
        for path in self.tables():
            scores = pq.read_table(path)
            images = _table(self.images / path.name)
            keep = pc.equal(scores["reason"], KEEP)
            if self.verdicts is not None:
                verdicts = _table(self.verdicts / path.name)
                kept_uids = verdicts.filter(pc.equal(verdicts["reason"], KEEP))["uid"]
                keep = pc.and_(keep, pc.is_in(scores["uid"], value_set=kept_uids.combine_chunks()))
            scores = scores.filter(keep)
            joined = images.take(rows_of(scores["uid"], images))
            for name in scores.column_names:
                if name not in joined.column_names:
                    joined = joined.append_column(name, scores[name])
            yield path.stem, joined


def clip_retrieval(source: DatasetFolders, out: Path, model: str | None) -> int:
    """Write `img_emb`, `text_emb` and `metadata` with a file for each shard that has rows; return the number of rows.

    Embeddings are float16 (rows, features), unit length, row i of every file for the same pair; rows without a text
    embedding are left out. `model` is a name in `score.models`; None if there is only one.
    """
    (name,) = _models(source, [model] if model else None, only=True)
    digits = int(np.log10(len(source.tables()))) + 1
    for folder in ("img_emb", "text_emb", "metadata"):
        (out / folder).mkdir(parents=True)
    written = total = 0
    for _, rows, (image, text) in _read(source, [name]):
        number = str(written).zfill(digits)
        np.save(out / "img_emb" / f"img_emb_{number}.npy", image)
        np.save(out / "text_emb" / f"text_emb_{number}.npy", text)
        metadata = rows.rename_columns({"key": "image_path"})
        first = ["image_path", "caption"]
        metadata = metadata.select([*first, *(column for column in metadata.column_names if column not in first)])
        pq.write_table(metadata, out / "metadata" / f"metadata_{number}.parquet", compression="zstd")
        written, total = written + 1, total + rows.num_rows
    return total


def datacomp(source: DatasetFolders, out: Path, model: str | None) -> int:
    """Write `<shard>.npz` and `<shard>.parquet` with DataComp's names, in the same order; return the number of rows.

    Arrays `<key>_img` and `<key>_txt`, float16; the key is b32 and l14 for OpenAI's architectures, else the name of the
    model. `model` None exports all models; rows that lack an embedding of one of them are left out.
    """
    names = _models(source, [model] if model else None)
    about = embeddings.about(source.store)
    keys = {name: layouts.datacomp_key(name, about[name]["model"]) for name in names}
    if len({*keys.values()}) < len(keys):
        message = f"{', '.join(keys)} would share the keys {', '.join(sorted({*keys.values()}))}. Remedy: --model NAME"
        raise ExportError(message)
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for stem, rows, arrays in _read(source, names):
        names_of_arrays = [f"{key}_{kind}" for key in keys.values() for kind in ("img", "txt")]
        np.savez(out / f"{stem}.npz", **dict(zip(names_of_arrays, arrays, strict=True)))  # type: ignore[arg-type]
        columns = {ours: rows[theirs] for ours, theirs in _METADATA.items() if theirs in rows.column_names}
        own = {f"clip_{key}_similarity_score": rows[f"similarity_{name}"] for name, key in keys.items()}
        pq.write_table(pa.table(columns | own), out / f"{stem}.parquet", compression="zstd")
        total += rows.num_rows
    return total


def subset(source: DatasetFolders, out: Path, _: str | None) -> int:
    """Write `subset.npy`, the two halves of each uid, sorted, dtype u8,u8; return the number of rows.

    Where filter.sample drew the verdicts, a uid is there as often as it was drawn.
    """
    all_halves = [halves(rows["uid"]) for _, rows in source.rows()]
    joined = np.concatenate(all_halves)
    if source.verdicts is not None and (source.verdicts / SAMPLED).is_file():
        sampled = np.load(source.verdicts / SAMPLED, allow_pickle=False)
        joined = sampled[np.isin(sampled, joined)]
    joined.sort(order=("f0", "f1"))
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / SUBSET, joined)
    return len(joined)


def halves(uids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the first and the last 16 hex digits of each uid as numbers, dtype u8,u8, little-endian.

    A shorter uid is padded with zeros on the left, as in DataComp. Raises `ExportError` for any other.
    """
    others = uids.filter(pc.invert(pc.match_substring_regex(uids, "^[0-9a-fA-F]{1,32}$")))
    if len(others):
        uid = others[0].as_py()
        message = f"the uid {uid!r} is not of up to 32 hex digits. Remedy: subset files need uids of DataComp's form"
        raise ExportError(message)
    big = np.ascontiguousarray(to_bytes(pc.utf8_lower(pc.utf8_lpad(uids, 32, "0")))).view(">u8")
    result = np.empty(len(uids), _HALVES)
    result["f0"], result["f1"] = big[:, 0], big[:, 1]
    return result


def blurred(source: DatasetFolders, out: Path, _: str | None) -> int:
    """Write copies of the shards of scored images, with `face_bboxes` blurred, and return the number of images.

    The tables have the additional column `face_bboxes`. Pictures without a box are copied byte for byte, others are
    blurred (`blur.blur`) and encoded as JPEG. `ExportError` if boxes, images or a tar are missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    columns = schema.IMAGES.schema.append(pa.field(faces.BOXES.name, faces.BOXES.type))
    total = 0
    for name, rows in source.rows():
        if missing := [column for column in columns.names if column not in rows.column_names]:
            message = f"{source.score / name}.parquet beside its images has no {', '.join(missing)}"
            raise ExportError(f"{message}. Remedy: name a detector in score.faces, and run score of the project")
        by_key = {row["key"]: row for row in rows.select(columns.names).to_pylist()}
        with shards.ShardWriter(out, name, columns) as writer:
            for key, body in shards.read_shard(source.images / f"{name}.tar"):
                if (row := by_key.pop(key, None)) is not None:
                    writer.add(row, *_without_faces(body, row[faces.BOXES.name]))
        if by_key:
            message = f"{source.images / name}.tar lacks {len(by_key)} images of its table. Remedy: run download again"
            raise ExportError(message)
        total += rows.num_rows
    shards.write_sizes(out)
    return total


def _without_faces(body: bytes, boxes: list[list[float]]) -> tuple[bytes, str]:
    """Return a picture with its boxes blurred, and its extension."""
    if not boxes:
        with Image.open(io.BytesIO(body)) as image:
            return body, prepare.EXTENSIONS[image.format or ""]
    out = io.BytesIO()
    blur(prepare.upright(body), boxes).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue(), "jpg"


FORMATS: Final[Mapping[str, Callable[[DatasetFolders, Path, str | None], int]]] = {
    "clip-retrieval": clip_retrieval,
    "datacomp": datacomp,
    "subset": subset,
    "blurred": blurred,
}


def _read(source: DatasetFolders, models: list[str]) -> Iterator[tuple[str, pa.Table, list[np.ndarray]]]:
    """Yield name, rows and arrays (image, text of each model) of each shard that has rows with all of them."""
    group = zarr.open_group(source.store, mode="r")
    stored = [embeddings.array(group, f"{model}/{kind}") for model in models for kind in ("image", "text")]
    for name, rows in source.rows():
        slots = rows["slot"].to_numpy()
        if not len(slots):
            continue
        # One read of the shard's range: its slots are contiguous.
        first, last = int(slots.min()), int(slots.max()) + 1
        arrays = [np.asarray(array[first:last])[slots - first] for array in stored]
        whole = np.all([np.isfinite(values).all(axis=1) for values in arrays], axis=0)
        if whole.any():
            yield name, rows.filter(pa.array(whole)), [values[whole] for values in arrays]


def _models(source: DatasetFolders, wanted: list[str] | None, *, only: bool = False) -> list[str]:
    stored = sorted(embeddings.about(source.store))
    if not stored:
        message = f"{source.store} has no embeddings. Remedy: run score first, or give its output folder"
        raise ExportError(message)
    if wanted and (missing := [name for name in wanted if name not in stored]):
        message = f"there are no embeddings of {', '.join(missing)}. Remedy: --model with one of {', '.join(stored)}"
        raise ExportError(message)
    if only and not wanted and len(stored) > 1:
        message = f"there are embeddings of {', '.join(stored)}. Remedy: --model with one of them"
        raise ExportError(message)
    return wanted or stored


def _table(path: Path) -> Any:  # noqa: ANN401 - pyarrow's table
    if not path.is_file():
        raise ExportError(f"{path} is missing. Remedy: run the stage of {path.parent} again")
    return pq.read_table(path)
