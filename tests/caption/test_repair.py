"""The repair of captions: rewritten greedily, or left as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from made.images import small_captioners
from made.images.small_captioners import settings

from laion_dask.caption import repair
from laion_dask.clip.clip import ModelError

TEXTS = ["a red star", "a blue circle", "a green square on white", "two small houses", "the sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_captioners.t5(tmp_path_factory.mktemp("repair") / "t5")


def test_captions_are_rewritten_greedily_whatever_stands_beside_them(folder: Path) -> None:
    rules = settings("demo", repair={"model": f"local-dir:{folder}", "prompt": "of the ", "max_tokens": 5})
    found = repair.repaired(TEXTS, rules)
    network: Any = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    for text, rewritten in zip(TEXTS, found, strict=True):
        tokens = tokenizer(f"of the {text}", return_tensors="pt").input_ids
        own = network.generate(tokens, do_sample=False, max_new_tokens=5)[0]
        assert rewritten == (" ".join(tokenizer.decode(own, skip_special_tokens=True).split()) or text)
    assert found != TEXTS


def test_without_a_model_captions_stay() -> None:
    assert repair.repaired(TEXTS, settings("demo")) == TEXTS


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    blip = small_captioners.blip(tmp_path / "blip")
    with pytest.raises(ModelError, match=r"caption\.repair: model local-dir:blip cannot be loaded"):
        repair.repaired(TEXTS, settings("demo", repair={"model": f"local-dir:{blip}"}))
