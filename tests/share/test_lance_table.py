"""The Lance table: read back, its vectors are the embeddings, and searches find the pair itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from made.versions import tables

from laion_dask.release.exports import DatasetFolders, ExportError
from laion_dask.share import lance_table
from laion_dask.storage import embeddings

ROWS = 320
DROPPED, WITHOUT = 3, 5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolders:
    data = tmp_path_factory.mktemp("project") / "data"
    (data / "score").mkdir(parents=True)
    store = data / "score" / embeddings.STORE
    group = embeddings.create(store, {"small": {"model": "x"}}, shards=1, shard_rows=ROWS, dimensions={"small": 16})
    rows = [{"uid": tables.uid(number), "caption": f"pair {number}"} for number in range(ROWS)]
    tables.write(data / "download" / "00000.parquet", tables.images(*rows))
    scored = tables.scores(*({"uid": row["uid"], "slot": slot} for slot, row in enumerate(rows)))
    tables.write(data / "score" / "00000.parquet", scored)
    fates = [{"uid": row["uid"], "reason": "unsafe" if slot == DROPPED else "keep"} for slot, row in enumerate(rows)]
    tables.write(data / "filter" / "00000.parquet", tables.verdicts(*fates))
    rng = np.random.default_rng(1)
    for name in ("small/image", "small/text"):
        vectors = rng.normal(size=(ROWS, 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if name.endswith("text"):
            vectors[WITHOUT] = np.nan
        embeddings.array(group, name)[:] = vectors.astype(np.float16)
    return DatasetFolders(data / "download", data / "score", data / "filter")


def test_without_the_package_the_remedy_is_named(source: DatasetFolders, tmp_path: Path) -> None:
    try:
        import lance  # noqa: F401 - whether it is there
    except ImportError:
        with pytest.raises(ExportError, match=r"pip install 'laion-dask\[lance\]'"):
            lance_table.write(source, tmp_path / "pairs.lance", None)
    else:
        pytest.skip("pylance is installed")


def test_rows_vectors_and_indexes_come_back(source: DatasetFolders, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        lance = pytest.importorskip("lance", reason="the extra lance is not installed")
        rows, indexed = lance_table.write(source, tmp_path / "pairs.lance", None)
        dataset = lance.dataset(str(tmp_path / "pairs.lance"))
        table = dataset.to_table().to_pylist()
        vector = table[9]["small_image"]
        near = {"column": "small_image", "q": vector, "k": 1, "nprobes": 8, "refine_factor": 8}
        nearest = dataset.to_table(columns=["uid"], nearest=near).to_pylist()
        found = dataset.to_table(filter=f"uid = '{tables.uid(7)}'").to_pylist()
    assert rows == ROWS - 1 == len(table)
    assert indexed == ["uid", "caption", "small_image", "small_text"]
    assert tables.uid(DROPPED) not in {row["uid"] for row in table}
    assert [row["caption"] for row in table if row["small_text"] is None] == [f"pair {WITHOUT}"]
    assert nearest[0]["uid"] == table[9]["uid"]
    assert [row["caption"] for row in found] == ["pair 7"]


def test_a_model_without_embeddings_is_refused(source: DatasetFolders, tmp_path: Path) -> None:
    pytest.importorskip("lance", reason="the extra lance is not installed")
    with pytest.raises(ExportError, match="--model with one of small"):
        lance_table.write(source, tmp_path / "pairs.lance", "other")
