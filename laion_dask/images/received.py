"""The work of a decoder: read the rights metadata of a received body, and prepare its picture.

A picture whose own metadata opts out is not decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laion_dask.images import prepare
from laion_dask.images.blur import Box
from laion_dask.web.rights.decision import SILENT, Decision, Policy
from laion_dask.web.rights.embedded import decide_file

FIELDS: Final = tuple(field.name for field in dataclasses.fields(prepare.Prepared) if field.name != "picture")
"""Fields of an answer for a prepared picture, without its bytes."""


def process(
    body: bytes, rules: prepare.Rules, policy: Policy | None, boxes: Sequence[Box], time: str | None
) -> tuple[Decision, prepare.Prepared]:
    """Read the rights metadata of a picture, then prepare it; without a policy no metadata is read.

    `time` is the Date header of its response. Raises `MemoryError` where memory is limited.
    """
    decision = decide_file(body, policy, time) if policy is not None else SILENT
    if policy is not None and policy.binds(decision):
        return decision, prepare.Prepared(decision.signal, f"refused by {decision.signal}")
    return decision, prepare.prepare(body, rules, boxes)


def rules_of(fields: Mapping[str, Any]) -> prepare.Rules:
    """Build the rules from JSON."""
    return prepare.Rules(**fields)


def policy_of(fields: Mapping[str, Any] | None) -> Policy | None:
    """Build the policy from JSON."""
    return None if fields is None else Policy(**{name: tuple(value) for name, value in fields.items()})
