"""Open the source of a download: the live web, WARC files, or an archive of an earlier download."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from laion_dask import __version__, params
from laion_dask.runner.stage import StageError
from laion_dask.storage import printable
from laion_dask.storage.files import digest
from laion_dask.web.archive.replay import Replay
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.recorded import Survey


@contextmanager
def opened(
    rules: params.Download, workers: int, host: str, index: Path, *, encrypted: bool = False
) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of `part.download` for its source and user agent.

    For the live web the driver runs the rate limiter of all workers, which reach it at `host`. Recorded responses need
    no rate limits: a replay server on this machine serves WARC files, at the same address, or the workers read an
    archive by the index that is written to `index`. If `encrypted`, workers ask these servers by TLS. Raises
    `StageError` if there is no WARC file.
    """
    agent = f"laion-dask/{__version__} (+{rules.contact or 'replay'})"
    shared = {"user_agent": agent, "workers": max(1, workers)}
    if rules.source == "archive":
        survey = cdxj.survey_beside(index)
        archive = cdxj.collect(archives(rules), index, survey)
        _say(survey)
        yield {**shared, "replay": None, "archive": archive}
    elif rules.source == "replay":
        with Replay(archives(rules), host=host, encrypted=encrypted) as replay:
            _say(replay.index.survey)
            yield {**shared, "replay": replay.address}
    else:
        with LimitServer(rules, host, encrypted=encrypted) as limit_server:
            yield {**shared, "replay": None, "limit_server": limit_server.address}


def identity(rules: params.Download, resources: Mapping[str, Any]) -> str:
    """Return the digest of the recorded responses, for the keys of parts; a constant for the live web."""
    if rules.source == "replay":
        return digest(*archives(rules))
    return cdxj.digest(resources["archive"]) if rules.source == "archive" else "web"


def archives(rules: params.Download) -> list[Path]:
    """List the WARC files of a download, without duplicates; `StageError` if a path or glob matches none."""
    files: dict[Path, None] = {}
    for pattern in rules.warcs:
        # A file of exactly this name takes precedence: as a glob, a[1].warc.gz would match another file.
        names = [pattern] if Path(pattern).is_file() else glob(pattern, recursive=True)  # noqa: PTH207 - may be absolute
        matches = sorted(Path(name).absolute() for name in names)
        if not matches:
            message = f"download.warcs has {pattern!r}, which matches no file. Remedy: correct the glob in params.yaml"
            raise StageError(message)
        files |= dict.fromkeys(matches)
    return list(files)


def _say(survey: Survey) -> None:
    """Print a summary of the WARC files; none for an archive of this project, whose records are not counted."""
    if survey.answered or survey.left_out or survey.other:
        message = f"download.warcs: {'; '.join(survey.lines())}"
        print(printable.plain(message), file=sys.stderr, flush=True)  # noqa: T201 - for people
