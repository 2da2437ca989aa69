"""tdmrep.json in, decisions out."""

from __future__ import annotations

import json

import pytest

from laion_dask.rights import SILENT
from laion_dask.tdmrep import parse_tdmrep

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
