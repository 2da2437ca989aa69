"""Recipe cc2dataset gives the pairs and uids of cc2dataset 1.5.0; each difference is listed with its reason."""

from __future__ import annotations

import hashlib
import html
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import ada_url
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.crawls.measured_wats import notes, run
from made.crawls.wat_bytes import members, record
from made.places import ROOT

from laion_dask import params
from laion_dask.params import recipes

ABSOLUTE = ("http://", "https://")
# Letters of addresses, and what the two ways of joining could read differently.
ADDRESS = st.text(alphabet="aB1./:?#@[]%\\ &;=~-_\t\nhtps\u00fc\u732b", max_size=24)


class Row(NamedTuple):
    """A row of cc2dataset's output, without the name of the WARC."""

    uid: str
    url: str
    alt: str
    page_url: str


def unpacked(path: Path) -> bytes:
    """Return a WAT's bytes, of a truncated one what comes before the cut."""
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    whole = b""
    while data:
        member = zlib.decompressobj(wbits=31)
        whole += member.decompress(data)
        data = member.unused_data
    return whole


def bodies(path: Path) -> Iterator[bytes]:
    """Yield the bodies of the metadata records."""
    rest = unpacked(path)
    while rest.startswith(b"WARC/"):
        head, _, rest = rest.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        length = int(fields["Content-Length"])
        body, rest = rest[:length], rest[length:].removeprefix(b"\r\n\r\n")
        if fields["WARC-Type"] == "metadata":
            yield body


def rule(path: Path) -> list[Row]:
    """Return what cc2dataset's rule gives of a WAT (commit 28f4883, main.py), where a bad record costs only itself."""
    rows = []
    for body in bodies(path):
        try:
            tree = json.loads(body)
            html = tree["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
            page, links = tree["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"], html["Links"]
        except (ValueError, KeyError):
            continue
        base = absolute(html.get("Head", {}).get("Base", ""), page) or page
        for link in links:
            if link.get("path") == "IMG@/src" and link.get("alt"):
                written, alt = link["url"], link["alt"]
                url = written if written.startswith(ABSOLUTE) else absolute(written, base)
                if url.startswith(ABSOLUTE):
                    rows.append(Row(hashlib.md5((alt + url).encode()).hexdigest(), url, alt, page))
    return rows


def absolute(url: str, base: str) -> str:
    """Join as cc2dataset does; empty where urljoin refuses."""
    try:
        return urljoin(base, url)
    except ValueError:
        return ""


def ours(path: Path, out: Path, chosen: params.Extract) -> list[Row]:
    """Return what extraction gives of a WAT, in the columns of cc2dataset."""
    run(path, out, chosen)
    table = pq.read_table(out / "pairs.parquet", columns=["uid", "url", "text", "page_url"])
    return [Row(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]


def placed(path: Path, out: Path, chosen: params.Extract) -> dict[tuple[int, int], tuple[str, str, str]]:
    """Return address, text and uid of each pair of a WAT by record and link."""
    run(path, out, chosen)
    rows = pq.read_table(out / "pairs.parquet").to_pylist()
    return {(row["record_offset"], row["link_index"]): (row["url"], row["text"], row["uid"]) for row in rows}


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return counts and digest as the data's notes have them."""
    uids = sorted({row.uid for row in rows})
    digest = hashlib.sha256("\n".join(uids).encode()).hexdigest()
    return {"rows": len(rows), "unique_uids": len(uids), "sha256_of_sorted_uids": digest}


@pytest.fixture(scope="module")
def recipe() -> params.Extract:
    """The rules of recipe cc2dataset."""
    return recipes.load("cc2dataset", ROOT / "params.yaml").extract


class Difference(NamedTuple):
    """What a file gives beyond or other than cc2dataset, on purpose."""

    reason: str
    theirs: int
    """Rows of cc2dataset."""
    ours: int
    """Rows of the recipe."""
    shared: int
    """Rows of the recipe whose uid cc2dataset has too."""


# Every WAT that is not listed gives the same rows: uid, url, alt and page_url.
DIFFERENCES = {
    "golden_cc2dataset/one_record_without_envelope.warc.wat.gz": Difference(
        "one record without Envelope: cc2dataset drops the whole WAT, here it costs only itself", 0, 2, 0
    ),
    "wat_derived/dolma__sample-0000.warc.wat.gz": Difference(
        "page addresses in angle brackets: without them 12 relative addresses are found, and page_url is an address",
        157,
        169,
        157,
    ),
}


class TestEveryWat:
    @pytest.mark.slow
    def test_the_rule_as_written_here_gives_what_was_measured_with_other_readers(self, shared_data: Path) -> None:
        for name, expected in notes(shared_data).items():
            rows = rule(shared_data / name)
            assert summary(rows) == expected["stdlib_json"], name
            golden = shared_data / f"{name}.image.jsonl"
            if golden.is_file():
                lines = [json.loads(line) for line in golden.read_text().splitlines()]
                theirs = [Row(*(line[field] for field in Row._fields)) for line in lines]
                assert len(theirs) == expected["cc2dataset_1_5_0"]["image"]["rows"]
                assert theirs == (rows if name not in DIFFERENCES else []), name

    @pytest.mark.slow
    def test_the_recipe_gives_the_rows_of_cc2dataset_but_for_listed_differences(
        self, shared_data: Path, tmp_path: Path, recipe: params.Extract
    ) -> None:
        found = notes(shared_data)
        assert len(found) >= 18
        assert DIFFERENCES.keys() <= found.keys()
        for name, expected in found.items():
            rows = ours(shared_data / name, tmp_path, recipe)
            theirs = expected["cc2dataset_1_5_0"]["image"]
            difference = DIFFERENCES.get(name)
            if difference is None:
                assert Counter(rows) == Counter(rule(shared_data / name)), name
                assert summary(rows) == theirs, name
                continue
            uids = {row.uid for row in rule(shared_data / name)} if theirs["rows"] else set()
            assert (theirs["rows"], len(rows)) == (difference.theirs, difference.ours), name
            assert sum(row.uid in uids for row in rows) == difference.shared, name

    def test_without_angle_brackets_the_joined_addresses_are_those_of_the_rule(
        self, shared_data: Path, tmp_path: Path, recipe: params.Extract
    ) -> None:
        """README of the data: with stripping, the file has 169 rows, 56 unique."""
        name = "wat_derived/dolma__sample-0000.warc.wat.gz"
        trees = [json.loads(body) for body in bodies(shared_data / name)]
        for header in (tree["Envelope"]["WARC-Header-Metadata"] for tree in trees):
            header["WARC-Target-URI"] = header.get("WARC-Target-URI", "").strip("<>")
        path = tmp_path / "stripped.warc.wat.gz"
        path.write_bytes(members(*(record(dumped(tree)) for tree in trees)))
        rows = ours(shared_data / name, tmp_path / "out", recipe)
        assert not any("<" in row.page_url for row in rows)
        assert (len(rows), len({row.uid for row in rows})) == (169, 56)
        assert Counter(rows) == Counter(rule(path))


def page(links: object, url: object = "https://page.example/a/b.html") -> dict[str, Any]:
    """Return the tree of a record as cc2dataset needs it."""
    response = {"HTML-Metadata": {"Head": {}, "Links": links}}
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": url},
        "Payload-Metadata": {"HTTP-Response-Metadata": response},
    }
    return {"Container": {"Filename": "x.warc.gz"}, "Envelope": envelope}


def image(alt: object = "inside", url: object = "fox.jpg") -> dict[str, Any]:
    """Return an image link."""
    return {"path": "IMG@/src", "url": url, "alt": alt}


def without(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return a tree less one of its levels."""
    below = tree
    for key in path[:-1]:
        below = below[key]
    del below[path[-1]]
    return tree


def dumped(tree: object) -> bytes:
    return json.dumps(tree).encode()


GOOD = [dumped(page([image("good one")])), dumped(page([image("good two")]))]
WHOLE_WAT, ITS_PAGE, NOTHING = (), ("good one", "good two"), ("good one", "inside", "good two")
ALL = list(NOTHING)
PLAIN = dumped(page([image()]))
PAYLOAD = ("Envelope", "Payload-Metadata")

# A bad record between two good ones: what cc2dataset gives (run once, commit 28f4883), and what the recipe gives.
BAD_RECORDS: dict[str, tuple[bytes, tuple[str, ...], list[str]]] = {
    "link without url": (dumped(page([{"path": "IMG@/src", "alt": "x"}, image()])), WHOLE_WAT, ALL),
    "url null": (dumped(page([image("x", None), image()])), WHOLE_WAT, ALL),
    "alt null": (dumped(page([image(None), image()])), WHOLE_WAT, ALL),
    "alt is a number": (dumped(page([image(12345), image()])), WHOLE_WAT, [*ALL, "12345"]),
    "alt is a list": (dumped(page([image(["a fox"]), image()])), WHOLE_WAT, [*ALL, "a fox"]),
    "link is no object": (dumped(page([5, image()])), WHOLE_WAT, ALL),
    "path is a list": (dumped(page([image("x") | {"path": ["IMG@/src"]}, image()])), NOTHING, ALL),
    "lone surrogate in alt": (dumped(page([image("a \ud800"), image()])), ITS_PAGE, [*ALL, "a \ufffd"]),
    "lone surrogate elsewhere": (dumped(page([{"path": "A@/href", "text": "\ud800"}, image()])), ITS_PAGE, ALL),
    "no Envelope": (b'{"Container":{}}', WHOLE_WAT, ["good one", "good two"]),
    "no Container": (dumped(without(page([image()]), "Container")), WHOLE_WAT, ALL),
    "no Payload-Metadata": (dumped(without(page([image()]), *PAYLOAD)), WHOLE_WAT, ["good one", "good two"]),
    "no page address": (
        dumped(without(page([image("x"), image(url="https://a.example/")]), "Envelope", "WARC-Header-Metadata")),
        WHOLE_WAT,
        ALL,
    ),
    "Links null": (dumped(page(None)), WHOLE_WAT, ["good one", "good two"]),
    "Links an object": (dumped(page({"a": 1})), WHOLE_WAT, ["good one", "good two"]),
    "Head null": (PLAIN.replace(b'"Head": {}', b'"Head": null'), WHOLE_WAT, ALL),
    "Base null": (PLAIN.replace(b'"Head": {}', b'"Head": {"Base": null}'), NOTHING, ALL),
    "no UTF-8": (dumped(page([image(), image("QQ")])).replace(b"QQ", b"\xff"), ITS_PAGE, [*ALL, "\ufffd"]),
    "control character": (dumped(page([image(), image("QQ")])).replace(b"QQ", b"a\x01b"), ITS_PAGE, [*ALL, "a\x01b"]),
    "angle brackets": (
        dumped(page([image(), image("x", "https://a.example/x.jpg")], "<https://page.example/a/>")),
        ("good one", "x", "good two"),
        [*ALL, "x"],
    ),
    "JSON cut": (dumped(page([image(), image("x")]))[:-30], ITS_PAGE, ["good one", "good two"]),
    "byte order mark": (b"\xef\xbb\xbf" + PLAIN, NOTHING, ALL),
    "key twice": (PLAIN.replace(b'"alt"', b'"alt": "first", "alt"'), NOTHING, ALL),
}


FIRST, SECOND = (members(record(body)) for body in GOOD)
MIDDLE = members(record(PLAIN))
# The same for a defect of the file: here it costs what cannot be read, and nothing behind it.
BAD_FILES: dict[str, tuple[bytes, tuple[str, ...], list[str]]] = {
    "declared length too long": (FIRST + members(record(PLAIN, length=5000)) + SECOND, ("good one",), ALL),
    "declared length too short": (FIRST + members(record(PLAIN, length=50)) + SECOND, WHOLE_WAT, list(ITS_PAGE)),
    "LF line ends": (members(*(record(b).replace(b"\r\n", b"\n") for b in (*GOOD, PLAIN))), WHOLE_WAT, ALL),
    "gzip damaged": (FIRST + MIDDLE[:40] + bytes(30) + MIDDLE[70:] + SECOND, WHOLE_WAT, list(ITS_PAGE)),
    "no gzip between": (FIRST + b"garbage" * 10 + SECOND, WHOLE_WAT, list(ITS_PAGE)),
    "end missing": (FIRST + SECOND[:-60], ("good one",), ["good one"]),
}
CASES = {
    name: (FIRST + members(record(body)) + SECOND, *rows) for name, (body, *rows) in BAD_RECORDS.items()
} | BAD_FILES


@pytest.mark.parametrize("name", CASES)
def test_a_defect_costs_no_more_than_in_cc2dataset_and_mostly_less(
    tmp_path: Path, recipe: params.Extract, name: str
) -> None:
    data, theirs, expected = CASES[name]
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(data)
    found = [row.alt for row in ours(path, tmp_path / "out", recipe)]
    assert sorted(found) == sorted(expected)
    assert set(theirs) <= set(found)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pages=st.lists(
        st.tuples(ADDRESS, ADDRESS, st.lists(st.tuples(ADDRESS, st.text(max_size=8)), max_size=8)), max_size=8
    )
)
def test_whatever_a_page_holds_its_rows_are_those_of_the_rule(
    tmp_path: Path, recipe: params.Extract, pages: list[tuple[str, str, list[tuple[str, str]]]]
) -> None:
    trees = []
    for address, base, links in pages:
        images = [image(alt, prefix + url) for url, alt in links for prefix in ("", "https://a.example/", "//")]
        # White space around the address of a page goes, as angle brackets do.
        tree = page([*images, {"path": "A@/href", "url": base}], f"https://page.example/{address}".strip())
        tree["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]["Head"]["Base"] = base
        trees.append(tree)
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(members(*(record(dumped(tree)) for tree in trees)))
    assert Counter(ours(path, tmp_path / "out", recipe)) == Counter(rule(path))


# What params.yaml as committed makes of the rows that cc2dataset gives of the oracle WAT, by alt text. Rows that are
# not listed are the same pair with the same uid.
ENDS = {
    "fragment only": ("bad_url", "a bare fragment is the page itself, no image"),
    "empty url": ("bad_url", "an empty address is the page itself, no image"),
    "malformed ipv6 url": ("bad_url", "no browser can resolve it"),
    " ": ("no_alt", "a blank text says nothing"),
    "ab": ("text_too_short", "fewer characters than extract.min_chars"),
    "an svg picture": ("url_pattern", "LAION-5B refused svg"),
    "a gif picture": ("url_pattern", "LAION-5B refused gif"),
    "very long url": ("url_too_long", "longer than extract.max_url_chars"),
    "localhost url": ("private_host", "nobody else can reach it"),
    "loopback url": ("private_host", "nobody else can reach it"),
}
CHANGES = {
    "line1\nline2\ttab": ("https://a.example/nl.jpg", "line1 line2 tab", "runs of white space become one space"),
    "w " * 1500: ("https://a.example/longalt.jpg", "w " * 999 + "w", "cut at extract.max_chars"),
    "url with spaces": ("https://a.example/sp%20ace.jpg", "url with spaces", "WHATWG normal form"),
    "back\\slash": ("https://a.example/b/s.jpg", "back\\slash", "WHATWG normal form"),
    "IDN host": ("https://xn--e1afmkfd.xn--p1ai/%D0%B8%D0%B7%D0%BE.jpg", "IDN host", "WHATWG normal form"),
}
# What cc2dataset does not give: it looks for a scheme in small letters.
MORE = {("http://up.example/C.jpg", "uppercase scheme")}

# Of all WATs: how the pairs of params.yaml stand to those of cc2dataset, by what of a pair is another. One page with a
# space in the folder of its images has 851 of the addresses; only here are addresses with HTTP: or blanks before them.
SHARES = {
    "same uid": 3579,
    "address in normal form": 872,
    "address joined as a browser does": 1,
    "text": 357,
    "only here": 4,
}


class TestCommittedParameters:
    def test_the_oracle_differs_from_cc2dataset_only_where_a_rule_says_so(
        self, shared_data: Path, tmp_path: Path, defaults: params.Params
    ) -> None:
        path = shared_data / "golden_cc2dataset" / "laion_oracle.warc.wat.gz"
        theirs = rule(path)
        assert ENDS.keys() | CHANGES.keys() <= {row.alt for row in theirs}
        expected = {(row.url, row.alt) for row in theirs if row.alt not in ENDS.keys() | CHANGES.keys()}
        expected |= {(url, text) for url, text, _ in CHANGES.values()} | MORE
        rows = ours(path, tmp_path / "out", defaults.extract)
        assert {(row.url, row.alt) for row in rows} == expected
        kept = {row.uid for row in theirs if row.alt not in ENDS.keys() | CHANGES.keys()}
        assert kept < {row.uid for row in rows}
        # Never rows of cc2dataset: an absent and an empty alt; data:, javascript: and ftp:.
        counts = run(path, tmp_path / "out", defaults.extract)
        assert counts["links"]["dropped"] == Counter(reason for reason, _ in ENDS.values()) + Counter(
            {"no_alt": 2, "url_scheme": 3}
        )

    @pytest.mark.slow
    def test_of_every_wat_a_pair_with_another_uid_has_a_normal_address_or_a_cleaned_text(
        self, shared_data: Path, tmp_path: Path, recipe: params.Extract, defaults: params.Params
    ) -> None:
        shares: Counter[str] = Counter()
        for name in notes(shared_data):
            theirs = placed(shared_data / name, tmp_path, recipe)
            for place, (url, text, uid) in placed(shared_data / name, tmp_path, defaults.extract).items():
                if place not in theirs:
                    shares["only here"] += 1
                    continue
                written_url, written_text, written_uid = theirs[place]
                assert (uid == written_uid) is (url == written_url and text == written_text)
                shares["same uid"] += uid == written_uid
                shares["text"] += text != written_text
                if url != written_url:
                    # Entities of WATs made before July 2019 are decoded; here, of one file of 2014.
                    normal = ada_url.normalize_url(html.unescape(written_url) if "2014" in name else written_url)
                    shares["address in normal form" if url == normal else "address joined as a browser does"] += 1
        assert shares == SHARES
