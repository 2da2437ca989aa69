"""Zero-shot categories: shares, and LAION-400M's rule as published and as its program ran. Prompts are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made.texts.prompt_lists import LISTS
from ruamel.yaml import YAML

from laion_dask.params.heads import Tag
from laion_dask.score import tags


@pytest.fixture
def file(tmp_path: Path) -> Path:
    YAML().dump(LISTS, tmp_path / "prompts.yaml")
    return tmp_path / "prompts.yaml"


def spec(file: Path, rule: str) -> Tag:
    return Tag(kind="laion400m", file=str(file), rule=rule)


def embed(prompts: Sequence[str]) -> np.ndarray:
    """Give every prompt a direction of its own, by its family and number."""
    families = ["landscape", "cake", "sapling", "tree", "stone", "bird"]
    rows = np.zeros((len(prompts), 6 * 40))
    for row, prompt in zip(rows, prompts, strict=True):
        family, number = prompt.split(" ")[:2]
        row[families.index(family) * 40 + int(number.removesuffix("landscape"))] = 1
    return rows


def picture(*prompts: str) -> np.ndarray:
    """Return the embedding of a picture that is most similar to the first prompt, then to the second, and so on."""
    values = sum(weight * embed([prompt])[0] for weight, prompt in zip((8, 7, 4, 3, 2, 1), prompts, strict=False))
    return np.asarray(values / np.linalg.norm(values))[None]


def tagged(file: Path, rule: str, image: np.ndarray, caption: str = "") -> tuple[str, str]:
    found = tags.score(spec(file, rule), image, [caption], embed)
    return str(found["laion400m_nsfw"][0]), str(found["laion400m_drop"][0])


class TestLaion400m:
    def test_as_published_there_are_36_categories_and_as_run_35(self, file: Path) -> None:
        lists = tags.laion400m(spec(file, "published"))
        published, code = lists.categories("published"), lists.categories("code")
        assert (len(published), len(code)) == (36, 35)
        assert code[12] == "landscape 12landscape 13"
        assert (published[18], code[18]) == ("landscape 18", "cake 0")

    @pytest.mark.parametrize(
        ("best", "published", "code"),
        [
            (("landscape 0", "landscape 18"), "UNLIKELY", "UNLIKELY"),
            (("landscape 0", "cake 5"), "UNSURE", "UNSURE"),
            (("cake 5", "landscape 0"), "UNSURE", "UNSURE"),
            (("cake 5", "cake 16"), "NSFW", "NSFW"),
            # The first unsafe prompt moved up to place 18, below the border of 19.
            (("cake 0", "landscape 3"), "UNSURE", "UNLIKELY"),
            (("cake 0", "cake 1"), "NSFW", "UNSURE"),
        ],
    )
    def test_the_two_best_categories_decide(self, file: Path, best: tuple[str, str], published: str, code: str) -> None:
        assert tagged(file, "published", picture(*best))[0] == published
        assert tagged(file, "code", picture(*best))[0] == code

    @pytest.mark.parametrize(
        ("nearest", "caption", "published", "code"),
        [
            (("tree 0", "tree 1", "stone 0", "stone 1"), "", "", ""),
            (("sapling 0", "tree 1", "stone 0", "stone 1"), "", "minors", "minors"),
            (("tree 1", "sapling 3", "stone 0", "stone 1"), "", "minors", "minors"),
            (("tree 0", "tree 1", "bird 0", "stone 1"), "", "animals", "animals"),
            # The program looked at the best one only.
            (("tree 0", "tree 1", "stone 0", "bird 11"), "", "animals", ""),
            (("tree 0", "tree 1", "stone 0", "stone 1"), "my kid", "words", "words"),
            # It looked for letters inside of words, in lower case only.
            (("tree 0", "tree 1", "stone 0", "stone 1"), "kidney beans", "", "words"),
            (("tree 0", "tree 1", "stone 0", "stone 1"), "A Teen", "words", ""),
            (("sapling 0", "tree 1", "bird 0", "stone 1"), "a baby", "words", "words"),
            (("sapling 0", "tree 1", "bird 0", "stone 1"), "", "minors", "minors"),
        ],
    )
    def test_what_is_unsafe_or_unsure_is_asked_for_words_minors_and_animals(
        self, file: Path, nearest: tuple[str, ...], caption: str, published: str, code: str
    ) -> None:
        image = picture("cake 5", "cake 6", *nearest)
        assert tagged(file, "published", image, caption) == ("NSFW", published)
        assert tagged(file, "code", image, caption) == ("NSFW", code)

    def test_what_is_unlikely_is_never_asked(self, file: Path) -> None:
        image = picture("landscape 1", "landscape 2", "sapling 0", "bird 0")
        for rule in ("published", "code"):
            assert tagged(file, rule, image, "my kid") == ("UNLIKELY", "")

    def test_the_two_best_places_are_kept_beside_the_tag(self, file: Path) -> None:
        found = tags.score(spec(file, "published"), picture("cake 5", "landscape 3"), [""], embed)
        assert (found["laion400m_first"].tolist(), found["laion400m_second"].tolist()) == ([24], [3])
        assert list(found) == [column.name for column in tags.columns(spec(file, "published"))]


class TestZeroShot:
    def test_shares_are_the_softmax_of_a_hundred_times_the_cosine(self) -> None:
        rng = np.random.default_rng(3)
        image, one, two = (rng.normal(size=(rows, 8)) for rows in (5, 1, 1))
        image, one, two = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, one, two))
        found = tags.shares(image, [one, two])
        odds = np.exp(100 * (image @ (one - two)[0]))
        np.testing.assert_allclose(found[:, 0], odds / (1 + odds), atol=1e-6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)

    def test_a_label_with_several_prompts_has_their_mean(self) -> None:
        image, prompts = np.array([[0.6, 0.8]]), [np.array([[1.0, 0], [0, 1.0]]), np.array([[0.5**0.5, 0.5**0.5]])]
        np.testing.assert_allclose(tags.shares(image, prompts), [[0.5, 0.5]], atol=1e-6)

    def test_every_label_of_the_demo_has_a_column(self) -> None:
        names = [column.name for column in tags.columns(Tag(kind="zero_shot", file="demo"))]
        assert names == ["tag_thing_star", "tag_thing_square", "tag_color_red", "tag_color_blue", "tag_color_green"]

    def test_no_images_are_no_error(self) -> None:
        assert tags.shares(np.zeros((0, 2)), [np.eye(2), np.eye(2)[:1]]).shape == (0, 2)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("laion400m", {"neutral": ["a"]}, "unsafe: Field required"),
        ("laion400m", LISTS | {"joined": 18}, "joined 18 has no next among 19"),
        ("laion400m", LISTS | {"adult": []}, "adult: Extra inputs"),
        ("zero_shot", {"Thing": {"a": "x", "b": "y"}}, "Thing"),
        ("zero_shot", {"thing": {"a": "x"}}, "at least 2"),
        ("zero_shot", {"thing": {"a": "x", "b": []}}, "thing.b"),
        ("zero_shot", ["a"], "the file: Input should be a valid dict"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_place(tmp_path: Path, kind: str, values: object, told: str) -> None:
    file = tmp_path / "prompts.yaml"
    YAML().dump(values, file)
    one = Tag(kind=kind, file=str(file), rule="code" if kind == "laion400m" else None)
    with pytest.raises(tags.TagsError, match=rf"is not a file of kind {kind}: .*{told}.*Remedy: "):
        tags.columns(one) if kind == "zero_shot" else tags.laion400m(one)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(tags.TagsError, match=r"gone\.yaml does not exist\. Remedy: "):
        tags.path(Tag(kind="zero_shot", file=str(tmp_path / "gone.yaml")))
