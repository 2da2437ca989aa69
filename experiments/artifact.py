"""The claims of ARTIFACT.md, each run as it is written there: `python -m experiments.artifact 3`, or `all`.

A claim is a heading `### Claim N: ...`, a block of commands, the word `Expected:`, a block of lines, and a line with
time, disk and machine. It holds if its commands end with status 0 and print these lines in this order; `…` stands for
any text.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from laion_dask.storage import printable

FILE: Final = Path("ARTIFACT.md")
_CLAIM: Final = re.compile(
    r"^### Claim (?P<number>\d+): (?P<title>.+?)\n(?P<said>.*?)^```\n(?P<commands>.*?)^```\n+Expected:\n+"
    r"^```\n(?P<lines>.*?)^```\n+Time: (?P<time>[^.]+)\. Disk: (?P<disk>[^.]+)\. Machine: (?P<machine>[^.]+)\.$",
    re.MULTILINE | re.DOTALL,
)
_ANY: Final = "…"
_TAIL_LINES: Final = 30
HELP: Final = """Run claims of ARTIFACT.md, and compare what they print with what it expects.

\b
python -m experiments.artifact          # list the claims
python -m experiments.artifact 3        # one; `make claim-3`
python -m experiments.artifact all      # all of them, then a table; `make claims`

What the commands print goes to .laion_dask/claims. Status 1 if a claim does not hold.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim: what it says, the commands that show it, and the lines that they print."""

    number: int
    title: str
    commands: str
    lines: Sequence[str]
    time: str
    disk: str
    machine: str


@dataclass(frozen=True, slots=True)
class Result:
    """What running a claim gave."""

    claim: Claim
    seconds: float
    missing: str
    """"" if the claim holds, else what was not as expected."""


def read(text: str) -> list[Claim]:
    """Return the claims of a page in its order."""
    return [
        Claim(
            int(found["number"]),
            " ".join(found["title"].split()),
            found["commands"].strip(),
            found["lines"].strip().splitlines(),
            found["time"],
            found["disk"],
            found["machine"],
        )
        for found in _CLAIM.finditer(text)
    ]


def difference(lines: Sequence[str], output: str) -> str:
    """Return "" if these lines are in the output in this order, else the first that is not; blanks count as one."""
    printed = iter([_one_blank(line) for line in output.splitlines()])
    for expected in lines:
        pattern = ".*".join(re.escape(part) for part in _one_blank(expected).split(_ANY))
        if not any(re.fullmatch(pattern, line) for line in printed):
            return f"it did not print: {expected}"
    return ""


def _one_blank(line: str) -> str:
    return " ".join(line.split())


def run(claim: Claim, project: Path) -> Result:
    """Run the commands of a claim in the project's folder; what they print goes to a file, too."""
    log = project / ".laion_dask" / "claims" / f"{claim.number}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output_file:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", claim.commands],  # noqa: S607 - found on the path, as users find it
            cwd=project,
            env=environment,
            stdout=output_file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    output = log.read_text(encoding="utf-8", errors="replace")
    missing = difference(claim.lines, output)
    if done.returncode:
        missing = f"status {done.returncode}" + (f"; {missing}" if missing else "")
    return Result(claim, time.monotonic() - began, missing)


def _show(result: Result, project: Path) -> None:
    claim = result.claim
    if result.missing:
        log = project / ".laion_dask" / "claims" / f"{claim.number}.txt"
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        typer.echo(printable.plain("\n".join(f"  {line}" for line in tail)))
    state = f"DOES NOT HOLD: {result.missing}" if result.missing else "holds"
    typer.echo(printable.line(f"claim {claim.number:>2}  {result.seconds:6.0f} s  {state}  {claim.title}"))


@app.command(help=HELP)
def main(which: Annotated[str | None, typer.Argument(help="The number of a claim, or `all`.")] = None) -> None:
    """List, run and compare claims."""
    project = Path.cwd()
    if not (project / FILE).is_file():
        sys.exit(f"artifact: {FILE} is not here. Remedy: run this in the project's folder")
    claims = {str(claim.number): claim for claim in read((project / FILE).read_text(encoding="utf-8"))}
    if which is None:
        for claim in claims.values():
            typer.echo(f"{claim.number:>2}  {claim.time:<6}  {claim.disk:<6}  {claim.machine:<6}  {claim.title}")
        return
    if which != "all" and which not in claims:
        sys.exit(f"artifact: there is no claim {which}. Remedy: one of {', '.join(claims)}, or all")
    results = []
    for claim in claims.values() if which == "all" else [claims[which]]:
        typer.echo(f"claim {claim.number}: {claim.title} (about {claim.time})")
        results.append(run(claim, project))
        _show(results[-1], project)
    held = sum(not result.missing for result in results)
    if which == "all":
        typer.echo("")
        for result in results:
            state = "DOES NOT HOLD" if result.missing else "holds"
            typer.echo(f"claim {result.claim.number:>2}  {result.seconds:6.0f} s  {state:<13}  {result.claim.title}")
        typer.echo(f"{held} of {len(results)} claims hold")
    if held < len(results):
        sys.exit(1)


if __name__ == "__main__":
    app()
