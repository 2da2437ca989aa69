"""Lay the rules of a published dataset, a recipe, over the values of params.yaml.

A recipe is a file of `laion_dask/recipes`: sections of params.yaml with only the values that the recipe sets, each with
its source. Its header says whose rules these are, and which of them this project cannot follow. `extends: NAME` takes
all values of another recipe first. `each`, as the only key below a parameter, changes every entry of a list, or a value
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
    """One recipe: the values that it sets, and what its header says about them."""

    name: str
    title: str
    """The first line of the header."""
    notes: str
    """The rest of the header: whose rules these are, and which of them this project cannot follow."""
    values: Mapping[str, Any]
    """Sections of params.yaml with only the keys that the recipe sets, those of the recipe that it extends included."""
    extends: str | None = None
    """The recipe whose values it takes first, and whose header holds for it too."""


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    files = _folder().iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def describe(name: str) -> Recipe:
    """Read one recipe.

    Raises `RecipeError` where there is none of that name or its file is not YAML, `params.ParamsError` where it sets
    a key that params.yaml does not have.
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
        values = _lay(values, describe(str(extends)).values)
    title, *notes = _header(text)
    return Recipe(name, title, "\n".join(notes).strip("\n"), values, extends)


def apply(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values of params.yaml with those of the recipe laid over them; what it does not set stays.

    `name` may be several names with spaces between: each is laid over those before it. `values` itself is not changed;
    the result names the recipes in `recipe`. Lists are replaced, not joined. Raises as `describe`.
    """
    laid = dict(values)
    for one in named(name):
        laid = _lay(describe(one).values, laid)
    return laid | {"recipe": list(named(name))}


def named(name: str) -> tuple[str, ...]:
    """Return the names of one or several recipes, written with spaces between; each once, where it comes last."""
    names_ = reversed(dict.fromkeys(reversed(name.split())))
    # An empty name is kept, so that looking it up refuses it.
    return tuple(names_) or (name,)


def caveats(names_: Iterable[str]) -> list[Recipe]:
    """Return the recipes that a version was built by, with those that they extend before them, each once.

    Their titles and notes go into the card of the version: whose rules it follows, and which of them it does not.
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
    """Return (key, value of the recipes, value here) where parameters differ from the recipes that they name.

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

    Raises as `describe`, and `params.ParamsError` where the base is missing or all together are refused.
    """
    return params.parse(apply(name, params.load(base).model_dump()), source=f"recipe {name!r} over {base}")


def _folder() -> Traversable:
    return resources.files("laion_dask") / "recipes"


def _read(name: str) -> str:
    known = names()
    if name not in known:
        # Where the name is a path, a recipe named as its file is suggested.
        near = get_close_matches(Path(name).stem.lower(), known, n=1)
        remedy = f"{near[0]!r}, perhaps" if near else f"one of {', '.join(known)}"
        raise RecipeError(f"there is no recipe {name!r}. Remedy: {remedy}")
    file = _folder() / f"{name}{_SUFFIX}"
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=128)
def _parsed(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse a recipe, once for all that extend it; the result is shared, so callers copy it."""
    # ruamel reads YAML 1.2 as params.yaml is read: `no` stays a word and 1e-3 a number.
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


def _lay(over: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    laid = dict(under)
    for key, value in over.items():
        below = laid.get(key)
        if isinstance(value, dict) and [*value] == [_EACH]:
            laid[key] = _lay_each(value[_EACH], below)
        else:
            laid[key] = _lay(value, below) if isinstance(value, dict) and isinstance(below, Mapping) else value
    return laid


def _lay_each(over: Any, below: Any) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(below, list | tuple):
        # Only the keys that an entry has are replaced: entries of another kind have other keys.
        return [_lay({key: over[key] for key in over if entry.get(key) is not None}, entry) for entry in below]
    if isinstance(below, Mapping):
        return _lay(over, below)
    return None if below is None else over
