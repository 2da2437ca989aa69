"""A URL, uid or image on the command line in; what the catalog knows of it out. And versions into the catalog."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console
from laion_dask.storage import printable

if TYPE_CHECKING:
    from laion_dask.versions.why import Explanation, PairHistory

HELP: Final = """Say why a pair is in the data set or not: where it was found, what each stage decided, by what.

\b
  laion-dask why https://a.example/1.jpg
  laion-dask why 8a1a06af6d9cf6dcbe8e4f7f0c0f1d2b     # a uid
  laion-dask why picture.jpg                          # by sha256, and by its looks (PDQ)

Answers out of the catalog, for every version that `laion-dask index` has filed there; the current one is filed first.
Of a pair that was removed it tells the tombstone, never the content.
"""
INDEX_HELP: Final = """File versions in the catalog, so that `laion-dask why` knows them; harmless at any time.

\b
  laion-dask index                    # the current version, out of data/
  laion-dask index v1.0 exp-name      # and Git revisions or experiments, out of DVC's cache

The catalog mirrors tracked files: after its loss the same command fills it again.
"""


@contextmanager
def _catalog() -> Iterator[Any]:
    """Open the catalog in one transaction."""
    from laion_dask.catalog import database

    home = Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask")
    with (
        database.server(os.environ.get("LAION_DASK_DSN"), home / "postgresql") as dsn,
        database.transaction(dsn) as cursor,
    ):
        yield cursor


def index(
    revisions: Annotated[list[str] | None, typer.Argument(metavar="[REV]...", help="Versions beside data/.")] = None,
) -> None:
    """Load what is not loaded."""
    from laion_dask.versions import histories, history_files

    with console.told("index"), _catalog() as cursor:
        for name in revisions or ():
            with history_files.opened(name) as files:
                _say(files.name, loaded=histories.load(cursor, files))
        if not revisions or Path("data/release").is_dir():
            _say("data/", loaded=histories.load(cursor, histories.VersionTables("data/", Path("data"))))


def _say(name: str, *, loaded: bool) -> None:
    console.say(f"{name}: {'filed' if loaded else 'was there already'}")


def why(
    what: Annotated[str, typer.Argument(metavar="URL|UID|FILE", help="What is asked about.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Ask the catalog and print what it knows."""
    from laion_dask import params
    from laion_dask.blocklists import removal_ledger
    from laion_dask.versions import histories
    from laion_dask.versions import why as questions

    with console.told("why"):
        asked = questions.question(what)
        ledger = removal_ledger.read(Path(params.load().catalog.removals))
        with _catalog() as cursor:
            current = histories.VersionTables("data/", Path("data"))
            if Path("data/release").is_dir():
                histories.load(cursor, current)
            else:
                histories.make(cursor)
            answer = questions.answer(cursor, asked, ledger)
    if as_json:
        console.say(json.dumps(answer.as_dict(), indent=2))
    else:
        _print(answer)


def _print(answer: Explanation) -> None:
    for line in answer.ledger:
        told = printable.line(f"{line.kind}, {line.date or 'no date'}: {line.reason}")
        console.say(f"the ledger of removals names it: {told}")
    if not answer.pairs:
        console.say("no version in the catalog has a pair of it: its crawls did not show it, or extraction dropped it")
    for pair in answer.pairs:
        console.say(f"\npair {pair.uid}")
        if pair.removed:
            _print_tombstone(pair)
        for place in pair.found:
            # In one line each: a text with line breaks could pass for more of this answer.
            one = {name: printable.line(str(value)) for name, value in place.items()}
            console.say(f"  found on {one['page_url']} of {one['page_date']}: {one['url']}")
            console.say(f"    {one['crawl']} {one['wat']} at {place['record_offset']:,}; text: {one['text']}")
        _print_versions(pair)


def _print_tombstone(pair: PairHistory) -> None:
    console.say(f"  removed; tombstone {pair.uid_sha256}")
    console.say(f"  first version without it: {pair.since or 'none is built yet: `make repro`'}")
    for line in pair.ledger:
        told = printable.line(f"{line.kind} of {line.date or 'no date'}: {line.reason}")
        console.say(f"  by {told}")


def _print_versions(pair: PairHistory) -> None:
    rows = console.table(
        "In versions", "version", "number", "in it", "decided by", "reason", "evidence", wide="evidence"
    )
    for one in pair.versions:
        if not one.known:
            rows.add_row(one.version, one.label, "no", "", "not seen", "")
            continue
        told = [f"rules that would drop it: {', '.join(one.rules)}"] if one.rules else []
        told += [f"{name} {text}" for name, text in one.compared.items()]
        told += [f"{name}={value}" for name, value in one.evidence.items() if name not in one.compared]
        told.insert(0, one.meaning)
        evidence = printable.line("; ".join(told))
        rows.add_row(one.version, one.label, "yes" if one.member else "no", one.stage, one.reason, evidence)
    console.console().print(rows)
