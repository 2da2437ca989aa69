"""The committed small CLIP: how well it does on held-out scenes, and that plain open_clip reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.crawl.scenes import random_scene
from laion_dask.demo.training.evaluate import (
    HEADS,
    MODEL,
    NOLANG,
    Evaluation,
    SmallClip,
    as_downloaded,
    balance,
    embed_images,
    embed_texts,
    evaluate,
    head_scores,
    load,
    report,
)


@pytest.fixture(scope="module")
def clip() -> SmallClip:
    return load()


@pytest.fixture(scope="module")
def measured(clip: SmallClip) -> Evaluation:
    return evaluate(clip, scenes=500)


@pytest.mark.parametrize("language", [*LANGUAGES, NOLANG])
def test_matching_captions_stand_above_wrong_ones(measured: Evaluation, language: str) -> None:
    assert measured.auc[language] >= (0.97 if language == "en" else 0.93)


@pytest.mark.parametrize("split", ["en", "multi", NOLANG])
def test_one_threshold_a_split_finds_wrong_captions(measured: Evaluation, split: str) -> None:
    found = measured.splits[split]
    assert found.precision >= 0.9
    assert found.recall >= 0.9


@pytest.mark.parametrize("mark", ["unsafe", "watermark"])
def test_marks_are_found_at_one_half(measured: Evaluation, mark: str) -> None:
    precision, recall = measured.marks[mark]
    assert precision >= 0.9
    assert recall >= 0.9


def test_aesthetics_follow_the_truth(measured: Evaluation) -> None:
    assert measured.aesthetics_correlation >= 0.9


def test_the_report_names_every_split_and_head(measured: Evaluation) -> None:
    printed = report(measured)
    assert all(word in printed for word in (*LANGUAGES, "multi", NOLANG, *HEADS))


def test_the_folder_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    clip = {"open_clip_config.json", "open_clip_model.safetensors", "bpe.txt.gz"}
    assert set(files) == {*clip, "heads.safetensors", "faces.onnx"}
    assert sum(files.values()) <= 8 * 2**20


def test_plain_open_clip_loads_the_folder() -> None:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{MODEL}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{MODEL}", bpe_path=str(MODEL / "bpe.txt.gz"))
    picture = as_downloaded(random_scene(np.random.default_rng(0)), np.random.default_rng(0))
    with torch.inference_mode():
        image = model.eval().encode_image(preprocess(picture).unsqueeze(0), normalize=True)
        text = model.encode_text(tokenizer(["a red star"]), normalize=True)
    assert image.dtype == text.dtype == torch.float32
    assert (
        image.shape
        == text.shape
        == (1, json.loads((MODEL / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"])
    )
    assert tokenizer.vocab_size == model.vocab_size


@pytest.mark.slow
def test_the_same_input_gives_the_same_embedding(clip: SmallClip) -> None:
    rng = np.random.default_rng(8)
    scenes = [random_scene(rng) for _ in range(70)]
    pictures = [as_downloaded(scene, np.random.default_rng(9)) for scene in scenes]
    texts = [f"a {s.size} {s.color} {s.thing}" for s in scenes]
    again = load()
    seen, read = embed_images(clip, pictures), embed_texts(clip, texts)
    assert np.array_equal(seen, embed_images(again, pictures))
    assert np.array_equal(read, embed_texts(again, texts))
    assert np.allclose(np.linalg.norm(np.concatenate([seen, read]), axis=1), 1, atol=1e-5)


def test_heads_read_embeddings_stored_as_float16(clip: SmallClip) -> None:
    rng = np.random.default_rng(10)
    seen = embed_images(clip, [as_downloaded(random_scene(rng), rng) for _ in range(40)])
    full, half = head_scores(clip.folder, seen), head_scores(clip.folder, seen.astype(np.float16).astype(np.float32))
    for head in HEADS:
        assert np.allclose(full[head], half[head], atol=0.05)


@pytest.mark.parametrize(
    ("right", "wrong", "precision", "recall"),
    [
        ([0.8, 0.9, 0.7, 0.8], [0.1, 0.2, 0.3, 0.1], 1.0, 1.0),
        ([0.5] * 10, [0.5] * 10, 1.0, 0.0),
    ],
)
def test_a_threshold_balances_precision_and_recall(
    right: list[float], wrong: list[float], precision: float, recall: float
) -> None:
    split = balance(np.array(right, np.float32), np.array(wrong, np.float32))
    assert (split.precision, split.recall) == (precision, recall)


@pytest.mark.parametrize(
    ("words", "merges"),
    [
        ({("a", "b</w>"): 5, ("b", "b</w>"): 2}, [("a", "b</w>"), ("b", "b</w>")]),
        ({("a", "a", "a</w>"): 3}, [("a", "a</w>"), ("a", "aa</w>")]),
        ({("a", "b</w>"): 1}, []),
    ],
)
def test_the_most_frequent_neighbours_merge_first(
    words: dict[tuple[str, ...], int], merges: list[tuple[str, str]]
) -> None:
    from collections import Counter

    from laion_dask.demo.training.train import learn_merges

    assert learn_merges(Counter(words), 10) == merges


def test_the_command_says_what_it_does() -> None:
    from typer.testing import CliRunner

    from laion_dask.demo.training.train import app

    shown = CliRunner().invoke(app, ["--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("--steps", "--seed", "--out", "--evaluate"))
