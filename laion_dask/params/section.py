"""The base of every section of params.yaml: frozen, closed to unknown keys, and strict about types.

pydantic would read "5" as 5, true as 1 and 86400 as a date; a value that means something else than it says is refused
instead. So are numbers that are none (nan, inf), empty texts, and lists that say the same thing twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""Of anything random: what NumPy and faiss take."""

REFUSED: Final = "refused"
"""Type of the errors whose message lacks the value, since pydantic has it."""
_MAY_REPEAT: Final = frozenset({"text_steps"})  # a step may come twice
_MAY_BE_BLANK: Final = frozenset({"refused_substrings"})  # an address with a space
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
                problem = f"{', '.join(twice)} comes twice. Remedy: once"
                raise PydanticCustomError(REFUSED, "{problem}", {"problem": problem})
        return value


def _problem(value: object, types: frozenset[type]) -> str | None:
    """Return why a value is not of the types that a parameter may have; what else is wrong, pydantic says."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    problem = None
    if isinstance(value, bool) and bool not in types:
        problem = f"{value} is refused: this parameter is no switch. {_SEE}"
    elif not isinstance(value, bool) and types == {bool}:
        problem = f"{value!r} is refused: this parameter is true or false. {_SEE}"
    elif isinstance(value, str) and "\0" in value:
        problem = f"{value!r} has a character that no text may have. Remedy: write it without"
    elif isinstance(value, str) and types and not types & {str, date}:
        problem = f"{value!r} is a text, and a number is wanted. Remedy: write it without quotes, as 5 or 0.25"
    elif is_number and types and not types & {int, float}:
        problem = f"{value!r} is a number, and a text is wanted. Remedy: write it in quotes"
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"{value!r} is no number that can be compared. {_SEE}"
    return problem


def _values(value: object) -> Iterator[object]:
    """Yield a value, or those of a list and of lists in it; what a table holds is checked by its own section."""
    if isinstance(value, list | tuple):
        for inside in value:
            yield from _values(inside)
    elif not isinstance(value, dict):
        yield value


def _scalars(annotation: Any) -> frozenset[type]:  # noqa: ANN401 - whatever a field is annotated with
    """Return the scalar types that an annotation allows, at any depth; those of other sections not."""
    if get_origin(annotation) is Literal:
        return frozenset(type(value) for value in get_args(annotation))
    if isinstance(annotation, type) and annotation in {int, float, str, bool, date}:
        return frozenset({annotation})
    return frozenset().union(*(_scalars(inner) for inner in get_args(annotation)))
