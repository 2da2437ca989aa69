"""Signed pictures in, what their manifests say out."""

from __future__ import annotations

import sys

import pytest
from made.images import marked

from laion_dask.web.rights import c2pa
from laion_dask.web.rights.c2pa import decide_manifest
from laion_dask.web.rights.decision import SILENT

WHEN = "2015-10-21T07:28:00Z"
NO = {"cawg.ai_training": {"use": "notAllowed"}}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_a_manifest_is_read_in_every_container(kind: str) -> None:
    decision = decide_manifest(marked.signed(kind, NO), WHEN)
    assert (decision.rights, decision.signal, decision.source, decision.time) == ("refused", "c2pa", "file", WHEN)
    assert decision.evidence == "cawg.ai_training: notAllowed; signature: Valid"
    assert decide_manifest(marked.picture(kind), WHEN) == SILENT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_without_the_library_a_manifest_is_unknown(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = marked.signed(kind, {"cawg.ai_training": {"use": "allowed"}, "cawg.data_mining": {"use": "allowed"}})
    assert decide_manifest(body, WHEN).rights == "allowed"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "c2pa", None)
        c2pa.library.cache_clear()
        decision = decide_manifest(body, WHEN)
        assert (decision.rights, decision.signal, decision.evidence) == ("unknown", "c2pa", c2pa.NOT_INSTALLED)
        assert decide_manifest(marked.picture(kind), WHEN) == SILENT
    c2pa.library.cache_clear()


def test_a_refusal_counts_without_a_valid_signature_and_a_permission_does_not() -> None:
    for use, rights in (("notAllowed", "refused"), ("allowed", "unknown")):
        body = bytearray(marked.signed("PNG", {"cawg.ai_training": {"use": use}}))
        # One other pixel: what was signed is not this picture.
        place = body.index(b"IDAT") + 8
        body[place] ^= 1
        decision = decide_manifest(bytes(body), WHEN)
        assert decision.rights == rights
        assert "signature: Invalid" in decision.evidence


def test_what_is_said_twice_counts_by_the_stricter_word() -> None:
    decision = decide_manifest(
        marked.signed("JPEG", {"cawg.ai_training": {"use": "allowed"}, "cawg.data_mining": {"use": "constrained"}}),
        WHEN,
    )
    assert decision.rights == "refused"
    assert decision.evidence == "cawg.ai_training: allowed; cawg.data_mining: constrained; signature: Valid"


def test_a_use_that_is_none_is_unknown() -> None:
    assert decide_manifest(marked.signed("JPEG", {"cawg.ai_training": {"use": "perhaps"}}), WHEN).rights == "unknown"


@pytest.mark.parametrize("keep", [0.4, 0.6, 0.8, 0.95])
def test_a_cut_manifest_is_unknown_and_never_silent(keep: float) -> None:
    body = marked.signed("PNG", NO)
    mark = body.index(b"jumdc2pa") + 100
    decision = decide_manifest(body[: max(mark, int(len(body) * keep))], WHEN)
    assert (decision.rights, decision.signal) == ("unknown", "c2pa")
    assert decision.evidence.startswith("manifest cannot be read (")
