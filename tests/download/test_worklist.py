"""Tables of any kind become work lists: every row once, in bounded pieces, hosts apart, hashes checked."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask import schema
from laion_dask.download import worklist
from laion_dask.download.worklist import ColumnNames, TableError, WorkListRules, cut
from laion_dask.web.urls import spacing

RED = {"url": "http://a.example/1,2.jpg", "text": 'a "red" fox,\tquick'}
BLUE = {"url": "https://é.example/x", "text": ""}
BAD = {"url": "no address", "text": "007"}
TABLES = {
    "t.csv": 'url,text\n"http://a.example/1,2.jpg","a ""red"" fox,\tquick"\nhttps://é.example/x,\nno address,007\n',
    "t.tsv": 'url\ttext\nhttp://a.example/1,2.jpg\t"a ""red"" fox,\tquick"\nhttps://é.example/x\t\nno address\t007\n',
    "t.jsonl": '{"url": "http://a.example/1,2.jpg", "text": "a \\"red\\" fox,\\tquick"}\n'
    '{"url": "https://é.example/x", "text": null}\n{"text": "007", "url": "no address"}\n',
}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, name: str, packed: bool) -> None:  # noqa: FBT001 - a case
    table = tmp_path / (f"{name}.gz" if packed else name)
    content = TABLES[name].encode()
    table.write_bytes(gzip.compress(content) if packed else content)
    assert cut([table], tmp_path / "out", WorkListRules(ColumnNames(), shard_rows=2, order="given")) == 3
    found = rows(tmp_path / "out")
    assert [{"url": row["url"], "text": row["text"]} for row in found] == [RED, BLUE, BAD]
    assert [row["host"] for row in found] == ["a.example", "xn--9ca.example", ""]
    assert [row["uid"] for row in found] == [
        hashlib.md5((row["text"] + row["url"]).encode()).hexdigest() for row in (RED, BLUE, BAD)
    ]


def test_a_text_has_a_url_a_line_and_empty_lines_are_none(tmp_path: Path) -> None:
    lines = ["http://a.example/1,2.jpg", "", '  http://b.example/"q\t.jpg', "http://c.example/\r", "x"]
    (tmp_path / "t.txt").write_bytes("\n".join(lines).encode())
    assert cut([tmp_path / "t.txt"], tmp_path / "out", WorkListRules(ColumnNames(), order="given")) == 4
    assert [row["url"] for row in rows(tmp_path / "out")] == [line.strip() for line in lines if line]


def test_uids_of_the_table_are_kept_and_missing_ones_made(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("uid,URL,TEXT\nabc,http://a.example/,x\n,http://b.example/,y\n")
    cut([tmp_path / "t.csv"], tmp_path / "out", WorkListRules(ColumnNames(), order="given"))
    assert [row["uid"] for row in rows(tmp_path / "out")] == ["abc", hashlib.md5(b"yhttp://b.example/").hexdigest()]


def test_hosts_are_spread_over_every_shard(tmp_path: Path) -> None:
    urls = [f"http://h{host}.example/{row}" for host in range(10) for row in range(100)]
    pq.write_table(pa.table({"url": urls}), tmp_path / "t.parquet")
    cut([tmp_path / "t.parquet"], tmp_path / "out", WorkListRules(ColumnNames(), shard_rows=500))
    for path in sorted((tmp_path / "out").glob("*.parquet")):
        hosts = pq.read_table(path)["host"].to_pylist()
        for host in set(hosts):
            share = hosts.count(host) / len(hosts)
            windows = (hosts[start : start + 50].count(host) for start in range(len(hosts) - 50))
            assert max(windows) <= -(-share * 50 // 1) + spacing.EXCESS


@settings(max_examples=15, deadline=None)
@given(
    urls=st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=20)),
    shard_rows=st.integers(1, 7),
    order=st.sampled_from(["spread", "given"]),
)
def test_no_row_vanishes_whatever_the_urls_are(
    tmp_path_factory: pytest.TempPathFactory, urls: list[str], shard_rows: int, order: worklist.Order
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    pq.write_table(pa.table({"url": pa.array(urls, pa.string())}), folder / "t.parquet")
    assert cut(
        [folder / "t.parquet"], folder / "out", WorkListRules(ColumnNames(), shard_rows=shard_rows, order=order)
    ) == len(urls)
    paths = sorted((folder / "out").glob("*.parquet"))
    sizes = [pq.read_metadata(path).num_rows for path in paths]
    assert all(size == shard_rows for size in sizes[:-1])
    assert [path.stem for path in paths] == [f"{number:05d}" for number in range(len(paths))]
    assert sorted(row["url"] for row in rows(folder / "out")) == sorted(urls)


@pytest.mark.parametrize(
    "box",
    [[0.6, 0.5, 0.1, 0.9], [10, 20, 30, 40], [0.1, 0.2, 0.3], [float("nan"), 0.2, 0.3, 0.4], [0.1, 0.2, None, 0.4]],
)
def test_boxes_of_another_form_are_refused_for_what_they_hide_would_be_seen(tmp_path: Path, box: list[Any]) -> None:
    boxes = pa.array([[[0.1, 0.2, 0.3, 0.4], box]], pa.list_(pa.list_(pa.float64())))
    pq.write_table(pa.table({"url": ["http://a.example/"], "b": boxes}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=r"column 'b' holds \[\[0.1, .* Remedy: for each box x1, y1, x2, y2 as shares"):
        cut([tmp_path / "t.parquet"], tmp_path / "out", WorkListRules(ColumnNames(boxes="b")))


def test_boxes_come_as_lists_or_as_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('url,b\nhttp://a.example/1,"[[0.1, 0.2, 0.3, 0.4]]"\nhttp://a.example/2,\n')
    cut([tmp_path / "t.csv"], tmp_path / "out", WorkListRules(ColumnNames(boxes="b"), order="given"))
    assert [row[worklist.BOXES] for row in rows(tmp_path / "out")] == [[[0.1, 0.2, 0.3, 0.4]], None]
    assert worklist.BOXES not in worklist.image_columns(pq.read_schema(tmp_path / "out" / "00000.parquet")).names


def test_a_table_of_two_types_is_refused(tmp_path: Path) -> None:
    for name, values in (("a", [1]), ("b", ["1"])):
        pq.write_table(pa.table({"url": ["http://a.example/"], "n": values}), tmp_path / f"{name}.parquet")
    with pytest.raises(TableError, match=r"column 'n' is BIGINT in .*a\.parquet, VARCHAR in .*b\.parquet"):
        cut(
            [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out", WorkListRules(ColumnNames(extra=("n",)))
        )


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a'b", "a\tb", "é", "c; --", "a b", "{}"])
@pytest.mark.parametrize("end", ["jsonl", "csv", "parquet"])
def test_a_column_may_have_any_name(tmp_path: Path, name: str, end: str) -> None:
    table, count = tmp_path / f"t.{end}", 30
    found = [{name: f"http://a.example/{number}", f"{name} 2": "x"} for number in range(count)]
    if end == "jsonl":
        table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    elif end == "csv":
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, found[0])
            writer.writeheader()
            writer.writerows(found)
    else:
        pq.write_table(pa.Table.from_pylist(found), table)
    cut([table], tmp_path / "out", WorkListRules(ColumnNames(url=name, extra=(f"{name} 2",)), order="given"))
    assert [(row["url"], row[f"{name} 2"]) for row in rows(tmp_path / "out")] == [(row[name], "x") for row in found]


def test_a_key_beyond_ascii_that_stands_twice_is_told_in_any_line(tmp_path: Path) -> None:
    lines = ['{"é": "http://a.example/1"}'] * 30 + ['{"é": "http://a.example/2", "é": "http://a.example/3"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    cut([tmp_path / "t.jsonl"], tmp_path / "out", WorkListRules(ColumnNames(url="é"), order="given"))
    assert "'é' stands twice" in rows(tmp_path / "out")[-1][worklist.FAULT]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("n", "n"), "column 'n' is named twice"),
        (("n", "N"), "column 'n' is named twice"),
        (("URL",), "a column 'URL' is written by the download itself"),
    ],
)
def test_columns_that_would_get_another_name_are_refused(tmp_path: Path, extra: tuple[str, ...], told: str) -> None:
    (tmp_path / "t.csv").write_text("address,n,N,URL\nhttp://a.example/,1,2,3\n")
    with pytest.raises(TableError, match=told):
        cut([tmp_path / "t.csv"], tmp_path / "out", WorkListRules(ColumnNames(url="address", extra=extra)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", b"PAR1 no"),
        ("t.jsonl", b'{"url": \n'),
        ("t.csv", b'url,text\n"a\n'),
        ("t.jsonl.gz", b"no gzip"),
        ("t.csv.gz", gzip.compress(b"url,text\n" + bytes(range(32, 120)) * 99)[:-9]),
    ],
)
def test_a_damaged_table_is_named_with_the_remedy(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=rf"{name} cannot be read: .* Remedy: fix the file"):
        cut([tmp_path / name], tmp_path / "out", WorkListRules(ColumnNames()))


@pytest.mark.parametrize("kind", worklist.HASH_CHARS.values())
def test_bytes_are_held_against_the_digest_that_its_length_tells(kind: str) -> None:
    assert worklist.as_expected(b"x", hashlib.new(kind, b"x").hexdigest())
    assert not worklist.as_expected(b"y", hashlib.new(kind, b"x").hexdigest())
    assert worklist.as_expected(b"x", None)


def test_the_columns_of_a_shard_are_those_of_the_stage_or_of_the_table() -> None:
    assert worklist.image_columns(schema.WORK.schema) == schema.IMAGES.schema
    own = pa.schema([(name, pa.string()) for name in ("uid", "url", "text", "host", worklist.EXPECTED_HASH)])
    names = worklist.image_columns(own.append(pa.field("similarity", pa.float64()))).names
    assert names[:4] == ["key", "uid", "url", "caption"]
    assert names[-1] == "similarity"
    assert not {"text", "wat", "split", worklist.EXPECTED_HASH} & set(names)
