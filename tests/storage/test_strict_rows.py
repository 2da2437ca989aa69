"""Lists that people write: a row is one line with as many values as the header, in UTF-8, or the file is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.audit import labels
from laion_dask.audit.labels import LabelsError
from laion_dask.blocklists import known_lists, removal_ledger
from laion_dask.blocklists.known_lists import ListError
from laion_dask.blocklists.removal_ledger import RemovalsError
from laion_dask.filter.sampling import balance
from laion_dask.filter.sampling.balance import EntriesError
from laion_dask.group import evaluation_sets
from laion_dask.group.evaluation_sets import EvaluationError
from laion_dask.removals import removal_requests
from laion_dask.removals.removal_requests import RequestError
from laion_dask.storage import strict_rows
from laion_dask.storage.strict_rows import RowsError
from laion_dask.texts import keywords
from laion_dask.texts.keywords import KeywordError

MARK = b"\xef\xbb\xbf"
ENTRY = "5ec2e7"


def read(tmp_path: Path, content: bytes) -> list[tuple[int, list[str]]]:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with path.open("rb") as stream:
        header, rows = strict_rows.table(stream, path)
        return [(0, header), *rows]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", [(2, ["1", "2"])]),
        (b"a,b\n1,2", [(2, ["1", "2"])]),
        (MARK + b" a , b\r\n1,2\r\n", [(2, ["1", "2"])]),
        (b"a,b\n1,2\r\n3,4\n", [(2, ["1", "2"]), (3, ["3", "4"])]),
        (b'\n"a","b"\n\n"1,5","x ""y"""\n   \n,\n\n', [(4, ["1,5", 'x "y"'])]),
        (b"a,b\n=1,\t2\n", [(2, ["=1", "\t2"])]),
        ("a,b\nü,\u2028x\u0085\n".encode(), [(2, ["ü", "\u2028x\u0085"])]),
        (b"a,b\n", []),
    ],
)
def test_rows_come_with_the_numbers_of_their_lines(
    tmp_path: Path, content: bytes, expected: list[tuple[int, list[str]]]
) -> None:
    assert read(tmp_path, content) == [(0, ["a", "b"]), *expected]


@pytest.mark.parametrize("content", [b"", MARK, b"\n\n"])
def test_a_file_of_nothing_has_no_columns(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == [(0, [])]


WRONG = [
    (f'a,b\n1,2\n"{ENTRY},2\n3,4\n', 3, "a quote is not closed"),
    (f'a,b\n1,2\n"{ENTRY},2\n3,4"\n', 3, "a quote is not closed"),
    (f'a,b\n1,2\n"{ENTRY}\n",2\n', 3, "a quote is not closed"),
    (f'a,b\n1,2\n1,"{ENTRY}"x\n', 3, "text follows a closing one"),
    (f"a,b\n1,2\n1,{ENTRY}{'x' * 200_000}\n", 3, "field larger than 131,072 characters"),
    (f"a,b\n1,2\n{ENTRY},2,3\n", 3, "3 values, and the header has 2"),
    (f"a,b\n1,2\n{ENTRY}\n", 3, "1 values, and the header has 2"),
    (f"a,b\n1,2\n{ENTRY},2,\n", 3, "3 values, and the header has 2"),
    (f"a,b\n1,2\n{ENTRY}\r,2\n", 3, "a carriage return inside a line"),
    (f"a,b\n1,2\n{ENTRY}\0,2\n", 3, "a NUL byte"),
    (f"{ENTRY},{ENTRY}\n1,2\n", 1, "two columns have the same name, or none"),
    ("a,,\n1,2,3\n", 1, "two columns have the same name, or none"),
    (f"a,b\n1,2\n{ENTRY},ü\n".encode("latin-1"), 3, "no UTF-8"),
    (f"a,b\n{ENTRY},2\n".encode("utf-16"), 1, "UTF-16"),
    (f"a,b\n{ENTRY},2\n".encode("utf-16-le"), 1, "UTF-16"),
    (f"a,b\n{ENTRY},2\n".encode("utf-32"), 1, "UTF-16"),
]


@pytest.mark.parametrize(("content", "line", "message"), WRONG)
def test_what_could_swallow_or_move_a_row_is_refused_with_the_line_and_without_its_content(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    with pytest.raises(RowsError) as refused:
        read(tmp_path, content.encode() if isinstance(content, str) else content)
    told = str(refused.value)
    assert told.startswith(f"{tmp_path / 'rows.csv'}:{line}: ")
    assert message in told
    assert "Remedy: " in told
    assert ENTRY not in told
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_what_has_no_lines_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match=r"rows\.csv:2: the line is longer than 1 MiB"):
        read(tmp_path, b"a,b\n" + b"x" * (3 * strict_rows.MAX_LINE_BYTES))


@given(
    st.lists(st.sampled_from([b"a,b\n", b"1,2\r\n", b"\n", b"ab", "ü".encode(), b'"x, y",2\n', b"\r\n"]), max_size=30)
)
def test_lines_are_the_same_however_a_file_is_cut_into_blocks(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    expected = content.decode().replace("\r\n", "\n").removesuffix("\n").split("\n") if content else []
    with pytest.MonkeyPatch.context() as patched:
        for size in (1, 2, 3, 7, 1 << 20):
            patched.setattr(strict_rows, "_BLOCK_BYTES", size)
            assert list(lines_of(content)) == expected


def lines_of(content: bytes) -> Iterator[str]:
    import io

    return strict_rows.lines(io.BytesIO(content), Path("x"))


def _list(path: Path) -> None:
    known_lists.build(path, "md5", path.parent)


def _labels(path: Path) -> None:
    from made.versions.drawn_sample import SAMPLE

    labels.read([path], SAMPLE)


READERS: list[tuple[str, Callable[[Path], object], type[Exception], str]] = [
    ("removals.csv", removal_ledger.read, RemovalsError, "kind,value,reason,date,source\n"),
    ("requests.csv", lambda path: removal_requests.read_file(path, None), RequestError, "kind,value\n"),
    ("urls.txt", lambda path: removal_requests.read_file(path, "url"), RequestError, ""),
    ("known.csv", _list, ListError, "md5\n"),
    ("labels.csv", _labels, LabelsError, ",".join(labels.COLUMNS) + "\n"),
    ("entries.txt", balance.read_entries, EntriesError, ""),
    ("words.txt", keywords.read, KeywordError, ""),
    ("hashes.txt", lambda path: evaluation_sets.read([path]), EvaluationError, ""),
]


@pytest.mark.parametrize(("name", "reader", "error", "header"), READERS, ids=[name for name, *_ in READERS])
@pytest.mark.parametrize(
    ("encoded", "line", "message"),
    [
        (lambda text: (text + "ü").encode("latin-1"), None, "no UTF-8"),
        (lambda text: (text + "ü").encode("utf-16"), 1, "UTF-16"),
        (lambda text: (text + "x\0").encode(), None, "NUL byte"),
    ],
    ids=["latin-1", "utf-16", "nul"],
)
def test_every_reader_of_such_files_tells_another_encoding_with_the_line(
    tmp_path: Path,
    name: str,
    reader: Callable[[Path], object],
    error: type[Exception],
    header: str,
    encoded: Callable[[str], bytes],
    line: int | None,
    message: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(header))
    with pytest.raises(error, match=rf"{name}:{line or header.count(chr(10)) + 1}: .*{message}.* Remedy: "):
        reader(path)


@pytest.mark.parametrize(("name", "reader", "error", "header"), READERS, ids=[name for name, *_ in READERS])
def test_every_reader_of_such_files_takes_a_byte_order_mark_and_both_line_ends(
    tmp_path: Path, name: str, reader: Callable[[Path], object], error: type[Exception], header: str
) -> None:
    del error
    entry = "0" * 32 if name == "known.csv" else "0" * 64 if name == "hashes.txt" else "fox"
    text = header if "requests" in name or "removals" in name or "labels" in name else f"{header}{entry}\n"
    for content in (text.encode(), MARK + text.encode(), MARK + text.replace("\n", "\r\n").encode() + b"\n\r\n"):
        (tmp_path / name).write_bytes(content)
        reader(tmp_path / name)
