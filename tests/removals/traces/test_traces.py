"""Traces of removed pairs are found in whatever file they stand, and what is none is left alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import tables

from laion_dask.removals.traces import traces
from laion_dask.removals.traces.traces import Traces

URL, TEXT, DIGEST, BODY = "https://a.example/1.jpg?a=1&b=2", "a red fox & a dog", "ab" * 32, b"\xff\xd8picture"
UID = tables.uid(1)
GONE = Traces(
    frozenset({UID}),
    frozenset({URL}),
    frozenset({TEXT}),
    frozenset({DIGEST}),
    frozenset({hashlib.sha256(BODY).hexdigest()}),
)


def table(**columns: Any) -> bytes:  # noqa: ANN401 - values of a column
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def tar(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, body in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(body)
            file.addfile(info, io.BytesIO(body))
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"<a href='{URL}'>".encode(), "an address"),
        (f'<img src="{URL.replace("&", "&amp;")}">'.encode(), "an address"),
        (f"{URL}x".encode(), ""),
        (b"x" * ((1 << 22) - 9) + b" " + URL.encode() + b" ", "an address"),
        (gzip.compress(b"WARC-Target-URI: " + URL.encode() + b"\r\n", mtime=0), "an address in unpacked"),
        (f"sha256 {DIGEST}\n".encode(), "a digest"),
        (f"{DIGEST}0".encode(), "a digest"),
        (b"<p>a red fox &amp; a dog</p>", "a text"),
        (json.dumps({"text": TEXT}).encode(), "a text"),
        (b"<p>a red fox</p>", ""),
        (UID.encode(), ""),
        (table(uid=[UID], reason=["removed_url"], rules=[4]), ""),
        (table(uid=[UID], caption=[""], similarity=[float("nan")], bytes=[0]), ""),
        (table(uid=[UID], caption=[""], similarity=[0.5]), "rows beside their uid"),
        (table(uid=[tables.uid(2)], caption=["another"], similarity=[0.5]), ""),
        (table(URL=["https://b.example/", URL]), "an address in column URL"),
        (table(sha256=[DIGEST]), "a digest in column sha256"),
        (tar(a_jpg=b"other", a_json=json.dumps({"uid": UID}).encode()), "values beside their uid in member a.json"),
        (tar(a_jpg=BODY, a_json=b"{}"), "a picture in member a.jpg"),
        (tar(a_jpg=b"other", a_json=b"no json"), ""),
        (b"", ""),
    ],
)
def test_a_trace_is_found_in_any_kind_of_file(tmp_path: Path, body: bytes, expected: str) -> None:
    (tmp_path / "file").write_bytes(body)
    assert traces.found_in(tmp_path / "file", GONE) == expected


def test_a_blanked_row_keeps_uid_and_fate_and_others_keep_all() -> None:
    images = tables.images({"uid": UID, "caption": TEXT, "url": URL}, {"uid": tables.uid(2)})
    found = traces.blanked(images, GONE.uids)
    assert found is not None
    assert found.schema == images.schema
    gone, stays = found.to_pylist()
    assert stays == images.to_pylist()[1]
    assert {name: value for name, value in gone.items() if name in traces.NAMES} == {
        name: value for name, value in images.to_pylist()[0].items() if name in traces.NAMES
    }
    left = [value for name, value in gone.items() if name not in traces.NAMES]
    assert all(value in {"", 0, None} or np.isnan(value) for value in left)
    assert traces.blanked(found, GONE.uids) is None
    assert traces.blanked(images, frozenset({tables.uid(9)})) is None


@pytest.mark.parametrize(
    "uids",
    [
        pa.array([UID, tables.uid(2)]),
        pa.array([UID.upper(), tables.uid(2)]),
        pa.array([str(uuid.UUID(UID)), tables.uid(2)]),
        pa.array([UID.encode()]),
        pa.array([bytes.fromhex(UID)]),
        pa.array([bytes.fromhex(UID)], pa.binary(16)),
        pa.array([bytes.fromhex(UID)], pa.binary(16)).view(pa.uuid()),
        pa.array([bytes.fromhex(UID)], pa.binary_view()),
        pa.array([UID]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("name", ["uid", "UID"])
def test_values_beside_a_uid_are_found_however_it_is_written(tmp_path: Path, uids: pa.Array, name: str) -> None:
    pq.write_table(pa.table({name: uids, "score": [0.5] * len(uids)}), tmp_path / "a.parquet")
    assert traces.found_in(tmp_path / "a.parquet", GONE) == "rows beside their uid"
    pq.write_table(pa.table({name: uids}), tmp_path / "a.parquet")
    assert traces.found_in(tmp_path / "a.parquet", GONE) == ""


@pytest.mark.parametrize("made", [tables.translations, tables.captions], ids=["translations", "captions"])
def test_texts_that_models_wrote_of_a_removed_pair_are_blanked(made: Any) -> None:  # noqa: ANN401 - a maker of tables
    table = made({}, {}, {})
    blank = traces.blanked(table, frozenset({UID}))
    assert blank is not None
    assert traces.blanked(blank, frozenset({UID})) is None
    rows = blank.to_pylist()
    assert [rows[0], rows[2]] == [table.to_pylist()[0], table.to_pylist()[2]]
    said = [value for name, value in rows[1].items() if name not in {"uid", "reason"} and isinstance(value, str | list)]
    assert not any(said)
