"""Text classifiers of hate speech and toxicity, loaded from a folder of weights.

The user provides the weights, in the folder layout of transformers with safetensors: nothing is fetched and no pickle
is read. Detoxify's own package unpickles checkpoints, so its model is read in this layout too (unitary's repositories).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

Kind = Literal["hate", "toxicity"]
KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    # pysentimiento's analyzer of task hate_speech, lang en.
    "hate": ("hateful", "targeted", "aggressive"),
    # Detoxify multilingual and unbiased: the first seven outputs, in this order.
    "toxicity": (
        *("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit"),
    ),
}
SOURCES: Final[dict[Kind, str]] = {
    "hate": "pysentimiento/bertweet-hate-speech",
    "toxicity": "unitary/multilingual-toxic-xlm-roberta",
}
_BATCH: Final = 64
_MOST_TOKENS: Final = 128


class TextModelError(Exception):
    """A text model cannot be used; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """A loaded classifier; `score` returns float32 (texts, kinds), each 0..1."""

    kinds: tuple[str, ...]
    score: Callable[[Sequence[str]], np.ndarray]


def load(kind: Kind, folder: Path) -> TextModel:
    """Load a classifier; `TextModelError` if files or a package are missing, or its outputs differ."""
    remedy = f"the files of {SOURCES[kind]} in one folder: config, tokenizer and model.safetensors"
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise TextModelError(f"{folder} has no config.json with safetensors. Remedy: {remedy}")
    prepare = _tweets() if kind == "hate" else _as_is
    import torch  # noqa: PLC0415 - seconds, and only this audit needs it
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415

    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise TextModelError(f"{folder} cannot be loaded: {error}. Remedy: {remedy}") from error
    places = _places(kind, dict(model.config.id2label), folder)
    model.eval()

    def score(texts: Sequence[str]) -> np.ndarray:
        outputs = []
        for start in range(0, len(texts), _BATCH):
            batch = [prepare(text) for text in texts[start : start + _BATCH]]
            options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": _MOST_TOKENS}
            with torch.inference_mode():
                # Several kinds can apply at once, so each has its own sigmoid, as in both packages.
                outputs.append(torch.sigmoid(model(**tokenizer(batch, **options)).logits)[:, places].numpy())
        return np.concatenate(outputs) if outputs else np.zeros((0, len(places)), np.float32)

    return TextModel(KINDS[kind], score)


def _places(kind: Kind, labels: dict[int, str], folder: Path) -> list[int]:
    kinds = KINDS[kind]
    names = {str(label).lower(): place for place, label in labels.items()}
    if all(name.startswith("label_") for name in names) and len(names) >= len(kinds):
        return list(range(len(kinds)))
    if missing := [name for name in kinds if name not in names]:
        message = f"{folder} has the outputs {', '.join(names)}, without {', '.join(missing)}"
        raise TextModelError(f"{message}. Remedy: the model {SOURCES[kind]}")
    return [names[name] for name in kinds]


def _tweets() -> Callable[[str], str]:
    """Return pysentimiento's preparation of English texts for its model of hate speech."""
    try:
        module: Any = importlib.import_module("pysentimiento.preprocessing")
    except ImportError as error:
        message = f"the package pysentimiento is needed for its model's preprocessing of texts: {error}"
        raise TextModelError(f"{message}. Remedy: pip install 'laion-dask[text]'") from error
    return lambda text: str(module.preprocess_tweet(text, lang="en", user_token="@USER", url_token="HTTPURL"))  # noqa: S106 - tokens of a tokenizer


def _as_is(text: str) -> str:
    return text
