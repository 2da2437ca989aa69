"""Write README.md, the card of a release, in the seven sections of a datasheet.

The Hugging Face hub and `datasets.load_dataset` read its header: every table is a configuration with its splits.
Sections after Gebru et al., Datasheets for Datasets (arXiv 1803.09010).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.params import recipes
from laion_dask.release import composition, limitations, rate_lines
from laion_dask.release.croissant import MAIN, released
from laion_dask.release.manifest import Made
from laion_dask.release.tables.kinds import SUBSET_HIGH_RESOLUTION
from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS, REASON_STAGE, REASONS
from laion_dask.schema.values import SIGNALS, SPLITS
from laion_dask.storage import templates

NAME: Final = "README.md"
_SIZES: Final = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"),
                 (1e8, "10M<n<100M"), (1e9, "100M<n<1B"), (1e10, "1B<n<10B"), (1e11, "10B<n<100B"))  # fmt: skip
_RANKED: Final = 10
_NEW_TEXTS: Final = {"translate": "English texts", "caption": "Captions"}
_OPT_OUTS: Final = ("page_opt_out", *SIGNALS)


@dataclass(frozen=True, slots=True)
class Shown:
    """One table in the card's list: its rows by split, and its number of files."""

    name: str
    what: str
    folder: str
    rows: Mapping[str, int]
    files: int

    @property
    def splits(self) -> list[str]:
        """The splits that have rows."""
        return [split for split in SPLITS if self.rows[split]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure beside the card: its relative path, and its alternative text."""

    path: str
    alt: str


def write(
    out: Path,
    made: Made,
    numbers: Mapping[str, Any],
    merkle_root: Mapping[str, Any],
    tombstones: int,
    pictures: Sequence[Picture] = (),
    rates: Sequence[rate_lines.RateRow] = (),
) -> None:
    """Write the card; `numbers` come from `composition.measure`, `merkle_root` from `manifest.root`."""
    settings = made.settings
    tables = _tables(out, made)
    shown = tables[0].splits if tables else []
    # No escapes for Markdown: texts from the web go through _cell.
    environment = templates.environment("laion_dask.release", escape=False)
    environment.filters["share"] = rate_lines.cell
    card = environment.get_template("card.md.j2").render(
        release=settings.release,
        published=made.published(),
        demo=settings.crawl.source == "demo",
        languages=[code for code, _ in numbers["languages"]["top"] if code],
        size_category=next((name for limit, name in _SIZES if numbers["pairs"]["all"] < limit), "n>1T"),
        configs=[
            {"name": table.name, "folder": table.folder, "splits": table.splits} for table in tables
        ],
        first=shown[0] if shown else "",
        splits=SPLITS,
        shown=[*shown, "all"] if shown else [],
        tables=tables,
        recipes=recipes.caveats(settings.recipe),
        changes=[(key, _plain(theirs), _plain(here)) for key, theirs, here in recipes.changes(settings)],
        numbers=numbers,
        rankings=_rankings(numbers),
        pictures=pictures,
        rate_splits=[row.group for row in rates if row.by == "split"],
        rates=rate_lines.by_split(rates),
        rate_groups=[(row.by, _cell(row.group), row) for row in rates if row.by != "split"],
        uses=limitations.uses(settings),
        limits=limitations.limits(settings, numbers),
        biases=limitations.biases(settings),
        personal=limitations.personal(settings, made.counts),
        tombstones=tombstones,
        columns=schema.RELEASE.columns,
        crawls=made.crawls(),
        pages=made.pages,
        opt_outs=_opt_outs(made.counts),
        funnel=FUNNEL,
        new_texts=[(stage, unit, _NEW_TEXTS[stage]) for stage, unit in NEW_TEXTS],
        counts=made.counts,
        models=made.models,
        lists=made.lists,
        parameters=settings.model_dump(mode="json"),
        meanings={reason: REASONS[stage][reason] for reason, stage in REASON_STAGE.items()},
        merkle=merkle_root,
    )  # fmt: skip
    (out / NAME).write_text(card, encoding="utf-8")


def _tables(out: Path, made: Made) -> list[Shown]:
    settings = made.settings.release
    what = {
        MAIN: "the main table: every kept pair",
        SUBSET_HIGH_RESOLUTION: f"both sides at least {settings.high_resolution_px:,} px",
    }
    what |= {f"aesthetic_{level:g}": f"aesthetic at least {level:g}" for level in settings.aesthetic}
    shown = []
    for name, table in released(out, made).items():
        folder = "" if name == MAIN else name
        files = composition.files(out, folder)
        if name != "tombstones" and files:
            rows: dict[str, int] = dict.fromkeys(SPLITS, 0)
            for path in files:
                rows[path.name.split("-")[0]] += pq.read_metadata(path).num_rows
            shown.append(Shown(name, what.get(name, table.row), f"{folder}/" if folder else "", rows, len(files)))
    return shown


def _plain(value: object) -> str:
    """Format a parameter as a cell of a table."""
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _rankings(numbers: Mapping[str, Any]) -> list[list[str]]:
    columns = []
    for name, empty in (("languages", "nolang"), ("hosts", "none"), ("licenses", "none")):
        top = numbers[name]["top"][:_RANKED]
        columns += [[_cell(value) or empty for value, _ in top], [f"{pairs:,}" for _, pairs in top]]
    return [list(row) for row in zip_longest(*columns, fillvalue="")]


def _cell(text: str) -> str:
    """Format a text from the web as a cell of a table: it must neither end the cell nor become markup."""
    safe = "".join(letter if letter.isalnum() or letter in ".-_:+?" else " " for letter in text)
    return f"`{safe.strip()}`" if safe.strip() else ""


def _opt_outs(counts: Mapping[str, Any]) -> int:
    links, images = counts["extract"]["links"]["dropped"], counts["download"]["images"]["dropped"]
    return sum(int(links.get(reason, 0)) + int(images.get(reason, 0)) for reason in _OPT_OUTS)
