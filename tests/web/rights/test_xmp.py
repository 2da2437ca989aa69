"""Pictures with XMP in every container in, what their packets state out."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.images import marked

from laion_dask.web.rights.xmp import Statement, statements

NO = "DMI-PROHIBITED"
FULL = f"{marked.VOCABULARY}{NO}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_a_packet_is_found_in_every_container(kind: str) -> None:
    assert statements(marked.with_xmp(kind, marked.mining(NO))) == [Statement("data_mining", FULL)]
    assert statements(marked.with_xmp(kind, marked.packet())) == []
    assert statements(marked.picture(kind)) == []


@pytest.mark.parametrize(
    ("name", "xmp"),
    [
        ("element", marked.packet(f"<plus:DataMining>{FULL}</plus:DataMining>")),
        ("attribute", marked.packet(attributes=f'plus:DataMining="{FULL}"')),
        ("resource", marked.packet(f'<plus:DataMining rdf:resource="{FULL}"/>')),
        ("with spaces", marked.packet(f"<plus:DataMining>\n  {FULL}\n</plus:DataMining>")),
        ("without the packet's header", marked.packet(f"<plus:DataMining>{FULL}</plus:DataMining>", wrapped=False)),
        (
            "other prefixes",
            f'<a:xmpmeta xmlns:a="adobe:ns:meta/"><b:RDF xmlns:b="{marked.RDF}"><b:Description '
            f'xmlns:c="{marked.PLUS}" c:DataMining="{FULL}"/></b:RDF></a:xmpmeta>'.encode(),
        ),
        (
            "RDF alone",
            f'<rdf:RDF xmlns:rdf="{marked.RDF}"><rdf:Description xmlns:plus="{marked.PLUS}" '
            f'plus:DataMining="{FULL}"/></rdf:RDF>'.encode(),
        ),
        ("a later version of PLUS", marked.mining(NO).replace(b"/ldf/xmp/1.0/", b"/ldf/xmp/1.1/")),
        ("no byte order mark", marked.mining(NO).replace("\ufeff".encode(), b"")),
        ("zeros behind", marked.mining(NO).replace(b" " * 50, b"\0" * 50)),
    ],
)
def test_every_way_to_write_the_property_is_read(name: str, xmp: bytes) -> None:
    assert statements(marked.with_xmp("JPEG", xmp)) == [Statement("data_mining", FULL)], name


@pytest.mark.parametrize("turned", [False, True])
def test_extended_xmp_is_put_together_from_its_pieces(turned: bool) -> None:  # noqa: FBT001
    long = marked.packet("<plus:Note>" + "x" * 90_000 + f"</plus:Note><plus:DataMining>{FULL}</plus:DataMining>")
    # Cut in the middle of the property's name: no piece alone holds it.
    for pieces in (2, 3, 7):
        assert statements(marked.extended_jpeg(long, pieces, turned=turned)) == [Statement("data_mining", FULL)]
    cut = f"<plus:DataMining>{FULL}</plus:DataMining>"
    even = marked.packet(cut + "<plus:Note>" + "y" * 173 + "</plus:Note>", wrapped=False)
    assert statements(marked.extended_jpeg(even, 2, turned=turned)) == [Statement("data_mining", FULL)]


def test_what_a_png_has_compressed_is_unpacked() -> None:
    for make in (marked.compressed_png, marked.profile_png):
        assert statements(make(marked.mining(NO))) == [Statement("data_mining", FULL)]
    digits = f"\nxmp\n  5\n{marked.mining(NO).hex()}\n".encode()
    assert statements(marked.with_chunk(b"tEXt", b"Raw profile type xmp\0" + digits)) == [
        Statement("data_mining", FULL)
    ]
    assert statements(marked.with_chunk(b"zTXt", b"Comment\0\0no zlib")) == []
    assert statements(marked.with_chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"a\nb\nc\nxyz"))) == []


@pytest.mark.parametrize("namespace", [marked.TDM, "http://www.w3.org/ns/tdmrep#", "http://www.w3.org/ns/tdmrep"])
def test_a_tdm_reservation_and_its_policy_are_read(namespace: str) -> None:
    inside = "<tdm:reservation>1</tdm:reservation><tdm:policy>https://x.example/tdm</tdm:policy>"
    xmp = marked.packet(inside).replace(marked.TDM.encode(), namespace.encode())
    assert statements(marked.with_xmp("PNG", xmp)) == [
        Statement("tdm_reservation", "1"),
        Statement("tdm_policy", "https://x.example/tdm"),
    ]


def test_a_manifest_elsewhere_is_seen() -> None:
    xmp = marked.packet(attributes='xmlns:d="http://purl.org/dc/terms/" d:provenance="https://x.example/m.c2pa"')
    assert statements(marked.with_xmp("WEBP", xmp)) == [Statement("provenance", "https://x.example/m.c2pa")]


@pytest.mark.parametrize(
    ("xmp", "expected"),
    [
        # Names that only look like it.
        (marked.packet(attributes='xmlns:my="https://x.example/" my:DataMining="no"'), []),
        (marked.packet("<plus:Note>about DataMining</plus:Note>"), []),
        # Broken XML whose words can be read, and XML whose words cannot.
        (marked.mining(NO).replace(b"</rdf:RDF>", b""), [Statement("data_mining", NO)]),
        (marked.mining(NO).replace(b'xmlns:plus="', b'xmlns:sulp="'), [Statement("data_mining", NO)]),
        (marked.mining(NO).replace(marked.RDF.encode(), b"broken"), [Statement("data_mining", FULL)]),
        (marked.mining(NO).replace(b"W5M0MpCehiHzreSzNTczkc9d", b""), [Statement("data_mining", FULL)]),
        (marked.mining("what").replace(b"</rdf:RDF>", b""), [Statement("data_mining", None)]),
        (marked.packet("<tdm:reservation>1").replace(b"</rdf:RDF>", b""), [Statement("tdm_reservation", None)]),
        # Two that differ.
        (
            marked.mining("DMI-ALLOWED") + marked.mining(NO),
            [Statement("data_mining", f"{marked.VOCABULARY}DMI-ALLOWED"), Statement("data_mining", FULL)],
        ),
        # An encoding that is not read is not passed over.
        (marked.mining(NO).decode().encode("utf-16-be"), [Statement("data_mining", None)]),
        (marked.mining(NO).decode().encode("utf-16-le"), [Statement("data_mining", None)]),
    ],
)
def test_what_cannot_be_read_is_stated_without_value(xmp: bytes, expected: list[Statement]) -> None:
    tdm = b"" if any(statement.property == "tdm_reservation" for statement in expected) else b' xmlns:tdm="'
    cleaned = xmp.replace(tdm + marked.TDM.encode() + b'"', b"") if tdm else xmp
    assert statements(marked.with_xmp("TIFF", cleaned)) == expected


def test_entities_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 1000 + b'">' + b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    xmp = marked.packet("<plus:DataMining>&b;</plus:DataMining>").replace(b"<x:xmpmeta", bomb + b"<x:xmpmeta", 1)
    assert statements(marked.with_xmp("PNG", xmp)) == [Statement("data_mining", None)] or statements(
        marked.with_xmp("TIFF", xmp)
    )[0] == Statement("data_mining", None)


@given(st.binary(max_size=400), st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]), st.integers(0, 2000))
def test_no_picture_crashes_the_reading(noise: bytes, kind: str, place: int) -> None:
    body = marked.with_xmp(kind, marked.mining(NO))
    place %= len(body)
    for damaged in (noise, body[:place] + noise + body[place:], body[:place], body[:8] + noise):
        statements(damaged)


def test_a_picture_without_a_word_costs_no_time() -> None:
    body = marked.picture("JPEG") + bytes(20_000_000)
    began = time.process_time()
    assert statements(body) == []
    assert time.process_time() - began < 1.0


def _filled(piece: bytes) -> bytes:
    return piece * (2_000_000 // len(piece))


def _element(inside: bytes) -> bytes:
    head = f"<x:xmpmeta xmlns:x='adobe:ns:meta/' xmlns:plus='{marked.PLUS}'>{marked.RDF} DataMining"
    return b"II*\0" + head.encode() + inside + b"</x:xmpmeta>"


_NAMED = f"{marked.RDF} DataMining".encode()
_PNG = b"\x89PNG\r\n\x1a\n"
_BOMB = zlib.compress(bytes(16_000_000))[:-10] + b"\xff" * 10
_PACKED = b"XML:com.adobe.xmp\0\1\0\0\0"
_PROFILE = b"Raw profile type xmp\0"
_HOSTILE = {
    "starts": b"<x:xmpmeta " * 500_000 + _NAMED,
    "wrappers": b"<?xpacket begin DataMining <rdf:RDF " * 100_000 + _NAMED,
    "one long packet": _element(b"<a/>" * 4_000_000),
    "packets at the limit": _element(b"<a/>" * 250_000) * 5,
    "nested properties": _element(b"<plus:DataMining>" * 50_000 + b"x" * 1_000 + b"</plus:DataMining>" * 50_000),
    "properties": _element(b"".join(b"<plus:DataMining>%x</plus:DataMining>" % place for place in range(40_000))),
    "attributes": _element(b"".join(b"<a plus:DataMining='%x'/>" % place for place in range(40_000))),
    "long attributes": _element(b"<a plus:DataMining='" + b"x" * 1_900_000 + b"'/>"),
    "namespaces": _element(b"<a xmlns:b='c'>" * 100_000 + b"</a>" * 100_000),
    "words": b"II*\0<x:xmpmeta>" + _NAMED + _filled(b"DMI-A "),
    "different words": b"II*\0<x:xmpmeta>" + _NAMED + b"".join(b"DMI-%d " % place for place in range(200_000)),
    "brackets": b"II*\0" + _NAMED + _filled(b"<"),
    "names": b"II*\0" + _NAMED + b"<" + _filled(b"a"),
    "segments": b"\xff\xd8\xff\xe1\0\x50http://ns.adobe.com/xmp/extension/\0" + bytes(43) + _filled(b"\xff\xe1\0\x02"),
    "chunks": _PNG + _filled(b"\0\0\0\0tEXt1234"),
    "zeros in a chunk": marked.compressed_png(bytes(100_000_000)),
    "broken bombs": _PNG
    + _filled(struct.pack(">I", len(_BOMB) + 23) + b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + _BOMB + b"1234"),
    "digits": marked.with_chunk(b"zTXt", _PROFILE + b"\0" + zlib.compress(b"\n\n\n" + b"0" * 16_000_000)),
    "line ends": marked.with_chunk(b"zTXt", _PROFILE + b"\0" + zlib.compress(b"\n" * 16_000_000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("body", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_a_hostile_picture_costs_no_time_and_a_few_copies_of_its_bytes(body: bytes) -> None:
    began = time.process_time()
    statements(body)
    assert time.process_time() - began < 5.0
    tracemalloc.start()
    try:
        assert len(statements(body)) < 1_000
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_refusal_behind_more_packets_and_properties_than_are_looked_at_is_not_lost() -> None:
    refusal = Statement("data_mining", NO)
    assert refusal in statements(b"II*\0" + marked.mining("DMI-ALLOWED") * 70 + marked.mining(NO))
    assert refusal in statements(_element(b"<a/>" * 4_000_000 + NO.encode()))
    many = b"".join(b"<plus:DataMining>DMI-%d</plus:DataMining>" % place for place in range(2_000))
    refused = f"<plus:DataMining>{NO}</plus:DataMining>".encode()
    assert Statement("data_mining", None) in statements(_element(many + refused))
    packed = _PACKED + zlib.compress(bytes(9_000_000))
    chunks = b"".join(struct.pack(">I", len(packed)) + b"iTXt" + packed + b"1234" for _ in range(3))
    assert statements(_PNG + chunks) == [Statement("data_mining", None)]
