"""Exports are read back by the tools that they are for: embedding-reader, and numpy with DataComp's keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.versions import tables
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.release import exports
from laion_dask.release.exports import DatasetFolders, ExportError
from laion_dask.schema.values import SAMPLED
from laion_dask.storage import embeddings

ROWS = 16
# Of the first shard: not downloaded; dropped by the filter.
FAILED, DROPPED = 3, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 10 pairs in 16 slots each, and the vectors of two models, one of which reads even rows only."""
    import zarr

    data = tmp_path_factory.mktemp("project") / "data"
    about = {"all": {"model": "ViT-B-32/openai"}, "even": {"model": "ViT-L-14/openai"}}
    (data / "score").mkdir(parents=True)
    store = data / "score" / embeddings.STORE
    group = embeddings.create(store, about, shards=2, shard_rows=ROWS, dimensions={"all": 8, "even": 4})
    rng = np.random.default_rng(1)
    for shard in range(2):
        uids = [tables.uid(shard * 100 + 90 - number) for number in range(10)]
        reasons = ["not_found" if (shard, number) == (0, FAILED) else "keep" for number in range(10)]
        rows = [{"uid": uid, "reason": reason} for uid, reason in zip(uids, reasons, strict=True)]
        name = f"{shard:05d}.parquet"
        tables.write(data / "download" / name, tables.images(*rows))
        scores = tables.scores(*(row | {"slot": shard * ROWS + n, "similarity": n / 10} for n, row in enumerate(rows)))
        own = scores["similarity"]
        tables.write(
            data / "score" / name, scores.append_column("similarity_all", own).append_column("similarity_even", own)
        )
        fates = [
            {"uid": row["uid"], "reason": "unsafe" if n == DROPPED else row["reason"]} for n, row in enumerate(rows)
        ]
        # Another order: verdicts are joined by uid.
        tables.write(data / "filter" / name, tables.verdicts(*reversed(fates)))
        for path in embeddings.names(store):
            array = embeddings.array(group, path)
            vectors = rng.normal(size=(10, array.shape[1]))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            if path == "even/text":
                vectors[1::2] = np.nan
            array[shard * ROWS : shard * ROWS + 10] = vectors.astype(np.float16)
    assert isinstance(group, zarr.Group)
    return data


def source(data: Path, *, verdicts: bool = True) -> DatasetFolders:
    return DatasetFolders(data / "download", data / "score", data / "filter" if verdicts else None)


def kept(shard: int) -> list[int]:
    return [number for number in range(10) if number != DROPPED and (shard, number) != (0, FAILED)]


def stored(data: Path, path: str) -> np.ndarray:
    import zarr

    return np.asarray(embeddings.array(zarr.open_group(data / "score" / embeddings.STORE, mode="r"), path)[:])


def test_embedding_reader_reads_clip_retrievals_folders_with_their_metadata(data: Path, tmp_path: Path) -> None:
    from embedding_reader import EmbeddingReader

    assert exports.clip_retrieval(source(data), tmp_path / "out", "all") == 17
    wanted = [shard * ROWS + number for shard in range(2) for number in kept(shard)]
    for folder, kind in (("img_emb", "image"), ("text_emb", "text")):
        reader = EmbeddingReader(
            embeddings_folder=str(tmp_path / "out" / folder),
            metadata_folder=str(tmp_path / "out" / "metadata"),
            meta_columns=["image_path", "caption", "uid", "similarity"],
            file_format="parquet_npy",
        )
        assert (reader.count, reader.dimension) == (17, 8)
        ((vectors, metadata),) = list(reader(batch_size=100, show_progress=False))
        # The reader gives single precision of what is stored in half.
        assert {np.load(path).dtype for path in (tmp_path / "out" / folder).iterdir()} == {np.dtype(np.float16)}
        assert np.array_equal(vectors, stored(data, f"all/{kind}")[wanted])
        uids = [tables.uid(shard * 100 + 90 - number) for shard in range(2) for number in kept(shard)]
        assert metadata["uid"].tolist() == uids
        assert metadata["image_path"].tolist() == [f"{number:09d}" for shard in range(2) for number in kept(shard)]
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_0.*"))
    assert files == ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet", "text_emb/text_emb_0.npy"]


def test_numpy_reads_datacomps_keys_row_for_row_beside_the_metadata(data: Path, tmp_path: Path) -> None:
    # The second model reads even rows only: a row that lacks a vector cannot stand in its arrays.
    assert exports.datacomp(source(data), tmp_path / "out", None) == 10
    for shard in range(2):
        rows = [number for number in kept(shard) if number % 2 == 0]
        metadata = pq.read_table(tmp_path / "out" / f"{shard:05d}.parquet")
        assert metadata["uid"].to_pylist() == [tables.uid(shard * 100 + 90 - number) for number in rows]
        assert {"url", "text", "original_width", "original_height", "sha256"} <= {*metadata.column_names}
        assert metadata["clip_l14_similarity_score"].to_numpy() == pytest.approx([number / 10 for number in rows])
        with np.load(tmp_path / "out" / f"{shard:05d}.npz", allow_pickle=False) as arrays:
            assert set(arrays.files) == {"b32_img", "b32_txt", "l14_img", "l14_txt"}
            for key, path in [("b32_img", "all/image"), ("b32_txt", "all/text"), ("l14_img", "even/image")]:
                assert arrays[key].dtype == np.float16
                assert np.array_equal(arrays[key], stored(data, path)[[shard * ROWS + number for number in rows]])


def test_a_subset_file_has_sorted_halves_of_the_kept_uids(data: Path, tmp_path: Path) -> None:
    assert exports.subset(source(data), tmp_path / "out", None) == 17
    found = np.load(tmp_path / "out" / exports.SUBSET)
    assert found.dtype == np.dtype("u8,u8")
    uids = sorted(tables.uid(shard * 100 + 90 - number) for shard in range(2) for number in kept(shard))
    assert [f"{first:016x}{last:016x}" for first, last in found.tolist()] == uids
    assert exports.subset(source(data, verdicts=False), tmp_path / "all", None) == 19


def test_a_subset_file_of_a_sample_has_a_uid_as_often_as_it_was_drawn(data: Path, tmp_path: Path) -> None:
    exports.subset(source(data), tmp_path / "kept", None)
    kept = np.load(tmp_path / "kept" / exports.SUBSET)
    verdicts = tmp_path / "filter"
    shutil.copytree(data / "filter", verdicts)
    drawn = np.sort(np.concatenate([kept, kept[:3], kept[:1], np.array([(1, 2)], kept.dtype)]), order=("f0", "f1"))
    np.save(verdicts / SAMPLED, drawn)
    asked = DatasetFolders(data / "download", data / "score", verdicts)
    assert exports.subset(asked, tmp_path / "out", None) == len(kept) + 4
    found = np.load(tmp_path / "out" / exports.SUBSET)
    assert np.unique(found, return_counts=True)[1].tolist()[:4] == [3, 2, 2, 1]


@given(st.lists(st.text("0123456789abcdef", min_size=1, max_size=32), max_size=20))
def test_the_halves_of_a_uid_are_its_digits_whatever_its_length(uids: list[str]) -> None:
    found = [f"{first:016x}{last:016x}" for first, last in exports.halves(pa.array(uids, pa.string())).tolist()]
    assert found == [uid.zfill(32) for uid in uids]


@pytest.mark.parametrize("uid", ["x" * 32, "0" * 34])
def test_another_uid_is_refused(uid: str) -> None:
    with pytest.raises(ExportError, match="is not of up to 32 hex digits"):
        exports.halves(pa.array([uid]))


def test_what_cannot_be_exported_is_named_with_the_remedy(data: Path, tmp_path: Path) -> None:
    for model, told in [(None, "embeddings of all, even. Remedy: --model"), ("b32", "no embeddings of b32. Remedy: ")]:
        with pytest.raises(ExportError, match=told):
            exports.clip_retrieval(source(data), tmp_path / "out", model)
    with pytest.raises(ExportError, match="has no scores"):
        exports.subset(DatasetFolders(tmp_path, tmp_path), tmp_path / "out", None)
    with pytest.raises(ExportError, match=r"00000\.parquet is missing"):
        exports.subset(DatasetFolders(tmp_path, data / "score"), tmp_path / "out", None)


def test_the_command_exports_the_version_of_the_folder_and_replaces_only_when_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    command = ["export", "subset", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.output.startswith("export: 17 pairs into ")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "is not empty. Remedy: --overwrite" in refused.output
    done = CliRunner().invoke(app, [*command, "--overwrite", "--all"])
    assert done.output.startswith("export: 19 pairs into ")
    missing = CliRunner().invoke(app, ["export", "datacomp", "--out", str(tmp_path / "new"), "--from", str(tmp_path)])
    assert missing.exit_code == 1
    assert "has no embeddings. Remedy: " in missing.output
    assert not (tmp_path / "new").exists()
