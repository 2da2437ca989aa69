"""Name and describe a version's run in MLflow by what differs from the version before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from laion_dask.report.run_metrics import HEADLINE

_NAMED: Final = 3
"""Differences that a run's name has; the description has all."""
_LONGEST: Final = 24
_SHARES: Final = frozenset({"4 unsafe kept", "5 watermark kept", "6 precision", "7 recall"})
_FIRST: Final = ("3 kept", "4 unsafe kept", "6 precision", "7 recall")
_ORDER: Final = "1234567 "
"""With what names begin so that MLflow sorts them."""
_NONE: Final = "null"
_STORED: Final = 6_000
"""Characters of a value that MLflow stores."""
# experiments/runs.py names an experiment by its changes and ends with a digest: a run's name says the changes already.
_OF_A_SWEEP: Final = re.compile(r"-[0-9a-f]{8}$")
_FIGURE: Final = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n*", re.MULTILINE)

Change = tuple[str, str, str]
"""A parameter's dotted name, its value before and after."""


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return the parameters that differ in the order of `after`: new ones behind those of both, lists behind values.

    A value that is missing is null; MLflow stores no empty value, and the beginning of a long one.
    """

    def rank(name: str) -> tuple[bool, bool]:
        return name not in before, after.get(name, "").startswith(("[", "{"))

    names = sorted([*after, *(name for name in before if name not in after)], key=rank)
    found = [(name, before.get(name) or _NONE, after.get(name) or _NONE) for name in names]
    return [(name, old, new) for name, old, new in found if old[:_STORED] != new[:_STORED]]


def name(title: str, version: str, changed: Sequence[Change], experiment: str = "") -> str:
    """Return the name of a run: what differs from its parent, with the name of a DVC experiment that a person gave.

    If nothing differs it is the experiment's name, or the version's title and digest.
    """
    if not changed:
        return experiment or f"{title} {version[:8]}"
    words = [f"{_short(key, changed)} {_cut(new)}" for key, _, new in changed[:_NAMED]]
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    given = f" ({experiment})" if experiment and not _OF_A_SWEEP.search(experiment) else ""
    return f"{', '.join(words)}{more}{given}"


def description(
    parent: tuple[str, str] | None,
    changed: Sequence[Change],
    before: Mapping[str, float],
    after: Mapping[str, float],
    version: str,
    report: str,
) -> str:
    """Return the description of a run in Markdown: parameters that changed, and counts before and after.

    `parent` is the name and address of the run of the version before; `before` and `after` are metrics by name;
    `report` is the address of report.html.
    """
    # MLflow folds what is behind the first lines.
    moved = [f"{key.lstrip(_ORDER)} {_moved(before, after, key)}" for key in _FIRST if key in after]
    head = f"**Compared with** [{_plain(parent[0])}]({parent[1]}): " if parent is not None else ""
    lines = [f"{head}{', '.join(moved)}. [Report]({report})", ""]
    if parent is not None:
        if changed:
            rows = [f"| `{key}` | {_plain(_cut(old))} | {_plain(_cut(new))} |" for key, old, new in changed]
            lines += ["| parameter | before | after |", "|---|---|---|", *rows, ""]
        else:
            lines += ["No parameter differs: inputs or code do.", ""]
    shown = [key for key in HEADLINE if key in after]
    if any(key in before for key in shown):
        rows = [f"| {key.lstrip(_ORDER)} | {_value(before, key)} | {_value(after, key)} |" for key in shown]
        lines += ["| count | before | after |", "|---|---:|---:|", *rows, ""]
    else:
        rows = [f"| {key.lstrip(_ORDER)} | {_value(after, key)} |" for key in shown]
        lines += ["| count | this version |", "|---|---:|", *rows, ""]
    lines += [f"Every number: `tables/numbers.csv` below *Artifacts*. Version `{version}`."]
    return "\n".join(lines)


def of_comparison(page: str, runs: Mapping[str, str]) -> str:
    """Return the description of a comparison: its page without figures, which MLflow cannot show there, and its runs.

    `runs` has the address of each version's run by label.
    """
    text = _FIGURE.sub("", page).strip()
    listed = [f"- [{_plain(label)}]({address})" for label, address in runs.items()]
    return "\n".join([text, "", "Figures: below *Artifacts*. Runs:", "", *listed])


def _short(key: str, changed: Sequence[Change]) -> str:
    """Return a parameter's name without its section, unless another that changed would have the same."""
    short = key.partition(".")[2] or key
    return key if sum(other.partition(".")[2] == short for other, _, _ in changed) > 1 else short


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _value(values: Mapping[str, float], key: str) -> str:
    if key not in values:
        return ""
    return f"{values[key]:.2%}" if key in _SHARES else f"{values[key]:,.0f}"


def _moved(before: Mapping[str, float], after: Mapping[str, float], key: str) -> str:
    return f"{_value(before, key)} \N{RIGHTWARDS ARROW} {_value(after, key)}" if key in before else _value(after, key)


def _plain(text: str) -> str:
    """Return text that Markdown leaves as it is in a table's cell."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>()#|~!" else one for one in text)
