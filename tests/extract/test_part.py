"""One WAT in: a table of pairs and counts that add up."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.crawls.wat_bytes import READERS, as_arc, image, members, page_json, record, wats

from laion_dask import params, schema
from laion_dask.extract.judge import uid_of
from laion_dask.extract.part import extract
from laion_dask.schema import ledger


@pytest.fixture
def settings(defaults: params.Params) -> params.Extract:
    """The committed parameters of the stage."""
    return defaults.extract


def run(location: Path | str, out: Path, settings: params.Extract, **change: object) -> tuple[dict[str, Any], pa.Table]:
    """Extract one WAT."""
    out.mkdir(exist_ok=True, parents=True)
    counts = extract(
        out,
        name="part",
        location=str(location),
        crawl="CC-MAIN-X",
        wat="a/b.warc.wat.gz",
        order=3,
        settings=settings.model_copy(update=change),
    )
    json.dumps(counts)
    return counts, pq.read_table(out / "pairs.parquet")


def run_pages(
    tmp_path: Path, settings: params.Extract, *bodies: bytes, **change: object
) -> tuple[dict[str, Any], pa.Table]:
    """Extract pages given as JSON."""
    tmp_path.mkdir(exist_ok=True, parents=True)
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(members(*(record(body) for body in bodies)))
    return run(path, tmp_path / "out", settings, **change)


def test_links_and_alts_are_as_many_as_the_data_notes_say(
    shared_data: Path,
    tmp_path: Path,
    settings: params.Extract,
) -> None:
    notes = json.loads((shared_data / "wat_expected.json").read_text())["files"]
    golden = json.loads((shared_data / "golden_cc2dataset" / "expected.json").read_text())["files"]
    notes |= {f"golden_cc2dataset/{name}": expected for name, expected in golden.items()}
    assert len(notes) >= 18
    for name, expected in notes.items():
        counts, table = run(shared_data / name, tmp_path, settings)
        links = ledger.Ledger.from_dict(counts["links"])
        links.check(name, expected=expected["img_src"])
        assert links.seen - links.dropped["no_alt"] == expected["img_src_alt_not_blank"], name
        assert table.num_rows == links.kept
        assert counts["pages"] == counts["records"]["kept"] + counts["records"]["dropped"].get("no_image", 0)
        assert counts["bytes"] == (shared_data / name).stat().st_size
        schema.PAIRS.check(table)


def test_both_readers_write_the_same_bytes_for_every_wat(
    shared_data: Path,
    tmp_path: Path,
    settings: params.Extract,
) -> None:
    for path in wats(shared_data):
        fast, _ = run(path, tmp_path / "fastwarc", settings, reader="fastwarc")
        reference, _ = run(path, tmp_path / "warcio", settings, reader="warcio")
        written = [(tmp_path / reader / "pairs.parquet").read_bytes() for reader in READERS]
        assert written[0] == written[1], path.name
        assert reference.pop("fallback_to_warcio") == 0
        assert fast.pop("fallback_to_warcio") == ("toimik" in path.parts or "truncated" in path.name)
        assert fast == reference, path.name


def test_good_pairs_beside_a_record_without_envelope_are_kept(
    shared_data: Path,
    tmp_path: Path,
    settings: params.Extract,
) -> None:
    counts, table = run(
        shared_data / "golden_cc2dataset" / "one_record_without_envelope.warc.wat.gz", tmp_path, settings
    )
    assert counts["records"]["dropped"] == {"no_html": 1, "no_envelope": 1}
    losses = pq.read_table(tmp_path / "losses.parquet").to_pylist()
    assert [(row["wat"], row["reason"]) for row in losses] == [("a/b.warc.wat.gz", "no_envelope")]
    assert table.num_rows == 2


def test_angle_brackets_around_the_page_address_cost_no_relative_image(
    shared_data: Path,
    tmp_path: Path,
    settings: params.Extract,
) -> None:
    path = shared_data / "wat_derived" / "dolma__sample-0000.warc.wat.gz"
    counts, table = run(path, tmp_path, settings, min_chars=0, refused_extensions=(), max_url_chars=10_000)
    dropped = counts["links"]["dropped"]
    assert counts["links"]["kept"] == 169 - dropped.get("url_scheme", 0) - dropped.get("private_host", 0)
    assert not any(url.startswith("<") for url in table["page_url"].to_pylist())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="compact, as the extractor writes it"),
        pytest.param({"head": {"Base": "/pictures/"}}, id="with a base"),
        pytest.param({"links": [image("caf\udc80 au lait", "c.jpg"), 7]}, id="read leniently"),
    ],
)
def test_a_page_out_of_an_arc_file_gives_the_pairs_of_the_same_page_out_of_a_warc_file(
    tmp_path: Path, settings: params.Extract, reader: str, more: dict[str, Any]
) -> None:
    links = [image(), image("a grey owl", "../owl.jpg"), image("a blue jay", "//jay.example/j.jpg")]
    body = page_json([*links, *more.get("links", [])], head=more.get("head"))
    bodies = body, as_arc(body)
    compact = [json.dumps(json.loads(one), separators=(",", ":")).encode() for one in bodies]
    for written in (bodies, compact):
        (warc, expected), (arc, found) = (
            run_pages(tmp_path / name, settings, one, reader=reader)
            for name, one in zip(("warc", "arc"), written, strict=True)
        )
        assert found.equals(expected)
        assert {key: arc[key] for key in ("records", "links", "mended", "pages")} == {
            key: warc[key] for key in ("records", "links", "mended", "pages")
        }
        assert set(found["page_url"].to_pylist()) == {"https://page.example/a/"}
        assert set(found["page_date"].to_pylist()) == {"2024-05-20T00:00:00Z"}
        assert found.num_rows >= len(links)


def test_the_table_is_sorted_by_uid_record_and_link(tmp_path: Path, settings: params.Extract) -> None:
    links = [image(f"caption number {i % 20}", f"{i % 15}.jpg") for i in range(45)]
    counts, table = run_pages(tmp_path, settings, page_json(links), page_json(links))
    assert counts["links"] == {"seen": 90, "kept": 90, "dropped": {}}
    keys = list(zip(*(table[name].to_pylist() for name in ("uid", "record_offset", "link_index")), strict=True))
    assert keys == sorted(keys)


def test_many_chunks_give_the_bytes_of_one(
    shared_data: Path, tmp_path: Path, settings: params.Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared_data / "wat_derived" / "postlight-parser.warc.wat.gz"
    run(path, tmp_path / "one", settings)
    monkeypatch.setattr("laion_dask.extract.part._CHUNK", 100)
    run(path, tmp_path / "many", settings)
    assert (tmp_path / "one" / "pairs.parquet").read_bytes() == (tmp_path / "many" / "pairs.parquet").read_bytes()


def test_the_reading_of_a_wat_is_recorded(shared_data: Path, tmp_path: Path, settings: params.Extract) -> None:
    path = shared_data / "wat_derived" / "dolma__sample-0000.warc.wat.gz"
    counts, table = run(path, tmp_path, settings)
    row = json.loads((tmp_path / "read.json").read_text())
    assert row.keys() == {*schema.READS.names, *schema.TIMES.names}
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row["bytes"], row["records"], row["pages"]) == (path.stat().st_size, 49, counts["pages"])
    assert (row["links"], row["pairs"], row["losses"]) == (240, table.num_rows, 0)
    assert (row["reader"], row["error"], row["etag"], row["requests"]) == ("fastwarc", "", "", 0)
    assert row["seconds"] > 0


def test_a_pair_carries_its_provenance(tmp_path: Path, settings: params.Extract) -> None:
    link = {"path": "A@/href", "url": "https://creativecommons.org/licenses/by/4.0/deed.de", "rel": "license"}
    _, table = run_pages(tmp_path, settings, b"{}", page_json([link, image("a red fox in the white snow", "/fox.jpg")]))
    offset = len(members(record(b"{}")))
    (row,) = table.to_pylist()
    assert 0.5 < row.pop("language_confidence") <= 1
    assert row == {
        "uid": hashlib.md5(b"a red fox in the white snowhttps://page.example/fox.jpg").hexdigest(),
        "url": "https://page.example/fox.jpg",
        "text": "a red fox in the white snow",
        "host": "page.example",
        "language": "en",
        "split": "en",
        "license": "CC-BY-4.0",
        **dict.fromkeys(("emails", "phones", "cards", "accounts", "ips"), 0),
        "crawl": "CC-MAIN-X",
        "wat": "a/b.warc.wat.gz",
        "wat_order": 3,
        "record_offset": offset,
        "link_index": 0,
        "page_url": "https://page.example/a/",
        "page_date": "2024-05-20T00:00:00Z",
        "page_signals": "",
    }


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ({"path": "IMG@/src", "url": "x.jpg"}, "no_alt"),
        (image(""), "no_alt"),
        (image(None), "no_alt"),
        (image(" \u200b\n"), "no_alt"),
        (image("", None), "no_alt"),
        ({"path": "IMG@/src", "alt": "a red fox"}, "no_url"),
        (image("ab", None), "no_url"),
        (image(url=""), "bad_url"),
        (image(url={}), "bad_url"),
        (image("ab", "http://[::1"), "bad_url"),
        (image("ab", "x.gif"), "url_pattern"),
        (image("ab"), "text_too_short"),
        (image("  ab  c "), "text_too_short"),
        (image("ab cd"), "keep"),
        (image(12345), "keep"),
        (image(["a red fox"]), "keep"),
        (image([["a red fox"]]), "no_alt"),
        (image(10**40), "keep"),
        (image(True), "no_alt"),
        (image("\u732b\u306e\u5199\u771f\u3060"), "keep"),
        (image("lone \ud800 surrogate", "lone\udfff.jpg"), "keep"),
        (image("a red fox", "x.jpg", title="the title"), "keep"),
    ],
)
def test_a_link_ends_for_the_first_reason_against_it(
    tmp_path: Path,
    settings: params.Extract,
    link: dict[str, Any],
    reason: str,
) -> None:
    counts, _ = run_pages(tmp_path, settings, page_json([link]))
    kept = int(reason == "keep")
    assert counts["links"] == {"seen": 1, "kept": kept, "dropped": {} if kept else {reason: 1}}


def test_only_image_sources_are_links(tmp_path: Path, settings: params.Extract) -> None:
    paths = ("IMG@/longdesc", "IMG@/data-src", "A@/href", "AREA@/href", "VIDEO@/poster", "img@/src", "IMG@/src ", 5)
    counts, _ = run_pages(tmp_path, settings, page_json([image() | {"path": path} for path in paths] + [{}, None]))
    assert counts["links"] == {"seen": 0, "kept": 0, "dropped": {}}
    assert counts["records"]["dropped"] == {"no_image": 1}
    assert counts["pages"] == 1


@pytest.mark.parametrize(
    ("head", "headers", "signals"),
    [
        ({"Metas": [{"name": "robots", "content": "noai"}]}, {}, "meta-robots:noai"),
        ({"Metas": [{"name": "tdm-reservation", "content": "1"}]}, {}, "tdm-reservation:meta"),
        ({}, {"x-robots-tag": ["nofollow", "noimageai"]}, "header-x-robots-tag:noimageai"),
        ({}, {"TDM-Reservation": 1}, "tdm-reservation:header"),
        (
            {"Metas": [{"name": "robots", "content": "noai, noindex"}]},
            {"Content-Usage": "train-ai=n"},
            "content-usage:train-ai=n;meta-robots:noai;meta-robots:noindex",
        ),
        (
            {"Link": [{"path": "LINK@/href", "url": "/l.xml", "rel": "License", "type": "application/rsl+xml"}]},
            {"Link": ["</a>; rel=next", '</l.xml>; rel="license"; type="application/rsl+xml"']},
            "rsl:header;rsl:link",
        ),
    ],
)
def test_a_page_that_reserves_its_rights_loses_its_pairs_or_is_marked(
    tmp_path: Path,
    settings: params.Extract,
    head: dict[str, Any],
    headers: dict[str, Any],
    signals: str,
) -> None:
    body = page_json([image(), image("ab"), image("")], head=head, headers=headers)
    free = page_json([image()])
    counts, table = run_pages(tmp_path, settings, body, free, page_opt_out="drop")
    assert counts["links"]["dropped"] == {"no_alt": 1, "text_too_short": 1, "page_opt_out": 1}
    assert table["page_signals"].to_pylist() == [""]
    counts, table = run_pages(tmp_path, settings, body, free, page_opt_out="record")
    assert counts["links"]["dropped"] == {"no_alt": 1, "text_too_short": 1}
    assert sorted(table["page_signals"].to_pylist()) == ["", signals]


@pytest.mark.parametrize(
    ("written", "url", "expected", "caption"),
    [
        ("2014-09-09T10:14:59Z", "x.jpg?a=1&amp;b=2", "x.jpg?a=1&b=2", "Tom & Jerry"),
        ("2019-06-30T23:59:59Z", "x.jpg?a=1&amp;b=2", "x.jpg?a=1&b=2", "Tom & Jerry"),
        ("2019-07-01T00:00:00Z", "x.jpg?a=1&amp;b=2", "x.jpg?a=1&amp;b=2", "Tom &amp; Jerry"),
        ("2024-05-31T01:17:49Z", "x.jpg?a=1&amp;b=2", "x.jpg?a=1&amp;b=2", "Tom &amp; Jerry"),
    ],
)
def test_entities_are_decoded_once_by_the_date_of_the_extraction(
    tmp_path: Path,
    settings: params.Extract,
    written: str,
    url: str,
    expected: str,
    caption: str,
) -> None:
    path = tmp_path / "x.warc.wat.gz"
    body = page_json([image("Tom &amp; Jerry", url), image("R&amp;amp;B music", "y.jpg")])
    path.write_bytes(members(record(body, date=written)))
    _, table = run(path, tmp_path / "out", settings)
    pairs = dict(zip(table["url"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert pairs[f"https://page.example/a/{expected}"] == caption
    assert pairs["https://page.example/a/y.jpg"] == ("R&amp;B music" if written < "2019-07" else "R&amp;amp;B music")


def test_the_licence_counts_for_images_before_and_after_it(
    shared_data: Path,
    tmp_path: Path,
    settings: params.Extract,
) -> None:
    _, table = run(shared_data / "golden_cc2dataset" / "laion_oracle.warc.wat.gz", tmp_path, settings)
    licences = dict(zip(table["text"].to_pylist(), table["license"].to_pylist(), strict=True))
    assert licences["before the licence link"] == "CC-BY-4.0"
    assert licences["after the licence link"] == "CC-BY-4.0"
    assert licences["A red fox jumping"] == "?"


def test_a_missing_wat_gives_an_empty_table_and_a_counted_reason(tmp_path: Path, settings: params.Extract) -> None:
    counts, table = run(tmp_path / "nowhere.warc.wat.gz", tmp_path / "out", settings)
    assert counts["records"] == {"seen": 1, "kept": 0, "dropped": {"wat_unreadable": 1}}
    assert counts["links"] == {"seen": 0, "kept": 0, "dropped": {}}
    assert "FileNotFoundError" in counts["error"]
    assert schema.PAIRS.check(table).num_rows == 0


def test_the_text_of_every_row_is_clean(shared_data: Path, tmp_path: Path, settings: params.Extract) -> None:
    _, table = run(shared_data / "wat_derived" / "postlight-parser.warc.wat.gz", tmp_path, settings)
    for caption, url, uid in zip(*(table[n].to_pylist() for n in ("text", "url", "uid")), strict=True):
        assert len(caption) >= settings.min_chars
        assert caption == " ".join(caption.split())
        assert uid == uid_of(caption, url)
    assert set(table["split"].to_pylist()) == {"en", "multi", "nolang"}
