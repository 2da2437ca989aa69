"""The base of every section of params.yaml: frozen, without unknown keys, and strict about types.

pydantic would read "5" as 5, true as 1 and 86400 as a date; such a value is refused instead. So are nan and inf, empty
texts, and duplicates in lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A seed in the range that NumPy and faiss accept."""

REFUSED: Final = "refused"
"""Type of errors whose message leaves out the value, which pydantic adds."""
_MAY_REPEAT: Final = frozenset({"text_steps", "max_tokens"})  # a step or a length may be repeated
_MAY_BE_BLANK: Final = frozenset({"refused_substrings", "prompt"})  # an address with a space, no prompt
_SEE: Final = "Remedy: see its comment in params.yaml"


class Section(BaseModel):
    """A section of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_what_it_says(cls, value: object, field: ValidationInfo) -> object:
        name = str(field.field_name)
        types = _scalars(cls.model_fields[name].annotation)
        for found in _values(value):
            if problem := _problem(found, types):
                raise PydanticCustomError(REFUSED, "{problem}", {"problem": problem})
            if isinstance(found, str) and not (found if name in _MAY_BE_BLANK else found.strip()):
                problem = "a text is empty. Remedy: leave it out, or null where its comment in params.yaml says so"
                raise PydanticCustomError(REFUSED, "{problem}", {"problem": problem})
        if isinstance(value, list | tuple) and name not in _MAY_REPEAT:
            scalars = [found for found in value if isinstance(found, str | int | float)]
            if twice := sorted({str(found) for found in scalars if scalars.count(found) > 1}):
                problem = f"{', '.join(twice)} is listed twice. Remedy: list it once"
                raise PydanticCustomError(REFUSED, "{problem}", {"problem": problem})
        return value


def _problem(value: object, types: frozenset[type]) -> str | None:
    """Return why a value is not of an allowed type; other errors are reported by pydantic."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    problem = None
    if isinstance(value, bool) and bool not in types:
        problem = f"{value} is refused: this parameter is not true or false. {_SEE}"
    elif not isinstance(value, bool) and types == {bool}:
        problem = f"{value!r} is refused: this parameter is true or false. {_SEE}"
    elif isinstance(value, str) and "\0" in value:
        problem = f"{value!r} has a NUL character. Remedy: write it without"
    elif isinstance(value, str) and types and not types & {str, date}:
        problem = f"{value!r} is a text, but a number is expected. Remedy: write it without quotes, e.g. 5 or 0.25"
    elif is_number and types and not types & {int, float}:
        problem = f"{value!r} is a number, but a text is expected. Remedy: write it in quotes"
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"{value!r} is not a finite number. {_SEE}"
    return problem


def _values(value: object) -> Iterator[object]:
    """Yield a value, or the values of a list at any depth; mappings are checked by their own section."""
    if isinstance(value, list | tuple):
        for inside in value:
            yield from _values(inside)
    elif not isinstance(value, dict):
        yield value


def _scalars(annotation: Any) -> frozenset[type]:  # noqa: ANN401 - whatever a field is annotated with
    """Return the scalar types that an annotation allows at any depth, without those of nested sections."""
    if get_origin(annotation) is Literal:
        return frozenset(type(value) for value in get_args(annotation))
    if isinstance(annotation, type) and annotation in {int, float, str, bool, date}:
        return frozenset({annotation})
    return frozenset().union(*(_scalars(inner) for inner in get_args(annotation)))
