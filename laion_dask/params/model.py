"""params.yaml as one frozen model: a section for each stage; unknown, missing or invalid parameters are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.params import group as group_params
from laion_dask.params import section
from laion_dask.params.caption import Caption
from laion_dask.params.catalog import Catalog
from laion_dask.params.crawl import Crawl, masked
from laion_dask.params.download import Download
from laion_dask.params.extract import Extract
from laion_dask.params.filters import Filter
from laion_dask.params.group import Group
from laion_dask.params.release import Release, Report
from laion_dask.params.score import Score
from laion_dask.params.section import Section
from laion_dask.params.translate import Translate

PARAMS_FILE = Path("params.yaml")

_GONE: Final = {
    "catalog.removals_until": "every removal takes effect in the stage catalog now, and nothing is downloaded again"
}
"""Parameters of earlier releases, and why they are not needed."""


class ParamsError(Exception):
    """A parameter is unknown, missing or invalid; the message has key, value and remedy."""


class Params(Section):
    """All of params.yaml: the names of the applied recipes, then one section for each stage."""

    recipe: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")], ...]
    crawl: Crawl
    extract: Extract
    catalog: Catalog
    download: Download
    score: Score
    group: Group
    filter: Filter
    translate: Translate | None
    caption: Caption | None
    release: Release
    report: Report

    @model_validator(mode="after")
    def _pictures_are_hashed_for_lists(self) -> Params:
        wanted = [entry.name for entry in self.catalog.lists if entry.kind == "pdq"]
        if wanted and self.download.pdq == "skip":
            message = f"list {wanted[0]} has kind pdq, but download.pdq is skip. Remedy: quick or exact"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _texts_can_be_long_enough(self) -> Params:
        longest = self.extract.max_chars
        if longest is not None and self.filter.min_chars > longest:
            message = (
                f"filter.min_chars = {self.filter.min_chars} is above extract.max_chars = {longest}, where texts are "
                "cut: no pair could be kept. Remedy: lower min_chars or raise max_chars"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _filter_asks_for_what_group_records(self) -> Params:
        rules = self.filter
        distances = {
            "filter.near_max_distance": rules.near_max_distance if rules.near_duplicates == "drop" else None,
            "filter.evaluation_max_distance": rules.evaluation_max_distance,
        }
        models = [model.name for model in self.score.models]
        group_params.check(self.group, distances, rules.semantic_duplicates, models)
        return self


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and check the file; raises `ParamsError` with every invalid key, its value and the remedy."""
    return parse(document(path), source=str(path))


def document(path: Path) -> object:
    """Read a file of parameters without checking them; raises `ParamsError` if it is missing or not YAML."""
    try:
        # ruamel reads YAML 1.2 as DVC does: `no` is a string and 1e-3 a number.
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        message = f"{path} is missing: run from the project's folder, or restore it with `git checkout {path}`"
        raise ParamsError(message) from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}. Remedy: give a readable file") from error
    except (YAMLError, RecursionError) as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        # A date that does not exist, or a number of too many digits; ruamel does not give its position.
        raise ParamsError(f"{path} has an invalid date or number: {error}. Remedy: correct it") from error


def parse(values: object, source: str = "parameters") -> Params:
    """Check plain values as `load` does."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [masked(_explain(dict(problem))) for problem in error.errors(include_url=False)]
        message = f"{source} is refused:\n" + "\n".join(f"  {line}" for line in lines)
        raise ParamsError(message) from None


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(step) for step in problem["loc"]) or "the file"
    if key in _GONE:
        return f"{key} = {problem['input']!r}: no longer a parameter: {_GONE[key]}. Remedy: remove its line"
    if problem["type"] == "extra_forbidden":
        return f"{key} = {problem['input']!r}: no such parameter. Remedy: remove it, or see the keys in params.yaml"
    if problem["type"] == "missing":
        return f"{key} is missing. Remedy: add it; params.yaml in Git has every key with its meaning"
    if problem["type"] == section.REFUSED:
        return f"{key} = {problem['input']!r}: {problem['msg']}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{key} = {problem['input']!r}: {problem['msg']}. Remedy: see the comment of {key} in params.yaml"
