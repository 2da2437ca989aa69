"""Removals that come late: the pairs that they name are found in the tables, and taken out of judged shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.versions import judging, tables

from laion_dask import schema
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.filter import rules, takedown
from laion_dask.images import pdq_index
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, RULE_BITS

LOOKS = "0f" * 32


def turned(hash_: str, bits: int) -> str:
    """Return a perceptual hash with so many bits turned."""
    raw = bytearray(bytes.fromhex(hash_))
    for bit in range(bits):
        raw[bit // 8] ^= 1 << bit % 8
    return raw.hex()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards of attempts, six pairs in all."""
    rows: list[dict[str, Any]] = [
        {"url": "https://a.example/1.jpg", "host": "a.example", "md5": "a" * 32},
        {"url": "https://www.b.example/2.jpg", "host": "www.b.example", "pdq": turned(LOOKS, 31), "pdq_quality": 50},
        {"url": "https://notb.example/3.jpg", "host": "notb.example", "pdq": turned(LOOKS, 32), "pdq_quality": 100},
        {"url": "https://b.example./4.jpg", "host": "b.example.", "pdq": LOOKS, "pdq_quality": 49},
        {"url": "https://c.example/5.jpg", "host": "c.example", "reason": "timeout"},
        {"url": "HTTPS://You:Me@bücher.Example:443/6.jpg?#", "host": "xn--bcher-kva.example"},
    ]
    for number, row in enumerate(rows):
        row["uid"] = tables.uid(number)
    folder = tmp_path_factory.mktemp("shards")
    parts = {"00000": rows[:2], "00001": rows[2:]}
    return [tables.write(folder / f"{name}.parquet", tables.images(*some)) for name, some in parts.items()]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("url", "https://a.example/1.jpg", {"00000": [0]}),
        ("url", "https://a.example/1.JPG", {}),
        ("url", "http://a.example/1.jpg#top", {"00000": [0]}),
        ("url", "https://me@a.example.:80/x/../%31.jpg?", {"00000": [0]}),
        ("url", "https://b.example/4.jpg", {"00001": [3]}),
        ("url", "https://c.example./5.jpg", {"00001": [4]}),
        ("url", "https://xn--bcher-kva.example/6.jpg", {"00001": [5]}),
        ("domain", "b.example", {"00000": [1], "00001": [3]}),
        ("domain", "www.b.example", {"00000": [1]}),
        ("domain", "example", {"00000": [0, 1], "00001": [2, 3, 4, 5]}),
        ("uid", tables.uid(4), {"00001": [4]}),
        ("md5", "a" * 32, {"00000": [0]}),
        ("pdq", LOOKS, {"00000": [1]}),
    ],
)
def test_each_kind_names_its_pairs_and_no_others(
    shards: list[Path], kind: str, value: str, expected: dict[str, list[int]]
) -> None:
    found = takedown.matched([Removal(kind, value, "")], shards)
    assert takedown.by_shard(found) == {name: [tables.uid(uid) for uid in uids] for name, uids in expected.items()}
    assert set(found["kind"].to_pylist()) <= {kind}
    assert set(found["value"].to_pylist()) <= {value}


def test_a_pair_that_several_lines_name_in_other_spellings_comes_once_for_each(shards: list[Path]) -> None:
    lines = ["https://a.example/1.jpg", "http://a.example/1.jpg?"]
    found = takedown.matched([Removal("url", line, "") for line in lines], shards)
    assert found["value"].to_pylist() == sorted(lines)
    assert set(found["uid"].to_pylist()) == {tables.uid(0)}


def test_a_ledger_of_nothing_and_a_version_of_nothing_match_nothing(shards: list[Path]) -> None:
    assert takedown.matched([], shards).num_rows == 0
    assert takedown.matched([Removal("url", "https://a.example/1.jpg", "")], []).num_rows == 0


def test_a_work_list_has_no_hashes_and_is_asked_for_the_rest(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "pairs.parquet", tables.pairs({"url": "https://a.example/1.jpg"}))
    ledger = [Removal("md5", "a" * 32, ""), Removal("pdq", LOOKS, ""), Removal("url", "https://a.example/1.jpg", "")]
    assert takedown.matched(ledger, [path])["kind"].to_pylist() == ["url"]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4), st.binary(min_size=32, max_size=32))
def test_perceptual_hashes_are_compared_bit_by_bit(rows: list[bytes], entry: bytes) -> None:
    hashes, one = pdq_index.unpack([row.hex() for row in rows]), pdq_index.unpack([entry.hex()])
    apart = np.bitwise_count(hashes ^ one).sum(axis=1)
    expected = [(int.from_bytes(row) ^ int.from_bytes(entry)).bit_count() for row in rows]
    assert apart.tolist() == expected


def test_what_is_taken_out_counts_for_no_other_rule(tmp_path: Path) -> None:
    wanted = judging.changed(
        thresholds=[{"name": name, "column": "aesthetic", "min": low} for name, low in (("a", 2), ("b", 4))]
    )
    bits = rules.bits(wanted)
    bit = {name: 1 << place for name, (_, place) in bits.items()}
    out = 1 << RULE_BITS["removed_later"]
    rows = [
        ("kept", KEEP, 0, KEEP, 0),
        ("kept, taken", KEEP, 0, "removed_later", out),
        ("unsafe, taken", "unsafe", bit["unsafe"] | bit["threshold_b"], "removed_later", out),
        ("second threshold, taken", "threshold", bit["threshold_b"], "removed_later", out),
        ("first threshold", "threshold", bit["threshold_a"] | bit["threshold_b"],
         "threshold", bit["threshold_a"] | bit["threshold_b"]),
        ("listed, taken", "listed_later", bit["listed_later"], "listed_later", bit["listed_later"] | out),
        ("not downloaded, taken", "timeout", 0, "timeout", 0),
    ]  # fmt: skip
    verdicts = tables.verdicts(
        *({"uid": tables.uid(at), "reason": row[1], "rules": row[2]} for at, row in enumerate(rows))
    )
    counts = [["listed_later", "listed_later", 1, 1], ["unsafe", "unsafe", 1, 1],
              ["threshold_a", "threshold", 1, 1], ["threshold_b", "threshold", 3, 1]]  # fmt: skip
    (tmp_path / "out").mkdir()
    told = takedown.take_out(
        tmp_path / "out",
        name="00000",
        verdicts=tables.write(tmp_path / "verdicts.parquet", verdicts),
        uids=[tables.uid(at) for at, row in enumerate(rows) if "taken" in row[0]],
        counts=counts,
        bits=bits,
    )
    found = schema.VERDICTS.check(pq.read_table(tmp_path / "out" / "00000.parquet"))
    assert found["uid"].to_pylist() == verdicts["uid"].to_pylist()
    assert found["reason"].to_pylist() == [row[3] for row in rows]
    assert found["rules"].to_pylist() == [row[4] for row in rows]
    assert told["rules"] == [
        ["listed_later", "listed_later", 1, 1],
        ["unsafe", "unsafe", 0, 0],
        ["threshold_a", "threshold", 1, 1],
        ["threshold_b", "threshold", 1, 0],
        ["removed_later", "removed_later", 4, 3],
    ]
    assert told["verdicts"] == len(rows)
    Ledger.from_dict(told["pairs"]).check("filter", expected=6)
    assert told["pairs"]["dropped"] == {"listed_later": 1, "removed_later": 3, "threshold": 1}
