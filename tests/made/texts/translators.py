"""Tiny translation models with random weights, of each family, as transformers saves them and converted."""

from __future__ import annotations

import json
import warnings
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from laion_dask import params
from laion_dask.translate import convert

POSITIONS = 64
PIECES = 180
_DIMS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_WORDS = (
    ("ein", "eine", "la", "le", "a", "the", "ένα", "один", "赤い", "红色", "أحمر"),
    ("rote", "blaue", "bleu", "red", "blue", "красный", "κόκκινο", "円", "圆"),
    ("Kreis", "Quadrat", "circle", "square", "triangle", "cercle", "круг", "τετράγωνο", "1234567890"),
)
TEXTS = [" ".join(words) for words in product(*_WORDS)]


class Made(NamedTuple):
    """A model in transformers' format, and the same converted for CTranslate2 with float32 weights."""

    family: Any
    saved: Path
    folder: Path

    def rules(self, **changed: Any) -> params.Translate:  # noqa: ANN401 - values of any parameter
        """Parameters that name the model: float32, so that it can be compared with transformers."""
        return rules(self.folder, self.family, **changed)


def rules(folder: Path, family: str, **changed: Any) -> params.Translate:  # noqa: ANN401 - values of any parameter
    values = {
        "model": f"local-dir:{folder}",
        "family": family,
        "expect_sha256": None,
        "compute": "float32",
        "splits": ("multi",),
        "source": "column",
        "no_language": "skip",
        "beams": 1,
        "max_source_tokens": 32,
        "max_tokens": None,
        "batch": 8,
    }
    return params.Translate(**(values | changed))


@cache
def make(folder: Path, family: str, seed: int = 1) -> Made:
    """Make the model of a family in a folder, once in this process."""
    import torch

    torch.manual_seed(seed)
    saved = folder / f"{family}-{seed}" / "saved"
    saved.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers recommends a package that Marian's tokenizer does not call
        network, tokenizer = {"m2m100": _m2m100, "nllb": _nllb, "marian": _marian}[family](saved)
        _liven(network)
        network.save_pretrained(saved)
        tokenizer.save_pretrained(saved)
        (saved / "README.md").write_text("---\nlanguage:\n- de\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
        return Made(family, saved, convert.convert(str(saved), saved.with_name("converted"), "float32"))


def _liven(network: Any) -> None:  # noqa: ANN401 - of transformers
    """Scale the weights, so that what the network writes follows from what it reads, and changes from token to token.

    As transformers makes it, a network with random weights repeats one token, whatever it reads.
    """
    import torch

    with torch.no_grad():
        for name, values in network.named_parameters():
            if name == "model.shared.weight":
                values.mul_(10)
            elif ".encoder_attn." in name and "bias" not in name:
                values.mul_(40)


def tokenizer(made: Made, **options: Any) -> Any:  # noqa: ANN401 - of transformers
    """The tokenizer of transformers for a model."""
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoTokenizer.from_pretrained(made.saved, **options)


def _pieces(file: Path) -> list[str]:
    """Train a small SentencePiece model on the texts, and return its pieces."""
    import sentencepiece

    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=stream,
            vocab_size=PIECES,
            model_type="bpe",
            minloglevel=2,
            num_threads=1,
        )
    made = sentencepiece.SentencePieceProcessor(model_file=str(file))
    pieces = [made.id_to_piece(place) for place in range(made.get_piece_size())]
    return [piece for piece in pieces if piece not in {"<s>", "</s>", "<unk>"}]


def _m2m100(folder: Path) -> tuple[Any, Any]:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_pieces(folder / "sentencepiece.bpe.model")]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    rows = len(tokens) + len(tokenizer.lang_token_to_id) + tokenizer.num_madeup_words
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=rows, **_DIMS)), tokenizer


def _nllb(folder: Path) -> tuple[Any, Any]:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    _pieces(folder / "sentencepiece.bpe.model")
    tokenizer = NllbTokenizer.from_pretrained(folder, extra_special_tokens=FAIRSEQ_LANGUAGE_CODES)
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **_DIMS)), tokenizer


def _marian(folder: Path) -> tuple[Any, Any]:
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    pieces = _pieces(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    tokens = ["</s>", "<unk>", *pieces, ">>eng<<", ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    tokenizer = MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))
    pad = len(tokens) - 1
    ids = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": None}
    config = MarianConfig(vocab_size=len(tokens), decoder_vocab_size=len(tokens), **ids, **_DIMS)
    return MarianMTModel(config), tokenizer
