"""Convert a translation model of transformers to CTranslate2's format, with the files of its tokenizer beside it.

    python -m laion_dask.translate.convert --model facebook/m2m100_418M --output_dir m2m100_418M --quantization int8

This is CTranslate2's converter for transformers, with one difference. `ct2-transformers-converter` 4.8.5 takes the
language tokens of m2m100 from a list that transformers 5 no longer has, and refuses every such model ("Source
vocabulary 0 has size 128012 but the model expected a vocabulary of size 128112"); here they come from the tokenizer.
For NLLB and Marian it does what that command does with `--copy_files`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from laion_dask.translate import models

_OPTIONAL: Final = (models.TOKENIZER_CONFIG, models.CARD)
_QUANTIZATIONS: Final = ("int8", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")


def convert(model: str, out: Path, quantization: str = "int8", *, force: bool = False) -> Path:
    """Convert a model that transformers can load, by folder or hub name, into a folder; returns the folder.

    Raises what CTranslate2's converter raises, `RuntimeError` where the folder exists and `force` is not set.
    """
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415 - seconds

    copied = [*_copied(TransformersConverter(model))]
    with _language_tokens():
        TransformersConverter(model, copy_files=copied).convert(str(out), quantization=quantization, force=force)
    return out


def _copied(converter: Any) -> Iterator[str]:  # noqa: ANN401 - CTranslate2 has no types
    """Yield the files of the tokenizer and the card, as far as the model has them."""
    for name in (*dict.fromkeys(file for files in models.TOKENIZERS.values() for file in files), *_OPTIONAL):
        try:
            converter.get_model_file(name)
        except ValueError:
            continue
        yield name


class _WithLanguages:
    """A tokenizer of transformers 5 that lists its language tokens where transformers 4 did."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - of any class
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._tokenizer, name)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The named special tokens, and the language tokens in the order of their ids."""
        ids = getattr(self._tokenizer, "lang_token_to_id", {})
        return dict(self._tokenizer.special_tokens_map) | {
            "additional_special_tokens": sorted(ids, key=ids.__getitem__)
        }


@contextmanager
def _language_tokens() -> Iterator[None]:
    """Let CTranslate2's loader of M2M100 find the language tokens inside the block."""
    from ctranslate2.converters import transformers as released  # noqa: PLC0415

    class Loader(released.M2M100Loader):  # type: ignore[misc] # CTranslate2 has no types
        """The released loader, for tokenizers of transformers 5."""

        def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:  # noqa: ANN401
            return list(super().get_vocabulary(model, _WithLanguages(tokenizer)))

    loaders: dict[str, Any] = released._MODEL_LOADERS  # noqa: SLF001 - it has no public way to replace a loader
    before = loaders["M2M100Config"]
    loaders["M2M100Config"] = Loader()
    try:
        yield
    finally:
        loaders["M2M100Config"] = before


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m laion_dask.translate.convert", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="name on the hub, or folder, of a model of transformers")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder to make")
    parser.add_argument("--quantization", default="int8", choices=_QUANTIZATIONS, help="of the weights (default int8)")
    parser.add_argument("--force", action="store_true", help="replace the folder where it exists")
    given = parser.parse_args(arguments)
    convert(given.model, given.output_dir, given.quantization, force=given.force)


if __name__ == "__main__":
    main()
