"""Explain a URL, a uid or an image: where it was found, what each stage decided, in which versions.

For a pair that was removed or that the ledger names, the answer is its tombstone, without address, text, page or
scores.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask.blocklists import removal_ledger
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.filter import takedown
from laion_dask.images import hashes, pdq_index
from laion_dask.schema.reasons import KEEP, REASON_STAGE, REASONS, RULE_BITS, WITHHELD
from laion_dask.schema.values import PDQ_DISTANCE, PDQ_QUALITY
from laion_dask.versions import histories
from laion_dask.web.urls import address_key

_UID: Final = re.compile(r"[0-9a-fA-F]{32}")
_REMOVED_BIT: Final = 1 << RULE_BITS[takedown.REASON]
_SCORE_LIMITS: Final = {"punsafe": "max_punsafe", "pwatermark": "max_pwatermark"}


class WhyError(Exception):
    """The question cannot be understood; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class InVersion:
    """One version's verdict on a pair."""

    version: str
    label: str
    known: bool
    """The version's crawls had the pair, and extraction kept it."""
    member: bool
    """The pair is in the release."""
    stage: str = ""
    """The stage that decided."""
    reason: str = ""
    meaning: str = ""
    rules: tuple[str, ...] = ()
    """Every rule of filter that would drop the pair."""
    compared: Mapping[str, str] = field(default_factory=dict)
    """Scores with their limits."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairHistory:
    """The history of one pair."""

    uid: str
    removed: bool
    uid_sha256: str
    since: str
    """Number of the first version without a removed pair; empty before it is built."""
    ledger: tuple[Removal, ...]
    """Lines of the removal ledger that match the pair."""
    found: tuple[Mapping[str, Any], ...]
    versions: tuple[InVersion, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All pairs that match a question, and lines of the ledger that match the question itself."""

    asked: Mapping[str, str]
    ledger: tuple[Removal, ...]
    pairs: tuple[PairHistory, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def question(what: str) -> dict[str, str]:
    """Parse a question into values by column: uid, url, or the digests of an image file. Raises `WhyError`."""
    if _UID.fullmatch(what):
        return {"uid": what.lower()}
    if "://" in what:
        return {"url": removal_ledger.normal("url", what)}
    path = Path(what)
    if not path.is_file():
        raise WhyError(f"{what!r} is not a URL, a uid of 32 hex digits or a file. Remedy: give one of them")
    body = path.read_bytes()
    asked: dict[str, str] = {kind: digest for kind, digest in hashes.digests(body, ("md5", "sha256")).items()}  # noqa: C416 - another type of key
    try:
        looks = hashes.pdq_as_stored(body)
    except (OSError, ValueError, SyntaxError):
        return asked  # not a decodable picture: its bytes may still match
    if looks.quality >= PDQ_QUALITY:
        asked["pdq"] = looks.hex
    return asked


def answer(cursor: Any, asked: Mapping[str, str], ledger: Iterable[Removal]) -> Explanation:  # noqa: ANN401 - a driver's cursor
    """Answer a question from the catalog's history and the removal ledger."""
    by_kind: dict[str, dict[str, list[Removal]]] = {}
    for line in ledger:
        kind, value = line.kind, line.value
        if kind == "url":
            # For a removed pair the history has only the digest of its address, the same for every spelling.
            kind, value = "address_sha256", histories.address_digest(value)
        by_kind.setdefault(kind, {}).setdefault(value, []).append(line)
    pairs = tuple(_pair(cursor, uid, by_kind) for uid in histories.find(cursor, asked))
    values = dict(asked)
    if "url" in values:
        values["address_sha256"] = histories.address_digest(values["url"])
    return Explanation(dict(asked), tuple(_lines(values, by_kind)), pairs)


_ByKind = Mapping[str, Mapping[str, Sequence[Removal]]]
"""Lines of the ledger by kind and value; addresses by their digest."""


def _lines(known: Mapping[str, Any], by_kind: _ByKind) -> list[Removal]:
    """Return the lines of the ledger that match a pair by its known values."""
    matches = [line for kind in ("address_sha256", "uid", "md5", "sha256")
             for line in by_kind.get(kind, {}).get(known.get(kind, ""), ())]  # fmt: skip
    host = known.get("host") or address_key.host(str(known.get("url", "")))
    domains = by_kind.get("domain", {})
    if host and (name := takedown.domain_of(host, set(domains))):
        matches += domains[name]
    entries = by_kind.get("pdq", {})
    if known.get("pdq") and entries:
        apart = np.bitwise_count(pdq_index.unpack(list(entries)) ^ pdq_index.unpack([str(known["pdq"])])).sum(axis=1)
        close = [lines for lines, bits in zip(entries.values(), apart, strict=True) if bits <= PDQ_DISTANCE]
        matches += [line for lines in close for line in lines]
    return matches


def _pair(cursor: Any, uid: str, by_kind: _ByKind) -> PairHistory:  # noqa: ANN401 - a driver's cursor
    fates = histories.fates(cursor, uid)
    places = histories.found(cursor, uid)
    values: dict[str, Any] = {"uid": uid, "url": places[0]["url"] if places else ""}
    for fate in fates:
        values |= {name: fate[name] for name in ("address_sha256", "md5", "sha256", "pdq") if fate[name]}
    lines = _lines(values, by_kind)
    removed = bool(lines) or any(_hides(fate) for fate in fates)
    versions = tuple(_in_version(fate, with_evidence=not removed) for fate in fates)
    since = next((fate["since"] for fate in fates if fate["since"]), "")
    return PairHistory(
        uid,
        removed,
        hashlib.sha256(uid.encode()).hexdigest(),
        since,
        tuple(lines),
        () if removed else tuple(places),
        versions,
    )


def _hides(fate: Mapping[str, Any]) -> bool:
    return fate["reason"] in WITHHELD or bool((fate["rules"] or 0) & _REMOVED_BIT)


def _in_version(fate: Mapping[str, Any], *, with_evidence: bool) -> InVersion:
    reason = fate["reason"]
    if reason is None:
        return InVersion(fate["name"], fate["label"], known=False, member=False)
    stage = REASON_STAGE.get(reason, "release")
    meaning = "in the release" if reason == KEEP else REASONS.get(stage, {}).get(reason, "")
    base = {"known": True, "member": reason == KEEP, "stage": stage, "reason": reason, "meaning": meaning}
    if not with_evidence:
        return InVersion(fate["name"], fate["label"], **base)
    evidence = {name: value for name, value in json.loads(fate["evidence"] or "{}").items() if value not in (None, "")}
    bits = json.loads(fate["named"])
    mask = fate["rules"] & (1 << 64) - 1
    rules = tuple(name for name, rule in bits.items() if mask >> int(rule["bit"]) & 1)
    compared = _compared(evidence, json.loads(fate["limits"]), str(fate["split"]))
    return InVersion(fate["name"], fate["label"], **base, rules=rules, compared=compared, evidence=evidence)


def _compared(evidence: Mapping[str, Any], limits: Mapping[str, Any], split: str) -> dict[str, str]:
    """Return each score with its limit, as text."""
    compared = {}
    lowest = limits.get("similarity") or {}
    if "similarity" in evidence and split in lowest:
        compared["similarity"] = f"{evidence['similarity']:.4f}, at least {lowest[split]:g} for {split}"
    for score, limit in _SCORE_LIMITS.items():
        if score in evidence and limit in limits:
            compared[score] = f"{evidence[score]:.4f}, at most {limits[limit]:g}"
    for rule in limits.get("thresholds") or ():
        if rule["column"] in evidence:
            low, high = (rule.get(end) for end in ("min", "max"))
            compared[rule["name"]] = f"{rule['column']} {evidence[rule['column']]}, from {low} to {high}"
    return compared
