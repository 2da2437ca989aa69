"""Write scored pairs with their embeddings as one Lance table, with indexes for vectors, words and uids.

The extra `lance` of the package brings pylance, which writes it. One shard is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import zarr

from laion_dask import schema
from laion_dask.release.exports import DatasetFolders, ExportError
from laion_dask.storage import embeddings

# Product quantisation learns 256 codes for each part of a vector.
LEAST_ROWS: Final = 256
_FEATURES_OF_A_CODE: Final = 16


def write(source: DatasetFolders, out: Path, model: str | None) -> tuple[int, list[str]]:
    """Write the table `out`; return the number of rows and the columns that have an index.

    Columns: those of images and scores, and `<model>_image` and `<model>_text`, float16 (features), null where a pair
    has none; of the model that is given, else of all. Fewer than 256 rows get no index of vectors. Raises
    `ExportError`.
    """
    lance = _library()
    stored = sorted(embeddings.about(source.store))
    if model is not None and model not in stored:
        raise ExportError(f"there are no embeddings of {model}. Remedy: --model with one of {', '.join(stored)}")
    models = stored if model is None else [model]
    first = next(_batches(source, models), None)
    if first is None:
        raise ExportError(f"{source.score} has no pair that is kept. Remedy: --all also exports what the filter drops")
    reader = pa.RecordBatchReader.from_batches(first.schema, _batches(source, models))
    dataset = lance.write_dataset(reader, str(out), mode="create")
    rows = int(dataset.count_rows())
    return rows, _index(dataset, rows, models)


def _library() -> Any:  # noqa: ANN401 - a module that has no types
    try:
        import lance  # noqa: PLC0415 - of an extra
    except ImportError as error:
        message = "the package pylance is missing"
        raise ExportError(
            f"{message}. Remedy: `pip install 'laion-dask[lance]'`, or `uv pip install pylance`"
        ) from error
    return lance


def _batches(source: DatasetFolders, models: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of each shard with their vectors."""
    group = zarr.open_group(source.store, mode="r")
    for _, rows in source.rows():
        if not rows.num_rows:
            continue
        slots = rows["slot"].to_numpy()
        low, high = int(slots.min()), int(slots.max()) + 1
        table = rows.drop_columns(["slot"])
        for model in models:
            for array in schema.ARRAYS:
                values = np.asarray(embeddings.array(group, f"{model}/{array.name}")[low:high])[slots - low]
                table = table.append_column(f"{model}_{array.name}", _vectors(values))
        yield table.combine_chunks().to_batches()[0]


def _vectors(values: np.ndarray) -> pa.Array:
    """Return vectors (rows, features), float16, as Arrow has them; a row that is not finite is null."""
    missing = ~np.isfinite(values).all(axis=1)
    flat = pa.array(np.where(missing[:, None], np.float16(0), values.astype(np.float16)).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(missing))


def _index(dataset: Any, rows: int, models: Sequence[str]) -> list[str]:  # noqa: ANN401 - as above
    """Index uids, the words of captions, and the vectors; return the columns."""
    dataset.create_scalar_index("uid", "BTREE")
    dataset.create_scalar_index("caption", "INVERTED")
    indexed = ["uid", "caption"]
    if rows < LEAST_ROWS:
        return indexed
    for model in models:
        for array in schema.ARRAYS:
            column = f"{model}_{array.name}"
            if dataset.count_rows(f"`{column}` is not null") < LEAST_ROWS:
                continue
            features = dataset.schema.field(column).type.list_size
            dataset.create_index(
                column,
                "IVF_PQ",
                metric="cosine",
                num_partitions=max(1, min(round(math.sqrt(rows)), rows // LEAST_ROWS)),
                num_sub_vectors=math.gcd(features, max(1, features // _FEATURES_OF_A_CODE)),
            )
            indexed.append(column)
    return indexed
