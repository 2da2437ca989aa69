"""Pictures that carry metadata are found wherever they lie; and of what a download and exports write, none is one."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from made.images import marked
from made.images.pictures import with_metadata
from made.servers.downloads import run, write_warc, write_work
from made.servers.faulty_hosts import picture
from made.versions import tables
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.images import metadata
from laion_dask.release import exports
from laion_dask.report import gallery
from laion_dask.storage import embeddings, shards
from laion_dask.web.archive.replay import Replay

CLEAN = {"JPEG": picture(1), "PNG": picture(2, "PNG"), "WEBP": picture(3, "WEBP")}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        *((with_metadata(kind), {"EXIF", "XMP", "a color profile"}) for kind in ("JPEG", "WEBP", "AVIF")),
        (with_metadata("TIFF"), {"EXIF", "XMP"}),
        (with_metadata("JPEG"), {"IPTC", "a comment"}),
        (with_metadata("PNG"), {"EXIF", "a color profile", "a text"}),
        (marked.with_xmp("GIF", marked.mining("x")), {"XMP"}),
        (marked.with_xmp("PNG", marked.mining("x")), {"a text"}),
        (marked.compressed_png(marked.mining("x")), {"a text"}),
        (marked.profile_png(marked.mining("x")), {"a text"}),
        (marked.extended_jpeg(marked.mining("x")), {"XMP"}),
        (CLEAN["JPEG"] + with_metadata("JPEG"), {"bytes after its end"}),
        (CLEAN["PNG"] + b"where it was taken", {"bytes after its end"}),
        (CLEAN["WEBP"] + b"where it was taken", {"bytes after its end"}),
        (CLEAN["JPEG"][:2] + marked.segment(0xEB, b"of a maker") + CLEAN["JPEG"][2:], {"another segment"}),
        *((body, set()) for body in CLEAN.values()),
        (b"", set()),
        (b"no picture", set()),
    ],
)  # fmt: skip
def test_what_a_picture_carries_is_named(body: bytes, expected: set[str]) -> None:
    found = set(metadata.of_picture(body))
    assert found >= expected
    if not expected:
        assert found == set()


@given(st.sampled_from([*CLEAN.values(), with_metadata("JPEG"), with_metadata("PNG")]), st.data())
def test_damaged_pictures_are_read_to_their_end(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, len(body)))]
    place = data.draw(st.integers(0, max(0, len(cut) - 1)))
    assert isinstance(metadata.of_picture(cut[:place] + data.draw(st.binary(max_size=4)) + cut[place:]), list)


def packed(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def table(body: bytes) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"name": ["a"], "image": [body]}), out)
    return out.getvalue()


def page(body: bytes) -> bytes:
    return b'<img src="data:image/jpeg;base64,' + base64.b64encode(body) + b'">'


@pytest.mark.parametrize("name", ["a.jpg", "a.tar", "a.parquet", "a.html", "a.html.gz"])
def test_pictures_are_found_in_whatever_file_they_lie(tmp_path: Path, name: str) -> None:
    ways = {"jpg": bytes, "tar": lambda body: packed(x=body), "parquet": table, "html": page,
            "gz": lambda body: gzip.compress(page(body), mtime=0)}  # fmt: skip
    way = ways[name.rpartition(".")[2]]
    for place, body in enumerate((with_metadata("JPEG"), CLEAN["JPEG"])):
        (tmp_path / str(place)).mkdir()
        (tmp_path / str(place) / name).write_bytes(way(body))
    dirty, clean = metadata.scan(tmp_path / "0"), metadata.scan(tmp_path / "1")
    assert {one.what for one in dirty.found} >= {"EXIF", "XMP", "IPTC"}
    assert (clean.files, clean.pictures, clean.found) == (1, 1, ())


def carriers(shared_data: Path) -> list[Path]:
    """Real photos and files of other projects' tests, with EXIF, places, XMP or profiles."""
    files = sorted(path for path in (shared_data / "images").rglob("*") if path.is_file() and path.suffix != ".json")
    return [path for path in files if metadata.of_picture(path.read_bytes())]


@pytest.mark.slow
def test_nothing_that_real_pictures_carry_is_in_what_a_download_and_the_exports_write(
    shared_data: Path, tmp_path: Path, defaults: params.Params
) -> None:
    files = carriers(shared_data)
    bodies = {f"http://a.example/{place}": path.read_bytes() for place, path in enumerate(files)}
    assert sum("EXIF" in metadata.of_picture(body) for body in bodies.values()) >= 8
    assert any(path.name == "exif_gps.jpg" for path in files)
    answers = [(url, "200 OK", [("Content-Type", "image/jpeg")], body) for url, body in bodies.items()]
    work = write_work(tmp_path / "work.parquet", [*bodies])
    out = {encode: tmp_path / encode for encode in ("jpg", "png", "webp", "original")}
    with Replay([write_warc(tmp_path / "a.warc.gz", answers)]) as replay:
        for encode, folder in out.items():
            settings = defaults.download.model_copy(
                update={"encode": encode} | ({"resize": "no"} if encode == "original" else {})
            )
            run(folder, work, settings, replay.address)
    stored = {encode: metadata.scan(folder) for encode, folder in out.items()}
    assert stored["jpg"].pictures == len(files) >= stored["original"].pictures > 20
    # What is searched for was there, and is found where it is kept.
    assert {one.what for one in stored["original"].found} >= {"EXIF", "a color profile"}
    for encode in ("jpg", "png", "webp"):
        assert stored[encode].found == ()
    exported(out["jpg"], tmp_path / "score", tmp_path / "exports")
    assert metadata.scan(tmp_path / "exports").found == ()
    thumbnails = [gallery.thumbnail(bodies[f"http://a.example/{place}"], blur=False) for place in exif_jpegs(files)]
    (tmp_path / "page.html").write_text("".join(f"<img src='{one}'>" for one in thumbnails))
    shown = metadata.scan(tmp_path / "page.html")
    assert (shown.pictures, shown.found) == (len(thumbnails), ())
    assert thumbnails


def exif_jpegs(files: list[Path]) -> list[int]:
    return [place for place, path in enumerate(files) if path.name.startswith(("Portrait_", "exif_gps"))]


def exported(images: Path, score: Path, out: Path) -> None:
    """Score the pictures without a model, and write every view that there is."""
    rows = shards.read_rows(images / "00003.parquet").to_pylist()
    scores = tables.scores(*({"uid": row["uid"], "slot": at, "reason": row["reason"]} for at, row in enumerate(rows)))
    tables.write(score / "00003.parquet", scores.append_column("similarity_b32", scores["similarity"]))
    about = {"b32": {"model": "ViT-B-32/openai"}}
    group = embeddings.create(score / embeddings.STORE, about, shards=4, shard_rows=len(rows), dimensions={"b32": 2})
    assert isinstance(group, zarr.Group)
    for name in ("image", "text"):
        embeddings.array(group, f"b32/{name}")[:] = 0.5
    source = exports.DatasetFolders(images, score)
    for view in (exports.clip_retrieval, exports.datacomp, exports.subset):
        assert view(source, out / view.__name__, None) > 20


def test_the_command_names_each_picture_that_carries_metadata(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, body in (("a.jpg", with_metadata("JPEG")), ("b.jpg", CLEAN["JPEG"])):
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    (tmp_path / "00000.warc.gz").write_bytes(b"as it came")
    done = CliRunner().invoke(app, ["verify", "--metadata", str(tmp_path)])
    assert done.exit_code == 1
    assert f"{tmp_path / '00000.tar'}: a.jpg: EXIF" in done.output
    assert "b.jpg" not in done.output
    (tmp_path / "00000.tar").write_bytes(packed(**{"b.jpg": CLEAN["JPEG"]}))
    done = CliRunner().invoke(app, ["verify", "--metadata", str(tmp_path)])
    assert done.exit_code == 0
    assert "1 pictures in 2 files carry no metadata; 1 archives were not searched" in done.output
