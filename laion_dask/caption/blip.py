"""BLIP of transformers: the image is encoded once, and so is the prompt; all samples share the image's keys and values.

In transformers' own `generate` each sample gets a copy of the image's encoding, from which each layer computes keys and
values: for BLIP-large four times the work of writing the 20 tokens of a caption.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from laion_dask.caption.sampler import Vocabulary


def vocabulary(network: Any, tokenizer: Any, prompt: str | None) -> Vocabulary:  # noqa: ANN401 - of transformers
    """Return the prompt as BLIP's authors encode it, behind its own begin token, and the token of the end."""
    text = network.config.text_config
    # Without the tokenizer's own first and last token.
    words = tokenizer(prompt).input_ids[1:-1] if prompt else []
    return Vocabulary((text.bos_token_id, *words), (text.sep_token_id,))


def share_images(network: Any) -> None:  # noqa: ANN401 - a torch module
    """Let the cross-attention of each layer take one encoding for several rows of text, once after loading.

    It has no mask and no order, so the rows of an image are computed as if they were one long text about it.
    """
    for layer in network.text_decoder.bert.encoder.layer:
        layer.crossattention.forward = functools.partial(_shared, layer.crossattention.forward)


def _shared(
    forward: Callable[..., tuple[Any, ...]],
    hidden_states: Any,  # noqa: ANN401 - a torch tensor
    *,
    encoder_hidden_states: Any,  # noqa: ANN401 - a torch tensor
    **others: Any,  # noqa: ANN401 - as transformers has it
) -> tuple[Any, ...]:
    rows, length, width = hidden_states.shape
    together = hidden_states.reshape(len(encoder_hidden_states), -1, width)
    found = forward(together, encoder_hidden_states=encoder_hidden_states, **others)
    return found[0].reshape(rows, length, width), *found[1:]


class BlipDecoder:
    """BLIP's text decoder on one batch of images, with its cache of keys and values."""

    def __init__(self, network: Any, images: Any, prompt: Sequence[int]) -> None:  # noqa: ANN401 - torch's
        """Encode the normalised images (images, 3, height, width)."""
        import torch  # noqa: PLC0415 - seconds
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache  # noqa: PLC0415

        self._network = network.text_decoder
        self._encoded = network.vision_model(pixel_values=images).last_hidden_state
        self._prompt = torch.tensor(prompt, device=images.device).expand(len(images), -1)
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def first(self) -> Any:  # noqa: ANN401 - a torch tensor
        """As `TextDecoder.first`."""
        return self._forward(self._prompt)

    def fork(self, samples: int) -> None:
        """As `TextDecoder.fork`: the cache of the text is copied, that of the image is not."""
        self._cache.self_attention_cache.batch_repeat_interleave(samples)

    def next(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        """As `TextDecoder.next`."""
        return self._forward(tokens[:, None])

    def keep(self, images: Any, rows: Any) -> None:  # noqa: ANN401 - torch tensors
        """As `TextDecoder.keep`."""
        self._cache.self_attention_cache.batch_select_indices(rows)
        if len(images) < len(self._encoded):
            self._encoded = self._encoded[images]
            self._cache.cross_attention_cache.batch_select_indices(images)

    def _forward(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        found = self._network(
            input_ids=tokens,
            encoder_hidden_states=self._encoded,
            cache=self._cache,
            use_cache=True,
            is_decoder=True,
            logits_to_keep=1,
        )
        return found.logits[:, -1]
