"""Records of WARC files for tests: bodies in every coding, revisits, and kinds of record that hold no answer."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pyarrow as pa
from made.crawls.warcs import IDENTICAL, answer, record, response
from made.servers.downloads import picture

PNG = picture(1, 64, 64, "PNG")
GIF = picture(4, 64, 64, "GIF")


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def chunked(data: bytes, size: int = 100) -> bytes:
    """Return a body in chunks, as HTTP/1.1 sends them."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


CODINGS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "x-gzip": lambda data: gzip.compress(data, mtime=0),
    "X-GZIP": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "Deflate": deflate_raw,
    "br": brotli.compress,
    "zstd": zstd,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data, mtime=0), mtime=0),
    "gzip, br": lambda data: brotli.compress(gzip.compress(data, mtime=0)),
    "br,deflate, identity": lambda data: zlib.compress(brotli.compress(data)),
}

ORIGINAL = response(
    "http://a.example/original",
    PNG,
    "Content-Type: image/png",
    fields=["WARC-Record-ID: <urn:uuid:1>", "WARC-Payload-Digest: sha1:AAA"],
)
ETAG = answer(b"", "Content-Type: image/png", "X-Own: yes")


def revisit(url: str, *fields: str, block: bytes = ETAG, profile: str = IDENTICAL) -> bytes:
    return record("revisit", url, block, f"WARC-Profile: {profile}", *fields)


LEFT_OUT = {
    "not an HTTP answer": record("response", "http://a.example/x", b"220 mail.example ESMTP\r\n"),
    "in segments": response("http://a.example/x", PNG, fields=["WARC-Segment-Number: 1"]),
    "revisit of a record that is in no file": revisit("http://a.example/x", "WARC-Refers-To: <urn:uuid:9>"),
    "conversion": record("conversion", "http://a.example/x", b"text of a page", "Content-Type: text/plain"),
    "metadata": record("metadata", "http://a.example/x", b"fetchTimeMs: 5", "Content-Type: application/warc-fields"),
    "respons": record("respons", "http://a.example/x", b"HTTP/1.1 200 OK\r\n\r\n"),
    "request": record("request", "http://a.example/x", b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"),
}
