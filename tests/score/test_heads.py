"""Heads on embeddings: published scores and golden outputs, every file format, and no pickle that runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.clip import tensors
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.params.heads import DEMO_COLUMNS, Head
from laion_dask.score import heads

LINEAR = {"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.5])}
DEEP = {
    "w0": np.array([[1.0, 0.0], [0.0, -1.0]]),
    "b0": np.array([0.0, 0.0]),
    "w1": np.array([[2.0, 3.0]]),
    "b1": np.array([-1.0]),
}
# Every published head of ../shared/data/heads: kind, file, features.
PUBLISHED = [
    *(
        ("aesthetic_v1", f"aesthetic_v1/sa_0_4_vit_{v}_linear", n)
        for v, n in [("b_16", 512), ("b_32", 512), ("l_14", 768)]
    ),
    *(
        ("simulacra", f"simulacra/sac_public_2022_06_29_vit_{v}_linear", n)
        for v, n in [("b_16", 512), ("b_32", 512), ("l_14", 768)]
    ),
]


def head(kind: str, file: Path, **more: str) -> heads.LoadedHead:
    (one,) = heads.load(Head(kind=kind, file=str(file), **more))
    return one


def unit(rows: int, features: int) -> np.ndarray:
    values = np.random.default_rng(5).normal(size=(rows, features))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def save(folder: Path, suffix: str, arrays: dict[str, np.ndarray]) -> Path:
    import torch
    from safetensors.numpy import save_file

    file = folder / f"head{suffix}"
    arrays = {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()}
    if suffix == ".npz":
        np.savez(file, **arrays)
    elif suffix == ".safetensors":
        save_file(arrays, file)
    else:
        torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, file)
    return file


class TestPublishedHeads:
    @pytest.mark.parametrize("suffix", [".npz", ".pth"])
    def test_aesthetics_v1_gives_its_published_scores(self, shared_data: Path, suffix: str) -> None:
        with np.load(shared_data / "golden_clip" / "golden_openai_vit_b32_img_embs.npz") as golden:
            embeddings = golden["image_embs"]
        scores = head("aesthetic_v1", shared_data / f"heads/aesthetic_v1/sa_0_4_vit_b_32_linear{suffix}").score(
            embeddings
        )
        assert (scores.dtype, scores.shape) == (np.float32, (7,))
        np.testing.assert_allclose(scores[:3], [4.0087, 6.7296, 5.1685], atol=5e-5)

    @pytest.mark.parametrize(("kind", "name", "features"), PUBLISHED)
    def test_both_forms_of_a_linear_head_give_what_their_formula_gives(
        self, shared_data: Path, kind: str, name: str, features: int
    ) -> None:
        file, x = shared_data / "heads" / f"{name}.npz", unit(64, features)
        with np.load(file) as stored:
            scale = np.sqrt(features) if kind == "simulacra" else 1
            wanted = (x.astype(np.float64) * scale) @ stored["weight"][0].astype(np.float64) + stored["bias"][0]
        for path in (file, file.with_suffix(".pth")):
            one = head(kind, path)
            assert one.features == features
            np.testing.assert_allclose(one.score(x), wanted, atol=1e-5, rtol=0)

    def test_aesthetics_v2_is_one_affine_map_in_both_its_forms(self, shared_data: Path) -> None:
        import torch

        file = shared_data / "heads" / "aesthetic_v2" / "sac+logos+ava1-l14-linearMSE.pth"
        x = unit(64, 768)
        layer_by_layer = torch.from_numpy(x).double()
        state = torch.load(file, weights_only=True, map_location="cpu")
        for number in (0, 2, 4, 6, 7):
            weight, bias = (state[f"layers.{number}.{kind}"].double() for kind in ("weight", "bias"))
            layer_by_layer = layer_by_layer @ weight.T + bias
        for path in (file, file.with_suffix(".collapsed_affine.npz")):
            scores = head("aesthetic_v2", path).score(x)
            np.testing.assert_allclose(scores, layer_by_layer[:, 0].numpy(), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("model", "version"), [("b_32", 1), ("l_14", 1), ("l_14", 2)])
    def test_aesthetics_grow_with_the_rating_that_a_direction_stands_for(
        self, shared_data: Path, model: str, version: int
    ) -> None:
        folder = shared_data / "heads"
        ratings = np.concatenate(
            [np.load(folder / f"aesthetic_v1/vit_{model}_embeddings/rating{number}.npy") for number in range(10)]
        )
        file = {1: f"aesthetic_v1/sa_0_4_vit_{model}_linear.pth", 2: "aesthetic_v2/sac+logos+ava1-l14-linearMSE.pth"}
        scores = head(f"aesthetic_v{version}", folder / file[version]).score(ratings)
        assert (np.diff(scores) > 0).all()

    @pytest.mark.parametrize("model", ["b_32", "l_14"])
    def test_the_nsfw_head_gives_what_the_original_gave(self, shared_data: Path, model: str) -> None:
        folder = shared_data / "heads" / "nsfw_laion"
        with np.load(folder / f"golden_tf_first128_vit_{model}.npz") as golden:
            x, y = golden["x"], golden["y"]
        file = folder / f"clip_nsfw_vit_{model}.npz"
        np.testing.assert_allclose(head("nsfw_laion", file).score(x), y, atol=1e-5, rtol=0)
        np.testing.assert_allclose(head("nsfw_laion", file, mode="as-trained").score(x), y, atol=1e-5, rtol=0)
        plain = head("nsfw_laion", file, mode="plain").score(x)
        # What leaving the look-up out costs, by ../shared/data/README.md: up to 0.53, and 9 to 11 % of the decisions.
        assert 0.2 < np.abs(plain - y).max() < 0.6
        assert 0.08 < ((plain > 0.5) != (y > 0.5)).mean() < 0.12

    @pytest.mark.parametrize("model", ["b_32", "l_14"])
    def test_the_nsfw_head_reads_embeddings_as_the_half_precision_that_was_released(
        self, shared_data: Path, model: str
    ) -> None:
        folder = shared_data / "heads" / "nsfw_laion"
        with np.load(folder / f"golden_tf_first128_vit_{model}.npz") as golden:
            x, y = golden["x"], golden["y"]
        finer = x + np.where(np.abs(x) > 1e-3, 1e-9, 0).astype(np.float32)
        np.testing.assert_allclose(head("nsfw_laion", folder / f"clip_nsfw_vit_{model}.npz").score(finer), y, atol=1e-5)

    @pytest.mark.parametrize("model", ["b_32", "l_14"])
    def test_violence_is_above_0_where_the_second_prompt_is_more_similar(self, shared_data: Path, model: str) -> None:
        file = shared_data / "heads" / "nsfw_laion" / f"violence_detection_vit_{model}.npy"
        prompts = np.load(file)
        x = np.concatenate([unit(200, prompts.shape[1]), prompts])
        scores = head("violence", file).score(x)
        dots = x @ prompts.T
        np.testing.assert_allclose(scores, dots[:, 1] - dots[:, 0], atol=1e-5, rtol=0)
        assert ((scores > 0) == (dots.argmax(axis=1) == 1)).all()


class TestAnyHead:
    @pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
    def test_every_format_gives_the_same_scores(self, tmp_path: Path, suffix: str) -> None:
        rows = np.array([[1, 0], [0, 1], [-1, -1]])
        linear = head("layers", save(tmp_path, suffix, LINEAR), column="mine")
        np.testing.assert_allclose(linear.score(rows), [1.5, 2.5, -2.5])

    @pytest.mark.parametrize(
        "names",
        [
            ("w0", "b0", "w1", "b1"),
            ("0.weight", "0.bias", "2.weight", "2.bias"),
            ("a.2.weight", "a.2.bias", "a.10.weight", "a.10.bias"),
        ],
    )
    def test_layers_have_relu_between_them_and_none_after_the_last(
        self, tmp_path: Path, names: tuple[str, ...]
    ) -> None:
        file = save(tmp_path, ".npz", dict(zip(names, DEEP.values(), strict=True)))
        rows = np.array([[1, 0], [0, 1], [-1, -1]])
        # 2 max(x, 0) + 3 max(-y, 0) - 1.
        np.testing.assert_allclose(head("layers", file, column="mine").score(rows), [1, -1, 2])

    def test_one_output_may_be_stored_flat(self, tmp_path: Path) -> None:
        file = save(tmp_path, ".npz", {"w0": np.array([3.0, 4.0]), "b0": np.array(1.0)})
        np.testing.assert_allclose(head("layers", file, column="mine").score(np.array([[1, 1]])), [8])

    @settings(deadline=None)
    @given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=1, max_size=20))
    def test_a_probability_lies_between_0_and_1_and_grows_with_the_output(self, outputs: list[float]) -> None:
        one = heads._any("p", {"weight": np.eye(1), "bias": np.zeros(1)}, Head.model_construct(output="probability"))  # noqa: SLF001 - a file for each example would be slow
        scores = one.score(np.array(sorted(outputs), np.float32)[:, None])
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (np.diff(scores) >= 0).all()
        assert one.score(np.zeros((1, 1)))[0] == 0.5

    def test_the_demo_has_a_head_for_each_column_that_every_table_has(self) -> None:
        found = heads.load(Head(kind="demo"))
        assert tuple(one.column for one in found) == DEMO_COLUMNS
        assert {one.features for one in found} == {128}


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


class TestWhatIsRefused:
    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".npy", ".npz", ".safetensors"])
    def test_a_pickle_that_would_run_code_is_refused_without_running_it(self, tmp_path: Path, suffix: str) -> None:
        proof, file = tmp_path / "it_ran", tmp_path / f"head{suffix}"
        file.write_bytes(pickle.dumps({"weight": Bomb(proof)}))
        with pytest.raises(ModelError, match=r"is refused: it holds more than numbers.*Remedy: "):
            tensors.read(file)
        assert not proof.exists()

    def test_nor_does_one_inside_of_a_container_run(self, tmp_path: Path) -> None:
        import torch

        proof = tmp_path / "it_ran"
        torch.save({"weight": Bomb(proof)}, tmp_path / "head.pth")
        np.savez(tmp_path / "head.npz", weight=np.array([Bomb(proof)], dtype=object))
        for name in ("head.pth", "head.npz"):
            with pytest.raises(ModelError, match="is refused"):
                tensors.read(tmp_path / name)
        assert not proof.exists()

    @pytest.mark.parametrize(
        ("kind", "arrays", "told"),
        [
            ("aesthetic_v1", DEEP, "2 layers, not one"),
            ("aesthetic_v1", {"values": np.zeros(3)}, "it has values, but no weight"),
            ("aesthetic_v2", {"weight": np.zeros((2, 8)), "bias": np.zeros(2)}, "not consecutive linear layers"),
            (
                "layers",
                {"w0": np.zeros((4, 8)), "b0": np.zeros(4), "w1": np.zeros((1, 5)), "b1": np.zeros(1)},
                "not consecutive linear",
            ),
            ("layers", {**LINEAR, "norm": np.zeros(2)}, "not consecutive linear layers"),
            ("layers", {"weight": np.zeros((1, 8))}, "'bias'"),
            ("nsfw_laion", LINEAR, "'mean'"),
            ("violence", LINEAR, "'array'"),
        ],
    )
    def test_a_file_of_another_kind_is_refused_with_what_is_wrong(
        self, tmp_path: Path, kind: str, arrays: dict[str, np.ndarray], told: str
    ) -> None:
        file = save(tmp_path, ".npz", arrays)
        with pytest.raises(ModelError, match=rf"is not a file of kind {kind}: .*{told}.*Remedy: "):
            head(kind, file, column="mine")

    def test_a_missing_file_and_a_strange_one_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "head.h5").touch()
        (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
        for name, told in [
            ("gone.npz", "does not exist"),
            ("head.h5", r"ends in \.h5"),
            ("cut.pth", "cannot be read|refused"),
        ]:
            with pytest.raises(ModelError, match=rf"{name}.*({told}).*Remedy: "):
                head("aesthetic_v1", tmp_path / name)


def test_the_weights_of_the_demo_have_the_names_that_training_gives_them() -> None:
    assert {name.split(".")[0] for name in tensors.read(DEMO_MODEL / "heads.safetensors")} == {
        "aesthetics",
        "unsafe",
        "watermark",
    }
