"""What translations are compared with: CTranslate2 alone, `generate` of transformers, and EasyNMT's way of calling it.

Each takes the same texts in German and gives seconds of processor time and tokens written. All run on one thread, as a
worker does, and write up to the same limit: twice the tokens of the longest source of a batch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks.translate.shapes import Model
from laion_dask.translate import engine

LANGUAGE: Final = "de"
EASYNMT_BATCH: Final = 16
"""Of `EasyNMT.translate`, which sorts sentences by their characters and calls `generate` with 5 beams."""
EASYNMT_BEAMS: Final = 5


class Measured(NamedTuple):
    """One way of translating: texts, tokens written, seconds of the processor."""

    texts: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Texts a second."""
        return self.texts / self.seconds


def ctranslate2(model: Model, texts: Sequence[str], batch: int, beams: int) -> Measured:
    """Measure CTranslate2 alone: tokens in, tokens out, in batches of one length, the longest first."""
    loaded = engine.load(model.rules())
    pieces = loaded.tokens.pieces(texts)
    sources = sorted((loaded.tokens.source(one, LANGUAGE) for one in pieces), key=len, reverse=True)
    began, tokens = time.process_time(), 0
    for first in range(0, len(sources), batch):
        rows = sources[first : first + batch]
        results = loaded.translator.translate_batch(
            rows,
            target_prefix=[["__en__"]] * len(rows),
            beam_size=beams,
            max_decoding_length=2 * len(rows[0]) + 1,
            max_input_length=0,
        )
        tokens += sum(len(result.hypotheses[0]) for result in results)
    return Measured(len(texts), tokens, time.process_time() - began)


class Transformers:
    """The model as transformers loads it: float32, on one thread."""

    def __init__(self, model: Model) -> None:
        import torch  # noqa: PLC0415 - seconds
        import transformers  # noqa: PLC0415

        torch.set_num_threads(1)
        auto: Any = transformers.AutoModelForSeq2SeqLM
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.network = auto.from_pretrained(model.saved).eval()
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model.saved, src_lang=LANGUAGE)

    def generate(self, texts: Sequence[str], batch: int, beams: int) -> Measured:
        """Measure `generate` on batches of one length, the longest first."""
        return self._batches(sorted(texts, key=lambda text: -len(text.split())), batch, beams)

    def easynmt(self, texts: Sequence[str]) -> Measured:
        """Measure EasyNMT's way: its batch, its beams, sorted by characters."""
        return self._batches(sorted(texts, key=lambda text: -len(text)), EASYNMT_BATCH, EASYNMT_BEAMS)

    def _batches(self, texts: Sequence[str], batch: int, beams: int) -> Measured:
        import torch  # noqa: PLC0415

        began, tokens = time.process_time(), 0
        for first in range(0, len(texts), batch):
            read = self.tokenizer(texts[first : first + batch], return_tensors="pt", padding=True, truncation=True)
            with torch.no_grad():
                written = self.network.generate(
                    **read,
                    forced_bos_token_id=self.tokenizer.get_lang_id("en"),
                    num_beams=beams,
                    max_length=2 * read["input_ids"].shape[1] + 2,
                )
            tokens += int((written != self.tokenizer.pad_token_id).sum()) - len(written)
            [self.tokenizer.decode(row, skip_special_tokens=True) for row in written]
        return Measured(len(texts), tokens, time.process_time() - began)
