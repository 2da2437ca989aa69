"""What owners write into their pictures in, decisions out."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.images import marked
from PIL import Image

from laion_dask.web.rights.decision import SILENT, Policy
from laion_dask.web.rights.embedded import decide_file

STRICT = Policy(unknown=("xmp_data_mining", "xmp_tdm", "c2pa"))


@pytest.mark.parametrize(
    ("value", "rights"),
    [
        (f"{marked.VOCABULARY}DMI-PROHIBITED", "refused"),
        ("https://ns.useplus.org/ldf/vocab/DMI-PROHIBITED", "refused"),
        ("DMI-PROHIBITED", "refused"),
        (" dmi-prohibited-aimltraining ", "refused"),
        ("DMI-PROHIBITED-OF-A-LATER-VERSION", "refused"),
        ("DMI-ALLOWED", "allowed"),
        ("DMI-UNSPECIFIED", "unknown"),
        ("DMI-", "unknown"),
        ("Prohibited", "unknown"),
        ("", "unknown"),
    ],
)
def test_values_of_plus_are_read_bare_and_as_addresses(value: str, rights: str) -> None:
    body = marked.with_xmp("JPEG", marked.packet(f"<plus:DataMining>{value}</plus:DataMining>"))
    decision = decide_file(body, STRICT, "2015-10-21T07:28:00Z")
    assert decision.rights == rights
    if "UNSPECIFIED" in value:
        assert decision == SILENT
    else:
        assert (decision.signal, decision.source, decision.time) == ("xmp_data_mining", "file", "2015-10-21T07:28:00Z")
        assert value.strip() in decision.evidence


def test_of_two_packets_the_stricter_counts() -> None:
    both = marked.mining("DMI-ALLOWED") + marked.mining("DMI-PROHIBITED")
    assert decide_file(marked.with_xmp("TIFF", both), STRICT).rights == "refused"


def test_a_policy_of_the_owner_is_recorded() -> None:
    inside = "<tdm:reservation>1</tdm:reservation><tdm:policy>https://x.example/tdm</tdm:policy>"
    decision = decide_file(marked.with_xmp("PNG", marked.packet(inside)), STRICT)
    assert decision.evidence == "tdm:reservation 1; tdm:policy https://x.example/tdm"


def test_encoding_anew_loses_the_word_which_is_why_the_received_bytes_are_read() -> None:
    body = marked.with_xmp("JPEG", marked.mining("DMI-PROHIBITED"))
    out = io.BytesIO()
    Image.open(io.BytesIO(body)).save(out, "JPEG")
    assert STRICT.binds(decide_file(body, STRICT))
    assert decide_file(out.getvalue(), STRICT) == SILENT


def test_real_pictures_without_a_word_are_silent(shared_data: Path) -> None:
    found = {
        path.name: decision
        for folder in ("images", "img2dataset_tests", "hashes")
        for path in sorted((shared_data / folder).rglob("*"))
        if path.is_file() and (decision := decide_file(path.read_bytes(), STRICT)) != SILENT
    }
    assert found == {}


@given(st.binary(max_size=300), st.integers(0, 5000))
def test_a_damaged_refusal_never_becomes_a_permission(noise: bytes, place: int) -> None:
    body = marked.with_xmp("JPEG", marked.mining("DMI-PROHIBITED"))
    place %= len(body)
    assert decide_file(body[:place] + noise + body[place + len(noise) :], STRICT).rights != "allowed"
