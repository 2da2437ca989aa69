"""Measure how far labelers agree beyond chance: Cohen's kappa for two, Fleiss' kappa for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from laion_dask.audit.labels import DataPoint


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on one question over the pairs that at least two labelers answered; `kappa` None where undefined."""

    question: str
    measure: str
    labelers: int
    pairs: int
    agreed: float | None
    kappa: float | None


def agreement(labels: Iterable[DataPoint], questions: Sequence[str]) -> list[Agreement]:
    """Return the agreement on each question; `unsure` is an answer like the others."""
    answers: dict[str, dict[str, dict[str, str]]] = {name: {} for name in questions}
    for label in labels:
        answers[label.question].setdefault(label.uid, {})[label.labeler] = label.answer
    return [_of(name, answers[name]) for name in questions]


def _of(question: str, answers: dict[str, dict[str, str]]) -> Agreement:
    labelers = sorted({labeler for given in answers.values() for labeler in given})
    shared = [given for _, given in sorted(answers.items()) if len(given) > 1]
    measure = "Cohen's kappa" if len(labelers) == 2 else "Fleiss' kappa"
    if not shared:
        return Agreement(question, measure, len(labelers), 0, None, None)
    counts = [Counter(given.values()) for given in shared]
    agreed = sum(map(_pairs_agree, counts)) / len(counts)
    if len(labelers) == 2:
        kappa = cohen([given[labelers[0]] for given in shared], [given[labelers[1]] for given in shared])
    else:
        kappa = fleiss(counts)
    return Agreement(question, measure, len(labelers), len(shared), agreed, kappa)


def cohen(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Return Cohen's kappa of two labelers (Educational and Psychological Measurement 20 (1960), 37).

    None if both always gave the same single answer: kappa is undefined then.
    """
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415 - 1 s

    if len({*one, *other}) == 1:
        return None
    return float(cohen_kappa_score(one, other))


def fleiss(counts: Sequence[Counter[str]]) -> float | None:
    """Return Fleiss' kappa (Psychological Bulletin 76 (1971), 378) of the answers to each pair, two or more each.

    Pairs may have different numbers of labelers: agreement is computed for each pair, as in formula 4 there. None if
    all answers are the same.
    """
    answers = Counter[str]()
    for votes in counts:
        answers.update(votes)
    chance = sum((number / answers.total()) ** 2 for number in answers.values())
    if chance == 1:
        return None
    observed = sum(map(_pairs_agree, counts)) / len(counts)
    return (observed - chance) / (1 - chance)


def _pairs_agree(found: Counter[str]) -> float:
    number = found.total()
    return sum(times * (times - 1) for times in found.values()) / (number * (number - 1))
