"""What the stages hand to each other: tables, columns, reasons and counts.

- columns: What a table, a column and an array are, and the check of a table that is written.
- tables: Every table and array of the pipeline. The package hands on these names and those of columns.
- values: Values that several stages share: the splits of pairs, the signals of opt-outs, when two PDQ hashes match.
- groups: The tables of the stage group.
- new_texts: The tables of the stages translate and caption: texts that models wrote, beside the alt text.
- faces: The columns that the stage score adds where a detector of faces is named.
- masked: The column that the stage score adds where score.masked_text names a detector of text.
- traces: The trace of a stage: a row for each part with the worker that made it, its times, its memory and its bytes.
- comparison: What can become of a pair when its address is asked again.
- reasons: The closed list of reasons for which rows are dropped, and the bits of the filter's rules.
- ledger: Counts that add up: rows seen, kept, and dropped by reason.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laion_dask.schema.columns import Array, Column, SchemaError, Table
    from laion_dask.schema.new_texts import CAPTIONS, TRANSLATIONS
    from laion_dask.schema.tables import (
        ARRAYS,
        IMAGES,
        LINKROT,
        LOSSES,
        OBJECTS,
        PAIRS,
        READS,
        RELEASE,
        REMOVED,
        SCORES,
        TABLES,
        TIMES,
        TOMBSTONES,
        TRIES,
        TRUTH,
        VERDICTS,
        WATS,
        WORK,
        scores,
    )

__all__ = [
    "ARRAYS",
    "CAPTIONS",
    "IMAGES",
    "LINKROT",
    "LOSSES",
    "OBJECTS",
    "PAIRS",
    "READS",
    "RELEASE",
    "REMOVED",
    "SCORES",
    "TABLES",
    "TIMES",
    "TOMBSTONES",
    "TRANSLATIONS",
    "TRIES",
    "TRUTH",
    "VERDICTS",
    "WATS",
    "WORK",
    "Array",
    "Column",
    "SchemaError",
    "Table",
    "scores",
]


def __getattr__(name: str) -> object:
    """Import the tables when one is first asked for: parameters and `--help` need `values` alone, and no pyarrow."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    home = "columns" if name in {"Array", "Column", "SchemaError", "Table"} else "tables"
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
