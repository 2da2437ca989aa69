"""The numbers of a study's page beside its tables: what each cell and each number in the prose should be.

Written apart from experiments/results.py and experiments/scores.py: it proves what these say.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Final

from scipy.stats import t

# A number that stands alone: no part of a name (LAION-5B, sha256, recall@1).
NUMBER: Final = re.compile(r"(?<![\w@.#/-])([+-]?\d[\d,]*(?:\.\d+)?)( ?%)?(?![\w@]|-\w)")
_MAIN: Final = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")
_NOTHING: Final = "\N{EN DASH}"
_DIFFERENCE: Final = re.compile(
    r"^- (?P<after>.+) against (?P<before>.+), (?P<name>\S+): (?P<middle>[+-][\d.]+) points "
    r"\(95 %: (?P<low>[+-][\d.]+) to (?P<high>[+-][\d.]+)(?P<chance>, which may be chance)?\)$",
    re.MULTILINE,
)
Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    """Read a table; the apostrophe that keeps a cell from being a formula is none of its text."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name.removeprefix("'"): cell.removeprefix("'") for name, cell in row.items()} for row in csv.DictReader(file)]  # fmt: skip  # noqa: E501


def tables(page: str) -> Iterator[list[Row]]:
    """Yield the Markdown tables of a page as rows."""
    for block in re.findall(r"(?:^\|.*\|\n)+", page + "\n", re.MULTILINE):
        header, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        yield [dict(zip(header, line, strict=True)) for line in body]


def expected(folder: Path) -> Iterator[list[Row]]:
    """Yield the tables of a study: those that it wrote, and the scores of its models as mean and deviation of seeds."""
    for path in sorted(folder.glob("*.csv")):
        if path.name == "scores.csv":
            yield _spread(rows(path))
        elif path.name != "numbers.csv":
            yield rows(path)


def wrong_cells(page: str, folder: Path) -> list[str]:
    """Name every table of a page that is none of its study, and every cell that is not that of the file."""
    known = {tuple(found[0]): [] for found in expected(folder)}  # type: ignore[var-annotated]
    for found in expected(folder):
        known[tuple(found[0])].append(found)
    wrong = []
    for table in tables(page):
        same = known.get(tuple(table[0]), [])
        if not same:
            wrong.append(f"no file has the columns {', '.join(table[0])}")
            continue
        # The page has tables with the same columns in the order in which the files' names have them.
        file = same.pop(0)
        if len(file) != len(table):
            wrong.append(f"{len(table)} rows, {len(file)} in the file")
        for shown, row in zip(table, file, strict=False):
            wrong += [f"{name}: {cell}" for name, cell in shown.items() if not _is_shown(cell, row[name])]
    return wrong


def wrong_numbers(page: str, folder: Path, source: str) -> list[str]:
    """List the numbers in the prose of a page that are in none of its study's files, names or texts."""
    written = {match[0] for text in (*_texts(source), *_names(folder)) for match in NUMBER.finditer(text)}
    known = [*_known(folder)]
    return [
        token for token in numbers(page) if token not in written and not any(_is_shown(token, one) for one in known)
    ]


def wrong_differences(page: str, folder: Path) -> list[str]:
    """List the lines of a page that compare two models and are not what their scores say; and "none" if it has none."""
    by_name = _by_name(rows(folder / "scores.csv"))
    wrong = []
    for line in _DIFFERENCE.finditer(page):
        after, before = (_version(line[which], by_name) for which in ("after", "before"))
        found = _paired(by_name[before], by_name[after], line["name"])
        shown = [
            _is_shown(line[which], str(value)) for which, value in zip(("middle", "low", "high"), found, strict=True)
        ]
        if not all(shown) or (line["chance"] is not None) != (found[1] <= 0 <= found[2]):
            wrong.append(line[0])
    return wrong if _DIFFERENCE.search(page) else ["none"]


def _version(name: str, versions: Iterable[str]) -> str:
    """Return the version that a line names, as it is or without what all versions have in common."""
    (found,) = (one for one in versions if one == name or one.endswith(f", {name}"))
    return found


def numbers(page: str) -> list[str]:
    """Return the numbers of the prose: without tables, code, pictures' and links' addresses."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*\|$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [match[0] for match in NUMBER.finditer(text)]


def _names(folder: Path) -> set[str]:
    """Return the names of versions, such as `50% captions`."""
    return {row["version"] for path in folder.glob("*.csv") for row in rows(path) if "version" in row}


def _texts(source: str) -> Iterator[str]:
    """Yield the text of a module: what stands in its strings as it is, not what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _known(folder: Path) -> Iterator[str]:
    """Yield all numbers of a study: cells of its tables, its list of numbers, and what follows from its scores."""
    for path in folder.glob("*.csv"):
        if path.name != "scores.csv":  # the scores of each seed are on no page
            yield from (cell for row in rows(path) for cell in row.values())
    if (folder / "scores.csv").is_file():
        yield from _of_scores(rows(folder / "scores.csv"), json.loads((folder / "scores.json").read_text())["scale"])


def _of_scores(scored: Sequence[Row], scale: dict[str, float]) -> Iterator[str]:
    samples, batch = scale["samples"], scale["batch"]
    yield from map(str, (samples, batch, samples // batch, len({row["seed"] for row in scored}), 95))
    yield from (str(samples / int(row["kept"])) for row in scored)
    for (one, other), name in ((pair, name) for pair in permutations(_by_name(scored).values(), 2) for name in _MAIN):
        yield from map(str, _paired(one, other, name))


def _by_name(scored: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each version, a row for each seed."""
    found: dict[str, list[Row]] = {}
    for row in scored:
        found.setdefault(row["version"], []).append(row)
    return found


def _paired(one: Sequence[Row], other: Sequence[Row], name: str) -> tuple[float, float, float]:
    """Return the mean difference of a score over seeds, in points, and the 95 % interval of a paired t-test."""
    each = [float(after[name]) - float(before[name]) for before, after in zip(one, other, strict=True)]
    middle, error = statistics.fmean(each), statistics.stdev(each) / len(each) ** 0.5
    reach = float(t.ppf(0.975, len(each) - 1)) * error
    return 100 * middle, 100 * (middle - reach), 100 * (middle + reach)


def _spread(scored: Sequence[Row]) -> list[Row]:
    """Return a row for each version: what the filter kept, then mean and standard deviation of each main score."""
    found = []
    for version in dict.fromkeys(row["version"] for row in scored):
        seeds = [row for row in scored if row["version"] == version]
        line = {name: seeds[0][name] for name in list(seeds[0])[: list(seeds[0]).index("scale")]}
        for name in _MAIN:
            values = [100 * float(row[name]) for row in seeds]
            line[name] = f"{statistics.fmean(values)} ± {statistics.stdev(values)} %"
        found.append(line)
    return found


def _is_shown(cell: str, value: str) -> bool:
    """Tell whether a cell or number of a page is this value, rounded to the digits that it shows."""
    if " ± " in cell:
        pairs = zip(cell.removesuffix(" %").split(" ± "), value.removesuffix(" %").split(" ± "), strict=True)
        return all(_is_shown(*pair) for pair in pairs)
    match = NUMBER.fullmatch(cell)
    if match is None:
        return cell == (value or _NOTHING)
    try:
        number = float(value)
    except ValueError:
        return False
    digits = match[1].replace(",", "")
    shown, decimals = float(digits), len(digits.partition(".")[2])
    if match[2]:
        number *= 100
    elif not decimals and number != int(number):
        return False
    return abs(shown - number) <= 0.5 * 10**-decimals + 1e-9
