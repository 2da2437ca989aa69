"""Read the lists of entries by language of MetaCLIP 2 (arXiv 2507.22062), and find the thresholds of its languages.

facebookresearch/MetaCLIP, metaclip/curation/curate.py and substr_matching.py: texts are searched for the entries of
their own language. The threshold t of English gives the share of matches that fall on rarer entries, its tail, and
every other language gets the threshold at which its own tail has that share. `balance` does the rest as for one list.
"""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from laion_dask.filter.sampling import balance
from laion_dask.filter.sampling.balance import EntriesError, Matcher

ENGLISH: Final = "en"
OTHER: Final = "other"
"""The list for texts in no known language, and in one that has no list of its own."""
_SUFFIXES: Final = (".json", ".txt")
_REMEDY: Final = "Remedy: a file for each language, such as en.json and de.txt"
# substr_matching.py, is_cjk_or_similar: an entry that begins or ends so needs no space there.
_UNSPACED: Final = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0xF900, 0xFAFF)),
    *((0x2E80, 0x2FDF), (0x2FF0, 0x2FFF)),
    *((0x0E00, 0x0E7F), (0x0E80, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x0F00, 0x0FFF)),
)
_MARKS: Final = frozenset(string.punctuation + "，。、；：？！“”‘’（）【】《》〈〉「」『』～—")  # noqa: RUF001 - as there


def files(folder: Path) -> dict[str, Path]:
    """Return the file of each language by its code, `<code>.json` or `<code>.txt`, sorted. Raises `EntriesError`."""
    found = sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES) if folder.is_dir() else []
    by_language = {path.stem: path for path in found}
    if len(by_language) < len(found):
        twice = next(path.stem for one, path in itertools.pairwise(found) if one.stem == path.stem)
        raise EntriesError(f"{folder} has two files for {twice}. {_REMEDY}")
    if ENGLISH not in by_language:
        cause = "has no list for English, whose threshold gives those of all others"
        raise EntriesError(f"{folder} {cause if found else 'has no lists'}. {_REMEDY}")
    return by_language


def look(folder: Path) -> None:
    """Read all lists. Raises `EntriesError`."""
    for path in files(folder).values():
        balance.read_entries(path)


def of_texts(languages: Sequence[str | None], known: Mapping[str, Path]) -> list[str]:
    """Return the name of the list that each text is searched with; one that is not known has no entries."""
    return [one if one is not None and one in known else OTHER for one in languages]


def find(folder: Path, digest: str, texts: Sequence[str], languages: Sequence[str | None]) -> tuple[pa.Array, pa.Array]:
    """Return the list of each text, and the indices of the entries of that list in it: list of int32 (texts,).

    `digest` is that of the content of the files.
    """
    known = files(folder)
    names = np.array(of_texts(languages, known), object)
    found = np.empty(len(texts), object)
    for name in sorted({*names}):
        rows = np.flatnonzero(names == name).tolist()
        if name in known:
            matches = _matcher(known[name], digest).find([texts[row].strip() for row in rows]).to_pylist()
        else:
            matches = [[] for _ in rows]
        for row, entries in zip(rows, matches, strict=True):
            found[row] = entries
    return pa.array(names, pa.string()), pa.array(found.tolist(), pa.list_(pa.int32()))


@functools.lru_cache(maxsize=512)
def _matcher(path: Path, digest: str) -> Matcher:  # noqa: ARG001 - a changed file has another digest
    return Matcher.of_patterns([pattern(entry) for entry in balance.read_entries(path)])


def pattern(entry: str) -> str:
    """Put a space before and behind an entry, except where it begins or ends with a mark or an unspaced script."""
    return f"{'' if _is_unspaced(entry[0]) else ' '}{entry}{'' if _is_unspaced(entry[-1]) else ' '}"


def _is_unspaced(char: str) -> bool:
    return char in _MARKS or any(first <= ord(char) <= last for first, last in _UNSPACED)


def thresholds(counts: Mapping[str, np.ndarray], t: int) -> tuple[float, dict[str, int]]:
    """Return the tail share of English and the threshold of each language, from the pairs of each entry of its list.

    Raises `EntriesError` where pairs of other languages have entries, and no English one has.
    """
    if not any(found.sum() for found in counts.values()):
        return 0.0, dict.fromkeys(counts, t)  # nothing to balance
    english = counts.get(ENGLISH, np.zeros(0, np.int64))
    if not english.sum():
        message = "filter.balance: no English pair has an entry, so other languages get no threshold. Remedy: entries, "
        raise EntriesError(f"{message}for one list with a threshold of its own")
    share = float(english[english < t].sum() / english.sum())
    return share, {name: t if name == ENGLISH else _threshold(found, share) for name, found in counts.items()}


def _threshold(counts: np.ndarray, share: float) -> int:
    """Return the count up to which entries, rarest first, have nearly that share of all matches: `p_to_t`."""
    ordered = np.sort(counts)
    if not ordered.sum():
        return 0
    return int(ordered[np.abs(np.cumsum(ordered) / ordered.sum() - share).argmin()])
