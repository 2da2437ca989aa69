"""Say whether a file still holds a trace of removed pairs: tables, archives, pages, any file.

A trace of a pair is its address, its text, a digest of its image or the stored image, each only if no remaining pair
has the same; and any value beside its uid in a table. A uid alone is not a trace: versions record the removal by it.
The parts: `trace_values` has the values, `trace_forms` their forms as bytes, `trace_search` finds these in bytes,
`trace_files` and `trace_openers` read files and what is packed inside.
"""

from __future__ import annotations

from pathlib import Path

from laion_dask.removals.traces.trace_files import Seen, look, look_at, look_at_name
from laion_dask.removals.traces.trace_rows import NAMES, blanked, rows_of
from laion_dask.removals.traces.trace_values import Traces

__all__ = ["NAMES", "Seen", "Traces", "blanked", "found_in", "look", "look_at", "look_at_name", "rows_of"]


def found_in(path: Path, traces: Traces) -> str:
    """Return the kind of the first trace in a file, empty if none; `OSError` if a part of it cannot be read."""
    seen = Seen()
    trace = look(path, traces, seen)
    if seen.unread and not trace:
        name, why = next(iter(seen.unread.items()))
        raise OSError(f"{name} cannot be read: {why}. Remedy: repair or delete it")
    return trace
