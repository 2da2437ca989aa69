"""A few values for each row in, a table after laion_dask.schema out: what a test does not name has a default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.schema import groups as group_schema
from laion_dask.schema.new_texts import KINDS_OF_PERSONAL_DATA
from laion_dask.schema.reasons import KEEP

Row = Mapping[str, Any]


def uid(number: int) -> str:
    """Return a uid that sorts like its number."""
    return f"{number:032x}"


def pairs(*rows: Row) -> pa.Table:
    """Make PAIRS, sorted by uid as extraction writes them; the uid follows from text and url where none is given."""
    return _table(schema.PAIRS, rows, _pair).sort_by("uid")


def images(*rows: Row) -> pa.Table:
    """Make IMAGES: good JPEGs, each with its own bytes; `reason` makes a failed row, without picture and hashes."""
    return _table(schema.IMAGES, rows, _image)


def scores(*rows: Row) -> pa.Table:
    """Make SCORES: of a pair that matches and is safe."""
    return _table(schema.SCORES, rows, _score)


def verdicts(*rows: Row) -> pa.Table:
    """Make VERDICTS: kept English pairs of shard 0."""
    return _table(schema.VERDICTS, rows, _verdict)


def groups(*rows: Row) -> pa.Table:
    """Make GROUPS: of images that are near no other."""
    return _table(group_schema.GROUPS, rows, _group)


def translations(*rows: Row) -> pa.Table:
    """Make TRANSLATIONS: each with an English text; `reason` makes one without."""
    return _table(schema.TRANSLATIONS, rows, _translation)


def captions(*rows: Row) -> pa.Table:
    """Make CAPTIONS: each with a caption out of two samples; `reason` makes one without."""
    return _table(schema.CAPTIONS, rows, _caption)


def write(path: Path, table: pa.Table) -> Path:
    """Write a table as Parquet and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def _table(kind: schema.Table, rows: tuple[Row, ...], defaults: Callable[[int, Row], Row]) -> pa.Table:
    full = []
    for number, row in enumerate(rows):
        unknown = row.keys() - set(kind.names)
        if unknown:
            message = f"{kind.name} has no column {sorted(unknown)}"
            raise KeyError(message)
        full.append({**defaults(number, row), **row})
    columns = {name: [row[name] for row in full] for name in kind.names}
    return kind.check(pa.table(columns, schema=kind.schema))


def _pair(number: int, row: Row) -> Row:
    host = row.get("host", "images.example")
    url, text = row.get("url", f"https://{host}/{number}.jpg"), row.get("text", "a red fox jumping")
    return {
        "uid": hashlib.md5((text + url).encode()).hexdigest(),
        "url": url,
        "text": text,
        "host": host,
        "language": "en",
        "language_confidence": 0.9,
        "split": "en",
        "license": "?",
        "crawl": "demo",
        "wat": "wat/0.warc.wat.gz",
        "wat_order": 0,
        "record_offset": number * 100,
        "link_index": 0,
        "page_url": "https://page.example/",
        "page_date": "2024-01-01T00:00:00Z",
        "page_signals": "",
        **dict.fromkeys(("emails", "phones", "cards", "accounts", "ips"), 0),
    }


def _image(number: int, row: Row) -> Row:
    pair = _pair(number, row)
    good = row.get("reason", KEEP) == KEEP
    body = pair["url"].encode()
    return {
        **pair,
        "uid": uid(number),
        "caption": row.get("caption", pair["text"]),
        "key": f"{number:09d}",
        "status": "success" if good else "failed_to_download",
        "error_message": None if good else row["reason"],
        "reason": KEEP,
        "listed_by": None,
        "compared": None,
        "http_status": 200,
        "server_date": None,
        "fetched": None,
        "final_url": pair["url"],
        "content_type": "image/jpeg",
        "rights": "allowed",
        "rights_signal": "",
        "rights_evidence": "",
        "rights_source": "",
        "rights_time": None,
        "format": "JPEG" if good else None,
        "animated": False if good else None,
        "bytes": len(body) if good else None,
        "md5": hashlib.md5(body).hexdigest() if good else None,
        "sha1": None,
        "sha256": hashlib.sha256(body).hexdigest() if good else None,
        "pdq": hashlib.sha256(body).hexdigest() if good else None,
        "pdq_quality": 100 if good else None,
        "original_width": 640 if good else None,
        "original_height": 480 if good else None,
        "width": 256 if good else None,
        "height": 192 if good else None,
        "seen": 1,
    }


def _score(number: int, _: Row) -> Row:
    return {
        "uid": uid(number),
        "slot": number,
        "reason": KEEP,
        "similarity": 0.9,
        "aesthetic": 5.5,
        "punsafe": 0.1,
        "pwatermark": 0.1,
    }


def _group(number: int, row: Row) -> Row:
    name = row.get("uid", uid(number))
    far = {"evaluation_distance": float("nan"), "evaluation_cosine": float("nan")}
    return {"uid": name, "image": name, "cluster": 0, "centroid_cosine": 0.5, **far}


def _verdict(number: int, _: Row) -> Row:
    return {"uid": uid(number), "shard": 0, "split": "en", "reason": KEEP, "rules": 0, "stays": None}


def image_row(place: int, **values: object) -> dict[str, Any]:
    """Return a row of IMAGES of shard 00007: plain values, and those that are given, whether or not they fit."""
    blank = {pa.bool_(): False, pa.int16(): 0, pa.int32(): 0, pa.int64(): 0, pa.float32(): 0.5, pa.string(): "x"}
    plain = {column.name: blank.get(column.type) for column in schema.IMAGES.columns}
    return {**plain, "key": f"00007{place:04d}", "status": "success", "error_message": None, **values}


def _translation(number: int, row: Row) -> Row:
    has = row.get("reason", KEEP) == KEEP
    return {
        "uid": uid(number),
        "reason": KEEP,
        "english": f"a drawing with the number {number}" if has else None,
        "source_language": "de" if has else "",
        "cut": False if has else None,
        "similarity": 0.25,
        "english_similarity": 0.375 if has else None,
        **_new_personal(has),
    }


def _caption(number: int, row: Row) -> Row:
    has = row.get("reason", KEEP) == KEEP
    text = f"a red star with the number {number}"
    return {
        "uid": uid(number),
        "reason": KEEP,
        "top_caption": text if has else None,
        "similarity": 0.25,
        "caption_similarity": 0.5 if has else None,
        "ranked_caption": None,
        "distinct": 2 if has else 0,
        "all_captions": [text, "a star"] if has else None,
        "all_similarities": [0.5, 0.25] if has else None,
        **_new_personal(has),
    }


def _new_personal(has: bool) -> Row:  # noqa: FBT001 - of two helpers
    return dict.fromkeys(KINDS_OF_PERSONAL_DATA, 0 if has else None)
