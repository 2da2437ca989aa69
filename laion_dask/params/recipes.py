"""Apply the rules of a published dataset, a recipe, to the values of params.yaml.

A recipe is a file of `laion_dask/recipes`: sections of params.yaml with only the values that the recipe sets, each with
its source. Its header names the origin of the rules, and those that this project cannot follow. `extends: NAME` first
takes all values of another recipe. `each`, as the only key below a parameter, changes every entry of a list, or a value
that is not null: with it, the recipe `demo` replaces the weights and files of any other recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask import params

_SUFFIX: Final = ".yaml"
_EACH: Final = "each"


class RecipeError(Exception):
    """There is no such recipe, or its file cannot be read; the message has the name and the remedy."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe: the values that it sets, and its header."""

    name: str
    title: str
    """The first line of the header."""
    notes: str
    """The rest of the header: the origin of the rules, and those that this project cannot follow."""
    values: Mapping[str, Any]
    """Sections of params.yaml with only the keys that it sets, including those of the recipe that it extends."""
    extends: str | None = None
    """The recipe that it is based on, whose header applies to it too."""


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    files = _folder().iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def describe(name: str) -> Recipe:
    """Read one recipe.

    Raises `RecipeError` if there is none of that name or its file is not YAML, `params.ParamsError` if it sets a key
    that params.yaml does not have.
    """
    text = _read(name)
    try:
        values = deepcopy(_parsed(text))
    except YAMLError as error:
        raise RecipeError(f"recipe {name!r} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name!r} holds no sections. Remedy: write at least one, such as extract")
    extends = values.pop("extends", None)
    if "recipe" in values:
        raise RecipeError(f"recipe {name!r} sets recipe, the list of names. Remedy: extends, for another recipe")
    _refuse_unknown(values, params.Params, f"recipe {name!r}", "")
    if extends is not None:
        if extends == name:
            raise RecipeError(f"recipe {name!r} extends itself. Remedy: the name of another, or leave it out")
        values = _merge(values, describe(str(extends)).values)
    title, *notes = _header(text)
    return Recipe(name, title, "\n".join(notes).strip("\n"), values, extends)


def apply(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values of params.yaml with a recipe applied; values that it does not set stay.

    `name` may be several names separated by spaces, applied in order. `values` itself is not changed; the result names
    the recipes in `recipe`. Lists are replaced, not joined. Raises as `describe`.
    """
    merged = dict(values)
    for one in named(name):
        merged = _merge(describe(one).values, merged)
    return merged | {"recipe": list(named(name))}


def named(name: str) -> tuple[str, ...]:
    """Return the names in a string of one or several recipes separated by spaces; of repeated ones the last counts."""
    names_ = reversed(dict.fromkeys(reversed(name.split())))
    # An empty name is kept, so that looking it up refuses it.
    return tuple(names_) or (name,)


def caveats(names_: Iterable[str]) -> list[Recipe]:
    """Return the recipes of a version, each after the one that it extends, without duplicates.

    Their titles and notes go into the card of the version, which states the rules that it does and does not follow.
    """
    found: dict[str, Recipe] = {}

    def add(name: str) -> None:
        recipe = describe(name)
        if recipe.extends is not None:
            add(recipe.extends)
        found[name] = recipe

    for name in names_:
        add(name)
    return list(found.values())


def changes(settings: params.Params) -> list[tuple[str, Any, Any]]:
    """Return (key, value of the recipes, value here) of parameters that differ from their recipes.

    Raises as `describe`.
    """
    if not settings.recipe:
        return []
    here = settings.model_dump(mode="json")
    theirs = params.parse(apply(" ".join(settings.recipe), here), "recipe").model_dump(mode="json")
    return list(_differing(theirs, here, ""))


def _differing(theirs: Mapping[str, Any], here: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    for key, value in theirs.items():
        other = here[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _differing(value, other, f"{path}{key}.")
        elif value != other:
            yield f"{path}{key}", value, other


def load(name: str, base: Path = params.PARAMS_FILE) -> params.Params:
    """Return the checked parameters of one or several recipes over those of a params.yaml.

    Raises as `describe`, and `params.ParamsError` if the base is missing or the result is refused.
    """
    return params.parse(apply(name, params.load(base).model_dump()), source=f"recipe {name!r} over {base}")


def _folder() -> Traversable:
    return resources.files("laion_dask") / "recipes"


def _read(name: str) -> str:
    known = names()
    if name not in known:
        # If the name is a path, suggest a recipe by its file name.
        near = get_close_matches(Path(name).stem.lower(), known, n=1)
        remedy = f"{near[0]!r}, perhaps" if near else f"one of {', '.join(known)}"
        raise RecipeError(f"there is no recipe {name!r}. Remedy: {remedy}")
    file = _folder() / f"{name}{_SUFFIX}"
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=128)
def _parsed(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse a recipe, cached; the result is shared, so callers must copy it."""
    # YAML 1.2, as for params.yaml: `no` is a string and 1e-3 a number.
    return YAML(typ="safe", pure=True).load(text)


def _header(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return lines or [""]


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], where: str, path: str) -> None:
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            near = get_close_matches(str(key), list(model.model_fields), n=1)
            remedy = f"{path}{near[0]}, perhaps" if near else f"one of {', '.join(model.model_fields)}"
            raise params.ParamsError(f"{where} sets {path}{key} = {value!r}: no such parameter. Remedy: {remedy}")
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(value, dict):
                raise params.ParamsError(f"{where} sets {path}{key} = {value!r}. Remedy: write its keys below it")
            _refuse_unknown(value, inner, where, f"{path}{key}.")


def _merge(over: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and [*value] == [_EACH]:
            merged[key] = _merge_each(value[_EACH], below)
        else:
            merged[key] = _merge(value, below) if isinstance(value, dict) and isinstance(below, Mapping) else value
    return merged


def _merge_each(over: Any, below: Any) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(below, list | tuple):
        # Only keys that an entry has are replaced, since entries of another kind have other keys.
        return [_merge({key: over[key] for key in over if entry.get(key) is not None}, entry) for entry in below]
    if isinstance(below, Mapping):
        return _merge(over, below)
    return None if below is None else over
