"""One text in, files of every kind that hold it out: as written, escaped, packed, in columns, in databases."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin
from pyarrow import feather, orc

Make = Callable[[str], bytes]


def parquet(column: Any, **options: Any) -> bytes:  # noqa: ANN401 - any Arrow array
    out = io.BytesIO()
    pq.write_table(pa.table({"x": column}), out, **options)
    return out.getvalue()


def arrow(column: Any, compression: str = "zstd") -> bytes:  # noqa: ANN401 - any Arrow array
    out = io.BytesIO()
    feather.write_feather(pa.table({"x": column}), out, compression=compression)
    return out.getvalue()


def arrow_stream(value: str) -> bytes:
    out = pa.BufferOutputStream()
    table = pa.table({"x": [value] * 3})
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(out.getvalue().to_pybytes())


def with_metadata(value: str) -> bytes:
    out = io.BytesIO()
    table = pa.table({"x": [1]}).replace_schema_metadata({"note": value})
    pq.write_table(table, out)
    return out.getvalue()


def with_field_metadata(value: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}, schema=pa.schema([pa.field("x", pa.int64(), metadata={"n": value})])), out)
    return out.getvalue()


def tar(name: str, body: bytes, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:
        info = tarfile.TarInfo(name)
        info.size = len(body)
        file.addfile(info, io.BytesIO(body))
    return out.getvalue()


def zipped(body: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.writestr("inside.txt", body)
    return out.getvalue()


def npz(value: str) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.array([value, "b"]))
    return out.getvalue()


def packed(value: str, codec: str) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, codec) as stream:
        stream.write(f"before {value}\nafter".encode())
    return bytes(out.getvalue().to_pybytes())


def sqlite(value: str, *, deleted: bool = False, encoding: str = "UTF-8", long: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        connection = sqlite3.connect(path)
        connection.execute(f"pragma encoding = '{encoding}'")
        connection.execute("pragma secure_delete = off")
        connection.execute("create table t (a, b text, c)")
        # A trace that begins on one page and ends on another.
        places = range(3800, 4200, 7) if long else (0,)
        rows = [(1, f"{'z' * place}{value}", "next") for place in places]
        connection.executemany("insert into t values (?, ?, ?)", rows)
        connection.commit()
        if deleted:
            connection.execute("drop table t")
            connection.commit()
        connection.close()
        return path.read_bytes()


def sqlite_with_packed(value: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        connection = sqlite3.connect(path)
        connection.execute("create table t (a)")
        connection.execute("insert into t values (?)", (gzip.compress(value.encode()),))
        connection.commit()
        connection.close()
        return path.read_bytes()


def commented_zip(value: str) -> bytes:
    out = io.BytesIO(zipped(value.encode()))
    with zipfile.ZipFile(out, "a") as file:
        file.comment = b"a program that unpacks itself"
    return b"#!/bin/sh\n" + out.getvalue()


def duck(value: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute("create table t as select ? as a, i from range(5000) r(i)", [value])
        return path.read_bytes()


def png(value: str) -> bytes:
    out, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Comment", value, zip=True)
    Image.new("RGB", (8, 8)).save(out, "png", pnginfo=info)
    return out.getvalue()


def orc_table(value: str) -> bytes:
    out = io.BytesIO()
    orc.write_table(pa.table({"x": [value]}), out, compression="zstd")
    return out.getvalue()


def struct(value: str) -> Any:  # noqa: ANN401 - an Arrow array
    return pa.array([{"a": {"b": [value]}}])


JSON: Final = json.dumps
WRITTEN: Final[dict[str, Make]] = {
    **{
        f"followed by {sign!r}": (lambda value, sign=sign: f"see {value}{sign} and".encode())
        for sign in (",", ";", ")", ".", "!", "?", ":", "'", '"', "]", "}", ">", "|", "*", "”", "、", " ", "\n", "")
    },
    "csv": lambda value: f'1,{value},"x"\n'.encode(),
    "csv in quotes": lambda value: f'1,"{value}",x\n'.encode(),
    "tsv": lambda value: f"1\t{value}\tx\n".encode(),
    "a log": lambda value: f"2026-11-30 GET {value}: 200 (3 ms)\n".encode(),
    "single quotes": lambda value: f"print('{value}')".encode(),
    "backticks": lambda value: f"run `{value}` now".encode(),
    "json": lambda value: JSON({"a": [value]}).encode(),
    "json with \\/": lambda value: JSON({"a": value}).replace("/", "\\/").encode(),
    "json with \\u for all signs": lambda value: "".join(f"\\u{ord(sign):04x}" for sign in value).encode(),
    "json in json": lambda value: JSON(JSON(JSON(value))).encode(),
    "json in html": lambda value: html.escape(JSON(value)).encode(),
    "html": lambda value: html.escape(value).encode(),
    "html with numbers": lambda value: "".join(f"&#{ord(sign)};" for sign in value).encode(),
    "a query": lambda value: f"https://b.example/?u={quote(value, safe='')}&x=1".encode(),
    "a form": lambda value: f"u={quote_plus(value)}&x=1".encode(),
    "python's repr": lambda value: ascii(value).encode(),
    "html with numbers and no semicolon": lambda value: "".join(f"&#x{ord(sign):x}" for sign in value).encode(),
    "yaml": lambda value: "".join(f"\\U{ord(sign):08x}" for sign in value).encode(),
    "octal numbers": lambda value: "".join(f"\\{byte:03o}" for byte in value.encode()).encode(),
    "letters and accents apart": lambda value: unicodedata.normalize("NFD", value).encode(),
    "windows-1252": lambda value: f"\u201c{value}\u201d".encode("cp1252", "replace"),
    "utf-16 with a mark": lambda value: value.encode("utf-16"),
    "utf-16 without": lambda value: b"\x01\x02" + value.encode("utf-16-le"),
    "utf-16, high byte first": lambda value: value.encode("utf-16-be"),
    "utf-32": lambda value: value.encode("utf-32"),
    "pickle": lambda value: pickle.dumps([1, value]),
    "beside binary bytes": lambda value: b"\x00\x01abc" + value.encode() + b"def\xff\x00",
}
COLUMNS: Final[dict[str, Callable[[str], Any]]] = {
    "string": lambda value: pa.array(["a", value]),
    "large_string": lambda value: pa.array([value], pa.large_string()),
    "string_view": lambda value: pa.array([value], pa.string_view()),
    "dictionary": lambda value: pa.array([value, value]).dictionary_encode(),
    "list": lambda value: pa.array([[value], None]),
    "large_list": lambda value: pa.array([[value]], pa.large_list(pa.string())),
    "fixed_size_list": lambda value: pa.array([[value]], pa.list_(pa.string(), 1)),
    "list of dictionaries": lambda value: pa.array([[value]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "struct": struct,
    "map": lambda value: pa.array([[("k", value)]], pa.map_(pa.string(), pa.string())),
    "binary": lambda value: pa.array([value.encode()]),
    "large_binary": lambda value: pa.array([value.encode()], pa.large_binary()),
    "binary_view": lambda value: pa.array([value.encode()], pa.binary_view()),
    "fixed_size_binary": lambda value: pa.array([value.encode()], pa.binary(len(value.encode()))),
    "list of numbers": lambda value: pa.array([list(value.encode())], pa.list_(pa.uint8())),
    "packed values": lambda value: pa.array([gzip.compress((value * 9).encode())]),
}
PACKED: Final[dict[str, Make]] = {
    "gzip": lambda value: gzip.compress(value.encode()),
    "gzip in two members": lambda value: gzip.compress(b"a") + gzip.compress(value.encode()),
    "bzip2": lambda value: bz2.compress(value.encode()),
    "xz": lambda value: lzma.compress(value.encode()),
    "zlib": lambda value: zlib.compress(value.encode()),
    "zstd": lambda value: packed(value, "zstd"),
    "zstd in two frames": lambda value: packed("other", "zstd") + packed(value, "zstd"),
    "lz4": lambda value: packed(value, "lz4"),
    "tar": lambda value: tar("a.txt", value.encode()),
    "a name in a tar": lambda value: tar(f"{value}.txt", b""),
    "behind the end of a tar": lambda value: tar("a.txt", b"") + value.encode(),
    "packed in a tar behind another tar": lambda value: tar("a", b"a") + tar("b", gzip.compress(value.encode())),
    "tar.gz": lambda value: tar("a.txt", value.encode(), "w:gz"),
    "tar.xz": lambda value: tar("a.txt", value.encode(), "w:xz"),
    "zip": lambda value: zipped(value.encode()),
    "zip with bzip2": lambda value: zipped(value.encode(), zipfile.ZIP_BZIP2),
    "zip with xz": lambda value: zipped(value.encode(), zipfile.ZIP_LZMA),
    "zip behind a program": lambda value: b"#!/bin/sh\n" + zipped(value.encode()),
    "zip behind a program, with a comment": commented_zip,
    "zip before other bytes": lambda value: b"MZ" + zipped(value.encode()) + b"signature",
    "parquet in zip in tar.gz": lambda value: tar("a.zip", zipped(parquet(pa.array([value]))), "w:gz"),
    "npz": npz,
    "parquet with metadata": with_metadata,
    "parquet with metadata of a column": with_field_metadata,
    "arrow stream": arrow_stream,
    "orc": orc_table,
    "sqlite": sqlite,
    "sqlite in utf-16": lambda value: sqlite(value, encoding="UTF-16le"),
    "sqlite, deleted": lambda value: sqlite(value, deleted=True),
    "sqlite, over two pages": lambda value: sqlite(value, long=True),
    "sqlite, over two pages, deleted": lambda value: sqlite(value, long=True, deleted=True),
    "packed in sqlite": sqlite_with_packed,
    "sqlite in gzip": lambda value: gzip.compress(sqlite(value)),
    "duckdb": duck,
    "png": png,
    "base64 in json": lambda value: JSON({"body": base64.b64encode(value.encode()).decode()}).encode(),
}
UNPACKED_ONLY: Final = frozenset({"base64 in json"})
"""Kinds that are looked through for pictures only."""
CASES: Final[dict[str, Make]] = {
    **WRITTEN,
    **{f"parquet, {name}": (lambda value, make=make: parquet(make(value))) for name, make in COLUMNS.items()},
    **{f"feather, {name}": (lambda value, make=make: arrow(make(value))) for name, make in COLUMNS.items()},
    **{name: make for name, make in PACKED.items() if name not in UNPACKED_ONLY},
}
