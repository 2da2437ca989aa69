"""Text tables of URLs in: every line a row or a row with a fault that names its line; no line changes another."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.download import url_rows, worklist
from laion_dask.download.worklist import ColumnNames, TableError, WorkListRules, cut

URL = "https://a.example/1.jpg"
FILLER = 25  # the first lines are read with all of their keys, later ones quickly: cases stand behind them


def rows_of(folder: Path, name: str, content: bytes, asked: ColumnNames | None = None) -> list[dict[str, Any]]:
    """Cut one table in its own order, and return the rows of its work lists."""
    table, out = folder / name, folder / "out"
    table.write_bytes(content)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cut([table], out, WorkListRules(asked or ColumnNames(), order="given"))
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def refusal(folder: Path, name: str, content: bytes, asked: ColumnNames | None = None) -> str:
    """Return the message with which a table is refused."""
    with pytest.raises(TableError) as caught:
        rows_of(folder, name, content, asked)
    return str(caught.value)


def lines(*objects: object) -> bytes:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in objects).encode()


# JSON lines


@pytest.mark.parametrize("before", [0, FILLER])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x"', "x"), ('""', ""), ("null", ""), ('"\\u00e9\\ud83e\\udd8a"', "é🦊"), ('"\\ud83e cut"', "\ufffd cut"),
        ('"a\\nb\\u0000c"', "a\nb\0c"), ("5", "5"), ("-0.50", "-0.50"), ("1e3", "1e3"),
        ("true", "true"), ("false", "false"),
        ("12345678901234567890123", "12345678901234567890123"), ('"\\"quoted\\""', '"quoted"'), ('"5"', "5"),
    ],
)  # fmt: skip
def test_a_caption_is_the_text_as_it_is_and_no_other_caption_changes(
    tmp_path: Path, value: str, text: str, before: int
) -> None:
    odd = f'{{"url": "{URL}", "caption": {value}}}'
    plain = {"url": URL, "caption": 'a "red" fox'}
    found = rows_of(tmp_path, "t.jsonl", lines(*[plain] * before, odd, plain))
    assert [row["text"] for row in found] == ['a "red" fox'] * before + [text, 'a "red" fox']
    assert all(row[worklist.FAULT] is None and row["url"] == URL for row in found)


@pytest.mark.parametrize("before", [0, FILLER])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"url": "u", "text": ["a", "b"]}', r"'text' is no text, but \[\"a\", \"b\"\]"),
        ('{"url": "u", "text": {"en": 1.50}}', r"'text' is no text, but {\"en\": 1.50}"),
        ('{"url": ["https://a.example/1.jpg"]}', r"'url' is no text, but \[\"https"),
        ('{"url": 5, "text": "x"}', "'url' is no text, but 5"),
        ('{"url": true}', "'url' is no text, but true"),
        ('{"url": "u"', "no JSON: "),
        ('{"url": "u"} {"url": "v"}', "no JSON: Extra data"),
        ('{"url": "u", "text": NaN}', "no JSON: NaN"),
        ("{'url': 'u'}", "no JSON: "),
        ('{"url": "a\tb"}', "no JSON: Invalid control character"),
        ('"url"', "no object"),
        ("null", "no object"),
        ('[{"url": "u"}]', "a list, not an object"),
        ("[" * 100_000, "no JSON: "),
        ('{"url": "u", "text": "x", "url": "v"}', "the key 'url' stands twice"),
        ('{"url": "u", "\\u0075rl": "v"}', "the key 'url' stands twice"),
        ('{"url": "u", "text": "x", "text": null}', "the key 'text' stands twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_row_with_its_fault(tmp_path: Path, line: str, fault: str, before: int) -> None:
    good = {"url": URL, "text": "x"}
    found = rows_of(tmp_path, "t.jsonl", lines(*[good] * (before + 1), line, good))
    assert [row[worklist.FAULT] is None for row in found] == [True] * (before + 1) + [False, True]

    assert re.search(rf"^t\.jsonl, line {before + 2}: {fault}", found[before + 1][worklist.FAULT])
    assert [row["url"] for row in found if row[worklist.FAULT] is None] == [URL] * (before + 2)


def test_bytes_that_are_no_utf_8_are_a_fault_of_their_line(tmp_path: Path) -> None:
    good = lines({"url": URL, "text": "é"})
    for before in (1, FILLER):
        found = rows_of(tmp_path, "t.jsonl", good * before + b'{"url": "u", "text": "\xff"}\n' + good)
        assert found[before][worklist.FAULT] == f"t.jsonl, line {before + 1}: the line is no UTF-8"
        assert found[-1]["text"] == "é"


def test_a_key_that_comes_first_after_many_rows_is_read(tmp_path: Path) -> None:
    count = 25_000
    table = lines({"url": URL}) * count + lines({"url": URL, "caption": "late"}, {"url": URL, "more": {"a": 1}})
    found = rows_of(tmp_path, "t.jsonl", table)
    assert len(found) == count + 2
    assert [row["text"] for row in found[-3:]] == ["", "late", ""]


def test_a_table_whose_addresses_come_late_is_read(tmp_path: Path) -> None:
    found = rows_of(tmp_path, "t.jsonl", lines(*[{"text": "x"}] * 30, {"url": URL}))
    assert [row["url"] for row in found] == [""] * 30 + [URL]


@pytest.mark.parametrize(
    "form",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\n\n \t\n\r\n"),
        lambda data: data.rstrip(b"\n"),
        lambda data: b"\n\n" + data,
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last line end", "blank lines first"],
)
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.txt"])
@pytest.mark.parametrize("pack", ["", "gz", "gz in two members", "zst", "zst in two frames"])
def test_how_lines_end_and_how_the_file_is_packed_changes_nothing(
    tmp_path: Path, form: Callable[[bytes], bytes], name: str, pack: str
) -> None:
    tables = {
        "t.jsonl": lines({"url": URL, "text": "é, x"}, {"url": URL + "?2", "text": ""}),
        "t.csv": f'url,text\n{URL},"é, x"\n{URL}?2,\n'.encode(),
        "t.tsv": f"url\ttext\n{URL}\té, x\n{URL}?2\t\n".encode(),
        "t.txt": f"{URL}\n{URL}?2\n".encode(),
    }
    data = form(tables[name])
    if name == "t.tsv":
        # There a tab is no blank, but ends a field.
        data = data.replace(b"\n \t\n", b"\n  \n")
    if pack.startswith("gz"):
        pieces = [data[:20], data[20:]] if "two" in pack else [data]
        data, name = b"".join(map(gzip.compress, pieces)), f"{name}.gz"
    elif pack:
        pieces = [data[:20], data[20:]] if "two" in pack else [data]
        data, name = b"".join(pa.Codec("zstd").compress(piece).to_pybytes() for piece in pieces), f"{name}.ZST"
    found = rows_of(tmp_path, name, data)
    assert [row["url"] for row in found] == [URL, f"{URL}?2"]
    assert [row["text"] for row in found] == ["" if ".txt" in name else "é, x", ""]
    assert all(row[worklist.FAULT] is None for row in found)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.txt"])
def test_other_encodings_than_utf_8_are_refused_with_the_remedy(tmp_path: Path, encoding: str, name: str) -> None:
    message = refusal(tmp_path, name, '{"url": "https://a.example/"}\n'.encode(encoding))
    assert "Remedy: iconv -f UTF-16 -t UTF-8" in message


def test_a_line_too_long_is_a_fault_and_the_next_one_is_read(tmp_path: Path) -> None:
    long = b'{"url": "' + b"x" * (2 * url_rows.MAX_LINE_BYTES) + b'"}\n'
    good = lines({"url": URL, "text": "y" * 1_000_000})
    found = rows_of(tmp_path, "t.jsonl", good + long + good)
    assert [row[worklist.FAULT] is None for row in found] == [True, False, True]
    assert "line 2: the line is longer than 4,194,304 bytes" in found[1][worklist.FAULT]
    assert len(found[2]["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b"[\n" + lines({"url": URL}).rstrip() + b",\n" + lines({"url": URL}) + b"]\n", ""),
        ("t.jsonl", b"<html>\n</html>\n", "none of its 2 rows can; t.jsonl, line 1: no JSON"),
        ("t.jsonl", lines([{"url": URL}]), "a list, not an object (jq -c '.[]' makes lines of it)"),
        ("t.jsonl", lines({"url": [URL]}, {"url": [URL]}), "none of its 2 rows can; t.jsonl, line 1: 'url' is no text"),
        ("t.jsonl", lines({"link": URL, "caption": "x"}), "has no column url, but link, caption"),
        ("t.jsonl", b"", "has no column url, but none at all"),
        ("t.csv", b"url,text\na\nb\n", "none of its 2 rows can; t.csv, line 2: the row has 1 fields, the header has 2"),
        ("t.csv", b"link,text\na,b\n", "has no column url, but link, text"),
        ("t.jsonl", b"\n \n", "has no column url, but none at all"),
        ("t.csv", b"url,text,url\na,b,c\n", "has two columns 'url'. Remedy: rename one"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    if not words:
        # The brackets of a list over several lines are faults, and each object with a comma behind it too.
        assert [row[worklist.FAULT] is None for row in rows_of(tmp_path, name, content)] == [False, False, True, False]
        return
    assert words in refusal(tmp_path, name, content)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "2"], pa.int64(), [1, 2]),
        (["1", "2.5"], pa.float64(), [1.0, 2.5]),
        (["1", "null"], pa.int64(), [1, None]),
        (["true", "false"], pa.bool_(), [True, False]),
        (['"007"', '"a"'], pa.string(), ["007", "a"]),
        (["1", '"a"'], pa.string(), ["1", "a"]),
        (["1", "true"], pa.string(), ["1", "true"]),
        (["[1, 2.50]", '{"a": "b"}'], pa.string(), ["[1, 2.50]", '{"a": "b"}']),
        (["1", "99999999999999999999"], pa.string(), ["1", "99999999999999999999"]),
        (["1.5", "1e999"], pa.string(), ["1.5", "1e999"]),
    ],
)
@pytest.mark.parametrize("before", [0, FILLER])
def test_a_further_column_has_the_type_that_all_of_its_values_have(
    tmp_path: Path, values: list[str], kind: pa.DataType, expected: list[Any], before: int
) -> None:
    table = lines(*[{"url": URL}] * before, *(f'{{"url": "{URL}", "n": {value}}}' for value in values))
    found = rows_of(tmp_path, "t.jsonl", table, ColumnNames(extra=("n",)))
    assert [row["n"] for row in found][before:] == expected
    assert pq.read_schema(tmp_path / "out" / "00000.parquet").field("n").type == kind


def test_boxes_and_hashes_come_out_of_lines_too(tmp_path: Path) -> None:
    first = {"url": URL, "b": [[0.1, 0.2, 0.3, 0.4]], "h": "AB" * 16}
    found = rows_of(tmp_path, "t.jsonl", lines(first, {"url": URL, "b": None}), ColumnNames(boxes="b", hash="h"))
    assert [row[worklist.BOXES] for row in found] == [[[0.1, 0.2, 0.3, 0.4]], None]
    assert [row[worklist.EXPECTED_HASH] for row in found] == ["ab" * 16, None]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"url": st.text(st.characters(exclude_categories=["Cs"]), max_size=12)},
            optional={
                "text": st.none() | st.text(max_size=8) | st.integers() | st.booleans() | st.lists(st.text(max_size=2)),
                "uid": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4),
            },
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_each_line_stands_for_itself(
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[dict[str, Any]],
    ascii_only: bool,  # noqa: FBT001
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    content = "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in [*objects, {"url": URL, "text": "x"}])
    found = rows_of(folder, "t.jsonl", content.encode("utf-8", "replace"))
    for one, row in zip(objects, found, strict=False):
        text = one.get("text")
        if isinstance(text, list):
            assert "'text' is no text" in row[worklist.FAULT]
        else:
            written = "" if text is None else text if isinstance(text, str) else json.dumps(text)
            assert (
                row["text"] == written.encode("utf-16", "surrogatepass").decode("utf-16", "replace") or not ascii_only
            )
            assert row[worklist.FAULT] is None
        assert row["url"] == one["url"]
        assert "uid" not in one or row["uid"] == one["uid"]


# CSV and TSV


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.csv", 'url,text\nhttp://a/1,x\n"http://a/2,y\nhttp://a/3,z\n', 3),
        ("t.csv", 'url,text\nhttp://a/1,x\nhttp://a/2,"y\nhttp://a/3,z\n', 3),
        ("t.csv", 'url,text\n"http://a/1,x\nhttp://a/2,y\n"http://a/3",z\n', 2),
        ("t.csv", 'url,text\n"http://a/1,x\nhttp://a/2","y"\nhttp://a/3,z\n', 2),
        ("t.csv", 'text,url\n"x,http://a/1\ny,http://a/2\n"\nz,http://a/3\n', 2),
        ("t.csv", 'url,text\nhttp://a/1,"x" y\n', 2),
        ("t.csv", '\n\nurl,text\n\nhttp://a/1,x\n\n"http://a/2,x\n', 7),
        ("t.csv", 'url,text\nhttp://a/1,"' + "x" * 200_000 + '"\n', 2),
        ("t.csv", 'url,text\nhttp://a/1,"' + "word\n" * 100_000 + '"\n', 2),
        ("t.tsv", 'url\ttext\nhttp://a/1\t"x\nhttp://a/2\ty\n', 2),
    ],
)
def test_a_quote_that_stays_open_is_refused_with_its_line(tmp_path: Path, name: str, content: str, line: int) -> None:
    message = refusal(tmp_path, name, content.encode())
    assert f"{name} cannot be read: in the row that begins in line {line}, " in message
    assert "Remedy: fix the file: close every quote" in message


def test_rows_with_other_numbers_of_fields_are_rows_with_a_fault(tmp_path: Path) -> None:
    content = f"url,text\n{URL},a\n{URL}\n{URL},b,c\n,\n{URL},\n"
    found = rows_of(tmp_path, "t.csv", content.encode())
    assert [row[worklist.FAULT] for row in found] == [
        None,
        "t.csv, line 3: the row has 1 fields, the header has 2",
        "t.csv, line 4: the row has 3 fields, the header has 2",
        None,
        None,
    ]
    assert [row["url"] for row in found] == [URL, "", "", "", URL]


def test_captions_may_go_over_lines_and_numbers_stay_as_written(tmp_path: Path) -> None:
    content = f'url,text,n\r\n{URL},"two\r\nlines, ""q""",007\r\n{URL},5\' tall "x",1.50\r\n'
    found = rows_of(tmp_path, "t.csv", content.encode(), ColumnNames(extra=("n",)))
    assert [row["text"] for row in found] == ['two\r\nlines, "q"', '5\' tall "x"']
    assert [row["n"] for row in found] == ["007", "1.50"]


def test_bytes_that_are_no_utf_8_in_csv_are_a_fault_of_their_row(tmp_path: Path) -> None:
    content = f"url,text,o\n{URL},é,\n{URL},\xff,\n{URL},b,\xff\n".encode().replace("\xff".encode(), b"\xff")
    found = rows_of(tmp_path, "t.csv", content)
    # A column that is not taken does not matter.
    assert [row[worklist.FAULT] for row in found] == [None, "t.csv, line 3: column 'text' is no UTF-8", None]


# Parquet


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"url": pa.array([[URL]])}, "column 'url' is VARCHAR[], not text"),
        ({"url": pa.array([5])}, "column 'url' is BIGINT, not text"),
        ({"url": pa.array([URL.encode()])}, "column 'url' is BLOB, not text"),
        ({"url": pa.array([{"a": URL}])}, "column 'url' is STRUCT"),
        ({"url": pa.array([URL]), "text": pa.array([["a"]])}, "column 'text' is VARCHAR[], not text"),
        ({"url": pa.array([URL]), "text": pa.array([b"a"])}, "column 'text' is BLOB, not text"),
        ({"url": pa.array([URL]), "uid": pa.array([[1]])}, "column 'uid' is BIGINT[], not text"),
    ],
)
def test_a_column_of_another_type_than_text_is_refused_with_it(
    tmp_path: Path, columns: dict[str, pa.Array], words: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    message = refusal(tmp_path, "t.parquet", (tmp_path / "x.parquet").read_bytes())
    assert words in message
    assert "Remedy: " in message


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_of_every_kind_are_read_and_numbers_as_captions_too(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"url": pa.array([URL, None], pa.string()).cast(kind), "text": pa.array([5, None])})
    pq.write_table(table, tmp_path / "x.parquet")
    found = rows_of(tmp_path, "t.parquet", (tmp_path / "x.parquet").read_bytes())
    assert [(row["url"], row["text"], row[worklist.FAULT]) for row in found] == [(URL, "5", None), ("", "", None)]


@pytest.mark.parametrize("stem", ["a[1]", "b*", "c?", "d{1,2}", "it's", "e f", "~", "$HOME", "[a-z]*[!x]"])
@pytest.mark.parametrize("end", ["parquet", "csv", "jsonl", "txt"])
def test_a_path_that_exists_is_taken_literally(tmp_path: Path, stem: str, end: str) -> None:
    folder = tmp_path / "runs[2]*"
    folder.mkdir()
    for other in ("a1", "bx", "cx", "d1", "d2", "x"):
        (folder / f"{other}.{end}").write_text("no table at all")
    content = {"csv": f"url\n{URL}\n", "jsonl": f'{{"url": "{URL}"}}\n', "txt": f"{URL}\n"}.get(end, "").encode()
    if end == "parquet":
        pq.write_table(pa.table({"url": [URL]}), tmp_path / "x.parquet")
        content = (tmp_path / "x.parquet").read_bytes()
    assert [row["url"] for row in rows_of(folder, f"{stem}.{end}", content)] == [URL]


# The faults that were found


def test_tables_that_ended_wrongly_once_end_rightly(shared_data: Path, tmp_path: Path) -> None:
    faults = shared_data / "faults"
    found = rows_of(tmp_path, "t.jsonl", (faults / "mixed_types.jsonl").read_bytes())
    assert [(row["url"], row["text"]) for row in found] == [
        *((URL, text) for text in ("x", "5", "")),
        ("", ""),
    ]
    assert [row[worklist.FAULT] for row in found] == [
        *(None, None),
        't.jsonl, line 3: \'caption\' is no text, but ["a", "b"]',
        None,
    ]
    message = refusal(tmp_path, "t.parquet", (faults / "url_list.parquet").read_bytes())
    assert "column 'url' is VARCHAR[], not text. Remedy: " in message
