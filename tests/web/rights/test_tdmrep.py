"""tdmrep.json in, decisions out."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from laion_dask.web.rights.decision import SILENT
from laion_dask.web.rights.tdmrep import TOO_LONG, parse_tdmrep

IMAGE = "https://img.example/a/fox.jpg"


@pytest.mark.parametrize(
    ("rules", "rights_", "signal"),
    [
        ([], "unknown", ""),
        ([{"location": "/", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "/", "tdm-reservation": 0}], "allowed", "tdmrep"),
        ([{"location": "/", "tdm-reservation": 2}], "unknown", "tdmrep"),
        ([{"location": "/", "tdm-reservation": "1"}], "unknown", "tdmrep"),
        ([{"location": "/", "tdm-reservation": True}], "unknown", "tdmrep"),
        ([{"location": "/a/*.jpg", "tdm-reservation": 1, "tdm-policy": "https://x.example/p"}], "refused", "tdmrep"),
        ([{"location": "/a/*.jpg$", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "/a/*.png", "tdm-reservation": 1}], "unknown", ""),
        ([{"location": "/A/", "tdm-reservation": 1}], "unknown", ""),
        ([{"location": "a/", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "https://img.example/a/", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "a/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], "refused", "tdmrep"),
        ([{"location": "/a/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], "allowed", "tdmrep"),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/a/", "tdm-reservation": 0}], "refused", "tdmrep"),
        ([{"location": "/a/", "tdm-reservation": None}, {"location": "/", "tdm-reservation": 1}], "unknown", "tdmrep"),
        ([{"tdm-reservation": 1}], "unknown", ""),
        ([{"location": "/"}], "unknown", ""),
        ([7, None, {"location": 5, "tdm-reservation": 1}], "unknown", ""),
        ({"location": "/", "tdm-reservation": 1}, "unknown", ""),
        ({"policy": [{"location": "/", "tdm-reservation": 1}]}, "unknown", ""),
    ],
)
def test_tdmrep_is_an_array_of_rules_and_the_first_match_wins(rules: object, rights_: str, signal: str) -> None:
    decision = parse_tdmrep(200, json.dumps(rules).encode()).decide(IMAGE)
    assert (decision.rights, decision.signal) == (rights_, signal)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"[]"), (0, b""), (200, b""), (200, b"{"), (200, b"\xff"), (200, b"[" * 9999)]
)
def test_a_tdmrep_that_cannot_be_read_says_nothing(status: int, body: bytes) -> None:
    assert parse_tdmrep(status, body).decide(IMAGE) == SILENT


@pytest.mark.parametrize(
    "body",
    [
        '[{"location": "/", "tdm-reservation": 1, "tdm-policy": "https://a.example/caf\xe9"}]'.encode("latin-1"),
        b'[{"location": "/", "tdm-reservation": 1, "tdm-policy": "two\n\tlines"}]',
        b'[{"location": "/", "tdm-reservation": 1}]\0',
        '\ufeff\n[{"location": "/", "tdm-reservation": 1}]'.encode("utf-16"),
    ],
)
def test_a_reservation_that_can_be_understood_counts(body: bytes) -> None:
    assert parse_tdmrep(200, body).decide(IMAGE).rights == "refused"


@pytest.mark.parametrize("status", [200, 201, 203, 206])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_every_successful_answer_is_read_in_every_encoding_of_json(status: int, encoding: str) -> None:
    text = json.dumps([{"location": "/", "tdm-reservation": 1}])
    assert parse_tdmrep(status, text.encode(encoding)).decide(IMAGE).rights == "refused"


def test_an_array_that_is_too_long_is_unknown_and_a_long_page_says_nothing() -> None:
    rules = json.dumps([{"location": f"/{place}/", "tdm-reservation": 1} for place in range(20_000)])
    for encoding in ("utf-8-sig", "utf-16"):
        decision = parse_tdmrep(200, rules.encode(encoding), "there", None).decide(IMAGE)
        assert (decision.rights, decision.signal, decision.evidence, decision.source) == (
            *("unknown", "tdmrep", TOO_LONG, "there"),
        )
    assert parse_tdmrep(200, b"<html>" + rules.encode()).decide(IMAGE) == SILENT


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "[" + '{"location":"/*a*b","tdm-reservation":1},' * 12_000 + "0]",
        '[{"location":"/' + "*a" * 250_000 + 'b","tdm-reservation":1}]',
        "[" + "[]," * 170_000 + "0]",
        "[" * 500_000,
        "[" + "1" * 500_000 + "]",
        "[" + '{"a":' * 80_000,
    ],
    ids=["rules", "wildcards", "arrays", "nested", "a long number", "nested objects"],
)
def test_a_hostile_file_costs_neither_time_nor_memory(text: str) -> None:
    url = "https://img.example/" + "a" * 2_000
    began = time.process_time()
    rules = parse_tdmrep(200, text.encode())
    for _ in range(5):
        rules.decide(url)
    assert time.process_time() - began < 3.0
    tracemalloc.start()
    try:
        parse_tdmrep(200, text.encode()).decide(url)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
