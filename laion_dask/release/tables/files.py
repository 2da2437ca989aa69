"""Write the Parquet files of the tables: equal numbers of rows, full row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

MAX_FILES: Final = 128
"""Most files of one split of a table, as in LAION-5B."""
ROW_GROUP: Final = 50_000
ZSTD_LEVEL: Final = 3
"""Fixed, since a changed default of the library would change the files' bytes."""


def limit(rows: int, rows_per_file: int) -> int:
    """Return the rows of a file of a split with so many pairs: more where there would be over MAX_FILES files."""
    return max(rows_per_file, -(-rows // MAX_FILES))


class WrittenFiles:
    """Writes rows of one table into files of equal length named `<folder>/<split>-<number>.parquet`.

    Rows are buffered into full row groups, since batches of a subset are small. `first` is the number of the first
    file.
    """

    def __init__(self, folder: Path, split: str, rows_per_file: int, columns: pa.Schema, first: int = 0) -> None:
        self._folder, self._split, self._limit, self._columns = folder, split, rows_per_file, columns
        self._number, self._rows, self._in_file = first, 0, 0
        self._writer: pq.ParquetWriter | None = None
        self._buffered: list[pa.Table] = []
        self._buffered_rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        if table.num_rows:
            self._buffered.append(table)
        self._buffered_rows += table.num_rows
        while self._buffered_rows >= (rows := min(ROW_GROUP, self._limit - self._in_file)):
            self._write_group(rows)

    def _write_group(self, rows: int) -> None:
        """Write buffered rows as one row group, and close the file when it is full."""
        whole = pa.concat_tables(self._buffered)
        self._buffered, self._buffered_rows = [whole.slice(rows)], self._buffered_rows - rows
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._split}-{self._number:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._columns, compression="zstd", compression_level=ZSTD_LEVEL)
        self._writer.write_table(whole.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP)
        self._rows += rows
        self._in_file += rows
        if self._in_file == self._limit:
            self._next()

    def _next(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._number += 1
        self._writer, self._in_file = None, 0

    def close(self) -> int:
        """Write the buffered rows, finish the last file and return the number of rows."""
        if self._buffered_rows:
            self._write_group(self._buffered_rows)
        self._next()
        return self._rows
