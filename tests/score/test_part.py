"""Scoring a shard: several models from one decode, each with its splits; bad images; equal bytes however it runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from made.images import small_clips
from made.places import ROOT
from made.processes import programs
from made.projects.project import SMALL, Project

from laion_dask import params, schema
from laion_dask.clip import preprocess as pixels
from laion_dask.params.heads import DEMO_COLUMNS
from laion_dask.score import part
from laion_dask.storage import embeddings
from laion_dask.storage.files import sha256
from laion_dask.storage.shards import read_shard

ROWS = 30
SPLITS: Mapping[str, Any] = {"english": ["en"], "others": ["multi", "nolang"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small models with other sizes, dimensions and transforms; they stand for one of English and one of others."""
    base = tmp_path_factory.mktemp("models")
    other = {"mean": [0.4, 0.5, 0.6], "resize_mode": "squash", "interpolation": "bilinear"}
    return {
        "english": small_clips.folder(base / "english", seed=1),
        "others": small_clips.folder(base / "others", seed=2, dimension=24, preprocess=other),
    }


def rules(folders: Mapping[str, Path], splits: Mapping[str, Any], **values: Any) -> params.Score:  # noqa: ANN401
    listed = [{"name": name, "model": f"local-dir:{folders[name]}", "splits": of} for name, of in splits.items()]
    return params.Score(
        models=listed,
        **{
            "heads": None,
            "tags": None,
            "faces": None,
            "masked_text": None,
            "batch": 8,
            "decode": "full",
            "compile": "none",
        }
        | values,
    )


def run(out: Path, shard: tuple[Path, Path], settings: params.Score, rows: int = 32) -> dict[str, Any]:
    out.mkdir(parents=True)
    images, tar = shard
    return part.score(out, name=images.stem, images=images, tar=tar, shard_rows=rows, settings=settings)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_clips.shard(tmp_path_factory.mktemp("shard"), "00002", ROWS, failed=[4, 5], bad=[9])


@pytest.fixture(scope="module")
def out(shard: tuple[Path, Path], folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "part"
    counts = run(out, shard, rules(folders, SPLITS))
    (out / "counts.json").write_text(json.dumps(counts))
    return out


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_of_nothing_but_unreadable_images_costs_its_rows(
    folders: dict[str, Path], tmp_path: Path, batch: int
) -> None:
    shard = small_clips.shard(tmp_path, "00000", 6, bad=[2, 3])
    counts = run(tmp_path / "out", shard, rules(folders, {"english": "all"}, batch=batch), rows=6)
    assert counts["images"] == {"seen": 6, "kept": 4, "dropped": {"unreadable_image": 2}}


def test_a_shard_without_any_image_has_its_arrays_too(folders: dict[str, Path], tmp_path: Path) -> None:
    shard = small_clips.shard(tmp_path, "00000", 3, failed=[0, 1, 2])
    run(tmp_path / "out", shard, rules(folders, {"english": "all"}), rows=4)
    store = tmp_path / "out" / embeddings.STORE
    for name in embeddings.names(store):
        assert embeddings.shard_file(store, name, 0).is_file(), name
        assert np.isnan(np.asarray(embeddings.array(zarr.open_group(store, mode="r"), name)[:])).all()


class TestSeveralModels:
    def test_every_texts_similarity_comes_from_the_first_model_that_reads_its_split(self, out: Path) -> None:
        table = schema.scores(["english", "others"]).check(pq.read_table(out / "00002.parquet"))
        split = np.arange(ROWS) % 3
        scored = ~np.isin(np.arange(ROWS), [4, 5, 9])
        similarity, english, others = (
            table[name].to_numpy() for name in ("similarity", "similarity_english", "similarity_others")
        )
        assert np.array_equal(np.isfinite(similarity), scored)
        assert np.array_equal(np.isfinite(english), scored & (split == 0))
        assert np.array_equal(np.isfinite(others), scored & (split != 0))
        assert np.array_equal(similarity, np.where(split == 0, english, others), equal_nan=True)
        assert similarity.dtype == np.float32

    def test_a_model_that_reads_all_keeps_its_own_similarity_beside_the_first(
        self, shard: tuple[Path, Path], folders: dict[str, Path], tmp_path: Path
    ) -> None:
        run(tmp_path / "out", shard, rules(folders, {"english": ["en"], "others": "all"}))
        table = pq.read_table(tmp_path / "out" / "00002.parquet")
        split = np.arange(ROWS) % 3
        found = {name: table[name].to_numpy() for name in ("similarity", "similarity_english", "similarity_others")}
        assert np.isfinite(found["similarity_others"]).sum() == ROWS - 3
        first = np.where(split == 0, found["similarity_english"], found["similarity_others"])
        assert np.array_equal(found["similarity"], first, equal_nan=True)

    def test_embeddings_of_every_model_are_those_of_plain_open_clip(
        self, out: Path, shard: tuple[Path, Path], folders: dict[str, Path]
    ) -> None:
        import io

        import open_clip
        import torch
        from PIL import Image

        store = zarr.open_group(out / embeddings.STORE, mode="r")
        bodies = dict(read_shard(shard[1]))
        keys = pq.read_table(shard[0])["key"].to_pylist()
        for name, dimension in (("english", 32), ("others", 24)):
            place = f"local-dir:{folders[name]}"
            network, _, preprocess = open_clip.create_model_and_transforms(place)
            stored = np.asarray(embeddings.array(store, f"{name}/image")[:])
            assert stored.dtype == np.float16
            assert stored.shape == (32, dimension)
            for row in (0, 13, 29):
                picture = preprocess(Image.open(io.BytesIO(bodies[keys[row]])))
                with torch.inference_mode():
                    wanted = network.eval().encode_image(picture.unsqueeze(0), normalize=True)[0].numpy()
                assert np.allclose(stored[row], wanted, atol=1e-3)
            assert np.isnan(stored[[4, 5, 9, 30, 31]]).all()
            text = np.asarray(embeddings.array(store, f"{name}/text")[:])
            assert np.array_equal(np.isnan(text).all(axis=1)[:30:3], np.isnan(text[:30:3]).all(axis=1))
            read = np.isfinite(text).all(axis=1)
            wanted_rows = [n for n in range(ROWS) if (n % 3 == 0) == (name == "english") and n not in {4, 5, 9}]
            assert np.flatnonzero(read).tolist() == wanted_rows

    def test_the_attributes_say_which_weights_made_the_embeddings(self, out: Path, folders: dict[str, Path]) -> None:
        about = embeddings.about(out / embeddings.STORE)
        for name, folder in folders.items():
            assert about[name]["weights_sha256"] == sha256(folder / "open_clip_model.safetensors")
            assert about[name]["precision"] == "fp32"
        assert (about["english"]["splits"], about["others"]["splits"]) == ("en", "multi,nolang")
        assert "squash" in about["others"]["preprocessing"]

    def test_a_bad_image_costs_its_row_and_is_counted(self, out: Path) -> None:
        counts = json.loads((out / "counts.json").read_text())
        assert counts["images"] == {"seen": 28, "kept": 27, "dropped": {"unreadable_image": 1}}
        table = pq.read_table(out / "00002.parquet")
        reasons = table["reason"].to_pylist()
        assert [reasons[row] for row in (3, 4, 5, 9)] == ["keep", "not_found", "not_found", "unreadable_image"]
        assert reasons.count("keep") == 27
        assert table["slot"].to_pylist() == list(range(64, 64 + ROWS))

    def test_one_decode_feeds_all_models(
        self, shard: tuple[Path, Path], folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[bytes] = []
        real = pixels.decode

        def counting(body: bytes, needed_px: int | None = None) -> Any:  # noqa: ANN401 - an image
            decoded.append(body)
            return real(body, needed_px)

        monkeypatch.setattr(pixels, "decode", counting)
        run(tmp_path / "out", shard, rules(folders, SPLITS))
        assert len(decoded) == 28


@pytest.mark.parametrize("batch", [1, 3, 32, None])
def test_another_batch_size_moves_similarities_by_less_than_a_millionth(
    folders: dict[str, Path], tmp_path: Path, batch: int | None
) -> None:
    shard = small_clips.shard(tmp_path / "shard", "00000", ROWS)
    run(tmp_path / "eight", shard, rules(folders, {"english": "all"}))
    run(tmp_path / "other", shard, rules(folders, {"english": "all"}, batch=batch))
    wanted, found = (pq.read_table(tmp_path / one / "00000.parquet") for one in ("eight", "other"))
    assert np.allclose(wanted["similarity"], found["similarity"], atol=1e-6, rtol=0)
    stores = [zarr.open_group(tmp_path / one / embeddings.STORE, mode="r") for one in ("eight", "other")]
    image = [np.asarray(embeddings.array(store, "english/image")[:ROWS], np.float32) for store in stores]
    # A sum that lies between two half-precision numbers may fall to either.
    assert np.allclose(*image, atol=2.0**-12, rtol=0)


def test_the_same_shard_gives_the_same_bytes_however_often(folders: dict[str, Path], tmp_path: Path) -> None:
    shard = small_clips.shard(tmp_path / "shard", "00000", ROWS, bad=[0, 7])
    for name in ("first", "second"):
        run(tmp_path / name, shard, rules(folders, {"english": "all", "others": "all"}))
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_a_shard_without_any_image_has_empty_scores(folders: dict[str, Path], tmp_path: Path) -> None:
    shard = small_clips.shard(tmp_path / "shard", "00000", 3, failed=[0, 1, 2])
    counts = run(tmp_path / "out", shard, rules(folders, {"english": "all"}))
    assert counts["images"] == {"seen": 0, "kept": 0, "dropped": {}}
    assert np.isnan(pq.read_table(tmp_path / "out" / "00000.parquet")["similarity"].to_numpy()).all()


def test_an_image_that_the_table_promises_and_the_tar_lacks_is_an_error(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    images, _ = small_clips.shard(tmp_path / "one", "00000", 6)
    _, tar = small_clips.shard(tmp_path / "two", "00000", 6, failed=[5])
    with pytest.raises(ValueError, match=r"6 rows have an image by its table, 5 were found in its tar"):
        run(tmp_path / "out", (images, tar), rules(folders, {"english": "all"}))


def test_heads_of_another_dimension_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shard = small_clips.shard(tmp_path / "shard", "00000", 3)
    with pytest.raises(part.clip.ModelError, match=r"reads 128 features, .* gives 32\. Remedy: model with the name of"):
        run(tmp_path / "out", shard, rules(folders, {"english": "all"}, heads=[{"kind": "demo"}]))


def test_heads_read_the_embeddings_of_the_first_model(folders: dict[str, Path], tmp_path: Path) -> None:
    shard = small_clips.shard(tmp_path / "shard", "00000", 5, failed=[2])
    settings = rules(folders, {"english": "all"}, heads=[{"kind": "demo"}])
    demo = params.Model(name="demo", model="demo")
    run(tmp_path / "out", shard, settings.model_copy(update={"models": (demo, *settings.models)}))
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    about = embeddings.about(tmp_path / "out" / embeddings.STORE)
    file = sha256(part.clip.DEMO_MODEL / "heads.safetensors")
    assert json.loads(about["demo"]["heads_sha256"]) == dict.fromkeys(DEMO_COLUMNS, file)
    assert "heads_sha256" not in about["english"]
    for head in DEMO_COLUMNS:
        assert np.flatnonzero(np.isfinite(table[head].to_numpy())).tolist() == [0, 1, 3, 4]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(5):
        small_clips.shard(
            folder / "data" / "download", f"{number:05}", 40, failed=[number], bad=[20] if number == 1 else []
        )
    (folder / "metrics").mkdir()
    ledger = {"seen": 200, "kept": 195, "dropped": {"not_found": 5}}
    (folder / "metrics" / "download.json").write_text(json.dumps({"images": ledger}))
    return folder


def project_of(shards: Path, folder: Path, folders: Mapping[str, Path]) -> Project:
    listed = [
        {"name": name, "model": f"local-dir:{path}", "splits": ["en"] if name == "english" else "all"}
        for name, path in folders.items()
    ]
    small = SMALL | {"catalog.shard_rows": 64, "score.models": listed, "score.heads": None}
    project = Project.create(folder, small)
    shutil.copytree(shards / "data", project.folder / "data")
    shutil.copytree(shards / "metrics", project.folder / "metrics")
    return project


def scored(project: Project, workers: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Run the stage to its end, and return the digests of its files and its counts."""
    said = project.run("score", workers=workers)
    assert "score         195 images seen, 194 kept" in said
    assert "(dropped: unreadable_image 1)" in said
    return project.digests("score"), project.metrics("score")


@pytest.fixture(scope="module")
def of_one_worker(
    shards: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], dict[str, Any]]:
    return scored(project_of(shards, tmp_path_factory.mktemp("one") / "p", folders), 1)


class TestTheStage:
    """Real processes on a folder of shards."""

    @pytest.mark.slow
    @pytest.mark.parametrize("before", [0, 1], ids=["from the start", "after one that was killed"])
    def test_four_workers_write_the_arrays_and_tables_of_one(
        self,
        shards: Path,
        folders: dict[str, Path],
        tmp_path: Path,
        of_one_worker: tuple[dict[str, str], dict[str, Any]],
        before: int,
    ) -> None:
        project = project_of(shards, tmp_path / "p", folders)
        if before:
            status, said = project.interrupt("score", signal.SIGKILL, workers=before)
            assert status == -signal.SIGKILL, said
            assert not (project.folder / "data" / "score").exists()
        assert scored(project, 4) == of_one_worker

    @pytest.mark.slow
    def test_two_workers_write_the_arrays_and_tables_of_one(
        self,
        shards: Path,
        folders: dict[str, Path],
        tmp_path: Path,
        of_one_worker: tuple[dict[str, str], dict[str, Any]],
    ) -> None:
        found = scored(project_of(shards, tmp_path / "p", folders), 2)
        assert found == of_one_worker
        files, metrics = found
        assert sum("/c/" in name for name in files) == 5 * 4
        assert "seconds" not in metrics
        assert metrics["dimensions"] == {"english": 32, "others": 24}
        assert metrics["weights_sha256"] == {
            name: sha256(folder / "open_clip_model.safetensors") for name, folder in folders.items()
        }

    @pytest.mark.slow
    def test_weights_that_are_not_the_expected_stop_the_stage_with_one_message(
        self, shards: Path, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        project = project_of(shards, tmp_path / "p", folders)
        text = (project.folder / "params.yaml").read_text()
        changed = text.replace("name: english", f"name: english\n    expect_sha256: {'a' * 64}", 1)
        assert changed != text
        (project.folder / "params.yaml").write_text(changed)
        process = project.start("score")
        said = programs.ended(process)
        assert process.returncode == 1
        assert f"expected is {'a' * 64}" in said
        assert "Traceback" not in said


@pytest.mark.slow
def test_no_stage_imports_networks_before_it_computes_with_them() -> None:
    """Torch takes 5 s of CPU, open_clip 12 more: the driver needs neither for models in folders, and no other stage."""
    program = (
        "import sys; from pathlib import Path; from laion_dask import params; from laion_dask.clip import weights; "
        "import workflow.program; "
        "[__import__(f'workflow.{file.stem}') for file in Path('workflow').glob('[a-z]*.py')]; "
        "demo = params.Model(name='demo', model='demo'); weights.fetch_tokenizer(demo); weights.identify(demo); "
        "print([name for name in ('torch', 'torchvision', 'timm', 'transformers', 'open_clip') if name in sys.modules])"
    )
    ended = programs.finished([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert ended.stdout.strip() == "[]"
