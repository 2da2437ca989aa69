"""Evaluation sets: what their files may hold, what is refused, and how near an image is to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laion_dask.group import clusters, evaluation_sets
from laion_dask.group.evaluation_sets import EvaluationError

ONE, OTHER = "0f" * 32, "f0" * 32


def test_hashes_and_embeddings_of_all_files_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"# a test set\n\n{ONE.upper()}\n  {OTHER}  # twice\n{ONE}\n")
    np.save(tmp_path / "b.npy", np.array([[3, 4]], np.float16))
    np.savez(tmp_path / "c.npz", test=np.array([[0, 2.0]]), train=np.array([[1.0, 0]]))
    found = evaluation_sets.read([tmp_path / name for name in ("a.txt", "b.npy", "c.npz")])
    assert sorted(row.tobytes().hex() for row in found.hashes) == [ONE, OTHER]
    assert found.vectors is not None
    assert found.vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 1], [1, 0]]


def test_without_files_nothing_is_near() -> None:
    sets = evaluation_sets.read([])
    assert np.isnan(evaluation_sets.distances(np.zeros((2, 32), np.uint8), sets, 31)).all()
    assert np.isnan(evaluation_sets.cosines(np.eye(2, dtype=np.float32), sets)).all()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", f"{ONE}\n{ONE[:-1]}\n".encode(), r"a\.txt:2: no PDQ hash\. Remedy: 64 hex digits a line, or \.npy"),
        ("a.txt", b"z" * 64, r"a\.txt:1: no PDQ hash"),
        ("a.npy", b"no array", r"a\.npy has no readable arrays: .*Remedy: numpy\.save"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluationError, match=said):
        evaluation_sets.read([tmp_path / name])


@pytest.mark.parametrize(
    "array", [np.zeros(4), np.zeros((2, 4), np.int64), np.full((1, 4), np.nan), np.full((1, 4), np.inf)]
)
def test_arrays_that_are_no_embeddings_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(EvaluationError, match=r"Remedy: embeddings as finite floats, \(rows, features\)"):
        evaluation_sets.read([tmp_path / "a.npy"])


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"which is missing\. Remedy: correct the path or take it out"):
        evaluation_sets.read([tmp_path / "none.npy"])


def test_embeddings_of_another_model_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4))
    with pytest.raises(EvaluationError, match="embeddings of 4 features, the images have 2"):
        evaluation_sets.cosines(np.eye(2, dtype=np.float32), evaluation_sets.read([tmp_path / "a.npy"]))
    np.save(tmp_path / "b.npy", np.eye(2))
    with pytest.raises(EvaluationError, match=r"embeddings of \[2, 4\] features"):
        evaluation_sets.read([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_the_largest_cosine_and_the_smallest_distance_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors, tests = (clusters.unit(rng.normal(size=(rows, 8))) for rows in (50, 20))
    np.save(tmp_path / "a.npy", tests)
    near = "0e" + ONE[2:]
    (tmp_path / "b.txt").write_text(f"{ONE}\n{near}\n")
    sets = evaluation_sets.read([tmp_path / "a.npy", tmp_path / "b.txt"])
    assert np.allclose(evaluation_sets.cosines(vectors, sets), (vectors @ tests.T).max(axis=1), atol=1e-6)
    asked = np.frombuffer(bytes.fromhex(near + OTHER + "0c" + ONE[2:]), np.uint8).reshape(-1, 32)
    assert np.array_equal(evaluation_sets.distances(asked, sets, 31), [0, np.nan, 1], equal_nan=True)
