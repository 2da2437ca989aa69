"""The sampler: its distribution is that of transformers' processors, its random numbers belong to the image alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made.images.small_captioners import settings
from transformers import (
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from laion_dask.caption.sampler import NO_TOKEN, Draws, Vocabulary, uniforms

END = 3
PROMPT = (5, 7)
SIZE = 900


def draws(uids: int = 4, **values: Any) -> Draws:  # noqa: ANN401 - whatever a parameter takes
    vocabulary = Vocabulary(PROMPT, (END,))
    return Draws(settings("demo", **values), vocabulary, [f"uid {n}" for n in range(uids)], "cpu")


def logits(rows: int, peak: float, seed: int = 0) -> torch.Tensor:
    return peak * torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed))


def library(values: dict[str, Any]) -> LogitsProcessorList:
    made = LogitsProcessorList()
    if "repetition_penalty" in values:
        made.append(RepetitionPenaltyLogitsProcessor(values["repetition_penalty"]))
    if values.get("min_tokens"):
        made.append(MinLengthLogitsProcessor(len(PROMPT) + values["min_tokens"], END))
    made.append(TemperatureLogitsWarper(values.get("temperature", 1.0)))
    if values.get("top_k"):
        made.append(TopKLogitsWarper(values["top_k"]))
    if values.get("top_p"):
        made.append(TopPLogitsWarper(values["top_p"]))
    return made


@pytest.mark.parametrize("peak", [0.05, 1.0, 4.0], ids=["flat", "usual", "peaked"])
@pytest.mark.parametrize(
    "values",
    [
        {"min_tokens": 0},
        {"min_tokens": 5},
        {"temperature": 0.6},
        {"top_k": 1},
        {"top_k": 50},
        {"top_p": 0.24},
        {"top_p": 0.95},
        {"top_k": 400, "top_p": 0.5},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 1.3, "temperature": 1.7, "min_tokens": 4, "top_k": 200, "top_p": 0.8},
    ],
    ids=str,
)
def test_tokens_are_drawn_from_the_distribution_that_transformers_processors_leave(
    values: dict[str, Any], peak: float
) -> None:
    values = {"min_tokens": 0, "max_tokens": [6]} | values
    found = draws(**values)
    before = torch.randint(0, SIZE, (16, 2), generator=torch.Generator().manual_seed(1))
    scores = logits(16, peak)
    ids, weights = found.distribution(found.warped(2, scores, before))
    ours = torch.zeros(16, SIZE, dtype=torch.float64).scatter_(-1, ids, weights)
    ours /= ours.sum(dim=-1, keepdim=True)
    words = torch.cat([torch.tensor(PROMPT).expand(16, -1), before], dim=-1)
    wanted = library(values)(words, scores.clone()).double().softmax(dim=-1)
    assert torch.allclose(ours, wanted, atol=1e-6)
    # But for rounding at the edge of the nucleus, the same tokens are left.
    assert ((ours > 0) != (wanted > 0)).sum() <= 1


def test_drawn_tokens_are_as_frequent_as_they_are_likely() -> None:
    found = draws(uids=500, samples=40, max_tokens=[1], min_tokens=0)
    scores = torch.full((1, 8), float("-inf"))
    wanted = torch.tensor([0.5, 0.25, 0.15, 0.1])
    scores[0, 4:] = wanted.log()
    drawn = found.next(0, scores.expand(20_000, -1), torch.arange(20_000))
    shares = torch.bincount(drawn, minlength=8) / 20_000
    assert torch.allclose(shares[4:], wanted, atol=0.012)
    assert shares[:4].sum() == 0


class TestUniforms:
    def test_numbers_of_a_sample_do_not_depend_on_what_is_asked_for_beside_it(self) -> None:
        one = uniforms(7, ["b"], samples=3, steps=4)
        many = uniforms(7, ["a", "b", "c"], samples=5, steps=9)
        assert np.array_equal(many[5:8, :4], one)

    def test_another_seed_uid_or_sample_has_other_numbers(self) -> None:
        found = np.stack([uniforms(seed, [uid], 2, 3) for seed in (1, 2) for uid in ("a", "b")])
        assert len(np.unique(found)) == found.size
        assert ((found >= 0) & (found < 1)).all()

    def test_these_numbers_are_those_of_every_machine(self) -> None:
        assert uniforms(1257, ["0" * 32], 2, 2).round(6).tolist() == [[0.008914, 0.503785], [0.290843, 0.658891]]


def run(found: Draws, scores: torch.Tensor) -> torch.Tensor:
    """Draw all steps from logits that stay the same."""
    rows = torch.arange(len(found.tokens))
    for step in range(found.steps):
        found.next(step, scores.expand(len(rows), -1), rows)
    return found.tokens


class TestLengths:
    def test_samples_take_the_limits_in_turn(self) -> None:
        scores = logits(1, 1.0)
        scores[:, END] = float("-inf")
        tokens = run(draws(uids=2, samples=5, max_tokens=[4, 7, 2], min_tokens=0), scores)
        assert (tokens != NO_TOKEN).sum(dim=-1).tolist() == [4, 7, 2, 4, 7] * 2
        assert ((tokens == NO_TOKEN).int().diff(dim=-1) >= 0).all(), "nothing stands behind an end"

    @pytest.mark.parametrize("least", [0, 3])
    def test_no_end_is_drawn_before_min_tokens(self, least: int) -> None:
        scores = torch.zeros(1, SIZE)
        scores[:, END] = 20.0
        tokens = run(draws(max_tokens=[6], min_tokens=least), scores)
        assert ((tokens != NO_TOKEN).sum(dim=-1) == least).all()
        assert not (tokens == END).any()

    @pytest.mark.parametrize(("end_above", "length"), [(None, 6), (0.31, 6), (0.29, 0)])
    def test_a_caption_ends_where_the_models_own_probability_of_its_end_is_above_the_bound(
        self, end_above: float | None, length: int
    ) -> None:
        scores = torch.full((1, 8), float("-inf"))
        scores[0, [1, 2, END]] = torch.tensor([0.6, 0.1, 0.3]).log()
        # The nucleus leaves the end out, and so does min_tokens.
        tokens = run(draws(max_tokens=[6], min_tokens=5, top_p=0.5, end_above=end_above), scores)
        assert ((tokens != NO_TOKEN).sum(dim=-1) == length).all()


def test_a_penalty_makes_tokens_that_occurred_rarer_and_the_prompts_too() -> None:
    plain, punished = (draws(uids=200, max_tokens=[12], repetition_penalty=by) for by in (1.0, 3.0))
    scores = torch.zeros(1, 12)
    scores[:, :] = 1.0

    def repeated(tokens: torch.Tensor) -> float:
        return float(np.mean([len(row) - len(set(row)) for row in tokens.tolist()]))

    without, with_penalty = run(plain, scores), run(punished, scores)
    assert repeated(with_penalty) < repeated(without)
    assert sum(int((with_penalty == word).sum()) for word in PROMPT) < sum(
        int((without == word).sum()) for word in PROMPT
    )
