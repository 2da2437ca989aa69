"""Run open_clip's text tower on only as many token positions as the longest text of a batch has.

A caption has about 10 tokens, CLIP's context 77. Under a causal mask, positions behind the end of a text do not change
those before it, so computing positions behind the longest text is wasted work.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

# Lengths are rounded up to multiples of this, for fewer different shapes.
_STEP: Final = 8
_PROBES: Final = ("", "a", "a photo of a small red house", "one two three four five six seven eight nine ten " * 9)
# Sums of other shapes differ by about 1e-7; a tower that uses positions behind the end of the text differs by far more.
_TOLERANCE: Final = 1e-5


def cut(tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
    """Cut tokens (rows, context) at the end of the longest text.

    CLIP finds the end of a text the same way: the end-of-text token has the highest id of the vocabulary.
    """
    return tokens[:, : int(lengths(tokens).max())]


def lengths(tokens: Any) -> np.ndarray:  # noqa: ANN401 - a torch tensor
    """Return where each text of tokens (rows, context) can be cut: its length, rounded up to a multiple of 8."""
    ends = tokens.argmax(dim=-1).cpu().numpy() + 1
    return np.asarray(np.minimum(tokens.shape[1], -(-ends // _STEP) * _STEP))


def encode_text(network: Any, tokens: Any) -> Any:  # noqa: ANN401 - torch modules and tensors
    """Return the features (rows, dimension) of cut tokens, as CLIP's `encode_text` does for whole ones."""
    import torch  # noqa: PLC0415

    length = tokens.shape[1]
    kind = network.transformer.get_cast_dtype()
    embedded = network.token_embedding(tokens).to(kind) + network.positional_embedding[:length].to(kind)
    mask = network.attn_mask[:length, :length]
    hidden = network.ln_final(network.transformer(embedded, attn_mask=mask))
    pooled = hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
    return pooled @ network.text_projection


def can_be_cut(network: Any, tokenizer: Any) -> bool:  # noqa: ANN401 - a torch module and open_clip's tokenizer
    """Say whether the text tower is CLIP's: it has the same parts, and cut texts give the same embeddings."""
    import torch  # noqa: PLC0415
    from torch.nn.functional import normalize  # noqa: PLC0415

    parts = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "attn_mask")
    if not all(isinstance(getattr(network, part, None), torch.Tensor | torch.nn.Module) for part in parts):
        return False
    if getattr(network, "text_pool_type", None) != "argmax" or not isinstance(network.text_projection, torch.Tensor):
        return False
    tokens = tokenizer(list(_PROBES)).to(network.positional_embedding.device)
    with torch.inference_mode():
        whole = normalize(network.encode_text(tokens).float(), dim=-1)
        for row, expected in zip(tokens, whole, strict=True):
            shortened = normalize(encode_text(network, cut(row[None])).float(), dim=-1)[0]
            if not bool(torch.allclose(shortened, expected, atol=_TOLERANCE, rtol=0)):
                return False
    return True
