"""Draw where a version comes from, and what changed since the version before it, as SVG files beside the version.

The report's page shows the files and has nothing of them: a commit, its date and the history before it differ from
clone to clone, and the page is part of the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jinja2 import Template

from laion_dask.report import timeline
from laion_dask.report.origin.parent import Beginning
from laion_dask.storage import printable, templates

_SHOWN: Final = 8
"""Parameters that differ; the last line counts the others."""
_VALUE_CHARS: Final = 22
"""Of a value before and after: both fit a phone."""
_NAME_CHARS: Final = 46
_FACT_CHARS: Final = 30
_MILLIONS: Final = 10_000_000
_SHARES: Final = frozenset({"unsafe", "marked", "precision", "recall"})
_LABELS: Final = {
    "links": "links seen",
    "images": "images downloaded",
    "kept": "pairs kept",
    "en": "kept, en",
    "multi": "kept, multi",
    "nolang": "kept, nolang",
    "unsafe": "unsafe, of kept",
    "marked": "watermarked, of kept",
    "precision": "precision of keeping",
    "recall": "recall of keeping",
}


def names(digests: Mapping[str, str], metrics: Path) -> dict[str, str]:
    """Return the names of a version's two files by what they show, `origin` and `parent`."""
    return {what: f"{what}-{timeline.key(digests, metrics)}.svg" for what in ("origin", "parent")}


def write(data: Path, metrics: Path, digests: Mapping[str, str], found: Beginning) -> list[Path]:
    """Draw both files, and return the paths of those that could be written."""
    drawn = {"origin": draw_origin(found), "parent": draw_parent(found)}
    placed = [timeline.place(data, file, drawn[what]) for what, file in names(digests, metrics).items()]
    return [path for path in placed if path]


def draw_origin(found: Beginning) -> str:
    """Return the SVG with commit, experiment, time of the build and parent."""
    return _template("origin").render(facts=_facts(found))


def draw_parent(found: Beginning) -> str:
    """Return the SVG with the parameters that changed since the parent, and its numbers beside those of the version."""
    changes = found.changes()
    return _template("parent").render(
        parent=found.parent,
        changes=[(_cut(key, _NAME_CHARS), _cut(old), _cut(new)) for key, old, new in changes[:_SHOWN]],
        more=len(changes) - _SHOWN,
        rows=_rows(found),
    )


def _template(name: str) -> Template:
    return templates.environment("laion_dask.report", escape=True).get_template(f"{name}.svg.j2")


def _facts(found: Beginning) -> list[tuple[str, str]]:
    commit = f"{found.commit[:10]} of {found.date}" if found.commit else "none: not under Git"
    facts = [("Commit", f"{commit}, with changes" if found.commit and found.uncommitted else commit)]
    if found.experiment:
        facts.append(("Experiment", _cut(found.experiment, _FACT_CHARS)))
    if found.began:
        same = found.began[:10] == found.ended[:10]
        facts.append(("Built", f"{found.began} to {found.ended[11:] if same else found.ended} UTC"))
    if found.parent:
        facts.append(("Parent", f"{found.parent.version[:8]} at {found.parent.commit[:10]} of {found.parent.date}"))
    return facts


def _rows(found: Beginning) -> list[tuple[str, str, str, str]]:
    """Return each number with its value before, its value now, and the change; without a parent the value now."""
    before = found.parent.numbers if found.parent else {}
    names = [key for key in _LABELS if key in found.numbers or key in before]
    return [
        (
            _LABELS[key],
            _value(key, before.get(key)),
            _value(key, found.numbers.get(key)),
            _change(key, before.get(key), found.numbers.get(key)),
        )
        for key in names
    ]


def _value(key: str, value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.2f} %" if key in _SHARES else _count(value)


def _count(value: float, sign: str = "") -> str:
    """Return a count in whole, or in millions where three of them would not fit a phone."""
    return f"{value:{sign},}" if abs(value) < _MILLIONS else f"{value / 1e6:{sign},.1f} M"


def _change(key: str, old: float | None, new: float | None) -> str:
    """Return the difference, of shares in percentage points, "=" for none, "" where nothing can be compared."""
    if old is None or new is None:
        return ""
    if old == new:
        return "="
    text = f"{100 * (new - old):+.2f}" if key in _SHARES else _count(new - old, "+")
    return text.replace("-", "\N{MINUS SIGN}")


def _cut(text: str, most: int = _VALUE_CHARS) -> str:
    line = printable.line(text)
    return line if len(line) <= most else f"{line[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
