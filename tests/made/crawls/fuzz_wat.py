"""Made and mangled WATs in, findings out: `python -m made.crawls.fuzz_wat --minutes 10 --seed 1 --out findings.txt`.

Whatever bytes come in, reading ends within a second with records and damages, and every record that lies before the
first mutation is given; where there is no mutation, both readers give exactly what was written.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from made.crawls.wat_bytes import READERS, image, members, page_json, record

from laion_dask.extract.wat import blocks
from laion_dask.extract.wat.wat_records import Damage, Reading, WatRecord, records

MAX_SECONDS = 1.0
REASONS = {"bad_gzip", "bad_record", "truncated", "too_large"}

_BODIES = (
    b"{}",
    page_json([image()]),
    page_json([image(alt="WARC/1.0\r\nWARC-Type: metadata\r\n\r\n", url="\x1f\u008b\b")] * 3),
    # Neither fits into one chunk: one packs well, one hardly.
    page_json([image(alt=f"a fox {i} " * 20) for i in range(400)]),
    page_json([image(alt=hashlib.sha256(str(i).encode()).hexdigest()) for i in range(1500)]),
)
_LENGTHS = (b"0", b"-1", b"+7", b"007", b"1e3", b"", b" 5 ", b"\xff", b"99999999", b"9" * 18, b"9" * 30, b"9" * 5000)
_EDITS = (
    (b"\r\n", b"\n"),
    (b"Z\r\n", b"Z\n"),
    (b"WARC/1.0", b"WARC/1.1"),
    (b"WARC/1.0", b"warc/1.0"),
    (b"WARC/1.0", b"WARC/2.0"),
    (b"WARC/1.0", b"HTTP/1.0 200 OK"),
    (b"WARC-Type: ", b"WARC-Type:\t "),
    (b"WARC-Type: metadata", b"WARC-Type: Metadata"),
    (b"WARC-Type", b"X"),
    (b"WARC-Date: ", b"WARC-Date: \r\n "),
    (b"WARC-Date: 2", b"WARC-Date: \xff\x00"),
    (b"Content-Length", b"X"),
    (b"Content-Length", b"content-length"),
    (b"Content-Length", b"Content-Length: 3\r\nContent-Length"),
    (b"\r\n\r\n", b"\r\n"),
    (b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * 9000 + b"\r\n"),
    (b"}\r\n\r\n", b"}"),
    (b"}\r\n\r\n", b"}\r\n\r\n" + b"\r\n" * 40_000),
)


@dataclass(frozen=True)
class Made:
    """A made WAT: its bytes, the records that must be given, and whether that is all there is."""

    content: bytes
    sure: tuple[bytes, ...]
    whole: bool


@st.composite
def wats(draw: st.DrawFn) -> Made:
    """Draw some records, edit a header, pack them, and mangle what comes out."""
    bodies = draw(st.lists(st.sampled_from(_BODIES), max_size=6))
    written = [record(body) for body in bodies]
    first = len(bodies)
    if bodies and draw(st.booleans()):
        first = draw(st.integers(0, len(bodies) - 1))
        written[first] = _edited(draw, written[first])
    layout = draw(st.sampled_from(["members", "plain", "one", "pairs", "stored"]))
    parts = _packed(written, layout)
    if parts and draw(st.integers(0, 9)) == 0:
        parts[-1], first = gzip.compress(parts[-1], mtime=0), min(first, len(parts) - 1)
    content = b"".join(parts)
    place = len(content)
    whole = first == len(bodies)
    for _ in range(draw(st.integers(0, 3))):
        whole = False
        content, at = _mangled(draw, content)
        place = min(place, at)
    if layout in {"one", "pairs"}:
        return Made(content, tuple(bodies) if whole else (), whole)
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    return Made(content, tuple(bodies[i] for i in range(first) if ends[i] <= place), whole)


def _packed(written: list[bytes], layout: str) -> list[bytes]:
    if layout == "plain":
        return written
    if layout == "one":
        return [gzip.compress(b"".join(written), mtime=0)] if written else []
    if layout == "pairs":
        return [gzip.compress(b"".join(written[i : i + 2]), mtime=0) for i in range(0, len(written), 2)]
    return [members(item) if layout == "members" else gzip.compress(item, 0, mtime=0) for item in written]


def _edited(draw: st.DrawFn, item: bytes) -> bytes:
    if draw(st.booleans()):
        before, _, after = item.partition(b"Content-Length: ")
        return before + b"Content-Length: " + draw(st.sampled_from(_LENGTHS)) + after[after.index(b"\r\n") :]
    old, new = draw(st.sampled_from(_EDITS))
    return item.replace(old, new, draw(st.sampled_from([1, 1, 2, -1])))


def _mangled(draw: st.DrawFn, content: bytes) -> tuple[bytes, int]:
    """Return mangled bytes, and the first place that differs."""
    place = draw(st.integers(0, len(content)))
    end = min(len(content), place + draw(st.one_of(st.integers(1, 20), st.integers(1, 100_000))))
    span = content[place:end]
    new = draw(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"", span * 2, span[::-1], bytes(len(span)), members(span), b"\x1f\x8b\x08\0", b"\r\nWARC/1.0\r\n"]
            ),
            st.sampled_from([members(*map(record, _BODIES[:2])), record(_BODIES[1]), b"\n" * 70_000]),
            st.integers(1, 255).map(lambda mask: bytes([span[0] ^ mask]) + span[1:] if span else b""),
        )
    )
    if draw(st.integers(0, 5)) == 0:
        return content[:place], place
    return content[:place] + new + content[draw(st.sampled_from([place, end])) :], place


def check(made: Made, block_bytes: int, folder: Path) -> bool:
    """Read with both readers and hold what they give against what is sure; return whether they gave the same."""
    path = folder / "x.warc.wat.gz"
    path.write_bytes(made.content)
    given = [_read(path, reader, made, block_bytes) for reader in READERS]
    if made.whole:
        assert given[0] == given[1], "the readers differ on a good file"
        assert len(given[0]) == len(made.sure), "a good file gives something else than its records"
    return given[0] == given[1]


def _read(path: Path, reader: str, made: Made, block_bytes: int) -> list[WatRecord | Damage]:
    reading, began, before = Reading(), time.process_time(), blocks.LOCAL_BLOCK_BYTES
    blocks.LOCAL_BLOCK_BYTES = block_bytes  # type: ignore[misc]
    try:
        items = list(records(str(path), reader, reading))
    finally:
        blocks.LOCAL_BLOCK_BYTES = before  # type: ignore[misc]
    seconds = time.process_time() - began
    assert seconds < MAX_SECONDS, f"{reader} took {seconds:.1f} s"
    bodies = [item.body for item in items[: len(made.sure)] if isinstance(item, WatRecord)]
    assert bodies == list(made.sure), f"{reader} lost a record before the mutation"
    size = len(made.content)
    assert (reading.bytes, reading.size) == (size, size), "not every byte was read"
    assert reading.sha256 == hashlib.sha256(made.content).hexdigest(), "the digest is another file's"
    places = [item.offset for item in items]
    assert all(0 <= place < size for place in places), "an offset outside the file"
    assert places == sorted(places), "offsets go back"
    assert all(item.reason in REASONS for item in items if isinstance(item, Damage)), "an unknown reason"
    return items


BLOCKS = st.sampled_from([2048, 10_000, 2**20])


def main() -> None:
    """Fuzz until the time is up; every batch has its own seed, and each finding is shrunk and written as hex."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("findings.txt"))
    asked = parser.parse_args()
    until, batch = time.monotonic() + 60 * asked.minutes, 0
    counts: Counter[str] = Counter()
    findings: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            _batch(asked.seed + batch, Path(folder), counts, findings)
            batch += 1
    asked.out.write_text("".join(f"{message}\t{content.hex()}\n" for message, content in findings.items()))
    words = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    sys.stdout.write(f"{words}; seeds {asked.seed} to {asked.seed + batch - 1}; {len(findings)} findings\n")
    for message, content in findings.items():
        sys.stdout.write(f"{message} ({len(content)} bytes)\n")
    sys.exit(bool(findings))


def _batch(number: int, folder: Path, counts: Counter[str], findings: dict[str, bytes]) -> None:
    last: dict[str, Any] = {}

    @seed(number)
    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(wats(), BLOCKS)
    def one(made: Made, block_bytes: int) -> None:
        last["content"] = made.content
        counts["executions"] += 1
        counts["good files"] += made.whole
        counts["damaged files on which the readers differ"] += not check(made, block_bytes, folder)

    try:
        one()
    # A crash of any kind is what is looked for.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        findings.setdefault(message, last["content"])


if __name__ == "__main__":
    main()
