"""What was typed in, the values to try out: ranges, lists and grids, and the words in which DVC takes them.

`0.20:0.40:0.02` is a range whose end belongs to it, `a,b,c` a list, anything else one YAML value. Keys that are joined
by `+` take the same value together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from itertools import product
from typing import Any, Final, get_args

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask import params

MAX_EXPERIMENTS: Final = 200
_RANGE: Final = re.compile(r"[^:,\[\]{}'\"]+:[^:,\[\]{}'\"]+:[^:,\[\]{}'\"]+")
_OPENS, _CLOSES, _QUOTES = "[{", "]}", "'\""


class ValuesError(Exception):
    """What was typed is no range, list or value, or names no parameter; the message has the remedy."""


def read(text: str) -> list[Any]:
    """Return the values that `text` stands for, in its order.

    Ranges are counted in decimal, so that 0.20:0.40:0.02 has eleven values and ends at 0.4. Raises `ValuesError`.
    """
    if _RANGE.fullmatch(text):
        return list(_range(text))
    values = [_value(part) for part in _split(text)]
    if len({repr(value) for value in values}) < len(values):
        raise ValuesError(f"{text!r} names a value twice. Remedy: each value once")
    return values


def grid(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Return every combination of `KEY VALUES KEY VALUES ...` as changes by dotted key; the last key moves fastest.

    Raises `ValuesError` where a key has no values or stands twice, or where more than 200 experiments would come out.
    """
    if not arguments or len(arguments) % 2:
        raise ValuesError(
            f"{len(arguments)} words are no pairs of key and values."
            " Remedy: e.g. filter.similarity.en 0.20:0.40:0.02 filter.max_punsafe 0.3,0.5"
        )
    keys = [word.split("+") for word in arguments[::2]]
    named = [key for joined in keys for key in joined]
    if len(set(named)) < len(named):
        raise ValuesError(f"a key stands twice among {', '.join(named)}. Remedy: each key once, with all its values")
    axes = [read(word) for word in arguments[1::2]]
    combinations = 1
    for axis in axes:
        combinations *= len(axis)
    if combinations > MAX_EXPERIMENTS:
        raise ValuesError(f"{combinations:,} experiments are more than {MAX_EXPERIMENTS}. Remedy: a wider step")
    return [
        {key: value for joined, value in zip(keys, point, strict=True) for key in joined} for point in product(*axes)
    ]


# Sections that null switches off.
_MAY_BE_NULL: Final = frozenset(
    name for name, field in params.Params.model_fields.items() if type(None) in get_args(field.annotation)
)


def lay(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values of params.yaml with the changes in place; `ValuesError` for an unknown key."""
    laid = {**values}
    for key, value in changes.items():
        laid = _laid(laid, key.split("."), value, key)
    return laid


def _laid(values: Mapping[str, Any], path: Sequence[str], value: Any, key: str) -> dict[str, Any]:  # noqa: ANN401 - any YAML value
    head, *rest = path
    below = values.get(head)
    if head not in values or (rest and not isinstance(below, Mapping)):
        near = get_close_matches(head, list(values), n=1)
        remedy = f"{near[0]}, perhaps" if near else "`laion-dask params` prints all of them"
        raise ValuesError(f"params.yaml has no key {key}. Remedy: {remedy}")
    if rest and isinstance(below, Mapping):
        return {**values, head: _laid(below, rest, value, key)}
    if isinstance(below, Mapping) and not isinstance(value, Mapping) and not (value is None and key in _MAY_BE_NULL):
        raise ValuesError(f"{key} is a section of params.yaml. Remedy: name one of {', '.join(below)} below it")
    return {**values, head: value}


def flat(
    values: Mapping[str, Any], model: type[BaseModel] = params.Params, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of sections of params.yaml, no deeper than its parameters go."""
    for key, value in values.items():
        field = model.model_fields.get(key)
        inner = field.annotation if field is not None else None
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from flat(value, inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def override(key: str, value: Any) -> str:  # noqa: ANN401 - any YAML value
    """Return a change as `dvc exp run -S` takes it: Hydra's grammar, with every text in quotes."""
    return f"{key}={_hydra(value)}"


def _hydra(value: Any) -> str:  # noqa: ANN401 - any YAML value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        if "${" in value:
            raise ValuesError(f"{value!r} holds ${{, which DVC would fill in. Remedy: set it in params.yaml itself")
        # In Hydra's quotes a backslash means itself, but before a quote, where each stands for half of a pair.
        text = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra(below)}" for key, below in value.items()) + "}"
    return "[" + ",".join(_hydra(item) for item in value) + "]"


def _range(text: str) -> Iterator[int | float]:
    try:
        start, end, step = (Decimal(word.strip()) for word in text.split(":"))
    except InvalidOperation as error:
        raise ValuesError(f"{text!r} is no range. Remedy: start:end:step, e.g. 0.20:0.40:0.02") from error
    if step <= 0 or end < start:
        raise ValuesError(f"{text!r} is an empty range. Remedy: a step above 0, and an end not below the start")
    if (end - start) / step >= MAX_EXPERIMENTS:
        raise ValuesError(f"{text!r} has more than {MAX_EXPERIMENTS} values. Remedy: a wider step")
    whole = all(number == number.to_integral_value() for number in (start, end, step)) and "." not in text
    number = start
    while number <= end:
        yield int(number) if whole else float(number)
        number += step


def _split(text: str) -> Iterator[str]:
    """Cut at the commas that stand outside of brackets and quotes."""
    depth, quote, part = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPENS + _CLOSES:
            depth += 1 if letter in _OPENS else -1
        elif letter == "," and not depth:
            yield part
            part = ""
            continue
        part += letter
    yield part


def _value(text: str) -> Any:  # noqa: ANN401 - any YAML value
    if not text.strip():
        raise ValuesError("an empty value. Remedy: write null for none, [] for an empty list, '' for an empty text")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValuesError(f"{text!r} is no YAML value: {error}") from error
