"""What is typed into a sweep: ranges, lists, grids, and the words in which DVC takes them."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from made.places import ROOT
from ruamel.yaml import YAML

from experiments import sweep, values
from laion_dask import params
from laion_dask.params import recipes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.20:0.40:0.02", [0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.34, 0.36, 0.38, 0.4]),
        ("0.1:0.3:0.1", [0.1, 0.2, 0.3]),
        ("100:300:100", [100, 200, 300]),
        ("1.0:2.0:1", [1.0, 2.0]),
        ("-0.1:0.1:0.1", [-0.1, 0.0, 0.1]),
        ("0.3:0.35:0.2", [0.3]),
        ("0.2", [0.2]),
        ("0.2,0.25,1e-3", [0.2, 0.25, 0.001]),
        ("drop,keep", ["drop", "keep"]),
        ("no,on", ["no", "on"]),
        ("null,8", [None, 8]),
        ("[a],[a,b],[]", [["a"], ["a", "b"], []]),
        ("{name: demo},'a,b'", [{"name": "demo"}, "a,b"]),
        ("data/crawl/known.txt", ["data/crawl/known.txt"]),
    ],
)
def test_ranges_lists_and_values_are_read_as_they_are_meant(text: str, expected: list[Any]) -> None:
    found = values.read(text)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("0.4:0.2:0.1", "empty range"),
        ("0.2:0.4:0", "empty range"),
        ("0.2:x:0.1", "no range"),
        ("0:1:0.0001", "wider step"),
        ("0.2,,0.3", "empty value"),
        ("0.2,0.2", "twice"),
        ("[a", "YAML"),
    ],
)
def test_what_means_nothing_is_refused_with_a_remedy(text: str, word: str) -> None:
    with pytest.raises(values.ValuesError, match=word):
        values.read(text)


def test_several_keys_make_every_combination_and_joined_keys_move_together() -> None:
    points = values.grid(["filter.similarity.en+filter.similarity.multi", "0.2,0.3", "filter.max_punsafe", "0.5,0.4"])
    assert [tuple(point.values()) for point in points] == [
        (0.2, 0.2, 0.5),
        (0.2, 0.2, 0.4),
        (0.3, 0.3, 0.5),
        (0.3, 0.3, 0.4),
    ]
    assert [*points[0]] == ["filter.similarity.en", "filter.similarity.multi", "filter.max_punsafe"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ([], "pairs of key"),
        (["filter.min_words"], "pairs of key"),
        (["filter.min_words", "1", "filter.min_words", "2"], "twice"),
        (["filter.min_words", "1:150:1", "filter.min_side_px", "1,2"], "300 experiments"),
    ],
)
def test_a_grid_that_is_none_is_refused(words: list[str], word: str) -> None:
    with pytest.raises(values.ValuesError, match=word):
        values.grid(words)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"filter.similarty.en": 1}, "no key filter.similarty"),
        ({"nothing": 1}, "no key nothing"),
        ({"filter.similarity": 0.3}, "is a section"),
        ({"filter.min_words.en": 0.3}, "no key"),
    ],
)
def test_a_key_that_params_yaml_does_not_have_is_refused(changes: dict[str, Any], word: str) -> None:
    base = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    with pytest.raises(values.ValuesError, match=word):
        values.lay(base, changes)


def test_laying_changes_leaves_what_it_is_laid_over_as_it_was() -> None:
    base = {"filter": {"similarity": {"en": 0.25, "multi": 0.25}, "min_words": 0}}
    laid = values.lay(base, {"filter.similarity.en": 0.3, "filter.min_words": 2})
    assert laid == {"filter": {"similarity": {"en": 0.3, "multi": 0.25}, "min_words": 2}}
    assert base["filter"] == {"similarity": {"en": 0.25, "multi": 0.25}, "min_words": 0}


TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).filter(lambda text: "${" not in text)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6) | TEXTS
WORDS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda word: word not in {"null", "true", "false"}
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)))
def test_dvc_reads_every_value_as_it_was_meant(value: Any) -> None:  # noqa: ANN401
    (found,) = OverridesParser.create().parse_overrides([values.override("a.b", value)])
    assert found.key_or_group == "a.b"
    assert _plain(found.value()) == value


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {str(key): _plain(below) for key, below in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else getattr(value, "text", value)


def test_a_text_that_dvc_would_fill_in_is_refused() -> None:
    with pytest.raises(values.ValuesError, match="fill in"):
        values.override("release.name", "${oc.env:HOME}")


@pytest.mark.parametrize("name", recipes.names())
def test_the_values_of_a_recipe_come_through_dvc_unchanged(name: str) -> None:
    base = params.load(ROOT / "params.yaml").model_dump(mode="json")
    laid = recipes.apply(name, base)
    wanted = {key: value for key, value in values.flat(laid) if dict(values.flat(base)).get(key, ...) != value}
    parsed = OverridesParser.create().parse_overrides([values.override(key, value) for key, value in wanted.items()])
    changes = {found.key_or_group: _plain(found.value()) for found in parsed}
    assert params.parse(values.lay(base, changes)) == params.parse(laid)


@pytest.mark.parametrize(
    ("words", "axis", "labels"),
    [
        (["filter.similarity.en", "0.2,0.3"], "filter.similarity.en", ["similarity.en=0.2", "similarity.en=0.3"]),
        (["filter.similarity.en+filter.similarity.multi", "0.2"], None, ["similarity=0.2"]),
        (
            ["filter.duplicate_images", "drop,keep"],
            None,
            ["filter.duplicate_images=drop", "filter.duplicate_images=keep"],
        ),
        (["filter.min_words", "1,2", "filter.max_punsafe", "1"], "filter.min_words", None),
        (["filter.min_words", "1,2", "filter.max_punsafe", "0.1,1"], None, None),
        (["filter.min_words", "true,2"], None, None),
    ],
)
def test_points_are_named_shortly_and_curves_drawn_along_the_only_number(
    words: list[str], axis: str | None, labels: list[str] | None
) -> None:
    assert sweep.moving(words) == axis
    if labels is not None:
        assert [sweep.label(words[::2], point) for point in values.grid(words)] == labels
