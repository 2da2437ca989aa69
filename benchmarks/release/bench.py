"""Two made-up releases in, the speed and memory of diff, Merkle root and verify beside bare reading out.

    python -m benchmarks.release.bench [--pairs 10000000] [--quick]

The second release lacks a tenth of the pairs of the first, has as many new ones, and other scores for half of the rest.
Each question is asked in a process of its own, whose largest memory is read from /proc. The limit beside them is
DuckDB reading uid and scores of both releases, in the same run. The files stay in .bench. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH, ROOT
from laion_dask.release import composition, manifest
from laion_dask.schema.values import SPLITS
from laion_dask.storage import duckdb_connection
from laion_dask.versions import diff

QUICK: Final = 60_000
_MEMORY_BAR_MB: Final = 4_000


def make(folder: Path, pairs: int, first: int, shift: float) -> Path:
    """Write the main table of a release of so many pairs, numbered from `first`, and a manifest; once."""
    if (folder / manifest.NAME).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb_connection.connect("4GB") as connection:
        for place, split in enumerate(SPLITS):
            connection.execute(
                "copy (select 'https://images' || i % 5000 || '.example/' || i || '.jpg' as \"URL\","
                ' \'a text of the pair \' || i as "TEXT", (200 + i % 1800)::int as "WIDTH",'
                ' (200 + i % 900)::int as "HEIGHT", $1 as "LANGUAGE", \'?\' as "LICENSE",'
                " 0.25 + i % 97 / 500 + case when i % 2 = 0 then $2 else 0 end as similarity,"
                " (i % 101 / 101)::float as punsafe, (i % 103 / 103)::float as pwatermark, (i % 9)::float as aesthetic,"
                " md5(i::varchar) as uid from range($3, $4) r(i) where i % 3 = $5 order by uid)"
                f" to '{folder / f'{split}-00000.parquet'}' (format parquet, compression zstd)",
                [split if split != "nolang" else "", shift, first, first + pairs, place],
            )
    files = manifest.describe(folder)
    root = manifest.root(folder)
    body = {"manifest": manifest.FORMAT, "files": files, "merkle": root, "parameters": {}}
    (folder / manifest.NAME).write_text(json.dumps(body))
    return folder


def ask(question: str, old: Path, new: Path) -> dict[str, Any]:
    """Answer one question in this process; return seconds and the largest memory."""
    began = time.monotonic()
    answer: Any = None
    if question == "read":
        with duckdb_connection.connect() as connection:
            for folder in (old, new):
                listed = composition.listed(composition.files(folder))
                answer = connection.execute(
                    "select sum(length(uid)), sum(similarity), sum(aesthetic), sum(punsafe), sum(pwatermark)"
                    f" from read_parquet({listed})"
                ).fetchone()
    elif question == "diff":
        found = diff.compare(diff.ReleaseFolder("old", old), diff.ReleaseFolder("new", new))
        answer = [found.common, found.added, found.removed, found.scores[0].changed]
    elif question == "root":
        answer = manifest.root(old)["root"]
    else:
        answer = len(manifest.check(old))
    seconds = time.monotonic() - began
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"question": question, "seconds": round(seconds, 2), "peak_mb": peak // 1000, "answer": answer}


def main() -> None:
    """Make the releases, ask each question, print seconds, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--make-only", action="store_true", help="make the files and stop")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="60,000 pairs: to see that all of it runs")
    arguments = parser.parse_args()
    pairs = QUICK if arguments.quick else arguments.pairs
    old = make(BENCH / f"release-{pairs}-old", pairs, 0, 0.0)
    new = make(BENCH / f"release-{pairs}-new", pairs, pairs // 10, 0.01)
    if arguments.make_only:
        return
    if arguments.ask:
        print(json.dumps(ask(arguments.ask, old, new)))
        return
    results = {}
    for question in ("read", "read", "diff", "root", "verify"):  # the first brings the files into the page cache
        command = [sys.executable, "-m", "benchmarks.release.bench", "--pairs", str(pairs), "--ask", question]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        results[question] = json.loads(done.stdout)
    wrong = results["diff"]["answer"][:3] != [pairs - pairs // 10, pairs // 10, pairs // 10]
    if wrong or results["verify"]["answer"]:
        raise SystemExit(f"wrong answers: {results}")
    for question, found in results.items():
        ratio = found["seconds"] / results["read"]["seconds"]
        print(f"{question:<8} {found['seconds']:>8.2f} s  {ratio:>6.1f} x reading  {found['peak_mb']:>6,} MB")
    peak = max(found["peak_mb"] for found in results.values())
    bars = [Bar("peak MB of a process", peak, _MEMORY_BAR_MB, at_most=True)]
    report("release", bars, quick=arguments.quick, pairs=pairs, **results)


if __name__ == "__main__":
    main()
