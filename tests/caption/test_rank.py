"""Ranking: duplicates and loops go, the nearest text wins, in steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made.images import small_clips
from made.images.small_captioners import settings

from laion_dask.caption import rank
from laion_dask.caption.captioners import Sample
from laion_dask.caption.rank import Candidates, Ranking
from laion_dask.clip import models, preprocess

TEXTS = ["a red star", "a blue circle", "a green square on white", "two small houses", "the sea"]


def sample(text: str, tokens: tuple[int, ...] = (1, 2, 3), *, cut: bool = False) -> Sample:
    return Sample(text, tokens, cut)


@pytest.mark.parametrize(
    ("tokens", "cut", "loops"),
    [
        ((1, 2, 3, 4, 5, 6), True, False),
        ((1, 7, 7, 7), True, True),
        ((1, 7, 7, 7), False, False),
        ((7, 7), True, False),
        ((9, 1, 2, 1, 2, 1, 2), True, True),
        ((9, 1, 2, 1, 2, 1), True, False),
        ((*range(8), *range(8), *range(8)), True, True),
        ((*range(9), *range(9), *range(9)), True, False),
    ],
)
def test_a_sample_repeats_itself_if_it_was_cut_in_the_third_copy_of_the_same_tokens(
    tokens: tuple[int, ...], *, cut: bool, loops: bool
) -> None:
    assert rank.repeats(sample("x", tokens, cut=cut)) is loops


LOOP = sample("so so so", (5, 5, 5), cut=True)


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [
        ([sample("b"), sample("a"), sample("b"), sample("")], Candidates(("b", "a"))),
        ([sample(""), sample("a Picture of")], Candidates((), "empty_caption")),
        ([sample(""), LOOP, LOOP], Candidates((), "repeating_caption")),
        ([LOOP, sample("a")], Candidates(("a",))),
    ],
)
def test_candidates_are_the_different_samples_in_their_order(samples: list[Sample], wanted: Candidates) -> None:
    assert rank.candidates(samples, "a picture of ") == wanted


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clips.folder(tmp_path_factory.mktemp("clips") / "other", seed=3)


def pixels(ranking: Ranking, count: int) -> dict[str, Any]:
    found = {}
    for model in ranking.models:
        rooms = np.empty((count, *model.preparation.side, 3), np.uint8)
        for number in range(count):
            preprocess.prepare(preprocess.decode(small_clips.jpeg(number)), [model.preparation], [rooms[number]])
        found[model.preparation.key] = torch.from_numpy(rooms)
    return found


def cosines(model: Any, count: int, texts: list[str]) -> np.ndarray:  # noqa: ANN401 - a Clip
    images = [preprocess.decode(small_clips.jpeg(number)) for number in range(count)]
    seen, read = model.embed(images, texts)
    return np.asarray(seen @ read.T)


def test_each_step_keeps_the_nearest_and_the_last_one_chooses(other: Path) -> None:
    steps = [
        {"name": "demo", "model": "demo", "keep": 3},
        {"name": "other", "model": f"local-dir:{other}", "keep": 1},
    ]
    ranking = Ranking(settings("demo", samples=5, rank=steps))
    texts = [TEXTS, TEXTS[1:3], [], TEXTS[::-1]]
    ranked, seen = ranking.rank(pixels(ranking, 4), texts)
    first, second = (cosines(model, 4, TEXTS) for model in ranking.models)
    for image in (0, 1, 3):
        places = [TEXTS.index(text) for text in texts[image]]
        by_first = sorted(places, key=lambda place: -first[image, place])
        by_second = sorted(by_first[:3], key=lambda place: -second[image, place])
        wanted = [by_second[0], *by_second[1:], *by_first[3:]]
        assert [TEXTS.index(text) for text in ranked[image].texts] == wanted
        assert np.allclose(ranked[image].similarities, first[image, wanted], atol=1e-5)
    assert ranked[2].texts == ()
    assert seen.shape == (4, ranking.models[-1].dimension)
    known = ranking.similarities(seen, [TEXTS[0], "", None, TEXTS[4]])
    assert np.allclose(known[[0, 3]], [second[0, 0], second[3, 4]], atol=1e-5)
    assert np.isnan(known[[1, 2]]).all()


def test_texts_that_are_equally_near_stay_in_the_order_of_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = Ranking(settings("demo", samples=5))
    monkeypatch.setattr(rank, "_embedded", lambda model, texts: np.zeros((len(texts), model.dimension), np.float32))
    ranked, _ = ranking.rank(pixels(ranking, 1), [TEXTS[::-1]])
    assert list(ranked[0].texts) == TEXTS[::-1]


def test_a_ranker_that_score_has_loaded_is_not_loaded_again() -> None:
    from laion_dask import params

    assert Ranking(settings("demo")).models[0] is models.load(params.Model(name="demo", model="demo"))
