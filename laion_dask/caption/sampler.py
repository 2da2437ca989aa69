"""Draw the tokens of captions as LAION-COCO's sampler does, with random numbers that depend on the image alone.

Each token is drawn by the inverse of the cumulative distribution, at one uniform number for each (seed, uid, sample,
step). So the samples of an image do not depend on the images beside it, nor on how many samples are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from laion_dask import params

NO_TOKEN: Final = -1
"""Behind the end of a sample."""
# The most likely tokens that are looked at first for top_p; more where these have less probability.
_FIRST_WIDTH: Final = 64
_WIDER: Final = 8


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that have a meaning for the sampler."""

    prompt: tuple[int, ...]
    """The tokens that each caption begins with, the begin token among them; they count for the repetition penalty."""
    ends: tuple[int, ...]
    """Each of these ends a caption; the first one is written where an end is forced."""


def uniforms(seed: int, uids: Sequence[str], samples: int, steps: int) -> npt.NDArray[np.float64]:
    """Return a uniform number for each image, sample and step, float64 (images * samples, steps), in [0, 1).

    Philox is a counter-based generator: seed and uid are its key, the sample is the upper half of its counter.
    """
    found = np.empty((len(uids) * samples, steps))
    for image, uid in enumerate(uids):
        digest = hashlib.blake2b(f"{seed} {uid}".encode(), digest_size=16).digest()
        key = np.frombuffer(digest, "<u8").astype(np.uint64)
        for sample in range(samples):
            generator = np.random.Generator(np.random.Philox(counter=[0, 0, sample, 0], key=key))
            found[image * samples + sample] = generator.random(steps)
    return found


class Draws:
    """Draws the tokens of a batch, step by step: a row for each sample, the samples of an image one after the other."""

    def __init__(self, settings: params.Caption, vocabulary: Vocabulary, uids: Sequence[str], device: str) -> None:
        import torch  # noqa: PLC0415 - seconds

        self.samples = settings.samples
        self.steps = max(settings.max_tokens)
        self.end = vocabulary.ends[0]
        self._settings = settings
        self._ends = torch.tensor(vocabulary.ends, device=device)
        self._prompt = torch.tensor(vocabulary.prompt, dtype=torch.int64, device=device)
        rows = len(uids) * self.samples
        limits = [settings.max_tokens[sample % len(settings.max_tokens)] for sample in range(self.samples)]
        self._limits = torch.tensor(limits * len(uids), device=device)
        numbers = uniforms(settings.seed, uids, self.samples, self.steps)
        self._uniforms = torch.from_numpy(numbers).to(device)
        self._width = _FIRST_WIDTH
        self.tokens = torch.full((rows, self.steps), NO_TOKEN, dtype=torch.int64, device=device)
        """The tokens so far, without prompt and end."""
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)

    def next(self, step: int, logits: Any, rows: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Draw the next token of some rows from their logits (rows, vocabulary): int64 (rows,), the end where it ends.

        The probability of the end that `end_above` is compared with is the model's own, whatever min_tokens says: so
        LAION-COCO's worker does.
        """
        import torch  # noqa: PLC0415

        logits = logits.float()
        over = self.ended[rows]
        ends = over.clone()
        if self._settings.end_above is not None:
            ends |= logits.softmax(dim=-1)[:, self._ends].sum(dim=-1) > self._settings.end_above
        drawn = self._draw(self.warped(step, logits, self.tokens[rows, :step]), self._uniforms[rows, step])
        ends |= torch.isin(drawn, self._ends)
        self.tokens[rows, step] = torch.where(ends, NO_TOKEN, drawn)
        self.ended[rows] = ends | (self._limits[rows] <= step + 1)
        return torch.where(ends, self._ends[0], drawn)

    def warped(self, step: int, logits: Any, before: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return float32 logits (rows, vocabulary) by min_tokens, repetition_penalty and temperature.

        `before` (rows, step) are the tokens so far. The rules are those of transformers' processors of these names.
        """
        import torch  # noqa: PLC0415

        rules = self._settings
        if step < rules.min_tokens:
            logits = logits.index_fill(-1, self._ends, float("-inf"))
        if rules.repetition_penalty != 1:
            # A row that has ended has no tokens there; its logits are not used.
            seen = torch.cat([self._prompt.expand(len(logits), -1), before.clamp(min=0)], dim=-1)
            values = logits.gather(-1, seen)
            punished = torch.where(values < 0, values * rules.repetition_penalty, values / rules.repetition_penalty)
            logits = logits.scatter(-1, seen, punished)
        return logits / rules.temperature

    def distribution(self, warped: Any) -> tuple[Any, Any]:  # noqa: ANN401 - torch tensors
        """Return the tokens that may be drawn, sorted by their number, and their weights: (rows, candidates) each.

        Weights are float64 and not normalised; a token that top_k or top_p leaves out has weight 0.
        """
        import torch  # noqa: PLC0415

        rules, size = self._settings, warped.shape[-1]
        if rules.top_k is None and rules.top_p is None:
            return torch.arange(size, device=warped.device).expand_as(warped), warped.softmax(dim=-1).double()
        if rules.top_k is not None:
            values, ids = warped.topk(min(rules.top_k, size))
            probabilities = values.softmax(dim=-1).double()
        else:
            probabilities, ids = self._most_likely(warped.softmax(dim=-1), size)
        if rules.top_p is not None:
            before = probabilities.cumsum(dim=-1) - probabilities
            # The most likely token is always kept.
            probabilities = torch.where(before < rules.top_p, probabilities, 0)
            kept = int((probabilities > 0).sum(dim=-1).max())
            probabilities, ids = probabilities[:, :kept], ids[:, :kept]
        ids, order = ids.sort(dim=-1)
        return ids, probabilities.gather(-1, order)

    def _most_likely(self, probabilities: Any, size: int) -> tuple[Any, Any]:  # noqa: ANN401 - torch tensors
        """Return the most likely tokens that together have top_p in each row, the most likely first, and perhaps more.

        A full sort of the vocabulary would take longer than the forward pass of a small batch.
        """
        while True:
            values, ids = probabilities.topk(min(self._width, size))
            values = values.double()
            if self._width >= size or bool((values.sum(dim=-1) >= self._settings.top_p).all()):
                return values, ids
            self._width *= _WIDER

    def _draw(self, warped: Any, numbers: Any) -> Any:  # noqa: ANN401 - torch tensors
        ids, weights = self.distribution(warped)
        sums = weights.cumsum(dim=-1)
        # The first token whose cumulative weight is above the number: tokens of weight 0 are never drawn.
        places = (sums > (numbers[:, None] * sums[:, -1:])).int().argmax(dim=-1, keepdim=True)
        return ids.gather(-1, places)[:, 0]
