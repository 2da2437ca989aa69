"""CoCa of open_clip: the image is encoded once; the text decoder has no cache, so each step reads the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laion_dask.caption.sampler import Vocabulary
from laion_dask.clip.clip import Clip, ModelError


def vocabulary(model: Clip, prompt: str | None, steps: int) -> Vocabulary:
    """Return the begin token and the prompt, and the token of the end; raises `ModelError` for other tokenizers.

    `steps` is the longest of max_tokens, which must fit into the text decoder beside the prompt.
    """
    tokenizer, network = model.tokenizer, model.network
    if not hasattr(network, "text_decoder") or not hasattr(tokenizer, "sot_token_id"):
        message = (
            f"caption.model: {model.name} is no CoCa with CLIP's tokenizer. Remedy: another model, or another kind"
        )
        raise ModelError(message)
    words = tokenizer.encode(prompt or "")
    # The begin token is read too, the last token of a caption is not.
    room = network.context_length - len(words)
    if steps > room:
        message = (
            f"caption.max_tokens: {steps} tokens and the prompt are more than {model.name} can write. "
            f"Remedy: {room} or fewer"
        )
        raise ModelError(message)
    return Vocabulary((tokenizer.sot_token_id, *words), (tokenizer.eot_token_id,))


class CocaDecoder:
    """CoCa's text decoder on one batch of images."""

    def __init__(self, network: Any, images: Any, prompt: Sequence[int]) -> None:  # noqa: ANN401 - torch's
        """Encode the normalised images (images, 3, height, width)."""
        import torch  # noqa: PLC0415 - seconds

        self._network = network
        _, self._encoded = network._encode_image(images)  # noqa: SLF001 - encode_image leaves out what the decoder reads
        self._tokens = torch.tensor(prompt, device=images.device).repeat(len(images), 1)

    def first(self) -> Any:  # noqa: ANN401 - a torch tensor
        """As `TextDecoder.first`."""
        return self._forward()

    def fork(self, samples: int) -> None:
        """As `TextDecoder.fork`."""
        self._tokens = self._tokens.repeat_interleave(samples, dim=0)
        self._encoded = self._encoded.repeat_interleave(samples, dim=0)

    def next(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        """As `TextDecoder.next`."""
        import torch  # noqa: PLC0415

        self._tokens = torch.cat([self._tokens, tokens[:, None]], dim=-1)
        return self._forward()

    def keep(self, images: Any, rows: Any) -> None:  # noqa: ANN401, ARG002 - torch tensors; each row has its image
        """As `TextDecoder.keep`."""
        self._tokens, self._encoded = self._tokens[rows], self._encoded[rows]

    def _forward(self) -> Any:  # noqa: ANN401 - a torch tensor
        _, embedded = self._network._encode_text(self._tokens)  # noqa: SLF001 - as above
        return self._network.text_decoder(self._encoded, embedded)[:, -1]
