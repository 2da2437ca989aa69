"""A number of pairs in, files as the stage extract publishes them out: wide as real ones, copies and Zipf hosts.

Every value follows from the number of its pair, so that copies agree and two runs make the same bytes. Widths are those
of web pages: addresses of about 80 characters, texts of 60, addresses of pages of 70, names of WATs of 112. What is
made is kept, under a digest of the code that makes it.
"""

from __future__ import annotations

import functools
import multiprocessing
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.extract import sorted_runs as runs
from laion_dask.storage import files
from laion_dask.web.urls.spacing import shuffle_keys

COPIES: Final = 0.08
_HOSTS: Final = 200_000
_WORDS: Final = 5_000
_LINKS_OF_PAGE: Final = 12

Numbers = npt.NDArray[np.uint64]


def make(kept: Path, pairs: int, wats: int, processes: int) -> tuple[Path, int]:
    """Return an `extract` folder below `kept`, made if it is not there yet, and the number of its pairs."""
    rows = pairs // wats
    folder = kept / f"pairs-{files.digest(Path(__file__), Path(runs.__file__), schema.PAIRS.names, rows, wats)}"
    if folder.is_dir():
        return folder, rows * wats
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "pairs").mkdir(parents=True)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = list(pool.map(_write, [fresh / "pairs"] * wats, range(wats), [rows] * wats))
    readings = [_reading(wat, rows, name) for wat, name in enumerate(names)]
    pq.write_table(pa.Table.from_pylist(readings, schema.READS.schema), fresh / "reads.parquet", compression="zstd")
    fresh.rename(folder)
    return folder, rows * wats


def _write(folder: Path, wat: int, rows: int) -> str:
    """Write the pairs of one WAT as the stage extract does, and return the WAT's name."""
    table = pairs_of(wat, rows)
    with runs.SortedRuns(folder / f"{wat:06d}.runs", schema.PAIRS.schema) as sorted_runs:
        sorted_runs.add(table)
        sorted_runs.write(folder / f"{wat:06d}.parquet")
    return str(table["wat"][0].as_py())


def pairs_of(wat: int, rows: int) -> pa.Table:
    """Return the pairs of one WAT, sorted by uid."""
    numbers = np.uint64(wat * rows) + np.arange(rows, dtype=np.uint64)
    copies = int(COPIES * rows) if wat else 0
    # The first of them were in the WAT before, where no copies stand.
    numbers[:copies] -= np.uint64(rows - copies)
    place = np.arange(rows)
    page = shuffle_keys(np.uint64(wat * rows) + (place // _LINKS_OF_PAGE).astype(np.uint64), 20)
    one = pa.repeat("", rows)
    host = _hosts(numbers)
    columns: Mapping[str, Any] = {
        "uid": _hex(numbers),
        "url": _join("https://", host, "/wp-content/uploads/", _word(numbers, 1), "/", _tail(numbers, 3), ".jpg"),
        "text": _spaced(numbers, 8),
        "host": host,
        "language": pc.if_else(pa.array(numbers % np.uint64(2) == 0), "en", "de"),
        "language_confidence": ((numbers % np.uint64(1000)) / 1000).astype(np.float32),
        "split": pc.if_else(pa.array(numbers % np.uint64(2) == 0), "en", "multi"),
        "license": pa.repeat("?", rows),
        **{name: np.zeros(rows, np.int16) for name in ("emails", "phones", "cards", "accounts", "ips")},
        "crawl": pa.repeat("CC-MAIN-2024-22", rows),
        "wat": pa.repeat(f"crawl-data/CC-MAIN-2024-22/segments/1715971057216.39/wat/{name(wat)}", rows),
        "wat_order": np.full(rows, wat, np.int32),
        "record_offset": place // _LINKS_OF_PAGE * 40_000,
        "link_index": (place % _LINKS_OF_PAGE).astype(np.int32),
        "page_url": _join("https://www.", _hosts(page), "/blog/", _word(page, 21), "/", _tail(page, 23), ".html"),
        "page_date": _join("2024-05-17T23:", _two_digits(page, 24), ":", _two_digits(page, 25), "Z"),
        "page_signals": one,
    }
    table = pa.table({name: pa.array(columns[name]) for name in schema.PAIRS.names})
    return schema.PAIRS.check(table.sort_by([("uid", "ascending"), ("record_offset", "ascending")]))


def name(wat: int) -> str:
    """Return the name of a WAT, as Common Crawl gives it."""
    return f"CC-MAIN-20240517233122-20240518023122-{wat:05d}.warc.wat.gz"


def _reading(wat: int, rows: int, name: str) -> dict[str, Any]:
    filled = {"order": wat, "crawl": "CC-MAIN-2024-22", "wat": name, "pairs": rows, "reader": "fastwarc"}
    empty = {column.name: "" if column.type == pa.string() else 0 for column in schema.READS.columns}
    return empty | filled


def _hosts(numbers: Numbers) -> pa.Array:
    """Return hosts of which the first has every twelfth pair, the second half as many, and so on (Zipf)."""
    share = np.cumsum(1 / np.arange(1, _HOSTS + 1))
    chosen = np.searchsorted(share / share[-1], shuffle_keys(numbers, 30) / 2.0**64)
    return _host_names().take(pa.array(np.minimum(chosen, _HOSTS - 1)))


@functools.cache
def _host_names() -> pa.Array:
    words = _words()
    return pa.array([f"images-{rank}.{words[rank % _WORDS]}.example" for rank in range(_HOSTS)])


@functools.cache
def _words() -> list[str]:
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    drawn = letters[np.random.default_rng(1).integers(0, 26, (_WORDS, 9))]
    return [word.tobytes().decode()[: 4 + place % 6] for place, word in enumerate(drawn)]


def _word(numbers: Numbers, salt: int) -> pa.Array:
    return pa.array(_words()).take(pa.array((shuffle_keys(numbers, salt) % np.uint64(_WORDS)).astype(np.int64)))


def _two_digits(numbers: Numbers, salt: int) -> pa.Array:
    return pa.array([f"{value:02d}" for value in range(60)]).take(
        pa.array((shuffle_keys(numbers, salt) % np.uint64(60)).astype(np.int64))
    )


def _tail(numbers: Numbers, salt: int) -> pa.Array:
    return _join(
        _word(numbers, salt), "-", _word(numbers, salt + 1), "-", pa.array(numbers % np.uint64(10**8)).cast(pa.string())
    )


def _spaced(numbers: Numbers, words: int) -> pa.Array:
    return pc.binary_join_element_wise(*(_word(numbers, 10 + place) for place in range(words)), " ")


def _join(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _hex(numbers: Numbers) -> pa.Array:
    """Return 32 random hex digits for each number, as md5 would."""
    halves = np.stack([shuffle_keys(numbers, 40), shuffle_keys(numbers, 41)], axis=1)
    digits = np.frombuffer(halves.tobytes().hex().encode(), np.uint8)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits))
