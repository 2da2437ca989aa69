"""Translate the texts of tables that a user names, without a project: the tables again, with columns of English."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.clip.decoded import Stopwatch
from laion_dask.download.url_rows import TableError
from laion_dask.extract import language
from laion_dask.runner import part_files
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.standalone import on_files, tables
from laion_dask.standalone.on_files import FilesRun
from laion_dask.standalone.tables import Piece
from laion_dask.storage import numbered
from laion_dask.storage.files import digest, sha256
from laion_dask.translate import models, part

OUTS: Final = ("translations",)
"""What `translate_tables` leaves in its folder: a Parquet file for each table."""
WORK: Final = ".translate"
"""Finished pieces of a translation that is not complete, and tables of text as Parquet."""
TEXT_COLUMNS: Final = ("text", "TEXT", "caption", "alt")
REASON: Final = "translation"
"""Column of the result: keep, or why there is no English text."""
DETECTED: Final = "detected_language"
"""Column of the result where no column of languages is named: fastText's code, empty where it is not sure."""
# Rows of a piece, which one worker translates: minutes of work, so that a killed run loses no more.
_PIECE_ROWS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns of the tables; None: the first usual name of a text, and a language that is detected."""

    text: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """How languages are detected: least confidence of a code, and the path of a fastText model or None."""

    confidence: float
    model: str | None = None


def translate_tables(
    place: Path,
    out: Path,
    rules: params.Translate,
    columns: Columns,
    detector: Detector,
    progress: Progress,
    workers: int | None = None,
) -> dict[str, Any]:
    """Translate the tables at a place into `OUTS` of a folder, and return the counts as the stage does.

    A table has its rows, in their order, and its columns, then ours. Raises `TableError`, `TranslatorError`, and what
    `on_files.run` raises.
    """
    found = tables.find(place)
    names = [tables.name(table, place) for table in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TableError(f"two tables of {place} would be written as {twice}. Remedy: rename one, or name one of them")
    # Before the tables are read, so that missing weights are reported at once.
    models.find(rules)
    deciding = [*models.deciding(rules), *_detecting(columns, detector)]

    def find_parts() -> list[Part]:
        todo = []
        for number, table in enumerate(found):
            # Path, size and time stand for a table: reading its bytes first would double the time to the first text.
            status = [str(table.resolve()), table.stat().st_size, table.stat().st_mtime_ns]
            parquet = _as_parquet(table, out / WORK / "tables" / digest(status), columns)
            text = _checked(table, parquet, columns)
            for piece in tables.pieces(parquet, _PIECE_ROWS):
                named = f"{numbered.name(number, len(found))}-{piece.first:010d}"
                args = {"name": named, "table": parquet, "first": piece.first, "rows": piece.rows, "text": text}
                args |= {"language": columns.language, "detector": detector, "settings": rules}
                key = digest(status, named, piece.rows, text, columns.language, asdict(detector), rules, deciding)
                todo.append(Part(named, key, args, weight=piece.rows))
        return todo

    def publish(done: Sequence[Done], fresh: Path) -> Mapping[str, Any]:
        for number, of_table in groupby(sorted(done, key=lambda one: one.part.name), _table_of):
            _join([*of_table], fresh / OUTS[0] / names[number])
        return {"model": models.about(rules)}

    described = FilesRun(
        stage="translate",
        unit="texts",
        find_parts=find_parts,
        function=translate_piece,
        publish=publish,
        outs=outs,
        gpu=True,
    )
    return on_files.run(described, out / WORK, progress, workers)[0]


def outs(folder: Path) -> list[Path]:
    """List what `translate_tables` has left in a folder."""
    return [path for name in OUTS if (path := folder / name).exists()]


def translate_piece(
    out: Path,
    *,
    name: str,
    table: Path,
    first: int,
    rows: int,
    text: str,
    language: str | None,
    detector: Detector,
    settings: params.Translate,
) -> dict[str, Any]:
    """Translate some rows of a Parquet table into `<name>.parquet`: its columns, then ours.

    Counts: the ledger `texts`, `cut`, and the times of this run under `seconds`, as the stage.
    """
    watch = Stopwatch(*part.ACTIVITIES)
    read = tables.read(Piece(table, first, rows))
    texts = read[text].cast(pa.string()).to_pylist()
    with watch.measure("tokenize"):
        codes = _detected(texts, detector) if language is None else read[language].cast(pa.string()).to_pylist()
    made = part.english(texts, codes, settings, watch)
    with watch.measure("write"):
        ours: dict[str, Any] = {DETECTED: pa.array(codes, pa.string())} if language is None else {}
        ours |= {REASON: pa.array(made.reasons, pa.string()), **part.columns(made)}
        for column, values in ours.items():
            read = read.append_column(column, values)
        pq.write_table(read, out / f"{name}.parquet", compression="zstd", compression_level=part.LEVEL)
    return part.counts(made) | {"seconds": watch.seconds}


def _detected(texts: Sequence[str | None], detector: Detector) -> list[str]:
    return language.languages([one or "" for one in texts], detector.confidence, detector.model).codes


def _detecting(columns: Columns, detector: Detector) -> Iterator[str]:
    """Yield the digest of the model that detects languages, where it is asked."""
    if columns.language is None:
        yield sha256(language.language_model(detector.model))


def _as_parquet(table: Path, out: Path, columns: Columns) -> Path:
    """Return a table as Parquet; what an interrupted run has converted is not read again."""
    finished = out.with_suffix(".parquet")
    if not finished.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_suffix(".new")
        written = tables.as_parquet(table, fresh, [*TEXT_COLUMNS, columns.text or "", columns.language or ""])
        if written == table:
            return table
        fresh.rename(finished)
    return finished


def _checked(table: Path, parquet: Path, columns: Columns) -> str:
    """Return the column with the texts; `TableError` where a column is missing, or has a name of ours."""
    text = tables.require(table, parquet, [columns.text] if columns.text else TEXT_COLUMNS, "--text-col")
    if columns.language is not None:
        tables.require(table, parquet, [columns.language], "--lang-col")
    ours = {DETECTED, REASON, *part.columns(part.Rows.blank(0))}
    if taken := sorted(ours & set(pq.read_schema(parquet).names)):
        raise TableError(f"{table} has a column {taken[0]}, which this command writes. Remedy: rename it")
    return text


def _table_of(done: Done) -> int:
    return int(done.part.name.partition("-")[0])


def _join(done: Sequence[Done], out: Path) -> None:
    """Write the pieces of one table, in their order, as the row groups of one file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    files = [path for one in done for path in part_files.files(one.folder) if path.suffix == ".parquet"]
    with pq.ParquetWriter(out, pq.read_schema(files[0]), compression="zstd", compression_level=part.LEVEL) as writer:
        for file in files:
            writer.write_table(pq.read_table(file))
