"""A body as it was received in, what its owner wrote into it and the picture made of it out: the work of a decoder.

A picture that its own bytes refuse is not decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from laion_dask import images
from laion_dask.blur import Box
from laion_dask.embedded import decide_file
from laion_dask.rights import SILENT, Decision, Policy

FIELDS: Final = tuple(field.name for field in dataclasses.fields(images.Prepared) if field.name != "picture")
"""What an answer holds of a prepared picture beside its bytes."""


def look(
    body: bytes, rules: images.Rules, policy: Policy | None, boxes: Sequence[Box], time: str | None
) -> tuple[Decision, images.Prepared]:
    """Read what the owner wrote into a picture, then prepare it; without a policy nothing is read.

    `time` is the Date of the response that brought it. `MemoryError` is the only way out, where memory is limited.
    """
    decision = decide_file(body, policy, time) if policy is not None else SILENT
    if policy is not None and policy.binds(decision):
        return decision, images.Prepared(decision.signal, f"refused by {decision.signal}")
    return decision, images.prepare(body, rules, boxes)


def rules_of(fields: Mapping[str, Any]) -> images.Rules:
    """Build the rules out of JSON."""
    return images.Rules(**fields)


def policy_of(fields: Mapping[str, Any] | None) -> Policy | None:
    """Build the policy out of JSON."""
    return None if fields is None else Policy(**{name: tuple(value) for name, value in fields.items()})
