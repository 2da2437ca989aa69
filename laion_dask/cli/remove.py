"""A removal request on the command line in; checked lines in removals.csv, and what they take out, told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.blocklists.removal_ledger import Removal

_SHOWN: Final = 20
HELP: Final = """Take pairs out of every later version: add lines to the ledger of removals.

\b
  laion-dask remove url https://a.example/1.jpg --reason "asked by the photographer" --source "mail of 3 May"
  laion-dask remove domain takedown.example --reason "asked by the owner" --source "form 17" --yes
  laion-dask remove url --file urls.txt --reason "court order" --source "file 12/2026"   # one a line
  laion-dask remove --file requests.csv --reason … --source …                            # columns kind and value
  laion-dask remove --count                               # how many pairs each line of the ledger takes

KIND is url, domain (with all its subdomains), sha256, md5, pdq (pictures that look alike) or uid. `dvc repro` then
leaves the pairs out, without a new download; `laion-dask purge` deletes what is stored of them (docs/removals.md).
"""


def remove(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="What the values are; not with a CSV that says it.")
    ] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="[VALUE]...", help="What to take out.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, in a few words; the ledger is public.")] = "",
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="Who asked, or what found it; an address becomes a salted hash.")
    ] = "",
    file: Annotated[Path | None, typer.Option(metavar="PATH", help="Many values: CSV, or one a line.")] = None,
    most: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the pairs above which --yes is asked for.")
    ] = 0.01,
    yes: Annotated[bool, typer.Option("--yes", help="Also if it takes more than that share.")] = False,  # noqa: FBT002 - a flag
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, and add nothing.")] = False,  # noqa: FBT002 - a flag
    count: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--count", help="Say how many pairs each line of the ledger takes, and add nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Check, count, ask where it is much, and add."""
    from datetime import UTC, datetime

    from laion_dask import params
    from laion_dask.blocklists import removal_ledger
    from laion_dask.removals import removal_requests

    with console.told("remove"):
        ledger = Path(params.load().catalog.removals)
        if count:
            _tell_of_ledger(removal_ledger.read(ledger), as_json=as_json)
            return
        wanted = [(kind or "", value) for value in values or ()]
        places = [""] * len(wanted)
        for number, of_kind, value in removal_requests.numbered(file, kind) if file else ():
            wanted.append((of_kind, value))
            places.append(f"{file}:{number}: ")
        if not wanted:
            console.fail("remove: nothing is named. Remedy: `laion-dask remove KIND VALUE`, or --file PATH")
        request = removal_requests.Request(wanted, reason, source, places)
        lines = removal_requests.checked(request, datetime.now(tz=UTC).date())
        new, known = removal_requests.split(ledger, lines)
        taken = _count(new)
        if new and not dry_run:
            if taken and taken["share"] > most and not yes:
                console.fail(
                    f"remove: that takes {taken['pairs']:,} of {taken['of']:,} pairs ({taken['share']:.2%}), more than "
                    f"{most:.2%}. Nothing was added. Remedy: --yes if it is meant, or a narrower value"
                )
            removal_requests.add(ledger, new)
    answer = {"added": len(new), "known": len(known), "ledger": str(ledger), "takes": taken, "dry_run": dry_run}
    if as_json:
        console.say(json.dumps(answer, indent=2))
    else:
        _tell(answer, known)


def _tell(answer: dict[str, Any], known: list[Removal]) -> None:
    for line in known[:5]:
        console.say(f"already there: {line.kind} {line.value}")
    would = "would add" if answer["dry_run"] else "added"
    console.say(f"{would} {answer['added']:,} lines to {answer['ledger']}; {answer['known']:,} were there already")
    taken = answer["takes"]
    if taken is None:
        console.say("how many pairs that takes is not known: there is no version in data/")
        return
    for line in taken["lines"][:_SHOWN]:
        console.say(f"{line['kind']} {line['value']}: {line['pairs']:,} pairs, in every spelling")
    if len(taken["lines"]) > _SHOWN:
        console.say(f"and {len(taken['lines']) - _SHOWN:,} lines more; --json has all")
    console.say(f"takes {taken['pairs']:,} of {taken['of']:,} pairs of the current version ({taken['share']:.2%})")
    if answer["added"] and not answer["dry_run"]:
        console.say("next: `make repro` leaves them out; `laion-dask purge` deletes what is stored of them")


def _count(lines: list[Removal]) -> dict[str, Any] | None:
    """Count the pairs of the current version that lines name: of its attempts, or of its work list; None without."""
    import pyarrow.parquet as pq

    from laion_dask.filter import takedown

    found = sorted(Path("data/download").glob("*.parquet")) or sorted(Path("data/catalog/shards").glob("*.parquet"))
    if not found:
        return None
    matches = takedown.matched(lines, found)
    pairs = len(set(matches["uid"].to_pylist()))
    total = sum(pq.read_metadata(path).num_rows for path in found)
    return {"pairs": pairs, "of": total, "share": pairs / max(total, 1), "lines": _by_line(lines, matches)}


def _by_line(lines: list[Removal], matches: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - Arrow's table
    from laion_dask.filter import takedown

    named = takedown.by_line(matches)
    return [{"kind": line.kind, "value": line.value, "pairs": named.get((line.kind, line.value), 0)} for line in lines]


def _tell_of_ledger(lines: list[Removal], *, as_json: bool) -> None:
    """Count the pairs that each line names: of all that extraction has found, and of pictures, of the attempts."""
    import pyarrow as pa

    from laion_dask.blocklists.removal_ledger import OF_PICTURES
    from laion_dask.filter import takedown

    found, attempts = (sorted(Path("data").glob(name)) for name in ("extract/pairs/*.parquet", "download/*.parquet"))
    if not found and not attempts:
        console.fail("remove: there is no version in data/. Remedy: `make repro`, then count")
    matches = [
        takedown.matched([line for line in lines if line.kind not in OF_PICTURES], found or attempts),
        takedown.matched([line for line in lines if line.kind in OF_PICTURES], attempts),
    ]
    counted = _by_line(lines, pa.concat_tables(matches))
    if as_json:
        console.say(json.dumps({"lines": counted}, indent=2))
        return
    rows = console.table("Pairs, in every spelling", "kind", "value", "pairs", right=("pairs",), wide="value")
    for line in counted:
        rows.add_row(line["kind"], line["value"], f"{line['pairs']:,}")
    console.console().print(rows)
