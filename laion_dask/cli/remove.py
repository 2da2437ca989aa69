"""`laion-dask remove`: check a removal request, add it to removals.csv, and print how many pairs it removes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.blocklists.removal_ledger import Removal

_SHOWN: Final = 20
HELP: Final = """Remove pairs from every later version: add lines to the removal ledger.

\b
  laion-dask remove url https://a.example/1.jpg \\
      --reason "asked by the photographer" --source "mail of 3 May"
  laion-dask remove domain takedown.example --yes \\
      --reason "asked by the owner" --source "form 17"
  # many at once: one a line, or a CSV with the columns kind and value
  laion-dask remove url --file urls.txt \\
      --reason "court order" --source "file 12/2026"
  laion-dask remove --file requests.csv \\
      --reason "asked by their owners" --source "forms of May"
  # how many pairs each line of the ledger removes
  laion-dask remove --count

KIND is url, domain (with all its subdomains), sha256, md5, pdq (pictures that look alike) or uid. `dvc repro` then
leaves the pairs out, without a new download; `laion-dask purge` deletes their stored data (docs/removals.md).
"""


def remove(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Kind of the values; not with a CSV that has the column.")
    ] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="[VALUE]...", help="Values to remove.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, in a few words; the ledger is public.")] = "",
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="Who asked, or what found it; an address becomes a salted hash.")
    ] = "",
    file: Annotated[Path | None, typer.Option(metavar="PATH", help="Many values: CSV, or one a line.")] = None,
    most: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the pairs above which --yes is needed.")
    ] = 0.01,
    yes: Annotated[bool, typer.Option("--yes", help="Proceed even if it removes more than that share.")] = False,  # noqa: FBT002 - a flag
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; add nothing.")] = False,  # noqa: FBT002 - a flag
    count: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--count", help="Count the pairs that each line of the ledger removes; add nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Check and count the request, and add it; above the share `most` only with `yes`."""
    from datetime import UTC, datetime

    from laion_dask import params
    from laion_dask.blocklists import removal_ledger
    from laion_dask.removals import removal_requests

    with console.report_errors("remove"):
        ledger = Path(params.load().catalog.removals)
        if count:
            _count_ledger(removal_ledger.read(ledger), as_json=as_json)
            return
        wanted = [(kind or "", value) for value in values or ()]
        places = [""] * len(wanted)
        for number, of_kind, value in removal_requests.numbered(file, kind) if file else ():
            wanted.append((of_kind, value))
            places.append(f"{file}:{number}: ")
        if not wanted:
            console.fail("remove: no value given. Remedy: `laion-dask remove KIND VALUE`, or --file PATH")
        request = removal_requests.Request(wanted, reason, source, places)
        lines = removal_requests.checked(request, datetime.now(tz=UTC).date())
        new, known = removal_requests.split(ledger, lines)
        taken = _count(new)
        if new and not dry_run:
            if taken and taken["share"] > most and not yes:
                console.fail(
                    f"remove: this removes {taken['pairs']:,} of {taken['of']:,} pairs ({taken['share']:.2%}), more "
                    f"than {most:.2%}. Nothing was added. Remedy: --yes if that is intended, or a narrower value"
                )
            removal_requests.add(ledger, new)
    answer = {"added": len(new), "known": len(known), "ledger": str(ledger), "takes": taken, "dry_run": dry_run}
    if as_json:
        console.say(json.dumps(answer, indent=2))
    else:
        _print(answer, known)


def _print(answer: dict[str, Any], known: list[Removal]) -> None:
    for line in known[:5]:
        console.say(f"already there: {line.kind} {line.value}")
    would = "would add" if answer["dry_run"] else "added"
    console.say(f"{would} {answer['added']:,} lines to {answer['ledger']}; {answer['known']:,} were there already")
    taken = answer["takes"]
    if taken is None:
        console.say("the number of removed pairs is unknown: there is no version in data/")
        return
    for line in taken["lines"][:_SHOWN]:
        console.say(f"{line['kind']} {line['value']}: {line['pairs']:,} pairs, in every spelling")
    if len(taken["lines"]) > _SHOWN:
        console.say(f"and {len(taken['lines']) - _SHOWN:,} more lines; --json prints all")
    console.say(f"removes {taken['pairs']:,} of {taken['of']:,} pairs of the current version ({taken['share']:.2%})")
    if answer["added"] and not answer["dry_run"]:
        console.say("next: `make repro` leaves them out; `laion-dask purge` deletes their stored data")


def _count(lines: list[Removal]) -> dict[str, Any] | None:
    """Count the pairs that lines match in the current download, else in its work list; None without either."""
    import pyarrow.parquet as pq

    from laion_dask.filter import takedown
    from laion_dask.storage import numbered

    found = numbered.tables(Path("data/download")) or numbered.tables(Path("data/catalog/shards"))
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


def _count_ledger(lines: list[Removal], *, as_json: bool) -> None:
    """Print how many pairs each line matches: among extracted pairs, or, for hashes of pictures, downloaded ones."""
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
