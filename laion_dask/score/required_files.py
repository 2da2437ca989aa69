"""Find what decides the scores beside the images: the weights of models, heads, tags and detectors."""

from __future__ import annotations

from pathlib import Path

from laion_dask import params
from laion_dask.clip import weights
from laion_dask.score import faces, heads, score_columns, text_mask


def find(rules: params.Score) -> None:
    """Find or fetch the weights and tokenizers of all models; load each head and detector.

    Called before a cluster starts. Raises the error of the module that reads a file, `ModelError` for a model.
    """
    for spec in rules.models:
        weights.find(spec)
        weights.fetch_tokenizer(spec)
    for head in rules.heads or ():
        heads.load(head)
    if rules.faces is not None:
        faces.load(rules.faces)
    if rules.masked_text is not None:
        text_mask.test(rules.masked_text)


def deciding(rules: params.Score) -> list[Path | str]:
    """Return the digests and files that decide the scores, for the keys of parts; raises `ModelError`."""
    beside = [path for spec in rules.models for path in weights.files(spec)]
    return [*(weights.identify(spec) for spec in rules.models), *beside, *score_columns.files(rules)]
