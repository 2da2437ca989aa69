"""LAION-5B as its announcement says it was built, against what its code did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from experiments import ask, results
from experiments.versions import ComparedVersion
from laion_dask import params
from laion_dask.schema.reasons import FUNNEL

TITLE: Final = "LAION-5B as written, against as run"
QUESTION: Final = (
    "The announcement of LAION-5B and the code that built it differ in a dozen places. Which pairs does that change, on"
    " the same crawl with the same scores?"
)
COMMANDS: Final = ("python -m experiments.compare params laion-5b laion-5b-as-run",)
_RECIPES: Final = ("laion-5b", "laion-5b-as-run")
TOLD: Final = (
    ("extract", "relative_url"),
    ("extract", "url_pattern"),
    ("extract", "page_opt_out"),
    ("download", "not_found"),
    ("download", "unreachable"),
    ("download", "private_address"),
    ("download", "robots"),
)
"""Stage and reason of the drops that the answer names."""


def answer(root: Path, folder: Path) -> str:
    """Build both on the demo, its own CLIP in place of the hub's, and set their funnels side by side."""
    base = params.load(root / "params.yaml").model_dump(mode="json")
    changes = [(name, ask.recipe(name, base, demo=True)) for name in _RECIPES]
    found = ask.ask(root, "laion-5b as run", [("params", {}), *changes], folder)
    _, written, run = found.versions
    rows = _funnels(written, run)
    results.write_csv(folder / "funnels.csv", rows)
    results.write_numbers(folder, _numbers(written, run, found.overlap))
    parts = [
        results.markdown(results.table(found.rows)),
        *(ask.picture(figure, f"{folder.name}/") for figure in found.figures),
        "## The two funnels",
        results.markdown(rows),
        _text(written, run, found.overlap),
    ]
    return "\n\n".join(parts)


def _drops(version: ComparedVersion) -> dict[tuple[str, str], int]:
    rows: dict[tuple[str, str], int] = {}
    for stage, ledger in FUNNEL:
        counts: Mapping[str, Any] = version.metrics.get(stage, {}).get(ledger, {})
        rows[stage, "seen"] = int(counts.get("seen", 0))
        rows |= {(stage, reason): int(count) for reason, count in counts.get("dropped", {}).items()}
    return rows


def _funnels(written: ComparedVersion, run: ComparedVersion) -> list[dict[str, Any]]:
    one, other = _drops(written), _drops(run)
    order = {stage: place for place, (stage, _) in enumerate(FUNNEL)}
    names = sorted({*one, *other}, key=lambda name: (order[name[0]], name[1] != "seen", name[1]))
    rows = []
    for stage, reason in names:
        counts = [found.get((stage, reason), 0) for found in (one, other)]
        if reason == "seen" or counts[0] != counts[1]:
            word = "seen" if reason == "seen" else f"dropped: {reason.replace('_', ' ')}"
            rows.append({"stage": stage, "rows": word, "as written": counts[0], "as run": counts[1]})
    return rows


def _numbers(written: ComparedVersion, run: ComparedVersion, shared: results.Overlap | None) -> dict[str, float]:
    """Return what the prose says beside the tables; drops that are equal in both are not in the table of funnels."""
    numbers: dict[str, float] = {}
    for name, version in (("as written", written), ("as run", run)):
        numbers[f"pairs kept {name}"] = int(version.number("release.pairs.kept") or 0)
        numbers[f"unsafe share of kept pairs {name}"] = version.number("report.safety.unsafe_of_kept.all.rate") or 0.0
    if shared is not None:
        numbers["pairs kept by both"] = shared.shared[1][2]
        numbers["share of pairs kept by both of those kept by either"] = shared.jaccard(1, 2)
    for stage, reason in TOLD:
        for name, version in (("as written", written), ("as run", run)):
            numbers[f"{stage} dropped {reason} {name}"] = _drops(version).get((stage, reason), 0)
    return numbers


def _text(written: ComparedVersion, run: ComparedVersion, shared: results.Overlap | None) -> str:
    one, other = _drops(written), _drops(run)

    def both(stage: str, reason: str) -> str:
        return f"{one.get((stage, reason), 0):,} as written, {other.get((stage, reason), 0):,} as run"

    kept = [int(version.number("release.pairs.kept") or 0) for version in (written, run)]
    same, whole, identity = 0, 0.0, "uid"
    if shared is not None:
        same, whole, identity = shared.shared[1][2], shared.jaccard(1, 2), shared.identity
    rates = [version.number("report.safety.unsafe_of_kept.all.rate") or 0.0 for version in (written, run)]
    return f"""## Answer

As written {kept[0]:,} pairs are kept, as run {kept[1]:,}. Both versions keep {same:,} of them, {whole:.0%} of the
pairs that either keeps. Pairs are compared by {identity}, because the two versions make uids by different rules. These
differences have an effect:

- Relative addresses: {both("extract", "relative_url")} are lost. The code validated an address before it joined it
  with the address of the page.
- Links that are no images: the code took any link with an alt text, also to pages and feeds. Most of these cannot be
  downloaded: not found {both("download", "not_found")};
  unreachable {both("download", "unreachable")};
  a private address {both("download", "private_address")}.
- Addresses with .gif or .svg anywhere: {both("extract", "url_pattern")}.
- Rights: robots.txt alone refuses {both("download", "robots")}; the code read no signal.
- Pages that reserve their rights: {both("extract", "page_opt_out")}.

The labels say what the corrected rules should do: a pair whose owner refuses is not a good pair. So precision is low
mostly because the code ignored rights, and recall is low because it lost addresses.

A score above 0.5 counts as unsafe: {rates[0]:.1%} of the kept pairs as written and {rates[1]:.1%} as run
(LAION-5B published 2.9 to 3.3 %). Both versions keep such pairs and only count them.

The demo's CLIP replaces ViT-B/32 and its multilingual text tower here, with the thresholds as published. So the
difference comes from links and from rights, not from scores. The header of recipe `laion-5b-as-run` lists which faults
are reproduced and which are not.
"""
