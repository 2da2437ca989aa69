"""Train the demo's small translator: M2M100's architecture, converted for CTranslate2.

It translates the demo's captions in eight languages, and file names that describe a scene, into English. The folder is
read by CTranslate2 and by transformers' M2M100Tokenizer::

    translator = ctranslate2.Translator(folder, compute_type="int8")
    tokenizer = transformers.M2M100Tokenizer.from_pretrained(folder, src_lang="de")
    source = tokenizer.convert_ids_to_tokens(tokenizer("Ein kleiner roter Stern im Schnee")["input_ids"])
    result = translator.translate_batch([source], target_prefix=[["__en__"]])
    english = tokenizer.decode(tokenizer.convert_tokens_to_ids(result[0].hypotheses[0][1:]))
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sentencepiece
import torch
from torch import nn

from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.training.fitting import fit, half, padded
from laion_dask.demo.training.translations import BARE, ENGLISH, NOLANG, TextPair, draw_pair
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER: Final = packaged.file("demo", "translator")
STEPS: Final = 1200
PAIRS: Final = 60_000
_BATCH: Final = 128
# Batches whose pairs are sorted by length together.
_SORTED: Final = 16
_PIECES: Final = 1600
_RATE: Final = 2e-3
# Seven languages get most pairs: English needs none but to stay as it is.
_SHARES: Final = dict.fromkeys(LANGUAGES, 1.0) | {ENGLISH: 0.5, NOLANG: 1.0, BARE: 0.5}
# How often the model is told the language of the source, English (as M2M100's tokenizer does unless told), any other
# language (as if the detection of the language had failed), or none.
_TOLD: Final = {"right": 0.76, "english": 0.1, "any": 0.07, "none": 0.07}
TokenPair = tuple[list[int], list[int]]
"""The tokens of source and target."""
_SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
_PAD, _END, _UNKNOWN = 1, 2, 3
_IGNORED: Final = -100
_TOKENIZER_FILES: Final = ("sentencepiece.bpe.model", "vocab.json", "tokenizer_config.json")


def train(
    folder: Path, seed: int = 1, steps: int = STEPS, pairs: int = PAIRS, say: Callable[[str], None] = print
) -> None:
    """Write a trained translator to ``folder``; the same arguments on the same machine give the same files."""
    torch.manual_seed(seed)
    # The number of threads changes the order of sums, and so the weights.
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, 5])
    kinds = rng.choice(list(_SHARES), pairs, p=np.array(list(_SHARES.values())) / sum(_SHARES.values()))
    drawn = [draw_pair(str(kind), rng) for kind in kinds]
    with tempfile.TemporaryDirectory() as name:
        unconverted = Path(name)
        write_vocabulary(unconverted, drawn)
        model = _untrained(len(json.loads((unconverted / "vocab.json").read_text(encoding="utf-8"))))
        _fit(model, _encoded(unconverted, drawn, list(map(str, kinds)), rng), steps, rng, say)
        model.save_pretrained(unconverted)
        convert(unconverted, folder)


def write_vocabulary(folder: Path, pairs: Sequence[TextPair]) -> None:
    """Learn the pieces of words from the pairs, and write the files that M2M100Tokenizer reads."""
    from transformers.models.m2m_100 import tokenization_m2m_100 as m2m100  # noqa: PLC0415 - seconds

    texts = [text for pair in pairs[:30_000] for text in (pair.source, pair.english)]
    learned = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=learned,
        model_type="bpe",
        vocab_size=_PIECES,
        character_coverage=1.0,
        split_digits=True,
        max_sentencepiece_length=12,
        required_chars="".join(map(chr, range(33, 127))),
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(learned.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=learned.getvalue())
    known = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    words = [*_SPECIAL, *(piece for piece in known if piece not in _SPECIAL)]
    vocabulary = {piece: place for place, piece in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0), encoding="utf-8")
    tokenizer = m2m100.M2M100Tokenizer(
        str(folder / "vocab.json"),
        str(folder / "sentencepiece.bpe.model"),
        src_lang=ENGLISH,
        tgt_lang=ENGLISH,
        # The files of M2M100 name them too: without them the converter finds fewer tokens than rows of weights.
        additional_special_tokens=[f"__{language}__" for language in m2m100.FAIRSEQ_LANGUAGE_CODES["m2m100"]],
    )
    tokenizer.save_pretrained(folder)


def _untrained(pieces: int) -> Any:  # noqa: ANN401 - a model of transformers
    from transformers import M2M100Config, M2M100ForConditionalGeneration  # noqa: PLC0415 - seconds

    # M2M100Tokenizer has a hundred languages, and eight words that stand for none, behind the pieces.
    config = M2M100Config(
        vocab_size=pieces + 108,
        d_model=128,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=384,
        decoder_ffn_dim=384,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        dropout=0.1,
        attention_dropout=0.0,
        max_position_embeddings=1024,
        decoder_start_token_id=_END,
        scale_embedding=True,
    )
    return M2M100ForConditionalGeneration(config).train()


def _encoded(
    folder: Path, pairs: Sequence[TextPair], kinds: Sequence[str], rng: np.random.Generator
) -> list[TokenPair]:
    """Return the tokens of source and target, each as M2M100's tokenizer writes them."""
    from transformers import M2M100Tokenizer  # noqa: PLC0415 - seconds

    tokenizer = M2M100Tokenizer.from_pretrained(folder)
    pieces, languages = tokenizer.sp_model, tokenizer.lang_code_to_id
    found = []
    for pair, kind in zip(pairs, kinds, strict=True):
        told = str(rng.choice(list(_TOLD), p=list(_TOLD.values())))
        right = kind if kind in languages else ENGLISH
        language = {"right": right, "english": ENGLISH, "any": str(rng.choice(list(languages))), "none": ""}[told]
        prefix = [languages[language]] if language else []
        source, target = (
            [tokenizer.encoder.get(piece, _UNKNOWN) for piece in pieces.encode(text, out_type=str)] for text in pair[:2]
        )
        found.append(([*prefix, *source, _END], [languages[ENGLISH], *target, _END]))
    return found


def _fit(
    model: Any,  # noqa: ANN401 - a model of transformers
    encoded: Sequence[TokenPair],
    steps: int,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> None:
    batches = _batches(encoded, rng)

    def loss_of_batch() -> torch.Tensor:
        sources, targets = zip(*next(batches), strict=True)
        source, target = padded(sources, _PAD), padded(targets, _PAD)
        start = torch.full((len(target), 1), _END)
        with half():
            logits = model(
                input_ids=source,
                attention_mask=(source != _PAD).long(),
                decoder_input_ids=torch.cat([start, target[:, :-1]], dim=1),
            ).logits
        wanted = target.masked_fill(target == _PAD, _IGNORED)
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), label_smoothing=0.05)

    fit(list(model.parameters()), loss_of_batch, steps=steps, rate=_RATE, weight_decay=0.01, say=say)


def _batches(encoded: Sequence[TokenPair], rng: np.random.Generator) -> Iterator[list[TokenPair]]:
    """Yield batches without end; the pairs of a batch are about as long as each other, so that little is padded."""
    while True:
        rows = sorted(rng.integers(len(encoded), size=_BATCH * _SORTED), key=lambda row: sum(map(len, encoded[row])))
        for place in rng.permutation(_SORTED):
            yield [encoded[row] for row in rows[place * _BATCH : (place + 1) * _BATCH]]


def convert(unconverted: Path, folder: Path) -> None:
    """Convert a folder of transformers into CTranslate2's format with int8 weights, beside the tokenizer's files."""
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415 - seconds

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        converted = Path(name) / "converted"
        copied = [file for file in (*_TOKENIZER_FILES, "special_tokens_map.json") if (unconverted / file).is_file()]
        TransformersConverter(str(unconverted), copy_files=copied).convert(str(converted), quantization="int8")
        for file in sorted(converted.iterdir()):
            shutil.copyfile(file, folder / file.name)
