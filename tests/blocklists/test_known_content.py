"""A listed image and a listed address leave nothing behind: every byte that catalog and download write is searched."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from made.servers.downloads import JPEG, run, write_warc, write_work
from made.servers.faulty_hosts import picture
from made.texts.listing import index, stored
from made.versions import catalogs, tables

from laion_dask import params
from laion_dask.catalog import database
from laion_dask.storage import files, shards
from laion_dask.web.archive.replay import Replay

LISTED = "http://a.example/listed.jpg"
MOVED = "http://a.example/moved.jpg"
TARGET = "http://b.example/target.jpg"
DIRECT = "http://c.example/direct.jpg"
GOOD = "http://a.example/good.jpg"


def everything(folder: Path, *inputs: Path) -> bytes:
    """Return the bytes of all files but the inputs, unpacked where they are packed."""
    return b"\n".join(body for _, body in stored(folder, inputs))


@pytest.mark.slow
def test_a_listed_address_reaches_neither_the_database_nor_the_work_list(tmp_path: Path) -> None:
    rows = [{"url": url, "host": "a.example", "text": f"seen at {url}"} for url in (LISTED, GOOD)]
    pairs = tables.write(tmp_path / "pairs.parquet", tables.pairs(*rows))
    # The list has the other scheme, and no fragment.
    address = hashlib.md5(LISTED.replace("http:", "https:").encode()).hexdigest()
    lists = [index(tmp_path / "lists", "url_md5", address, name="addresses")]
    # A Unix socket has a short path.
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        with database.server(None, Path(folder) / "pg") as dsn:
            database.prepare(dsn, 1, [], catalogs.wats(tables.pairs(*rows)))
            counts = catalogs.run(dsn, out, [pairs], files.digest(pairs), lists=lists)
        written, database_alone = everything(Path(folder)), everything(Path(folder) / "pg")
    assert counts["listed"] == {"addresses": 1}
    assert counts["pairs"]["dropped"] == {"listed_url": 1}
    for bytes_ in (written, database_alone):
        assert GOOD.encode() in bytes_
        assert LISTED.encode() not in bytes_
    assert address.encode() not in written


def test_nothing_of_a_listed_image_or_address_is_written(
    tmp_path: Path, defaults: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    body = picture(1)
    answers = [
        (LISTED, "200 OK", JPEG, body),
        (MOVED, "302 Found", [("Location", TARGET)], b""),
        (TARGET, "200 OK", JPEG, picture(2)),
        (DIRECT, "200 OK", JPEG, picture(3)),
        (GOOD, "200 OK", JPEG, picture(4)),
    ]
    addresses = [hashlib.md5(url.encode()).hexdigest() for url in (TARGET, DIRECT)]
    lists = [
        index(tmp_path / "lists", "sha256", hashlib.sha256(body).hexdigest(), name="images"),
        index(tmp_path / "lists", "url_md5", *addresses, name="addresses"),
    ]
    work = write_work(tmp_path / "work.parquet", [LISTED, MOVED, DIRECT, GOOD])
    settings = defaults.download.model_copy(update={"archive": True})
    web = write_warc(tmp_path / "a.warc.gz", answers)
    with Replay([web]) as replay:
        counts = run(tmp_path / "out", work, settings, replay.address, lists=lists)
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    assert [row["reason"] for row in rows] == ["listed_hash", "listed_address", "listed_address", "keep"]
    assert [row["listed_by"] for row in rows] == [["images"], ["addresses"], ["addresses"], None]
    assert [row["uid"] for row in rows] == [f"{place:032x}" for place in range(4)]
    assert counts["listed"] == {"images": 1, "addresses": 2}
    written = everything(tmp_path, web, work, *(tmp_path / "lists").glob("*.txt"))
    assert GOOD.encode() in written
    assert picture(4) in written
    digests = [hashlib.new(kind, body) for kind in ("md5", "sha1", "sha256")]
    secrets = [body, *(url.encode() for url in (LISTED, MOVED, TARGET, DIRECT))]
    # Not their raw bytes: the list's index is made of them.
    secrets += [digest.hexdigest().encode() for digest in digests]
    assert [secret for secret in secrets if secret in written] == []


def test_a_picture_that_only_looks_like_a_listed_one_is_kept_out_as_well(
    tmp_path: Path, defaults: params.Params
) -> None:
    settings = defaults.download.model_copy(update={"archive": True})
    work = write_work(tmp_path / "work.parquet", [LISTED, GOOD])
    answers = [(LISTED, "200 OK", JPEG, picture(1)), (GOOD, "200 OK", JPEG, picture(4))]
    with Replay([write_warc(tmp_path / "a.warc.gz", answers)]) as replay:
        run(tmp_path / "before", work, settings, replay.address)
        pdq = str(shards.read_rows(tmp_path / "before" / "00003.parquet")["pdq"][0])
        near = f"{int(pdq, 16) ^ 0b111:064x}"
        lists = [index(tmp_path / "lists", "pdq", near, distance=3, quality=0)]
        run(tmp_path / "after", work, settings, replay.address, lists=lists)
    rows = shards.read_rows(tmp_path / "after" / "00003.parquet").to_pylist()
    assert [row["reason"] for row in rows] == ["listed_hash", "keep"]
    before, after = everything(tmp_path / "before"), everything(tmp_path / "after")
    for secret in (LISTED.encode(), picture(1), pdq.encode()):
        assert secret in before
        assert secret not in after
