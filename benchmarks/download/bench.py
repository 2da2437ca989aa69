"""The speed of the download beside img2dataset's, from a server on loopback; `make bench-download`.

    python -m benchmarks.download.bench [--rounds 2] [--quick] [--full] [--only http,https,limits,memory,scaling]

Everything is measured in this run on this machine, on pictures that are drawn for it (pictures.py), from a server on
loopback in a process of its own (image_server.py). The last line is JSON, with the bars of the sections that ran. The
exit status is 0 where a bar is missed, and another where something failed: a client that ends with an error, or does
not download every image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import certifi
import pyarrow as pa
import pyarrow.parquet as pq
import trustme

from benchmarks import environments
from benchmarks.bars import Bar, BenchError, report
from benchmarks.download import clients, pictures
from benchmarks.download.clients import Server, Used
from benchmarks.environments import BENCH, ROOT
from laion_dask import params
from laion_dask.images import hashes, prepare

HOSTS: Final = 200
WORKERS: Final = 2
MODE: Final = "keep_ratio_largest"
DELAY_MS: Final = 20
_SEED: Final = 11
_SMALLER: Final = 4  # the run that is subtracted has a quarter of the rows
_GB: Final = 1e9
# A c6i.4xlarge has 16 virtual cores and costs 0.68 dollars an hour (img2dataset's account of LAION-5B, 2022).
_MACHINE_CORES: Final = 16
_MACHINE_DOLLARS_H: Final = 0.68
_URLS: Final = 5e9
SECTIONS: Final = ("http", "https", "limits", "memory", "scaling")

# Limits that would hold back 64 connections to hosts of one domain; those of a host are measured on their own.
_WIDE: Final = {"connections_per_host": 64, "connections_per_domain": 4096}


@dataclass(frozen=True)
class Sizes:
    """Rows of the runs: compared over http and over https (img2dataset gets fewer there), small and large, a shard."""

    http: int = 4_000
    https: int = 4_000
    https_img2dataset: int = 800
    small: int = 4_000
    large: int = 20_000
    shard: int = 10_000
    pictures: int = 500


QUICK: Final = Sizes(http=32, https=32, https_img2dataset=32, small=32, large=32, shard=16, pictures=8)
FULL: Final = Sizes(small=10_000, large=100_000)


class Bench:
    """The server, and runs of both clients against it."""

    def __init__(self, server: Server, process: subprocess.Popen[str], *, quick: bool) -> None:
        self._server = server
        self._process = process
        # A short run takes one smaller run for all schemes and sizes, and runs nothing twice.
        self._quick = quick
        self._starts: dict[tuple[str, str, int], Used] = {}
        self._runs: dict[str, Used] = {}

    def look(self) -> dict[str, float]:
        """Return what the server has counted since the last look."""
        if self._process.stdin is None or self._process.stdout is None:
            raise BenchError("the server has no pipes")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def run(self, client: str, scheme: str, rows: int, shard_rows: int, **rules: Any) -> Used:  # noqa: ANN401 - parameters of any type
        """Run a client over a table of `rows` and over a quarter of them; return the difference of the two.

        What starting, ending and first requests cost is the same in both, warm or cold, and so it is not counted.
        Raises `BenchError` unless all rows came.
        """
        smaller, shards = rows // _SMALLER, max(1, rows // shard_rows)
        place = (client, "" if self._quick else scheme, 0 if self._quick else smaller)
        if place not in self._starts:
            self._starts[place] = self._once(client, scheme, smaller, -(-smaller // shards), rules)
        name = str((client, scheme, rows, shard_rows, sorted(rules.items())))
        if not self._quick or name not in self._runs:
            self._runs[name] = self._once(client, scheme, rows, shard_rows, rules)
        return self._runs[name].after(self._starts[place])

    def start(self, client: str, scheme: str, used: Used) -> float:
        """Return the processor seconds that a client takes whatever the number of rows, by the two runs."""
        smaller = next(one for (name, way, _), one in self._starts.items() if name == client and way in {"", scheme})
        return smaller.cpu - smaller.images / used.per_cpu_s

    def _once(self, client: str, scheme: str, rows: int, shard_rows: int, rules: dict[str, Any]) -> Used:
        out, table = BENCH / "work" / "out", _table(scheme, rows)
        shutil.rmtree(out, ignore_errors=True)
        if client == "img2dataset":
            used = clients.img2dataset(table, out, self._server, shard_rows=shard_rows, mode=MODE, workers=WORKERS)
        else:
            used = clients.ours(
                table, out, self._server, shard_rows=shard_rows, workers=WORKERS, rules=known({"resize": MODE, **rules})
            )
        shutil.rmtree(out)
        if used.images != rows:
            raise BenchError(f"{client} over {scheme}: {used.images:,} of {rows:,} images")
        return used


def known(rules: dict[str, Any]) -> dict[str, Any]:
    """Return those rules that the download has."""
    return {name: value for name, value in rules.items() if name in params.Download.model_fields}


def _table(scheme: str, rows: int) -> Path:
    path = BENCH / "work" / f"{scheme}-{rows}.parquet"
    path.parent.mkdir(exist_ok=True)
    urls = [f"{scheme}://h{row % HOSTS:03d}.bench.example/img/{row}.jpg" for row in range(rows)]
    pq.write_table(pa.table({"url": urls, "text": [f"a picture with number {row}" for row in range(rows)]}), path)
    return path


@contextmanager
def serving(pool: Path, *, quick: bool) -> Iterator[Bench]:
    """Start the server, with a certificate for all hosts by an authority of its own."""
    BENCH.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    issued = authority.issue_cert("*.bench.example")
    certificate, key, bundle = (BENCH / f"{name}.pem" for name in ("certificate", "key", "bundle"))
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    # As on any machine, the authorities of the web are trusted too: to load them is a part of what TLS costs.
    bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + authority.cert_pem.bytes())
    files = [pool, certificate, key]
    command = [sys.executable, "-m", "benchmarks.download.image_server", *files, "--delay-ms", str(DELAY_MS)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise BenchError("the server has no pipes")
            ports = json.loads(process.stdout.readline())
            yield Bench(Server(ports["http"], ports["https"], bundle), process, quick=quick)
        finally:
            if process.stdin is not None:
                process.stdin.close()


def compare(
    bench: Bench, sizes: Sizes, rounds: int, sections: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, str], Used]:
    """Run the clients in turns over http and https; return for each the round with the median of processor time."""
    rows = {
        ("img2dataset", "http"): sizes.http,
        ("ours", "http"): sizes.http,
        ("img2dataset", "https"): sizes.https_img2dataset,
        ("ours", "https"): sizes.https,
    }
    rows = {name: count for name, count in rows.items() if name[0] in names and name[1] in sections}
    found: dict[tuple[str, str], list[Used]] = {name: [] for name in rows}
    for number in range(rounds):
        for client, scheme in sorted(rows, reverse=bool(number % 2)):
            count = rows[client, scheme]
            used = bench.run(client, scheme, count, count // WORKERS, **_WIDE, pdq="skip")
            found[client, scheme].append(used)
            print(f"  {client:12}{scheme:6}{count:>8,} images{used.seconds:8.1f} s{used.cpu:8.1f} cpu s", flush=True)
    return {name: sorted(several, key=lambda used: used.cpu)[len(several) // 2] for name, several in found.items()}


def print_speeds(bench: Bench, found: dict[tuple[str, str], Used]) -> None:
    """Print one line for each client and scheme."""
    print("\nwithout the start of either: images a second of the processor, all processes together; and by the clock")
    for (client, scheme), used in sorted(found.items(), key=lambda item: item[0][1]):
        rates = f"{used.per_cpu_s:8.1f}/cpu s{used.images / used.seconds:9.1f}/s"
        print(f"  {client:12}{scheme:6}{rates}   start and end: {bench.start(client, scheme, used):.1f} cpu s")


def cost_of_parts(pool: list[Path]) -> dict[str, float]:
    """Return milliseconds of the processor for each image: decoding with resize and encoding, hashes, PDQ."""
    bodies = [path.read_bytes() for path in pool[:200]]
    rules = prepare.Rules(mode=MODE, side_px=clients.SIDE_PX, max_pixels=40_000_000, pdq="skip")

    def ms(work: Any) -> float:  # noqa: ANN401 - any function of a body
        rounds = []
        for _ in range(3):
            began = time.process_time()
            for body in bodies:
                work(body)
            rounds.append((time.process_time() - began) / len(bodies) * 1e3)
        return statistics.median(rounds)

    plain = ms(lambda body: prepare.prepare(body, rules))
    quick = prepare.Rules(mode=MODE, side_px=clients.SIDE_PX, max_pixels=40_000_000, pdq="quick")
    return {
        "decode, resize, encode": plain,
        "md5 and sha256": ms(lambda body: hashes.digests(body, ("md5", "sha256"))),
        "perceptual hash": ms(lambda body: prepare.prepare(body, quick)) - plain,
    }


def print_bounds(found: dict[tuple[str, str], Used], parts: dict[str, float], mb: float) -> None:
    """Print what the time of an image goes to, what a machine of 16 cores would do, and 5 billion URLs."""
    http, https = (1e3 / found["ours", scheme].per_cpu_s for scheme in ("http", "https"))
    known_ms = parts["decode, resize, encode"] + parts["md5 and sha256"]
    shares = {
        "decode, resize, encode": parts["decode, resize, encode"],
        "Python: HTTP, robots, rights, asyncio, tar": max(http - known_ms, 0.0),
        "TLS": max(https - http, 0.0),
        "md5 and sha256": parts["md5 and sha256"],
    }
    print(f"\nwhat an image over https takes: {https:.2f} ms of the processor (over http {http:.2f})")
    for name, ms in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"  {name:44}{ms:6.2f} ms{ms / https:7.1%}")
    print(f"  {'perceptual hash (not in the above)':44}{parts['perceptual hash']:6.2f} ms")
    print(f"it is bound by: {max(shares, key=lambda name: shares[name])}")
    rate = found["ours", "https"].per_cpu_s * _MACHINE_CORES
    hours = _URLS / rate / 3600
    print(
        f"a machine of {_MACHINE_CORES} such cores: {rate:,.0f} images/s over https, if the network gives "
        f"{rate * mb:,.0f} MB/s\n5 billion URLs, all answered: {hours:,.0f} hours of such a machine, "
        f"{hours / 240:.1f} days on ten, {hours * _MACHINE_DOLLARS_H:,.0f} dollars at {_MACHINE_DOLLARS_H} an hour; "
        "a reckoning, not a measurement: answers of the web are slower, and many fail, which costs less"
    )


def mean_mb(pool: Sequence[Path]) -> float:
    """Return the mean size of pictures in MB."""
    return statistics.mean(path.stat().st_size for path in pool) / 1e6


def speed_bars(found: dict[tuple[str, str], Used]) -> list[Bar]:
    """Return the bars of the comparison."""
    return [
        Bar(
            f"{scheme}: images for each second of the processor, times img2dataset's",
            found["ours", scheme].per_cpu_s / found["img2dataset", scheme].per_cpu_s,
            bar,
        )
        for scheme, bar in (("http", 1.5), ("https", 8.0))
        if ("img2dataset", scheme) in found
    ]


def limit_bar(bench: Bench, sizes: Sizes) -> Bar:
    """Run ours with host limits of 2, and return the bar of what the server saw."""
    bench.look()
    limits = {"connections_per_host": 2, "connections_per_domain": 4096, "pdq": "skip"}
    bench.run("ours", "http", sizes.small, max(sizes.small // (2 * WORKERS), 1), **limits)
    seen = bench.look()
    print(
        f"\nhost limits of 2, {HOSTS} hosts, {sizes.small:,} images: the server saw at most {seen['peak_active']} "
        f"requests under way for a host, {seen['peak_open']} connections open (idle ones too)",
        flush=True,
    )
    return Bar("requests under way at one host, limit 2", seen["peak_active"], 2, at_most=True)


def large_bars(bench: Bench, sizes: Sizes, sections: Sequence[str]) -> list[Bar]:
    """Run ours large, in full shards, and for scaling small too; return the bars."""
    large = bench.run("ours", "http", sizes.large, sizes.shard, **_WIDE, pdq="skip")
    rate = large.images / large.seconds
    print(
        f"{large.images:,} images in shards of {sizes.shard:,}: {rate:,.0f}/s, largest process {large.peak_mb:.0f} MB"
    )
    bars = []
    if "memory" in sections:
        name = f"peak memory of a process, shards of {sizes.shard:,}, MB"
        bars.append(Bar(name, large.peak_mb, 700, at_most=True))
    if "scaling" in sections:
        small = bench.run("ours", "http", sizes.small, sizes.small // WORKERS, **_WIDE, pdq="skip")
        print(f"{small.images:,} images: {small.images / small.seconds:,.0f}/s")
        name = f"images/s at {large.images:,} over those at {small.images:,}"
        bars.append(Bar(name, rate * small.seconds / small.images, 0.95))
    return bars


def measure(
    bench: Bench, pool: list[Path], sizes: Sizes, rounds: int, sections: Sequence[str], names: Sequence[str]
) -> list[Bar]:
    """Run the sections that are asked for, print what they show, and return their bars."""
    found = compare(bench, sizes, rounds, sections, names)
    bars = speed_bars(found)
    if found:
        print_speeds(bench, found)
    if {"http", "https"} <= {*sections}:
        print_bounds(found, cost_of_parts(pool), mean_mb(pool))
    if "limits" in sections:
        bars.append(limit_bar(bench, sizes))
    if {"memory", "scaling"} & {*sections}:
        bars += large_bars(bench, sizes, sections)
    return bars


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if wrong := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: sections are {', '.join(SECTIONS)}")
    return names


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.download.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often each client runs (default 2)")
    parser.add_argument("--quick", action="store_true", help="a few images, one round: to see that all of it runs")
    parser.add_argument("--full", action="store_true", help="10,000 and 100,000 images for the bar of throughput")
    told = f"of {', '.join(SECTIONS)}; default: all"
    parser.add_argument("--only", type=_sections, default=SECTIONS, metavar="SECTION,...", help=told)
    wanted = parser.parse_args()
    sizes = QUICK if wanted.quick else FULL if wanted.full else Sizes()
    folder, cores = BENCH / f"pictures-{sizes.pictures}", len(os.sched_getaffinity(0))
    pool = pictures.cached(folder, number=sizes.pictures, seed=_SEED, processes=cores)
    print(
        f"{len(pool)} pictures, {mean_mb(pool) * 1e3:.0f} KB on average; {HOSTS} hosts; the server answers after "
        f"{DELAY_MS} ms\nboth: {WORKERS} processes, {MODE} {clients.SIDE_PX}, JPEG 95, sha256, certificates checked\n"
        "ours besides: md5, robots.txt, tdmrep.json and ai.txt of every host, all rights signals, guards, host limits; "
        f"these are set wide ({known(dict(_WIDE))}) but for their own bar",
        flush=True,
    )
    names = ["ours", *(["img2dataset"] if not wanted.quick or environments.ready(clients.LOCK) else [])]
    if "img2dataset" not in names:
        print("img2dataset is left out: its environment is not there, and a short run installs none")
    try:
        with serving(folder, quick=wanted.quick) as bench:
            bars = measure(bench, pool, sizes, 1 if wanted.quick else wanted.rounds, wanted.only, names)
    except BenchError as error:
        sys.exit(f"bench-download: {error}")
    finally:
        shutil.rmtree(BENCH / "work", ignore_errors=True)
    if "scaling" in wanted.only and not wanted.full:
        print("the bar of throughput at 100,000 images takes --full; here it is held at a smaller size")
    report("download", bars, quick=wanted.quick)


if __name__ == "__main__":
    main()
