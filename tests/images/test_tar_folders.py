"""Tars of img2dataset and webdataset: their samples, and a whole scoring of a folder from the command line."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from made.images.foreign_tars import picture, run
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.clip import clip, models, preprocess
from laion_dask.images import tar_folders
from laion_dask.images.tar_folders import FolderError
from laion_dask.storage import embeddings


def pack(tar: Path, members: dict[str, bytes]) -> Path:
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as out:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return tar


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    known = {"uid": "a" * 32, "url": "https://a.example/1.jpg", "caption": "of the JSON", "original_width": 640}
    return pack(
        tmp_path / "tars" / "mixed.tar",
        {
            "d/000.jpg": picture("JPEG"),
            "d/000.txt": b"a red star",
            "d/000.json": json.dumps(known).encode(),
            "d/001.PNG": picture("PNG"),
            "d/001.json": json.dumps({"caption": "of the JSON", "split": "en", "uid": None}).encode(),
            "d/002.json": b"{}",
            "d/003.txt": b"before its picture",
            "d/003.webp": picture("WEBP"),
            "d/003.seg.png": picture("PNG"),
            "d/004.jpeg": b"no image",
            "d/004.json": b"{broken",
            "README": b"",
        },
    )


class TestSamples:
    def test_every_picture_is_a_row_with_what_its_neighbours_say(self, mixed: Path) -> None:
        rows = {row["key"]: row for row in tar_folders.samples(mixed).to_pylist()}
        assert {key: row["caption"] for key, row in rows.items()} == {
            "d/000": "a red star",
            "d/001": "of the JSON",
            "d/003": "before its picture",
            "d/004": "",
        }
        assert (rows["d/000"]["uid"], rows["d/000"]["url"]) == ("a" * 32, "https://a.example/1.jpg")
        assert (rows["d/000"]["original_width"], rows["d/001"]["original_width"]) == (640, None)
        assert [rows[key]["split"] for key in ("d/000", "d/001")] == ["nolang", "en"]
        assert len({row["uid"] for row in rows.values()}) == 4
        assert {row["tar"] for row in rows.values()} == {"mixed.tar"}

    def test_pictures_come_in_the_order_of_the_rows_one_for_each(self, mixed: Path) -> None:
        assert [key for key, _ in tar_folders.pictures(mixed)] == tar_folders.samples(mixed)["key"].to_pylist()
        assert tar_folders.count(mixed) == 4

    def test_what_webdataset_writes_is_read(self, tmp_path: Path) -> None:
        import webdataset

        with webdataset.TarWriter(str(tmp_path / "w.tar")) as out:
            for number in range(3):
                out.write({"__key__": f"s{number}", "jpg": picture("JPEG", number), "txt": f"caption {number}"})
        assert tar_folders.samples(tmp_path / "w.tar")["caption"].to_pylist() == ["caption 0", "caption 1", "caption 2"]

    @pytest.mark.parametrize(
        ("place", "told"),
        [("gone", "is not a folder"), ("empty", r"has no \.tar files"), ("cut", r"cut\.tar cannot be read")],
    )
    def test_a_folder_with_nothing_to_score_is_named_with_the_remedy(
        self, mixed: Path, tmp_path: Path, place: str, told: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "cut.tar").write_bytes(mixed.read_bytes()[:700])
        with pytest.raises(FolderError, match=rf"{told}.*Remedy: "):
            [tar_folders.count(tar) for tar in tar_folders.find(tmp_path / place)]


class TestCommand:
    @pytest.mark.slow
    def test_a_folder_is_scored_goes_on_after_a_failure_and_is_replaced_only_when_told(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        joining = pytest.importorskip("laion_dask.score.join")
        tars = mixed.parent
        pack(tars / "deep" / "b.tar", {"x.jpg": picture("JPEG", 7), "x.txt": b"a blue square"})
        command = (tars, "--model", "demo", "--heads", "demo", "--out", tmp_path / "out", "--workers", 1)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(joining, "join", full)
            broken = run(*command)
        assert broken.exit_code == 1
        assert "No space left on device. Finished tars are kept; the same command resumes from here." in broken.output
        finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("counts.json")}
        assert len(finished) == 2
        done = run(*command)
        assert done.exit_code == 0, done.output
        assert "2 tars into" in done.output
        assert "; resuming" in done.output
        assert "unreadable_image 1" in done.output

        scores = [pq.read_table(tmp_path / "out" / "score" / f"{place:05d}.parquet") for place in range(2)]
        images = [pq.read_table(tmp_path / "out" / "images" / f"{place:05d}.parquet") for place in range(2)]
        # Sorted: deep/b.tar comes before mixed.tar.
        assert [table["tar"][0].as_py() for table in images] == ["b.tar", "mixed.tar"]
        assert [table["uid"].to_pylist() for table in scores] == [table["uid"].to_pylist() for table in images]
        assert scores[1]["reason"].to_pylist() == ["keep", "keep", "keep", "unreadable_image"]
        assert np.isfinite(scores[1]["aesthetic"].to_numpy()).tolist() == [True, True, True, False]
        assert [table["slot"].to_pylist() for table in scores] == [[0], [4, 5, 6, 7]]
        model: clip.Clip = models.load(params.Model(name="demo", model="demo"))
        wanted, _ = model.embed([preprocess.decode(picture("WEBP"))], ["a"])
        store = zarr.open_group(tmp_path / "out" / "score" / embeddings.STORE, mode="r")
        assert np.allclose(np.asarray(embeddings.array(store, "demo/image")[6]), wanted[0], atol=1e-3)

        again = run(*command)
        assert again.exit_code == 1
        assert "holds a finished scoring by demo (images, score). Remedy: --overwrite" in again.output
        (tmp_path / "mine" / "images").mkdir(parents=True)
        refused = run(*command[:-3], tmp_path / "mine", "--overwrite")
        assert "mine/images does not belong to a scoring. Remedy: give another folder" in refused.output
        exported = CliRunner().invoke(
            app,
            ["export", "datacomp", "--from", str(tmp_path / "out"), "--out", str(tmp_path / "dc")],
        )
        assert exported.output.startswith("export: 4 pairs into ")

    @pytest.mark.parametrize(
        ("arguments", "status", "told"),
        [
            (("--model", "demo"), 2, "no images given"),
            (("tars", "--model", "demo"), 2, "no output folder. Remedy: give --out DIR with tars"),
            (("tars", "--out", "o"), 2, "no model given"),
            (("gone", "--model", "demo", "--out", "o"), 1, "gone is not a folder. Remedy: "),
            (("tars", "--model", "demo", "--out", "o", "--heads", "beauty=x"), 1, "score.heads.0.kind = 'beauty'"),
            (
                ("tars", "--model", "demo", "--out", "o", "--heads", "simulacra=gone.npz"),
                1,
                "gone.npz does not exist",
            ),
            (("tars", "--model", "ViT-B-32", "--out", "o"), 1, "no weights are named"),
            (("tars", "--model", "ViT-B-32", "--pretrained", "gone.pt", "--out", "o"), 1, "neither a file nor a tag"),
            (("tars", "--model", "local-dir:gone", "--out", "o"), 1, "gone/open_clip_model.safetensors is missing"),
        ],
    )
    def test_what_cannot_be_scored_is_told_before_anything_starts(
        self, mixed: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, told: str
    ) -> None:
        monkeypatch.chdir(mixed.parents[1])
        done = run(*arguments)
        assert (done.exit_code, told in done.output) == (status, True), done.output
