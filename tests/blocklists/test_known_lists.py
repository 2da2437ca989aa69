"""Lists as partners give them: read whole or refused by line; an index that is made once and answers as a set."""

from __future__ import annotations

import gzip
import hashlib
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.texts.listing import index

from laion_dask.blocklists import known_content, known_lists
from laion_dask.blocklists.known_index import Bytes, Index
from laion_dask.blocklists.known_lists import WIDTHS, ListError
from laion_dask.params.lists import HashList

KINDS = tuple(WIDTHS)


def entries(kind: str, count: int, seed: int = 1) -> list[str]:
    return [random.Random(f"{kind} {seed} {number}").randbytes(WIDTHS[kind]).hex() for number in range(count)]


def values(hexes: list[str]) -> Bytes:
    return np.frombuffer(bytes.fromhex("".join(hexes)), np.uint8).reshape(len(hexes), -1)


def written(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def compiled(path: Path, kind: str, **more: str) -> Index:
    entry = HashList.model_validate({"name": "partner", "kind": kind, "file": str(path), **more})
    return known_lists.compiled([entry], path.parent / "index")[0]


# Reading


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz", "list.csv", "list.CSV.gz"])
def test_a_list_of_any_kind_is_read_out_of_lines_and_csv_plain_and_packed(tmp_path: Path, kind: str, name: str) -> None:
    there, others = entries(kind, 300), entries(kind, 300, seed=2)
    if "csv" in name.lower():
        text = f"when,{kind},why\r\n" + "".join(f'2024,{entry},"a ""b"", c"\r\n' for entry in there)
    else:
        text = "".join(f"{entry}\n" for entry in there)
    found = compiled(written(tmp_path / name, text), kind)
    assert found.entries == 300
    assert found.find(values(there)).all()
    assert not found.find(values(others)).any()


@pytest.mark.parametrize(
    "text",
    [
        "{0}\n{1}\n",
        "{0}\n{1}",
        "{0}\r\n{1}\r\n",
        "\ufeff{0}\n{1}\n",
        "# of a partner\n\n  {0}  # note\n\t{1}\n",
        "{0}\n{1}\n{0}\n{1}\n",
        "{0}\n{0}\n{2}\n",
    ],
)
def test_comments_blanks_line_ends_and_repetitions_do_not_matter(tmp_path: Path, text: str) -> None:
    one, two = entries("md5", 2)
    found = compiled(written(tmp_path / "list", text.format(one, two, two.upper())), "md5")
    assert found.entries == 2
    assert found.find(values([two, "0" * 32, one])).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "entry", ["f" * 31, "f" * 33, "e" * 40, "z" * 32, "é" * 16, "f" * 15 + "  " + "f" * 15, "secret"]
)
@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.txt.gz"])
def test_a_bad_line_is_refused_with_file_and_line_and_the_entry_is_never_shown(
    tmp_path: Path, name: str, entry: str
) -> None:
    head = "md5" if "csv" in name else "# fine so far"
    path = written(tmp_path / name, f"{head}\n{'a' * 32}\n{entry}\n{'b' * 32}\n")
    with pytest.raises(ListError) as refused:
        compiled(path, "md5")
    assert str(refused.value) == f"{path}:3: no md5 in hex. Remedy: 32 hex digits per line, # before a comment"
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert not list((tmp_path / "index").glob("*/entries.json"))


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('md5,note\n{0},"see letter\u201d\n{1},ok\n', 2, "a quote is not closed"),
        ('md5,note\n{0},"see letter\u201d\n{1},"ok"\n', 2, "a quote is not closed"),
        ('md5,note\n{0},ok\n{1},"two\nlines"\n', 3, "a quote is not closed"),
        ("md5,note\n{0},ok\n{1},a,b\n", 3, "3 values, and the header has 2"),
        ("md5,note\n{0},ok\n{1}\n", 3, "1 values, and the header has 2"),
        ("note,md5\nok,{0}\nü,{1}", 3, "no UTF-8"),
        ("{0},ok\n{1},ok\n", 1, "an entry where the header should be"),
        ("{0}\n{1}\n", 1, "an entry where the header should be"),
        ("{0},{0}\n{1},{1}\n", 1, "two columns have the same name"),
    ],
)
def test_a_csv_that_could_lose_an_entry_is_refused_with_file_and_line_and_no_entry_is_shown(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    one, two = entries("md5", 2)
    path = written(tmp_path / "list.csv", text.format(one, two).encode("latin-1" if "ü" in text else "utf-8"))
    with pytest.raises(ListError) as refused:
        compiled(path, "md5")
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert told in str(refused.value)
    assert one[:8] not in str(refused.value)
    assert two[:8] not in str(refused.value)
    assert not list((tmp_path / "index").glob("*/entries.json"))


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_in_utf_16_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ListError, match=rf"{name}:1: cannot be read as UTF-8 \(UTF-16, perhaps\)"):
        compiled(written(tmp_path / name, f"md5\n{'a' * 32}\n".encode("utf-16")), "md5")


def test_the_list_that_ended_wrongly_is_refused(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "faults" / "known_url_md5_open_quote.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with pytest.raises(ListError, match=r"known_url_md5_open_quote\.csv:2: .* Remedy: "):
        known_lists.build(path, "url_md5", tmp_path)


def test_an_index_that_an_earlier_reader_made_of_a_list_is_made_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "list.csv", f"md5\n{'a' * 32}\n")
    how = f'[3, "{hashlib.sha256(path.read_bytes()).hexdigest()}", "md5", null, true]'
    stale = tmp_path / "index" / hashlib.sha256(how.encode()).hexdigest()[:32]
    stale.mkdir(parents=True)
    (stale / "entries.json").write_text("0\n")
    assert compiled(path, "md5").entries == 1


def test_the_line_is_right_after_many_good_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_lists, "_BLOCK_BYTES", 1000)
    path = written(tmp_path / "list", "".join(f"{entry}\n" for entry in entries("sha1", 500)) + "bad\n")
    with pytest.raises(ListError, match="list:501: no sha1 in hex"):
        compiled(path, "sha1")


def test_what_has_no_lines_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_lists, "_BLOCK_BYTES", 1000)
    with pytest.raises(ListError, match="list:1: no md5"):
        compiled(written(tmp_path / "list", "a" * 10_000), "md5")


@pytest.mark.parametrize(
    ("name", "content", "more", "message"),
    [
        (
            "list.csv",
            f"hash\n{'a' * 32}\n",
            {"column": "md5"},
            r"list\.csv:1: no column md5\. Remedy: `column` of the list",
        ),
        ("list.csv", f"a,b\n{'a' * 32},1\n", {}, r"list\.csv:1: no column md5"),
        ("list.csv", "", {}, r"list\.csv:1: no column md5"),
        ("list.txt", "", {"sha256": "0" * 64}, r"list\.txt has the sha256 e3b0c4\w+, but partner expects another"),
    ],
)
def test_a_list_that_is_not_what_it_should_be_is_refused(
    tmp_path: Path, name: str, content: str, more: dict[str, str], message: str
) -> None:
    with pytest.raises(ListError, match=message):
        compiled(written(tmp_path / name, content), "md5", **more)


def test_a_packed_list_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.gz"
    path.write_bytes(gzip.compress("".join(f"{entry}\n" for entry in entries("md5", 999)).encode())[:-100])
    with pytest.raises(ListError, match=r"list\.gz cannot be read \(EOFError\)\. Remedy: get the list again"):
        compiled(path, "md5")


@pytest.mark.parametrize("name", ["list.gz", "list.csv.gz"])
@pytest.mark.parametrize("place", [0, 30, -6])
def test_a_packed_list_that_is_damaged_is_refused(tmp_path: Path, name: str, place: int) -> None:
    packed = bytearray(
        gzip.compress("\n".join(["# md5" if name == "list.gz" else "md5", *entries("md5", 999)]).encode())
    )
    packed[place] ^= 0xFF
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(ListError, match=rf"{name}.* Remedy: "):
        compiled(tmp_path / name, "md5")


def test_a_missing_list_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"partner is .*none, which is missing\. Remedy: correct the path"):
        compiled(tmp_path / "none", "md5")


def test_an_index_is_made_once_and_again_when_the_list_changes(tmp_path: Path) -> None:
    one, two = entries("md5", 2)
    path = written(tmp_path / "list", f"{one}\n")
    first = compiled(path, "md5")
    made = (first.folder / "keys.bin").stat().st_mtime_ns
    assert compiled(path, "md5") == first
    assert (first.folder / "keys.bin").stat().st_mtime_ns == made
    written(path, f"{two}\n")
    second = compiled(path, "md5")
    assert second.folder != first.folder
    assert second.sha256 == hashlib.sha256(f"{two}\n".encode()).hexdigest()
    assert [found.find(values([one, two])).tolist() for found in (first, second)] == [[True, False], [False, True]]


def test_nobody_else_may_look_into_the_index(tmp_path: Path) -> None:
    found = index(tmp_path, "md5", *entries("md5", 3))
    assert [path.stat().st_mode & 0o077 for path in (found.folder, found.folder.parent)] == [0, 0]
    assert found.about() == {"kind": "md5", "sha256": found.sha256, "entries": 3}


# Answers

# Few values in the first bytes: many entries share their first word, and their band.
FEW = st.integers(0, 2).map(lambda number: bytes([number]))


def some(kind: str) -> st.SearchStrategy[bytes]:
    width = WIDTHS[kind]
    tied = st.tuples(FEW, st.binary(min_size=1, max_size=1)).map(lambda parts: parts[0] * (width - 1) + parts[1])
    return st.one_of(tied, st.binary(min_size=width, max_size=width))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pdq"])
def test_an_index_answers_as_a_set(tmp_path: Path, kind: str) -> None:
    @settings(deadline=None, max_examples=30)
    @given(st.lists(some(kind), max_size=60), st.lists(some(kind), max_size=30))
    def check(there: list[bytes], asked: list[bytes]) -> None:
        found = index(tmp_path, kind, *(entry.hex() for entry in there))
        assert found.entries == len(set(there))
        asked += there
        wanted = [value in set(there) for value in asked]
        got = found.find(np.frombuffer(b"".join(asked), np.uint8).reshape(len(asked), WIDTHS[kind]))
        assert got.tolist() == wanted

    check()


@pytest.mark.parametrize("distance", [0, 7, 15, 16, 31, 40])
def test_every_picture_within_the_distance_is_found_and_none_beyond(tmp_path: Path, distance: int) -> None:
    generator = np.random.default_rng(distance)
    there = generator.integers(0, 256, (400, 32), np.uint8)
    # Copies, each a number of flipped bits away: at random, and all in as few bands as hold them.
    asked = np.repeat(there[:60], 2, axis=0)
    bits = np.unpackbits(asked, axis=1)
    for row, flips in enumerate(generator.integers(max(0, distance - 3), distance + 4, len(bits))):
        places = generator.permutation(256) if row % 2 else np.arange(256)
        bits[row, places[:flips]] ^= 1
    asked = np.packbits(bits, axis=1)
    apart = np.array([[np.bitwise_count(one ^ other).sum() for other in there] for one in asked])
    wanted = (apart <= distance).any(axis=1)
    assert wanted.any()
    assert not wanted.all()
    found = index(tmp_path, "pdq", *(row.tobytes().hex() for row in there), distance=distance)
    assert found.find(asked).tolist() == wanted.tolist()


def test_an_empty_list_has_nothing(tmp_path: Path) -> None:
    for kind in KINDS:
        found = index(tmp_path, kind, "# nothing yet")
        assert found.entries == 0
        assert found.find(values(entries(kind, 2))).tolist() == [False, False]


URL = "http://a.example/b.jpg?c=1"


@pytest.mark.parametrize(
    ("listed", "asked", "expected"),
    [
        (URL, URL, True),
        (URL, f"{URL}#part", True),
        (f"{URL}#part", f"{URL}#part", True),
        (URL, URL.replace("http", "https"), True),
        (URL.replace("http", "https"), URL, True),
        (URL, f"{URL}&d", False),
        ("ftp://a.example/b", "ftp://a.example/b", True),
        ("http://é.example/ü", "http://é.example/ü", True),
        ("https://a.example./1.jpg", "http://a.example/1.jpg", True),
        ("https://a.example/1.jpg?", "http://a.example/1.jpg#top", True),
        ("http://a.example/1.jpg", "https://me@a.example.:443/x/../1.jpg?#top", True),
        ("http://me@a.example/%7e1.jpg", "http://me@a.example/%7e1.jpg", True),
        ("http://a.example/~1.jpg", "https://a.example/%7E1.jpg", True),
        ("http://a.example/%c3%a9.jpg", "https://a.example/é.jpg", True),
        ("http://bücher.example/é.jpg", "https://xn--bcher-kva.example/%C3%A9.jpg", True),
        ("http://a.example", "https://a.example/", True),
        ("http://a.example:8080/1.jpg", "http://a.example/1.jpg", False),
        ("http://a.example/1.jpg", "http://a.example/1.JPG", False),
    ],
)
def test_an_address_is_found_in_each_of_its_forms(tmp_path: Path, listed: str, asked: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    hashes = {kind: hashlib.new(kind, listed.encode()).hexdigest() for kind in ("md5", "sha1")}
    both = [index(tmp_path, f"url_{kind}", entry, name=kind) for kind, entry in hashes.items()]
    found = known_content.of_urls(both, ["http://other.example/", asked])
    assert {name: mask.tolist() for name, mask in found.items()} == {kind: [False, expected] for kind in hashes}


def test_rows_without_a_hash_are_on_no_list_and_each_list_is_told_apart(tmp_path: Path) -> None:
    one, two = entries("md5", 2)
    images = pa.table({"md5": [one, None, two], "sha256": pa.array([None, None, None], pa.string())})
    lists_ = [
        index(tmp_path, "md5", one, name="first"),
        index(tmp_path, "md5", one, two, name="second"),
        index(tmp_path, "sha256", *entries("sha256", 1), name="third"),
        index(tmp_path, "url_md5", one, name="addresses"),
    ]
    found = known_content.of_rows(lists_, images)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "first": [True, False, False],
        "second": [True, False, True],
        "third": [False, False, False],
    }
    assert known_content.columns(lists_) == ["md5", "sha256"]
    assert known_content.any_of(found, 3).tolist() == [True, False, True]
    counts = known_content.count(found, np.array([True, True, False]))
    assert known_content.total(lists_, [counts, counts]) == {"first": 2, "second": 2, "third": 0, "addresses": 0}
