"""Embed the captions of a shard: equal ones once, in order of their lengths, each the same beside any others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laion_dask.clip.clip import Clip


def embed(model: Clip, tokens: Sequence[Any], *, whole: bool) -> np.ndarray:
    """Return the embeddings, float32 (rows, dimension), of all rows of some tensors of tokens (rows, context).

    Tokens are cut at the end of each text, where the text tower allows that, and texts of one length are computed
    together. With `whole` every forward pass has the same number of rows, the last one repeated, so that the bits of an
    embedding depend on its text alone: sums of other shapes are made in another order, and differ by about 1e-7.
    """
    import torch  # noqa: PLC0415

    rows, places = np.unique(torch.cat(list(tokens)).numpy(), axis=0, return_inverse=True)
    distinct = torch.from_numpy(rows)
    found = np.empty((len(rows), model.dimension), np.float32)
    lengths = model.lengths(distinct)
    size = model.text_slices.rows
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for at in range(0, len(same), size):
            chunk = same[at : at + size]
            texts = distinct[torch.from_numpy(chunk)][:, : int(length)]
            passed = repeated(texts, size) if whole else texts
            found[chunk] = model.rows(model.read(passed.contiguous()))[: len(chunk)]
    return found[places.reshape(-1)]


def repeated(rows: Any, size: int) -> Any:  # noqa: ANN401 - torch tensors
    """Return `size` rows, the last one repeated; more rows stay as they are."""
    import torch  # noqa: PLC0415

    if len(rows) >= size:
        return rows
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
