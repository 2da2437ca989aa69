"""A translation model of a published shape with random weights, saved for transformers and converted to int8.

Its vocabulary has as many pieces as the published one, made of drawn letters; texts are drawn from them, so that each
word is one token. With random weights a model hardly ever ends a text: all write up to the limit, and so as much.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask import params
from laion_dask.translate import convert

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
# Words of an alt text: a log-normal with mean 13 and few beyond 40, near LAION-5B's multi (mean 52 characters).
_MU, _SIGMA, _LONGEST = 2.4, 0.6, 48


@dataclass(frozen=True)
class Shape:
    """Dimensions of an M2M100."""

    name: str
    d_model: int
    layers: int
    heads: int
    ffn: int
    pieces: int


M2M100_418M: Final = Shape("m2m100_418M", 1024, 12, 16, 4096, 128_000)
TINY: Final = Shape("tiny", 64, 2, 4, 256, 8_000)


@dataclass(frozen=True)
class Model:
    """A model for transformers and the same for CTranslate2."""

    shape: Shape
    saved: Path
    converted: Path

    def rules(self, **changed: Any) -> params.Translate:  # noqa: ANN401 - values of any parameter
        """Return parameters that name the converted model."""
        values = {
            "model": f"local-dir:{self.converted}",
            "family": "m2m100",
            "expect_sha256": None,
            "compute": "int8",
            "splits": ("multi",),
            "source": "column",
            "no_language": "skip",
            "beams": 1,
            "max_source_tokens": 256,
            "max_tokens": None,
            "batch": 32,
        }
        return params.Translate(**(values | changed))


def cached(folder: Path, shape: Shape) -> Model:
    """Return the model of a shape, made where it is new: for m2m100_418M half a minute, and 2.5 GB of disk."""
    made = Model(shape, folder / shape.name / "saved", folder / shape.name / "converted")
    if not made.converted.is_dir():
        shutil.rmtree(folder / shape.name, ignore_errors=True)
        made.saved.mkdir(parents=True)
        _save(made.saved, shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            convert.convert(str(made.saved), made.converted, "int8")
    return made


def words(shape: Shape) -> list[str]:
    """Return a word for each piece of the vocabulary, all different; the same words each time."""
    rng = np.random.default_rng(7)
    found: dict[str, None] = {}
    while len(found) < shape.pieces:
        found["".join(rng.choice([*_LETTERS], int(rng.integers(3, 8))))] = None
    return [*found]


def texts(shape: Shape, count: int) -> list[str]:
    """Draw texts of the words."""
    rng, listed = np.random.default_rng(11), words(shape)
    lengths = np.clip(rng.lognormal(_MU, _SIGMA, count), 2, _LONGEST).astype(int)
    return [" ".join(listed[place] for place in rng.integers(0, len(listed), length)) for length in lengths]


def _save(folder: Path, shape: Shape) -> None:
    import torch  # noqa: PLC0415 - seconds
    from sentencepiece import sentencepiece_model_pb2 as protobuf  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        M2M100Config,
        M2M100ForConditionalGeneration,
        M2M100Tokenizer,
    )

    pieces = [f"▁{word}" for word in words(shape)]
    model = protobuf.ModelProto()
    for piece, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3)):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for place, piece in enumerate(pieces):
        model.pieces.add(piece=piece, score=-float(place), type=1)
    model.trainer_spec.model_type = 1
    model.normalizer_spec.name = "identity"
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    sizes = {"d_model": shape.d_model, "vocab_size": len(tokens) + len(tokenizer.lang_token_to_id) + 8}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": shape.layers, f"{side}_attention_heads": shape.heads, f"{side}_ffn_dim": shape.ffn}
    M2M100ForConditionalGeneration(M2M100Config(**sizes)).save_pretrained(folder)
