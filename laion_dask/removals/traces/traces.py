"""Say whether a file still holds a trace of removed pairs: tables, archives, pages, any file.

A trace of a pair is its address, its text, a digest of its image or the image as stored, each only where no pair that
stays has the same; and any value beside its uid in a table. A uid alone is none: it is the name under which versions
say that the pair is gone. The parts: `trace_values` what is known, `trace_forms` as which bytes it stands in files,
`trace_search` where it stands, `trace_files` and `trace_openers` what a file has inside.
"""

from __future__ import annotations

from pathlib import Path

from laion_dask.removals.traces.trace_files import Seen, look, look_at, look_at_name
from laion_dask.removals.traces.trace_rows import NAMES, blanked, rows_of
from laion_dask.removals.traces.trace_values import Traces

__all__ = ["NAMES", "Seen", "Traces", "blanked", "found_in", "look", "look_at", "look_at_name", "rows_of"]


def found_in(path: Path, traces: Traces) -> str:
    """Say what of the pairs a file holds, empty if nothing; `OSError` where it, or a part of it, cannot be read."""
    seen = Seen()
    found = look(path, traces, seen)
    if seen.unread and not found:
        name, why = next(iter(seen.unread.items()))
        raise OSError(f"{name} cannot be read: {why}. Remedy: mend or delete it")
    return found
