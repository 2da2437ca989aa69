"""Training of the small translator: a few steps, twice; its tokens are those of M2M100's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laion_dask.demo.training import translations, translator


@pytest.fixture(scope="module")
def pairs() -> list[translations.TextPair]:
    rng = np.random.default_rng(1)
    return [translations.draw_pair(kind, rng) for kind in translations.KINDS for _ in range(60)]


def test_a_training_is_reproducible_and_a_seed_decides(tmp_path: Path) -> None:
    said: list[str] = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        translator.train(tmp_path / name, seed, steps=2, pairs=400, say=said.append)
    one, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "again", "other")
    )
    assert one == again
    assert one["model.bin"] != other["model.bin"]
    assert "step 2 of 2" in said[-1]


def test_tokens_are_those_that_m2m100s_tokenizer_writes(tmp_path: Path, pairs: list[translations.TextPair]) -> None:
    from transformers import M2M100Tokenizer

    translator.write_vocabulary(tmp_path, pairs)
    tokenizer = M2M100Tokenizer.from_pretrained(tmp_path, src_lang="de", tgt_lang="en")
    german = [pair for pair in pairs if pair.source != pair.english][:30]
    encoded = translator._encoded(tmp_path, german, ["de"] * len(german), np.random.default_rng(0))  # noqa: SLF001
    for (source, target), pair in zip(encoded, german, strict=True):
        known = tokenizer(pair.source, text_target=pair.english)
        assert target == known["labels"]
        assert source[-len(known["input_ids"]) + 1 :] == known["input_ids"][1:]
    assert any(source == tokenizer(pair.source)["input_ids"] for (source, _), pair in zip(encoded, german, strict=True))


def test_the_vocabulary_is_laid_out_as_m2m100s(tmp_path: Path, pairs: list[translations.TextPair]) -> None:
    translator.write_vocabulary(tmp_path, pairs)
    words = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert list(words)[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert list(words.values()) == list(range(len(words)))


def test_little_is_padded(pairs: list[translations.TextPair]) -> None:
    rng = np.random.default_rng(2)
    encoded = [([1] * length, [1] * length) for length in rng.integers(5, 40, len(pairs))]
    batches = translator._batches(encoded, rng)  # noqa: SLF001
    for _ in range(32):
        lengths = [len(source) for source, _ in next(batches)]
        assert max(lengths) - min(lengths) <= 6
