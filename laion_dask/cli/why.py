"""`laion-dask why` and `index`: print what the catalog knows of a URL, uid or image; load versions into the catalog."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from laion_dask.cli import console
from laion_dask.storage import printable, work_folder

if TYPE_CHECKING:
    from laion_dask.versions.why import Explanation, PairHistory

HELP: Final = """Explain why a pair is in the data set or not: where it was found, what each stage decided, and why.

\b
  laion-dask why https://a.example/1.jpg
  laion-dask why 8a1a06af6d9cf6dcbe8e4f7f0c0f1d2b     # a uid
  laion-dask why picture.jpg                          # by sha256 and PDQ

PDQ is a perceptual hash, which finds pictures that look alike.

Answers from the catalog, for every version that `laion-dask index` has loaded; the current one is loaded first. Of a
removed pair it prints the tombstone, never the content.
"""
INDEX_HELP: Final = """Load versions into the catalog, for `laion-dask why`; safe to repeat.

\b
  laion-dask index                    # the current version, from data/
  laion-dask index v1.0 exp-name      # Git revisions, experiments

Revisions and experiments come out of DVC's cache.

The catalog mirrors tracked files: if it is lost, the same command restores it.
"""
_RELEASE: Final = Path("data/release")


@contextmanager
def _catalog() -> Iterator[Any]:
    """Open the catalog in one transaction."""
    from laion_dask.catalog import database

    with (
        database.server(os.environ.get("LAION_DASK_DSN"), _database()) as dsn,
        database.transaction(dsn) as cursor,
    ):
        yield cursor


def _database() -> Path:
    return work_folder.work_folder() / "postgresql"


def _fail_without_versions() -> NoReturn:
    console.fail(
        "why: there is no version to ask: data/release is missing, and none is loaded into the catalog. Remedy: `make "
        "repro` builds the version of this project; `dvc pull` fetches it from a remote that has it; `laion-dask index "
        "REV` loads one from DVC's cache"
    )


def index(
    revisions: Annotated[list[str] | None, typer.Argument(metavar="[REV]...", help="Versions beside data/.")] = None,
) -> None:
    """Load versions that are not loaded yet."""
    from laion_dask.versions import histories, history_files

    if not revisions:
        console.need("index", _RELEASE)
    with console.report_errors("index"), _catalog() as cursor:
        for name in revisions or ():
            with history_files.opened(name) as files:
                _say(files.name, loaded=histories.load(cursor, files))
        if not revisions or _RELEASE.is_dir():
            _say("data/", loaded=histories.load(cursor, histories.VersionTables("data/", Path("data"))))


def _say(name: str, *, loaded: bool) -> None:
    console.say(f"{name}: {'loaded' if loaded else 'was loaded already'}")


def why(
    what: Annotated[str, typer.Argument(metavar="URL|UID|FILE", help="The pair or image to look up.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Query the catalog and print the answer."""
    from laion_dask import params
    from laion_dask.blocklists import removal_ledger
    from laion_dask.versions import histories
    from laion_dask.versions import why as questions

    with console.report_errors("why"):
        asked = questions.question(what)
        ledger = removal_ledger.read(Path(params.load().catalog.removals))
        if not (_RELEASE.is_dir() or _database().is_dir() or os.environ.get("LAION_DASK_DSN")):
            _fail_without_versions()
        with _catalog() as cursor:
            current = histories.VersionTables("data/", Path("data"))
            if _RELEASE.is_dir():
                histories.load(cursor, current)
            else:
                histories.make(cursor)
                if not histories.versions(cursor):
                    _fail_without_versions()
            answer = questions.answer(cursor, asked, ledger)
    if as_json:
        console.say(json.dumps(answer.as_dict(), indent=2))
    else:
        _print(answer)


def _print(answer: Explanation) -> None:
    for line in answer.ledger:
        entry = printable.line(f"{line.kind}, {line.date or 'no date'}: {line.reason}")
        console.say(f"the removal ledger lists it: {entry}")
    if not answer.pairs:
        console.say("no version in the catalog has a pair of it: it was not in the crawls, or extraction dropped it")
    for pair in answer.pairs:
        console.say(f"\npair {pair.uid}")
        if pair.removed:
            _print_tombstone(pair)
        for place in pair.found:
            # On one line each: a text with line breaks could imitate lines of this answer.
            one = {name: printable.line(str(value)) for name, value in place.items()}
            console.say(f"  found on {one['page_url']} of {one['page_date']}: {one['url']}")
            console.say(f"    {one['crawl']} {one['wat']} at {place['record_offset']:,}; text: {one['text']}")
        _print_versions(pair)


def _print_tombstone(pair: PairHistory) -> None:
    console.say(f"  removed; tombstone {pair.uid_sha256}")
    console.say(f"  first version without it: {pair.since or 'none is built yet: `make repro`'}")
    for line in pair.ledger:
        entry = printable.line(f"{line.kind} of {line.date or 'no date'}: {line.reason}")
        console.say(f"  by {entry}")


def _print_versions(pair: PairHistory) -> None:
    rows = console.table(
        "In versions", "version", "number", "in it", "decided by", "reason", "evidence", wide="evidence"
    )
    for one in pair.versions:
        if not one.known:
            rows.add_row(one.version, one.label, "no", "", "not seen", "")
            continue
        details = [f"rules that would drop it: {', '.join(one.rules)}"] if one.rules else []
        details += [f"{name} {text}" for name, text in one.compared.items()]
        details += [f"{name}={value}" for name, value in one.evidence.items() if name not in one.compared]
        details.insert(0, one.meaning)
        evidence = printable.line("; ".join(details))
        rows.add_row(one.version, one.label, "yes" if one.member else "no", one.stage, one.reason, evidence)
    console.console().print(rows)
