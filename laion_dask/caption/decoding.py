"""Generate all samples of a batch of images, step by step, without the rows of samples that have ended."""

from __future__ import annotations

from typing import Any, Final, Protocol

from laion_dask.caption.sampler import Draws

# Rows are taken out where that leaves at most this share: each time the key-value cache is copied.
_WORTH_IT: Final = 0.75


class TextDecoder(Protocol):
    """The text decoder of a captioner on one batch of images; rows of samples stand in the order of their images."""

    def first(self) -> Any:  # noqa: ANN401 - a torch tensor
        """Return the logits behind the prompt, once for each image: (images, vocabulary)."""

    def fork(self, samples: int) -> None:
        """Go on with so many rows for each image."""

    def next(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Append a token to each row (rows,), and return the logits behind it: (rows, vocabulary)."""

    def keep(self, images: Any, rows: Any) -> None:  # noqa: ANN401 - torch tensors
        """Keep these images and these rows, by their current places; each image keeps equally many rows."""


def run(decoder: TextDecoder, draws: Draws, images: int) -> None:
    """Draw all samples of all images; their tokens are then in `draws`."""
    import torch  # noqa: PLC0415 - seconds

    logits = decoder.first().repeat_interleave(draws.samples, dim=0)
    decoder.fork(draws.samples)
    # The sample of each row that is computed: (images, samples of each).
    grid = torch.arange(images * draws.samples, device=logits.device).view(images, draws.samples)
    for step in range(draws.steps):
        tokens = draws.next(step, logits, grid.flatten())
        running = ~draws.ended[grid]
        left = running.sum(dim=-1)
        if step + 1 == draws.steps or not int(left.max()):
            return
        grid, tokens = without_ended(decoder, grid, tokens, running, left)
        logits = decoder.next(tokens)


def without_ended(
    decoder: TextDecoder,
    grid: Any,  # noqa: ANN401 - torch tensors
    tokens: Any,  # noqa: ANN401
    running: Any,  # noqa: ANN401
    left: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Take out images and samples that have ended, where that saves enough; as many of each image, running ones first.

    Returns the grid that is left, and its tokens.
    """
    import torch  # noqa: PLC0415

    most = int(left.max())
    images = torch.nonzero(left)[:, 0]
    if len(images) * most > _WORTH_IT * grid.numel():
        return grid, tokens
    # Stable, so that the running samples of an image stay in their order.
    chosen = (~running[images]).int().argsort(dim=-1, stable=True)[:, :most]
    rows = (images[:, None] * grid.shape[1] + chosen).flatten()
    decoder.keep(images, rows)
    return grid[images].gather(-1, chosen), tokens[rows]
