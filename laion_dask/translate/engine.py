"""Run a translation model with CTranslate2: loaded once for each process, in fixed batches sorted by length."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from laion_dask import params
from laion_dask.clip import devices
from laion_dask.texts import new_texts
from laion_dask.translate import models
from laion_dask.translate.models import TranslatorError
from laion_dask.translate.tokens import END, Tokens

# Two tasks of one process must not load a model twice.
_loading = threading.Lock()
# More than any model of the families has; a longer source shows how many a model has.
_PROBE_TOKENS: Final = 1_025
_POSITIONS: Final = re.compile(r"No position encodings are defined for positions >= (\d+)")
_REPETITIONS: Final = 4


class Written(NamedTuple):
    """What the model wrote for one source."""

    tokens: list[str]
    """Without the prefix and the end."""
    cut: bool
    """The limit came before the end."""


@dataclass(slots=True)
class Engine:
    """A loaded model and its tokenizer."""

    tokens: Tokens
    positions: int
    """The most tokens that it reads, and that it writes, the special ones included."""
    translator: Any
    """A `ctranslate2.Translator`."""
    rows: int
    """Sources of one forward pass, at most: halved when memory runs out, for the rest of the process."""

    def limit(self, source: Sequence[str], max_tokens: int | None) -> int:
        """Return how many tokens the model may write for a source, its prefix and its end included.

        Twice those of the source, or `max_tokens`, which counts the token that the decoder starts with, as
        transformers' `max_length` does: so 30 are 28 tokens with the end for m2m100 and NLLB, 29 for Marian.
        """
        most = 2 * len(source) + len(self.tokens.prefix) if max_tokens is None else max_tokens - 1
        return max(len(self.tokens.prefix) + 1, min(most, self.positions))

    def translate(
        self, sources: Sequence[Sequence[str]], limits: Sequence[int], *, beams: int, batch: int
    ) -> list[Written]:
        """Translate sources (tokens) in their order; each at most to its limit (tokens, prefix and end included).

        Batches have `batch` sources of about one length, the longest first, and depend on the sources alone. A batch
        runs to its highest limit and each row is cut to its own afterwards: with one beam this is what the row alone
        would give. Out of memory, a batch is halved. Raises what CTranslate2 raises for a single row.
        """
        order = sorted(range(len(sources)), key=lambda row: (-len(sources[row]), row))
        written: list[Written | None] = [None] * len(sources)
        for first in range(0, len(order), batch):
            rows, at = order[first : first + batch], 0
            while at < len(rows):
                some = rows[at : at + self.rows]
                try:
                    found = self._forward([sources[row] for row in some], max(limits[row] for row in some), beams)
                except (RuntimeError, MemoryError) as error:
                    if len(some) == 1 or not devices.out_of_memory(error):
                        raise
                    self.rows = min(self.rows, len(some) // 2)
                    continue
                for row, tokens in zip(some, found, strict=True):
                    written[row] = self._ended(tokens, limits[row])
                at += len(some)
        return [one for one in written if one is not None]

    def _forward(self, sources: Sequence[Sequence[str]], limit: int, beams: int) -> list[list[str]]:
        prefix = [self.tokens.prefix] * len(sources) if self.tokens.prefix else None
        results = self.translator.translate_batch(
            [*map(list, sources)],
            target_prefix=prefix,
            beam_size=beams,
            max_decoding_length=limit,
            max_input_length=0,  # a longer source would be cut without a word
            return_end_token=True,
        )
        return [result.hypotheses[0] for result in results]

    def _ended(self, tokens: list[str], limit: int) -> Written:
        own = tokens[:limit]
        ended = bool(own) and own[-1] == END
        return Written(own[len(self.tokens.prefix) : len(own) - ended], not ended)


def repeats(written: Written) -> bool:
    """Say whether a model repeated itself up to the limit: a cut text ends in one n-gram, four times or more.

    The n-gram has 1 to 8 tokens, and the repetitions follow each other up to the last token. A text that came to its
    end may repeat as it likes: alt texts do.
    """
    return written.cut and new_texts.ends_in_copies(written.tokens, _REPETITIONS)


def load(settings: params.Translate) -> Engine:
    """Load a model, once for each process; raises `TranslatorError`."""
    with _loading:
        return _load(settings.model_copy(update=_NOT_OF_MODEL))


# In the order in which one needs the other.
_CUBLAS_FILES: Final = ("libcublasLt.so.12", "libcublas.so.12")
_CUBLAS: Final = "`pip install nvidia-cublas-cu12`, as CTranslate2 needs CUDA 12's; else "

# Parameters that the loaded model does not depend on, so that it is loaded once for all of their values.
_NOT_OF_MODEL: Final[dict[str, Any]] = {
    "splits": ("multi",),
    "source": "column",
    "no_language": "skip",
    "beams": 1,
    "max_source_tokens": 8,
    "max_tokens": None,
    "batch": 1,
}


@functools.cache
def _load(settings: params.Translate) -> Engine:
    import ctranslate2  # noqa: PLC0415 - loads a compiled library

    folder = models.find(settings)
    models.identify(settings)
    device = devices.find()
    if device == "cuda":
        _load_cublas()
    try:
        # One thread on a CPU, as all forward passes here: the order of sums does not change, and the cores are used by
        # one process each.
        translator = ctranslate2.Translator(
            str(folder), device=device, compute_type=settings.compute, inter_threads=1, intra_threads=1
        )
        # cuBLAS is looked for at the first product.
        translator.translate_batch([[END]], max_decoding_length=1, beam_size=1)
    except (RuntimeError, ValueError) as error:
        known = ", ".join(sorted(ctranslate2.get_supported_compute_types(device)))
        library = _CUBLAS if "cublas" in str(error) else ""
        message = (
            f"{models.where(settings)}, compute {settings.compute}: {folder} cannot be loaded on this {device}: "
            f"{error}. Remedy: {library}translate.compute with one of {known}; or convert the model again with this "
            f"CTranslate2 ({ctranslate2.__version__})"
        )
        raise TranslatorError(message) from error
    return Engine(Tokens(folder, settings), _positions(translator), translator, rows=1 << 30)


def _load_cublas() -> None:
    """Load cuBLAS of CUDA 12 from its package, where it is installed: torch brings that of CUDA 13.

    CTranslate2 asks for libcublas.so.12 by name, and takes one that the process has loaded.
    """
    try:
        package = importlib.util.find_spec("nvidia.cublas")
    except ModuleNotFoundError:
        return
    for folder in (package.submodule_search_locations or []) if package else []:
        for name in _CUBLAS_FILES:
            if (file := Path(folder) / "lib" / name).is_file():
                ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


def _positions(translator: Any) -> int:  # noqa: ANN401 - CTranslate2 has no types
    """Return how many positions a model has; no file of it says so, but the message that refuses a longer source."""
    try:
        translator.translate_batch([[END] * _PROBE_TOKENS], max_input_length=0, max_decoding_length=1, beam_size=1)
    except RuntimeError as error:
        if found := _POSITIONS.search(str(error)):
            return int(found[1])
        raise
    return _PROBE_TOKENS
