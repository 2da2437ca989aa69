"""What the tests of reading share: WAT records made by hand, and the list of real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from laion_dask.extract.wat import wat_pages
from laion_dask.extract.wat.wat_pages import Page, Tally

READERS = ("fastwarc", "warcio")


def record(body: bytes, kind: str = "metadata", date: str = "2024-05-31T01:17:49Z", length: int | None = None) -> bytes:
    """Return one WARC record as a WAT holds it."""
    header = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Date: {date}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*header, "", ""]).encode() + body + b"\r\n\r\n"


def page_json(
    links: object, *, head: object = None, headers: object = None, url: object = "https://page.example/a/"
) -> bytes:
    """Return the JSON body of a response record."""
    html = {"Head": {} if head is None else head, "Links": links}
    response = {"Headers": {} if headers is None else headers, "HTML-Metadata": html}
    warc = {"WARC-Type": "response", "WARC-Target-URI": url, "WARC-Date": "2024-05-20T00:00:00Z"}
    envelope = {"WARC-Header-Metadata": warc, "Payload-Metadata": {"HTTP-Response-Metadata": response}}
    return json.dumps({"Container": {"Offset": "0"}, "Envelope": envelope}).encode()


def as_arc(body: bytes, **change: object) -> bytes:
    """Return a page's JSON as the extractor writes it of an ARC record; `change` sets fields, None omits one."""
    tree = json.loads(body)
    warc = tree["Envelope"].pop("WARC-Header-Metadata")
    digits = "".join(filter(str.isdigit, warc["WARC-Date"]))
    header = {
        "Target-URI": warc["WARC-Target-URI"],
        "IP-Address": "192.0.2.7",
        "Date": digits,
        "Content-Type": "text/html",
        "Content-Length": "1591",
    } | {name.replace("_", "-"): value for name, value in change.items()}
    header = {name: value for name, value in header.items() if value is not None}
    tree["Envelope"] = {"Format": "ARC", "ARC-Header-Length": "73", "ARC-Header-Metadata": header} | tree["Envelope"]
    return json.dumps(tree).encode()


def image(alt: object = "a red fox", url: object = "fox.jpg", **more: object) -> dict[str, Any]:
    """Return an image link."""
    return {"path": "IMG@/src", "url": url, "alt": alt, **more}


def members(*records: bytes) -> bytes:
    """Return records as a WAT on Common Crawl: a gzip member each."""
    return b"".join(gzip.compress(item, mtime=0) for item in records)


def read(location: Path | str, reader: str = "fastwarc") -> tuple[list[Page], Tally]:
    """Read a whole WAT."""
    tally = Tally()
    return list(wat_pages.pages(str(location), reader, ("IMG@/src",), tally)), tally


def wats(shared_data: Path) -> list[Path]:
    """List the real, derived, golden and malformed WATs."""
    found = [path for folder in shared_data.glob("wat_*") for path in folder.rglob("*") if ".war" in path.name]
    return sorted([*found, *(shared_data / "golden_cc2dataset").glob("*.warc.wat.gz")])
