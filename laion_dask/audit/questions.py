"""Read the questions of an audit: what people are asked, and which decision each question judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.params.section import Section
from laion_dask.schema.reasons import REASONS
from laion_dask.storage import packaged

DEFAULT: Final = packaged.file("audit", "questions.yaml")
ANSWERS: Final = ("yes", "no", "unsure")
# The page has a digit key for each.
_MOST: Final = 9

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")]


class QuestionsError(Exception):
    """A file of questions is missing or invalid; the message has the value and the remedy."""


class Question(Section):
    """One question, answered by yes, no or unsure, and the reason of the filter that the answer judges."""

    name: _Name
    ask: Annotated[str, Field(min_length=5, max_length=200)]
    decision: str
    fires: Literal["yes", "no"]
    """The answer for which the decision is right."""
    truth: str | None = None
    """Column of the demo's truth labels that is true where the answer is yes."""

    @field_validator("decision")
    @classmethod
    def _is_a_reason(cls, value: str) -> str:
        if value not in REASONS["filter"]:
            message = f"decision {value!r} is not a reason of the filter. Remedy: one of {', '.join(REASONS['filter'])}"
            raise ValueError(message)
        return value


class Questions(Section):
    """All questions of an audit, with unique names."""

    questions: Annotated[tuple[Question, ...], Field(min_length=1, max_length=_MOST)]

    @field_validator("questions")
    @classmethod
    def _are_named_once(cls, value: tuple[Question, ...]) -> tuple[Question, ...]:
        names = [question.name for question in value]
        if len(set(names)) < len(names):
            raise ValueError("two questions have the same name. Remedy: a unique name for each")
        return value


def read(path: Path = DEFAULT) -> tuple[Question, ...]:
    """Read the questions; `QuestionsError` names the file, the value and the remedy."""
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return Questions.model_validate(values).questions
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        message = f"{path} cannot be read: {error}. Remedy: see {DEFAULT.name} of this package"
        raise QuestionsError(message) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{path}, {place}: {first['msg']}. Remedy: see {DEFAULT.name} of this package"
        raise QuestionsError(message) from error
