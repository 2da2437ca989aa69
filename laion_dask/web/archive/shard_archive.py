"""Open the archive of a shard: one that records the web, one that answers in its place, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from laion_dask import params
from laion_dask.web.archive.reader import ArchiveReader
from laion_dask.web.archive.writer import ArchiveWriter, KeepBody, keep_all, write
from laion_dask.web.fetch.exchange import Ask, Reply
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.cdxj import Entry


class Archive(Protocol):
    """What a download uses between itself and the web; `ArchiveWriter`, `ArchiveReader` or `NoArchive`."""

    @property
    def wrap(self) -> Callable[[Ask], Ask] | None:
        """Wrap the requests to the web, to record their answers or to answer in its place; None leaves them alone."""
        ...

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Add the exchanges of rows that are taken over from earlier archives."""
        ...

    def record_outcome(self, url: str, reason: str, message: str | None) -> None:
        """Record the outcome of the running task's row where it was not requested because of other rows."""
        ...

    def recorded_outcome(self, url: str) -> Reply | None:
        """Return the recorded outcome of the running task's row where it was not requested; else None."""
        ...

    def end_row(self, *, listed: bool) -> None:
        """End the running task's row; an archive keeps nothing of one that is known content (`listed`)."""
        ...


class NoArchive:
    """Records nothing, and has no answers."""

    wrap: Final = None

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Do nothing."""

    def record_outcome(self, url: str, reason: str, message: str | None) -> None:
        """Do nothing."""

    def recorded_outcome(self, url: str) -> None:
        """Return None: there is no record."""

    def end_row(self, *, listed: bool) -> None:
        """Do nothing."""


@contextmanager
def open_archive(
    out: Path,
    name: str,
    settings: params.Download,
    *,
    index: Path | None,
    user_agent: str,
    scope: object,
    keep_body: KeepBody = keep_all,
) -> Iterator[Archive]:
    """Open the archive of one shard that `download.source` and `download.archive` ask for.

    `index` is the index of all archives, for source archive; with `download.archive` too, the exchanges that were used
    are written again. `scope` separates the networks of one process.
    """
    if settings.source == "archive":
        if index is None:
            raise cdxj.ArchiveError("source archive has no index: a bug of the caller")
        with cdxj.CdxjIndex(index) as recorded:
            reader = ArchiveReader(recorded, name)
            yield reader
        if settings.archive:
            write(out, name, list(reader.used.values()))
    elif settings.archive:
        with ArchiveWriter(out, name, user_agent, keep_body, scope=scope) as writer:
            yield writer
    else:
        yield NoArchive()
