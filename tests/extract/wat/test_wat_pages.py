"""WAT records in: pages with images out, or the reason why there is none, and counts that add up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made.crawls.wat_bytes import as_arc, image, members, page_json, read, record

from laion_dask.extract.wat import wat_pages
from laion_dask.extract.wat.wat_pages import Page, Tally
from laion_dask.extract.wat.wat_records import WatRecord

KINDS = ("IMG@/src",)
PAGE = page_json([image()])
PLAIN = page_json([{"path": "A@/href", "url": "/"}])


def judge(
    body: bytes, *, declared: int | None = None, kind: str = "metadata", mended: str = ""
) -> tuple[Page | None, Tally]:
    """Read one record."""
    tally = Tally()
    declared = len(body) if declared is None else declared
    found = wat_pages.read_page(WatRecord(9, kind, declared, body, "2024-05-31T01:17:49Z", mended), KINDS, tally)
    assert tally.as_dict()["seen"] == 1
    return found, tally


@pytest.mark.parametrize(
    ("body", "declared", "kind", "reason", "mended"),
    [
        (PAGE, None, "metadata", "", ""),
        (PAGE, len(PAGE) + 9, "metadata", "", "wrong_length"),
        (PAGE[:-9], len(PAGE), "metadata", "truncated", ""),
        (PAGE[:-9], None, "metadata", "wrong_length", ""),
        (PAGE[: PAGE.index(b"}", PAGE.index(b"IMG@")) + 1], len(PAGE), "metadata", "truncated", ""),
        (PAGE[: PAGE.index(b"}", PAGE.index(b"IMG@")) + 1], None, "metadata", "bad_json", ""),
        (PAGE + b"{{", None, "metadata", "", ""),
        (b"<" + PAGE, None, "metadata", "bad_json", ""),
        (PLAIN, None, "metadata", "no_image", ""),
        (PLAIN, len(PLAIN) + 1, "metadata", "no_image", "wrong_length"),
        (PLAIN[:-3], len(PLAIN), "metadata", "truncated", ""),
        (PLAIN[:-1] + b",", None, "metadata", "wrong_length", ""),
        (b"", 0, "metadata", "bad_json", ""),
        (b"", 5, "metadata", "truncated", ""),
        (b"", -1, "metadata", "truncated", ""),
        (b"no json", None, "metadata", "bad_json", ""),
        (b"{}", None, "metadata", "no_envelope", ""),
        (b'{"Envelope":{}}\r\n', None, "metadata", "no_html", ""),
        (b"Software: x", None, "warcinfo", "no_html", ""),
        (b"Software: x", 99, "warcinfo", "truncated", ""),
        (PAGE, None, "", "bad_record", ""),
        (page_json([{"path": "A@/href", "url": '"IMG@'}]), None, "metadata", "no_image", ""),
    ],
)  # fmt: skip
def test_a_record_is_a_page_or_ends_with_a_reason(
    body: bytes, declared: int | None, kind: str, reason: str, mended: str
) -> None:
    page, tally = judge(body, declared=declared, kind=kind)
    assert (page is None) is bool(reason)
    assert dict(tally.dropped) == ({reason: 1} if reason else {})
    assert dict(tally.mended) == ({mended: 1} if mended else {})
    listed = [defect.reason for defect in tally.defects]
    assert listed == ([reason] if reason and reason not in wat_pages.HARMLESS else []) + ([mended] if mended else [])
    assert all(defect.offset == 9 for defect in tally.defects)


def test_lf_line_ends_are_counted_and_the_page_is_kept() -> None:
    page, tally = judge(PAGE, mended="lf_line_ends")
    assert page is not None
    assert tally.mended == {"lf_line_ends": 1}


def test_the_page_has_its_own_date_and_no_angle_brackets() -> None:
    page, _ = judge(page_json([image()], url="<https://page.example/a/>"))
    assert page is not None
    assert (page.url, page.date, page.written) == (
        "https://page.example/a/",
        "2024-05-20T00:00:00Z",
        "2024-05-31T01:17:49Z",
    )
    listed, _ = judge(page_json([image()], url=["https://a.example/", "https://b.example/"]))
    assert listed is not None
    assert listed.url == "https://a.example/"


ARC_URL, WRITTEN = "https://page.example/a/", "2024-05-31T01:17:49Z"


@pytest.mark.parametrize(
    ("change", "url", "date"),
    [
        ({}, ARC_URL, "2024-05-20T00:00:00Z"),
        ({"Date": "20100613052319"}, ARC_URL, "2010-06-13T05:23:19Z"),
        ({"Date": "201006130523"}, ARC_URL, "2010-06-13T05:23:00Z"),
        ({"Date": "20100613"}, ARC_URL, "2010-06-13T00:00:00Z"),
        ({"Date": 20100613052319}, ARC_URL, "2010-06-13T05:23:19Z"),
        ({"Date": ["20100613052319"]}, ARC_URL, "2010-06-13T05:23:19Z"),
        # No date: the record's own stands in.
        ({"Date": "20101313052319"}, ARC_URL, WRITTEN),
        ({"Date": "2010"}, ARC_URL, WRITTEN),
        ({"Date": "\u0662\u0660100613052319"}, ARC_URL, WRITTEN),
        ({"Date": None}, ARC_URL, WRITTEN),
        ({"Date": {}}, ARC_URL, WRITTEN),
        ({"Target_URI": ["https://b.example/"]}, "https://b.example/", "2024-05-20T00:00:00Z"),
        ({"Target_URI": None}, "", "2024-05-20T00:00:00Z"),
    ],
)
def test_address_and_date_of_a_page_out_of_an_arc_file(change: dict[str, Any], url: str, date: str) -> None:
    lenient = page_json([image(), 7, image("caf\udc80")])
    for body in (PAGE, lenient, json.dumps(json.loads(PAGE), separators=(",", ":")).encode()):
        page, _ = judge(as_arc(body, **change))
        assert page is not None
        assert (page.url, page.date) == (url, date)


@pytest.mark.parametrize(
    ("warc", "url", "date"),
    [
        ({"WARC-Target-URI": "https://w.example/", "WARC-Date": "2020-01-02T03:04:05Z"}, "w", "2020-01-02T03:04:05Z"),
        ({"WARC-Target-URI": "https://w.example/"}, "w", "2024-05-20T00:00:00Z"),
        ({"WARC-Date": "2020-01-02T03:04:05Z"}, "page", "2020-01-02T03:04:05Z"),
        ({"WARC-Target-URI": "", "WARC-Date": ""}, "page", "2024-05-20T00:00:00Z"),
        ([], "page", "2024-05-20T00:00:00Z"),
    ],
)
def test_where_both_headers_are_there_the_arc_header_only_fills_in(warc: object, url: str, date: str) -> None:
    tree = json.loads(as_arc(PAGE))
    tree["Envelope"]["WARC-Header-Metadata"] = warc
    page, _ = judge(json.dumps(tree).encode())
    assert page is not None
    assert (page.url.split(".")[0], page.date) == (f"https://{url}", date)


def test_headers_and_metas_are_read_where_they_may_speak_of_rights() -> None:
    metas = [{"name": "description", "content": "a"}]
    silent, _ = judge(page_json([image()], headers={"Server": "x"}, head={"Metas": metas}))
    assert silent is not None
    assert not [*wat_pages.headers_of(silent.lists()), *wat_pages.metas_of(silent.lists())]
    metas.append({"name": "ROBOTS", "content": "noai"})
    page, _ = judge(page_json([image()], headers={"TDM-Reservation": "1"}, head={"Metas": metas}))
    assert page is not None
    assert wat_pages.headers_of(page.lists()) == (("TDM-Reservation", "1"),)
    assert list(wat_pages.metas_of(page.lists())) == [("description", "a"), ("ROBOTS", "noai")]


def test_what_is_lost_is_listed_with_its_offset_and_all_else_is_kept(tmp_path: Path) -> None:
    records = [record(PAGE), record(b"broken"), record(PAGE), record(b"{}"), record(PAGE), record(PLAIN)]
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(members(*records))
    pages, tally = read(path)
    assert len(pages) == 3
    assert tally.as_dict() == {"seen": 6, "kept": 3, "dropped": {"no_image": 1, "bad_json": 1, "no_envelope": 1}}
    assert (tally.pages, tally.losses) == (4, 2)
    offsets = [len(members(*records[:place])) for place in (1, 3)]
    assert [(defect.offset, defect.reason) for defect in tally.defects] == list(
        zip(offsets, ("bad_json", "no_envelope"), strict=True)
    )


@pytest.mark.slow
def test_the_list_of_defects_is_bounded_and_the_counts_are_not(tmp_path: Path) -> None:
    path = tmp_path / "x.warc.wat"
    path.write_bytes(record(b"broken") * (wat_pages.MAX_LISTED + 5))
    _, tally = read(path)
    assert tally.dropped["bad_json"] == wat_pages.MAX_LISTED + 5
    assert len(tally.defects) == wat_pages.MAX_LISTED


def test_a_tally_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(wat_pages.WatError, match="2 seen"):
        Tally(seen=2, kept=1).as_dict()
    with pytest.raises(wat_pages.WatError, match="dropped"):
        Tally(seen=1, dropped=Counter({"no_such_reason": 1})).as_dict()
