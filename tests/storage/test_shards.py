"""A shard has img2dataset's layout, the same bytes for the same rows, and can be read back."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.versions.tables import image_row

from laion_dask import schema
from laion_dask.storage import shards

ROWS = [
    (image_row(0, caption="eins"), b"jpg zero"),
    (image_row(1, status="failed_to_download", error_message="HTTP 404", md5=None, width=None), b""),
    (image_row(2, caption="zwei ☂"), b"jpg two"),
    (image_row(3, status="failed_to_resize", error_message="the body is empty"), b""),
]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    shards.write_shard(tmp_path, "00007", ROWS)
    return tmp_path


def test_the_tar_holds_the_successes_side_by_side_in_order(shard: Path) -> None:
    with tarfile.open(shard / "00007.tar") as tar:
        members = tar.getmembers()
        caption = tar.extractfile("000070002.txt")
        assert caption is not None
        assert caption.read().decode() == "zwei ☂"
    assert [member.name for member in members] == [
        f"{key}.{kind}" for key in ("000070000", "000070002") for kind in ("jpg", "txt", "json")
    ]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }


def test_the_tar_has_the_bytes_that_pythons_own_writer_gives(shard: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tar"
    with tarfile.open(shard / "00007.tar") as written, tarfile.open(plain, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in written.getmembers():
            fresh = tarfile.TarInfo(member.name)
            fresh.size = member.size
            tar.addfile(fresh, written.extractfile(member))
    assert (shard / "00007.tar").read_bytes() == plain.read_bytes()
    shards.write_shard(tmp_path, "00008", [])
    with tarfile.open(plain, "w", format=tarfile.USTAR_FORMAT):
        pass
    assert (tmp_path / "00008.tar").read_bytes() == plain.read_bytes()


def test_the_json_member_is_the_row(shard: Path) -> None:
    with tarfile.open(shard / "00007.tar") as tar:
        member = tar.extractfile("000070000.json")
        assert member is not None
        text = member.read().decode()
    assert json.loads(text) == ROWS[0][0]
    assert list(json.loads(text)) == sorted(ROWS[0][0])


def test_the_table_has_a_row_for_every_attempt(shard: Path) -> None:
    table = shards.read_rows(shard / "00007.parquet")
    assert table.to_pylist() == [values for values, _ in ROWS]
    assert pq.read_schema(shard / "00007.parquet").names == schema.IMAGES.names


def test_the_counts_have_the_names_of_img2dataset(shard: Path) -> None:
    assert json.loads((shard / "00007_stats.json").read_text()) == {
        "count": 4,
        "successes": 2,
        "failed_to_download": 1,
        "failed_to_resize": 1,
        "status_dict": {"HTTP 404": 1, "success": 2, "the body is empty": 1},
    }


def test_the_same_rows_give_the_same_bytes(shard: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    shards.write_shard(again, "00007", ROWS)
    for path in sorted(again.iterdir()):
        assert path.read_bytes() == (shard / path.name).read_bytes(), path.name


def test_images_are_read_back_in_order(shard: Path) -> None:
    assert list(shards.read_shard(shard / "00007.tar")) == [("000070000", b"jpg zero"), ("000070002", b"jpg two")]


@pytest.mark.parametrize("extension", ["png", "webp", "avif", "tif"])
def test_pictures_of_every_extension_are_read_back(tmp_path: Path, extension: str) -> None:
    with shards.ShardWriter(tmp_path, "00007") as writer:
        writer.add(ROWS[0][0], b"picture", extension)
    with tarfile.open(tmp_path / "00007.tar") as tar:
        assert tar.getnames()[0] == f"000070000.{extension}"
    assert list(shards.read_shard(tmp_path / "00007.tar")) == [("000070000", b"picture")]


def test_a_shard_without_rows_is_a_shard(tmp_path: Path) -> None:
    shards.write_shard(tmp_path, "00000", [])
    assert list(shards.read_shard(tmp_path / "00000.tar")) == []
    assert shards.read_rows(tmp_path / "00000.parquet").num_rows == 0


def test_a_shard_that_was_not_finished_has_no_table(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[dict[str, Any], bytes]]:
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shard(tmp_path, "00000", broken())
    assert not (tmp_path / "00000.parquet").exists()


def test_a_success_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(shards.ShardError, match="000070000"):
        shards.write_shard(tmp_path, "00007", [(ROWS[0][0], b"")])


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_tar_is_named_with_the_remedy(shard: Path, damage: str) -> None:
    tar = shard / "00007.tar"
    content = tar.read_bytes()
    tar.unlink()
    if damage == "cut":
        tar.write_bytes(content[:700])
    with pytest.raises(shards.ShardError, match="run download again"):
        list(shards.read_shard(tar))


class TestTarsOfOthers:
    """`tarfile` reads what `read_shard` reads, whoever wrote it."""

    @given(
        members=st.lists(
            st.tuples(
                st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=120),
                st.sampled_from(["jpg", "txt", "json", "png"]),
                st.binary(max_size=1_100),
            ),
            max_size=6,
        ),
        form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
        folder=st.sampled_from(["", "./", "a/very/long/folder/" * 5]),
    )
    def test_pictures_are_those_that_tarfile_finds(
        self, members: list[tuple[str, str, bytes]], form: int, folder: str
    ) -> None:
        buffer = io.BytesIO()
        written = []
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name, extension, body in members:
                info = tarfile.TarInfo(f"{folder}{name}.{extension}")
                info.size = len(body)
                try:
                    tar.addfile(info, io.BytesIO(body))
                except ValueError:  # a name that this form cannot hold
                    continue
                if extension in {"jpg", "png"}:
                    written.append((info.name.rpartition(".")[0], body))
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            file.write(buffer.getvalue())
            file.flush()
            assert list(shards.read_shard(Path(file.name))) == written

    @pytest.mark.parametrize("at", [130, 150, 512, 700])
    def test_a_tar_that_is_cut_or_damaged_is_refused(self, tmp_path: Path, at: int) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo("1.jpg")
            info.size = 900
            tar.addfile(info, io.BytesIO(b"x" * 900))
        (tmp_path / "cut.tar").write_bytes(buffer.getvalue()[:at])
        with pytest.raises(shards.ShardError, match="Remedy"):
            list(shards.read_shard(tmp_path / "cut.tar"))
        if at < 512:
            damaged = bytearray(buffer.getvalue())
            damaged[at] ^= 1
            (tmp_path / "damaged.tar").write_bytes(damaged)
            with pytest.raises(shards.ShardError, match="Remedy"):
                list(shards.read_shard(tmp_path / "damaged.tar"))
