"""ai.txt in, decisions out."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.web.rights.ai_txt import CUT, MAX_FILE_BYTES, parse_ai_txt
from laion_dask.web.rights.decision import SILENT, Decision

TOKENS = ("MyBot", "CCBot")
JPG = "https://img.example/a/fox.jpg"
BARE = "https://img.example/image?id=5"


@pytest.mark.parametrize(
    ("text", "url", "content_type", "rights"),
    [
        ("User-Agent: *\nDisallow: *.jpg", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: *.JPG", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: *.jpg", "https://img.example/FOX.JPG?w=5", "", "refused"),
        ("User-Agent: *\nDisallow: /*.jpg$", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: *.png", JPG, "", "unknown"),
        ("User-Agent: *\nDisallow: *.png", JPG, "image/png", "refused"),
        ("User-Agent: *\nDisallow: *.jpeg", BARE, "", "unknown"),
        ("User-Agent: *\nDisallow: *.jpeg", BARE, "image/jpeg", "refused"),
        ("User-Agent: *\nDisallow: *.tif", BARE, "Image/TIFF; charset=x", "refused"),
        ("User-Agent: *\nDisallow: *.mp3", BARE, "image/jpeg", "unknown"),
        ("User-Agent: *\nDisallow: /\nDisallow: *", BARE, "", "refused"),
        ("User-Agent: *\nDisallow: /\nAllow: *.jpg", JPG, "", "allowed"),
        ("User-Agent: *\nAllow: /\nDisallow: *.jpg", JPG, "", "refused"),
        ("User-Agent: *\nAllow: /a/\nDisallow: /a/", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: /b/", JPG, "", "unknown"),
        ("User-Agent: *\nDisallow:", JPG, "", "unknown"),
        ("User-Agent: MyBot\nAllow: /\n\nUser-Agent: *\nDisallow: /", JPG, "", "refused"),
        ("User-Agent: MyBot\nUser-Agent: CCBot/2.0\nAllow: /\n\nUser-Agent: *\nDisallow: /", JPG, "", "allowed"),
        ("User-Agent: Other\nDisallow: /", JPG, "", "unknown"),
        ("User-Agent: Other\nCrawl-delay: 5\nUser-Agent: MyBot\nDisallow: /", JPG, "", "refused"),
        ("User-Agent: MyBot\nText-And-Data-Mining: no\nUser-Agent: Other\nDisallow: /", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: *.jpg\nUser-Agent: *\nAllow: *.png", BARE, "image/jpeg", "refused"),
        ("User-Agent: *\nAllow: *.jpg\nDisallow: *.jpeg", BARE, "image/jpeg", "refused"),
        ("User-Agent: *\nAllow: /image\nDisallow: *.jpeg", BARE, "image/jpeg", "refused"),
        ("User-Agent: *\nAllow: /image?id\nDisallow: *.jpeg", BARE, "image/jpeg", "allowed"),
        ("User-Agent *\rDisallow *.jpg\r", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: .jpg", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: .jpeg", BARE, "image/jpeg", "refused"),
        ("User-Agent: *\nDisallow: a/", JPG, "", "refused"),
        ("User-Agent: *\nDisallow: /\nAllow: .jpg", JPG, "", "refused"),
        ("Disallow: /", JPG, "", "unknown"),
        ("\ufeff# Spawning AI\r\nUser-Agent: *\r\nDisallow: *.jpg # ours\r\n", JPG, "", "refused"),
        ("<!doctype html>\nUser-Agent: *\nDisallow: /", JPG, "", "unknown"),
        ("# A page in Markdown\n- Disallow: nothing", JPG, "", "unknown"),
        ("", JPG, "", "unknown"),
    ],
)
def test_file_types_and_folders_are_refused(text: str, url: str, content_type: str, rights: str) -> None:
    decision = parse_ai_txt(200, text.encode(), TOKENS).decide(url, content_type)
    assert decision.rights == rights
    assert decision.signal == ("ai_txt" if rights != "unknown" else "")


@pytest.mark.parametrize("status", [0, 301, 403, 404, 500])
def test_a_host_without_the_file_says_nothing(status: int) -> None:
    assert parse_ai_txt(status, b"User-Agent: *\nDisallow: /", TOKENS).decide(JPG) == SILENT


@pytest.mark.parametrize("status", [200, 201, 203, 206, 226])
def test_every_successful_answer_is_read(status: int) -> None:
    assert parse_ai_txt(status, b"User-Agent: *\nDisallow: /", TOKENS).decide(JPG).rights == "refused"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_it_is_read_in_every_encoding(encoding: str) -> None:
    assert parse_ai_txt(200, "User-Agent: *\nDisallow: /".encode(encoding), TOKENS).decide(JPG).rights == "refused"


def test_a_refusal_that_may_stand_behind_the_limit_is_on_record() -> None:
    padding = "# padding\n" * 60_000
    refused = "User-Agent: *\nDisallow: *.jpg\n"
    assert parse_ai_txt(200, f"{refused}{padding}".encode(), TOKENS).decide(JPG).rights == "refused"
    for first in ("User-Agent: *\nAllow: /\n", "User-Agent: Other\nDisallow: /\n"):
        decision = parse_ai_txt(200, f"{first}{padding}{refused}".encode(), TOKENS).decide(JPG)
        assert (decision.rights, decision.signal, decision.evidence) == ("unknown", "ai_txt", CUT)
    assert parse_ai_txt(200, b"# A long page\n" * 60_000, TOKENS).decide(JPG) == SILENT


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "User-Agent: MyBot\nUser-Agent: CCBot\nUser-Agent: *\n" + "".join(f"Disallow: /{n:x}\n" for n in range(40_000)),
        "User-Agent: *\n" + "".join(f"Disallow: *{n:x}.b\n" for n in range(30_000)),
        "User-Agent: *\n" * 36_000,
        "User-Agent" + " " * MAX_FILE_BYTES,
        "User-Agent: *\nDisallow: " + "*a" * 250_000,
    ],
    ids=["rules", "types", "names", "blanks", "wildcards"],
)
def test_a_hostile_file_costs_neither_time_nor_memory(text: str) -> None:
    url = "https://img.example/" + "a" * 2_000
    began = time.process_time()
    rules = parse_ai_txt(200, text.encode(), TOKENS)
    for _ in range(5):
        rules.decide(url, "image/jpeg")
    assert time.process_time() - began < 3.0
    tracemalloc.start()
    try:
        parse_ai_txt(200, text.encode(), TOKENS).decide(url, "image/jpeg")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_evidence_is_the_line_with_its_file_and_date() -> None:
    where, when = "https://img.example/ai.txt", "2015-10-21T07:28:00Z"
    rules = parse_ai_txt(200, b"User-Agent: *\nDisallow: *.jpg", TOKENS, where, when)
    assert rules.decide(JPG) == Decision("refused", "ai_txt", "Disallow: *.jpg", where, when)


@pytest.mark.slow
@given(
    st.binary(max_size=300) | st.text().map(lambda text: f"User-Agent: *\nDisallow: {text}".encode("utf-8", "replace"))
)
def test_no_file_crashes(body: bytes) -> None:
    assert parse_ai_txt(200, body, TOKENS).decide(JPG, "image/jpeg").rights in {"allowed", "refused", "unknown"}
