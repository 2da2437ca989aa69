"""Tars that others made, odd and broken ones: every picture is a sample, or a row with its reason."""

from __future__ import annotations

import io
import json
import math
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.images.foreign_tars import picture, run

from laion_dask.images import tar_folders, tar_samples
from laion_dask.schema.reasons import KEEP, REASONS

Members = list[tuple[str, bytes]]
RED, BLUE = picture("JPEG", 1), picture("JPEG", 2)


def pack(tar: Path, members: Members, form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar whose names may stand twice."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w", format=form) as out:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return tar


def found(tar: Path) -> list[tuple[str, str, str]]:
    """Return key, reason and caption of every row; check that pictures and rows agree."""
    rows = tar_folders.samples(tar).to_pylist()
    assert [key for key, _ in tar_folders.pictures(tar)] == [row["key"] for row in rows if row["reason"] == KEEP]
    assert {row["reason"] for row in rows} <= {KEEP, *REASONS["score"]}
    return [(row["key"], row["reason"], row["caption"]) for row in rows]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(
            [("0.jpg", RED), ("0.txt", b"a"), ("0.jpg", BLUE), ("0.txt", b"b")],
            [("0", "doubled_name", "b")],
            id="a name twice",
        ),
        pytest.param(
            [("0.jpg", RED), ("1.jpg", BLUE), ("0.txt", b"a"), ("1.txt", b"b"), ("0.txt", b"c")],
            [("1", KEEP, "b"), ("0", "doubled_name", "c")],
            id="a caption twice, far apart",
        ),
        pytest.param(
            [("0.jpg", RED), ("0.JPG", BLUE)], [("0", "doubled_name", "")], id="a name twice but for its case"
        ),
        pytest.param(
            [("0.jpg", RED), ("0.txt", b"a"), ("0.json", b"{}"), ("0.json", b"{}")],
            [("0", "doubled_name", "a")],
            id="a JSON twice",
        ),
        pytest.param(
            [("0.txt", b"a"), ("1.txt", b"b"), ("1.jpg", BLUE), ("0.jpg", RED)],
            [("1", KEEP, "b"), ("0", KEEP, "a")],
            id="captions first, pictures in another order",
        ),
        pytest.param(
            [("a/0.jpg", RED), ("b/0.jpg", BLUE), ("b/0.txt", b"b"), ("a/0.txt", b"a"), ("./0.jpg", RED)],
            [("a/0", KEEP, "a"), ("b/0", KEEP, "b"), ("./0", KEEP, "")],
            id="equal names in several folders",
        ),
        pytest.param(
            [("v1.2/0.jpg", RED), ("v1.2/0.txt", b"a")], [("v1.2/0", KEEP, "a")], id="a dot in the name of the folder"
        ),
        pytest.param([("a.b.jpg", RED), ("a.b.txt", b"x")], [("a", KEEP, "x")], id="a dot more in both names"),
        pytest.param([("a.b.jpg", RED)], [("a", KEEP, "")], id="a dot more, without a caption"),
        pytest.param(
            [("a.b.JPG", RED), ("a.b.json", b'{"caption": "x"}')], [("a", KEEP, "x")], id="a dot more, with a JSON"
        ),
        pytest.param(
            [("a.b.jpg", RED), ("a.b.txt", b"x"), ("a.c.jpg", BLUE), ("a.c.txt", b"y")],
            [("a", "odd_name", "x")],
            id="several pictures up to the first dot",
        ),
        pytest.param([("a.seg.png", RED), ("a.txt", b"x")], [("a", "odd_name", "")], id="a caption of another picture"),
        pytest.param(
            [("a.seg.png", RED), ("a.txt", b"x"), ("a.jpg", BLUE)], [("a", KEEP, "x")], id="a mask beside the picture"
        ),
        pytest.param([("0.jpg", RED)], [("0", KEEP, "")], id="no caption"),
        pytest.param(
            [("0.gif", RED), ("1.avif", RED), ("2.JP2", RED), ("3.tif", RED), ("4.bmp", RED), ("4.txt", b"a")],
            [("0", KEEP, ""), ("1", KEEP, ""), ("2", KEEP, ""), ("3", KEEP, ""), ("4", KEEP, "a")],
            id="pictures stored as received",
        ),
        pytest.param([("0.jpg", RED), ("0.txt", b"\xef\xbb\xbfa")], [("0", KEEP, "a")], id="a byte order mark"),
        pytest.param([("0.jpg", RED), ("0.txt", b"caf\xe9")], [("0", "bad_caption", "")], id="a caption in Latin-1"),
        pytest.param([("0.jpg", RED), ("0.txt", b"x" * 1_000_001)], [("0", "bad_caption", "")], id="a long caption"),
        pytest.param(
            [("0.jpg", RED), ("0.json", b'{"caption": ["a", "b"]}')], [("0", "bad_caption", "")], id="a list as caption"
        ),
        pytest.param(
            [("0.jpg", RED), ("0.json", b'{"caption": 5, "url": ["u"]}')], [("0", KEEP, "5")], id="a number as caption"
        ),
        pytest.param([("0.jpg", RED), ("0.json", b'{"a'), ("0.txt", b"a")], [("0", KEEP, "a")], id="a broken JSON"),
        pytest.param(
            [("0.jpg", RED), ("0.json", b'{"caption": "x \\ud83e"}')], [("0", KEEP, "x ?")], id="half a character"
        ),
        pytest.param([("/0.jpg", RED), ("/0.txt", b"a")], [("/0.jpg", "odd_member", "")], id="an absolute name"),
        pytest.param(
            [("../0.jpg", RED), ("a/../../1.jpg", RED)],
            [("../0.jpg", "odd_member", ""), ("a/../../1.jpg", "odd_member", "")],
            id="a name that leads out",
        ),
        pytest.param([("0.txt", b"a"), ("README", b""), ("1.cls", b"5"), (".jpg", RED)], [], id="no picture"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_picture_is_a_sample_or_has_its_reason(
    tmp_path: Path, members: Members, expected: list[tuple[str, str, str]], form: int
) -> None:
    assert found(pack(tmp_path / "t.tar", members, form)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sha256", "\ud800"), ("sha256", "x"), ("sha256", ["a"]),
        ("original_width", True), ("original_width", -1), ("original_width", 2**31), ("original_width", 1.5),
    ],
)  # fmt: skip
def test_what_a_json_says_wrongly_is_not_known(tmp_path: Path, name: str, value: object) -> None:
    tar = pack(tmp_path / "t.tar", [("0.jpg", RED), ("0.json", json.dumps({"caption": "a", name: value}).encode())])
    (row,) = tar_folders.samples(tar).to_pylist()
    assert (row["reason"], row["caption"], row[name]) == (KEEP, "a", None)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_names_in_any_script_are_read(tmp_path: Path, form: int) -> None:
    name = "ordner/" + "é" * 300
    tar = pack(tmp_path / "t.tar", [(f"{name}.jpg", RED), (f"{name}.txt", b"a")], form)
    assert found(tar) == [(name, KEEP, "a")]


def test_a_name_that_is_no_utf_8_is_odd(tmp_path: Path) -> None:
    tar = pack(tmp_path / "t.tar", [("caf\udce9.jpg", RED), ("0.jpg", RED)], tarfile.GNU_FORMAT)
    assert found(tar) == [("0", KEEP, ""), ("caf?.jpg", "odd_member", "")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_no_pictures_and_no_captions(tmp_path: Path, kind: bytes) -> None:
    tar = tmp_path / "t.tar"
    with tarfile.open(tar, "w") as out:
        for name, content in (("0.jpg", RED), ("1.jpg", b""), ("0.txt", b"")):
            member = tarfile.TarInfo(name)
            if not content:
                member.type, member.linkname = kind, "/etc/hostname"
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        out.addfile(folder)
    assert found(tar) == [("0", KEEP, ""), ("1.jpg", "odd_member", "")]


GOOD: Members = [(f"{n}.{end}", body) for n in range(4) for end, body in (("jpg", RED), ("txt", f"text {n}".encode()))]


def _cut(data: bytes, members: int, more: int) -> bytes:
    """Cut a tar so many bytes behind the beginning of a member."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data[: tar.getmembers()[members].offset + more]


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        pytest.param(lambda data: _cut(data, 6, 700), 3, id="cut inside of a picture"),
        pytest.param(lambda data: _cut(data, 6, 300), 3, id="cut inside of a header"),
        pytest.param(lambda data: _cut(data, 6, 0), 3, id="cut between two members"),
        pytest.param(lambda data: _cut(data, 7, 513), 4, id="cut inside of a caption"),
        pytest.param(lambda data: _cut(data, 4, 0) + b"\xff" * 3000, 2, id="rubbish in the middle"),
        pytest.param(lambda data: data + data, 4, id="two tars in one file"),
    ],
)
def test_a_broken_tar_keeps_what_is_whole_and_has_a_row_that_says_so(
    tmp_path: Path, damage: Callable[[bytes], bytes], kept: int
) -> None:
    tar = pack(tmp_path / "t.tar", GOOD)
    tar.write_bytes(damage(tar.read_bytes()))
    rows = found(tar)
    assert [row[:2] for row in rows] == [*((str(number), KEEP) for number in range(kept)), ("", "broken_tar")]
    assert tar_folders.count(tar) == kept + 1


def test_whatever_bytes_a_tar_has_it_is_read_or_told(tmp_path: Path) -> None:
    dice = random.Random(11)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        good = pack(tmp_path / "good.tar", [*GOOD, ("x" * 150 + ".jpg", RED)], form).read_bytes()
        for _ in range(150):
            data = bytearray(good)
            for _ in range(dice.randrange(1, 20)):
                # Most places are headers: what else is there are pictures.
                data[dice.randrange(len(data)) // 512 * 512 + dice.randrange(200)] = dice.randrange(256)
            tar = tmp_path / "t.tar"
            tar.write_bytes(data[: dice.choice([len(data), dice.randrange(1, len(data))])])
            scanned = tar_samples.scan(tar)
            assert len(list(tar_samples.bodies(tar, scanned.chosen))) == len(scanned.chosen)
            assert len(tar_samples.scan(tar, with_texts=False).rows) == len(scanned.rows)


@pytest.mark.slow
def test_a_folder_with_broken_and_odd_tars_is_scored_with_all_counted(tmp_path: Path, shared_data: Path) -> None:
    tars = tmp_path / "tars"
    pack(tars / "a.tar", [*GOOD, ("9.jpg", RED), ("8.jpg", RED), ("8.json", b"{broken")])
    cut = pack(tars / "b.tar", GOOD)
    cut.write_bytes(_cut(cut.read_bytes(), 4, 0))
    (tars / "c.tar").write_bytes(b"no tar at all" * 100)
    (tars / "d.tar").write_bytes((shared_data / "faults" / "dup_names.tar").read_bytes())
    (tars / "folder.tar").mkdir()
    done = run(tars, "--model", "demo", "--heads", "demo", "--out", tmp_path / "out", "--workers", 1)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "broken_tar 2" in said
    assert "doubled_name 1" in said
    assert "no_caption 2" in said
    assert "the JSON of 1 images cannot be read" in said
    scores = [pq.read_table(tmp_path / "out" / "score" / f"{place:05d}.parquet") for place in range(4)]
    assert [table["reason"].to_pylist() for table in scores] == [
        [KEEP] * 6,
        [KEEP] * 2 + ["broken_tar"],
        ["broken_tar"],
        ["doubled_name"],
    ]
    # Of a picture without a caption nothing is known of how well they fit; all else is.
    similarity, aesthetic = (scores[0][name].to_pylist() for name in ("similarity", "aesthetic"))
    assert [math.isfinite(value) for value in similarity] == [True] * 4 + [False] * 2
    assert all(map(math.isfinite, aesthetic))


def test_a_folder_of_nothing_but_broken_tars_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(tar_folders.FolderError, match=r"t\.tar cannot be read: .*Remedy: fetch it again"):
        tar_folders.counts(tar_folders.find(tmp_path))


def test_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    import webdataset

    members = [*GOOD, ("d/a.b.jpg", RED), ("d/a.b.txt", b"x"), ("v1.0/c.jpg", BLUE), ("v1.0/c.txt", b"y")]
    tar = pack(tmp_path / "t.tar", members)
    with tar.open("rb") as stream:
        files = webdataset.tariterators.tar_file_iterator(stream)
        theirs = {webdataset.tariterators.base_plus_ext(one["fname"])[0] for one in files}
    assert {key for key, _, _ in found(tar)} == theirs
