"""Record what each part of a stage took, in a Parquet file beside the version: `data/trace/<stage>.parquet`.

The file is written when a run of the stage ends, however it ends. It is no out of the stage, since its times differ
from run to run. It has a digest of the out that it belongs to, so that a file of another version is recognised, e.g.
after `dvc checkout`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laion_dask.runner.trace import Measured
from laion_dask.schema.columns import SchemaError
from laion_dask.schema.traces import FAILED, FINISHED, TRACE, UNMEASURED
from laion_dask.storage import printable
from laion_dask.storage.files import digest

if TYPE_CHECKING:
    from laion_dask.runner.part import Part

FOLDER: Final = "trace"
"""Folder of the traces, beside the outs of the stages."""

_ABOUT: Final = b"laion_dask.run"

Row = dict[str, Any]
"""A row of `TRACE`, by column."""


class TraceError(Exception):
    """A trace cannot be read; the message has the file and the remedy."""


@dataclass(frozen=True, slots=True)
class StageTrace:
    """The content of a trace file."""

    stage: str
    rows: Sequence[Row]
    began: float
    """When the last run of the stage began and ended, in seconds since 1970, by the driver's clock."""
    ended: float
    identity: str
    """See `identity`; "" where that run did not finish."""

    @property
    def earlier(self) -> list[Row]:
        """The parts that the last run took over from earlier ones, and that were measured then."""
        measured = (row for row in self.rows if row["seconds"] is not None)
        return [row for row in measured if row["submitted"] is None or row["submitted"] < self.began]

    def belongs_to(self, data: Path, metrics: Path) -> bool:
        """Say whether the stage's out in `data` and its counts in `metrics` are those of the traced run."""
        return bool(self.identity) and self.identity == identity(data, metrics, self.stage)


class Trace:
    """Gathers the rows of one run of a stage, and writes them to `path`; without a path it only gathers them."""

    def __init__(self, stage: str, path: Path | None = None, earlier: Sequence[Row] = ()) -> None:
        self.stage = stage
        self.began = time.time()
        self._path = path
        self._earlier: dict[str, Row] = {row["key"]: row for row in earlier if row["outcome"] == FINISHED}
        self._submitted: dict[str, float] = {}
        self._rows: dict[str, Row] = {}

    def submit(self, part: Part) -> None:
        """Record that the driver has given a part to the cluster; again, where its worker has died."""
        self._submitted.setdefault(part.key, time.time())

    def finish(self, part: Part, measured: Measured | None, *, failed: bool) -> None:
        """Add the row of a part that has finished or failed; `measured` is None where its task could not begin."""
        submitted = self._submitted.pop(part.key, None)
        if measured is not None and (measured.made or failed):
            row = self._row(part, FAILED if failed else FINISHED) | _values(measured)
        else:
            row = self._row(part, FAILED if failed else UNMEASURED)
        self._rows[part.key] = row | {"submitted": submitted}

    def take_over(self, part: Part, folder: Path) -> None:
        """Add the row of a part that was finished before, as it was measured then."""
        if part.key in self._rows:
            return
        row = self._earlier.get(part.key)
        # Without the earlier trace, as in another copy of the project, only the time of its submission is lost.
        if row is None and (measured := Measured.read(folder)) is not None:
            row = self._row(part, FINISHED) | _values(measured)
        self._rows[part.key] = row or self._row(part, UNMEASURED)

    def rows(self) -> list[Row]:
        """Return the rows sorted by part."""
        return sorted(self._rows.values(), key=lambda row: (row["part"], row["started"] or 0.0, row["key"]))

    def save(self, identity_of_out: str = "") -> None:
        """Write the file; without an identity, that of a run that has not finished.

        The file stays as it is if the run has neither taken over nor finished a part. One that cannot be written is
        reported on standard error.
        """
        if self._path is None or not (self._rows or identity_of_out):
            return
        about = {"began": self.began, "ended": time.time(), "identity": identity_of_out}
        try:
            _write(self.rows(), about, self._path)
        except OSError as error:
            warn(f"{self.stage}: its trace was not written: {error}")

    def _row(self, part: Part, outcome: str) -> Row:
        empty: Row = dict.fromkeys(TRACE.names)
        return empty | {"stage": self.stage, "part": part.name, "key": part.key, "outcome": outcome}


def _values(measured: Measured) -> Row:
    return {
        "attempt": measured.attempt,
        "worker": measured.worker,
        "host": measured.host,
        "process": measured.process,
        "started": measured.started,
        "ended": measured.ended,
        "seconds": measured.ended - measured.started,
        "processor_seconds": measured.processor_seconds,
        "peak_bytes": measured.peak_bytes,
        "bytes": measured.bytes,
    }


@contextmanager
def recorded(stage: str, data: Path = Path("data"), metrics: Path = Path("metrics")) -> Iterator[Trace]:
    """Yield the trace of a run of a stage, and write it at the end of the block, also if that raises.

    A trace that cannot be read or written fails no stage: it is reported on standard error.
    """
    folder, counts = data.absolute(), metrics.absolute()
    path = folder / FOLDER / f"{stage}.parquet"
    try:
        before = read(path)
    except TraceError as error:
        warn(f"{stage}: {error}. It is written anew.")
        before = None
    trace = Trace(stage, path, before.rows if before else ())
    try:
        yield trace
    except BaseException:
        trace.save()
        raise
    trace.save(identity(folder, counts, stage))


def identity(data: Path, metrics: Path, stage: str) -> str:
    """Return a digest of the stage's out and counts: the paths and sizes of the files, the bytes of the counts."""
    out, counts = data / stage, metrics / f"{stage}.json"
    if not out.is_dir() or not counts.is_file():
        return ""
    sizes = [(path.relative_to(out).as_posix(), path.stat().st_size) for path in out.rglob("*") if path.is_file()]
    return digest(sorted(sizes), counts)


def read(path: Path) -> StageTrace | None:
    """Return the content of a trace file, or None if there is none; raises `TraceError` if it is damaged."""
    import pyarrow as pa  # noqa: PLC0415 - with the tables, when there is a trace
    import pyarrow.parquet as pq  # noqa: PLC0415

    if not path.is_file():
        return None
    try:
        # From bytes: a file that is replaced meanwhile stays whole.
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        about: Mapping[str, Any] = json.loads((table.schema.metadata or {})[_ABOUT])
        return StageTrace(
            stage=path.stem,
            rows=TRACE.check(table).to_pylist(),
            began=float(about["began"]),
            ended=float(about["ended"]),
            identity=str(about["identity"]),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, SchemaError) as error:
        raise TraceError(f"{path} cannot be read ({error}). Remedy: remove it; nothing depends on it") from error


def _write(rows: Sequence[Row], about: Mapping[str, Any], path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = TRACE.check(pa.Table.from_pylist([*rows], schema=TRACE.schema))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    try:
        pq.write_table(table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()}), fresh, compression="zstd")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def warn(message: str) -> None:
    """Print a message on standard error that what lies beside a version is missing: no stage fails for it."""
    print(printable.line(message), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user
