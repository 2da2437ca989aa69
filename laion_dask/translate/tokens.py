"""Make the tokens that a translation model reads, and the text from those that it writes, as its family asks.

Built with SentencePiece alone: transformers' tokenizers give the same tokens for the same text, and cost seconds to
import. Two differences: what looks like a special token inside a text (`</s>`, `>>fra<<`, `__de__`) is text here, and a
space at the end of a text is no token, of which transformers' tokenizer of NLLB makes one.

- m2m100: `__de__ ▁ein ▁Kreis </s>`; the English text begins with `__en__`.
- nllb: `deu_Latn ▁ein ▁Kreis </s>`; the English text begins with `eng_Latn`.
- marian: `▁ein ▁Kreis </s>`, and before it `>>eng<<` where the vocabulary has that token: such a model writes several
  languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.translate import languages, models
from laion_dask.translate.models import TranslatorError

END: Final = "</s>"
_SPECIAL: Final = frozenset({"<s>", END, "<pad>", "<unk>", "<mask>", "<eop>", "<eod>"})
_TARGET: Final = re.compile(r">>(?P<code>[^<>\s]+)<<")
_BLANK: Final = "▁"  # SentencePiece's space


class Tokens:
    """The tokenizer of a model, which knows the tokens of its language codes."""

    def __init__(self, folder: Path, settings: params.Translate) -> None:
        """Read the SentencePiece files and vocabularies; `TranslatorError` where they do not fit the family."""
        names = models.TOKENIZERS[settings.family]
        self._source, self._target = (_sentencepiece(folder / name, settings) for name in (names[0], names[-1]))
        self._family = settings.family
        self._reads, self._writes = models.vocabularies(folder)
        self._only = models.source_language(folder) if settings.family == "marian" else None
        self._first = self._target_token(settings)
        english = languages.ENGLISH[settings.family]
        if settings.family != "marian" and self._of_language(english) not in self._writes:
            message = (
                f"{models.where(settings)}: the vocabulary of {folder} has no {self._of_language(english)}, so it is "
                "not of this family, or cannot write English. Remedy: correct translate.family, or another model"
            )
            raise TranslatorError(message)
        self.prefix = [] if settings.family == "marian" else [self._of_language(english)]
        """What the English text begins with; the model is given it."""

    def _target_token(self, settings: params.Translate) -> list[str]:
        """Return what tells a Marian model to write English, at the beginning of the source."""
        targets = {match["code"] for token in self._reads if (match := _TARGET.fullmatch(token))}
        if settings.family != "marian" or not targets:
            return []
        found = [code for code in (languages.ENGLISH["marian"], "en") if code in targets]
        if not found:
            message = (
                f"{models.where(settings)}: it writes {', '.join(sorted(targets)[:8])}, but not English (>>eng<<). "
                "Remedy: a model whose target is English"
            )
            raise TranslatorError(message)
        return [f">>{found[0]}<<"]

    def _of_language(self, code: str) -> str:
        return f"__{code}__" if self._family == "m2m100" else code

    def told(self, language: str) -> str | None:
        """Return the code that the model is told for a language of the table; None where it does not know the language.

        Empty for Marian. A Marian model of one source language knows only that one; where its tokenizer_config.json is
        not there, or names a group of languages (mul, gem, ROMANCE), it takes any.
        """
        code = languages.code(self._family, language)
        if self._family == "marian":
            one = self._only is not None and languages.listed(self._only)
            return code if not one or languages.same(str(self._only), language) else None
        return code if code is not None and self._of_language(code) in self._reads else None

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """Cut texts into pieces; an empty list for a text that the tokenizer refuses or that nothing is left of.

        Refused are lone surrogates and NUL characters. Nothing is left where no piece but spaces is in the vocabulary.
        """
        good = [row for row, text in enumerate(texts) if "\0" not in text and _is_unicode(text)]
        cut: list[list[str]] = [[] for _ in texts]
        # SentencePiece would use a thread for each core.
        found = self._source.encode([texts[row] for row in good], out_type=str, num_threads=1) if good else []
        for row, pieces in zip(good, found, strict=True):
            if any(piece in self._reads and piece != _BLANK for piece in pieces):
                cut[row] = pieces
        return cut

    def source(self, pieces: Sequence[str], code: str) -> list[str]:
        """Return what the model reads for a text in pieces; `code` empty: no language is set.

        m2m100 and NLLB are then told English, as transformers' tokenizers do where `src_lang` is never set.
        """
        if self._family == "marian":
            return [*self._first, *pieces, END]
        return [self._of_language(code or languages.ENGLISH[self._family]), *pieces, END]

    def text(self, written: Sequence[str]) -> str:
        """Return the text of the tokens that the model wrote, without special ones."""
        return str(self._target.decode([token for token in written if not self._is_special(token)])).strip()

    def _is_special(self, token: str) -> bool:
        if token in _SPECIAL:
            return True
        if self._family == "marian":
            return _TARGET.fullmatch(token) is not None
        # Language tokens and the rows that fill up a matrix (madeupword0) are no pieces.
        return bool(self._target.piece_to_id(token) == self._target.unk_id())


def _sentencepiece(file: Path, settings: params.Translate) -> Any:  # noqa: ANN401 - sentencepiece has no types
    import sentencepiece  # noqa: PLC0415 - loads a compiled library

    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError) as error:
        message = f"{models.where(settings)}: {file} is no SentencePiece model ({error}). Remedy: copy it again"
        raise TranslatorError(message) from error


def _is_unicode(text: str) -> bool:
    """Say whether a text has no lone surrogates, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
