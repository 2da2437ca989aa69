"""Small heads on embeddings: published scores, both file formats, probabilities between 0 and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask import heads
from laion_dask.clip import ModelError

LINEAR = {"aesthetics.w0": np.array([[1.0, 2.0]]), "aesthetics.b0": np.array([0.5])}
DEEP = {
    "unsafe.w0": np.array([[1.0, 0.0], [0.0, -1.0]]),
    "unsafe.b0": np.array([0.0, 0.0]),
    "unsafe.w1": np.array([[2.0, 3.0]]),
    "unsafe.b1": np.array([-1.0]),
}


def test_laion_aesthetics_v1_gives_its_published_scores(shared_data: Path) -> None:
    with np.load(shared_data / "heads" / "aesthetic_v1" / "sa_0_4_vit_b_32_linear.npz") as head:
        layers = ((head["weight"], head["bias"]),)
    with np.load(shared_data / "golden_clip" / "golden_openai_vit_b32_img_embs.npz") as golden:
        embeddings = golden["image_embs"]
    scores = heads.score(embeddings, layers, probability=False)
    assert scores.dtype == np.float32
    assert scores.shape == (7,)
    np.testing.assert_allclose(scores[:3], [4.0087, 6.7296, 5.1685], atol=5e-5)


def test_a_head_of_laion_can_be_given_as_a_file(shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "heads" / "aesthetic_v1" / "sa_0_4_vit_b_32_linear.npz") as head:
        np.savez(tmp_path / "laion.npz", **{"aesthetics.w0": head["weight"], "aesthetics.b0": head["bias"]})
    with np.load(shared_data / "golden_clip" / "golden_openai_vit_b32_img_embs.npz") as golden:
        embeddings = golden["image_embs"]
    layers = heads.load(str(tmp_path / "laion.npz"))["aesthetic"]
    scores = heads.score(embeddings[:3], layers, probability=heads.HEADS["aesthetic"])
    np.testing.assert_allclose(scores, [4.0087, 6.7296, 5.1685], atol=5e-5)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_both_formats_give_the_same_layers(tmp_path: Path, suffix: str) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / f"heads.{suffix}"
    tensors = {name: values.astype(np.float32) for name, values in (LINEAR | DEEP).items()}
    if suffix == "npz":
        np.savez(path, **tensors)
    else:
        save_file(tensors, path)
    loaded = heads.load(str(path))
    assert list(loaded) == ["aesthetic", "punsafe"]
    assert [[weight.shape for weight, _ in layers] for layers in loaded.values()] == [[(1, 2)], [(2, 2), (1, 2)]]
    rows = np.array([[1, 0], [0, 1], [-1, -1]])
    np.testing.assert_allclose(heads.score(rows, loaded["aesthetic"], probability=False), [1.5, 2.5, -2.5])
    # ReLU between the layers, none after the last: 2 max(x, 0) + 3 max(-y, 0) - 1.
    np.testing.assert_allclose(heads.score(rows, loaded["punsafe"], probability=False), [1, -1, 2])


def test_one_output_may_be_stored_flat(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", **{"watermark.w0": np.array([3.0, 4.0]), "watermark.b0": np.array(1.0)})
    layers = heads.load(str(tmp_path / "flat.npz"))["pwatermark"]
    np.testing.assert_allclose(heads.score(np.array([[1, 1]]), layers, probability=False), [8])


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=1, max_size=20))
def test_a_probability_lies_between_0_and_1_and_grows_with_the_output(outputs: list[float]) -> None:
    layers = ((np.array([[1]], np.float32), np.array([0], np.float32)),)
    rows = np.array(sorted(outputs), np.float32)[:, None]
    scores = heads.score(rows, layers, probability=True)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) >= 0).all()
    assert heads.score(np.zeros((1, 1)), layers, probability=True)[0] == 0.5


def test_half_precision_embeddings_are_scored_in_single_precision() -> None:
    layers = ((np.array([[1000, 1]], np.float32), np.array([0], np.float32)),)
    assert heads.score(np.array([[1, 0.25]], np.float16), layers, probability=False)[0] == 1000.25


def test_no_heads_are_no_error_and_a_missing_file_is_one() -> None:
    assert heads.path(None) is None
    assert heads.load(None) == {}
    with pytest.raises(ModelError, match=r"score\.heads = 'gone\.npz': there is no such file\. Remedy: "):
        heads.load("gone.npz")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", **{"aesthetics.w0": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        heads.load(str(tmp_path / "objects.npz"))
