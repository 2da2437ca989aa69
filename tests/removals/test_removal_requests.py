"""Requests for removal: what is good stands in the ledger once, what is not is refused whole, persons are not named."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.versions import tables
from typer.testing import CliRunner

from laion_dask.blocklists import removal_ledger
from laion_dask.cli.main import app
from laion_dask.removals import removal_requests
from laion_dask.removals.removal_requests import Request, RequestError

HEADER = "kind,value,reason,date,source\n"
DAY = date(2026, 3, 31)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters and an empty ledger, where the command runs."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "removals.csv").write_text(HEADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(removal_requests.SALT_FILE, raising=False)
    return tmp_path


def remove(*arguments: str, status: int = 0) -> str:
    told = CliRunner().invoke(app, ["remove", *arguments, "--reason", "asked for", "--source", "form 17"])
    assert told.exit_code == status, told.output
    return told.output


@pytest.mark.parametrize("name", ["com", "co.uk", "github.io", "s3.amazonaws.com", ".UK.", "xn--p1ai"])
def test_a_public_suffix_is_refused(project: Path, name: str) -> None:
    assert "this is a public suffix, and all names below it would be removed" in remove("domain", name, status=1)
    assert (project / "removals.csv").read_text() == HEADER


@pytest.mark.parametrize("name", ["a.co.uk", "someone.github.io", "takedown.example", "Bücher.de", "192.0.2.1"])
def test_a_name_that_somebody_registered_is_taken(project: Path, name: str) -> None:
    remove("domain", name)
    assert [line.kind for line in removal_ledger.read(project / "removals.csv")] == ["domain"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("host", "a.example"), "no such kind. Remedy: one of url, domain"),
        (("url", "a.example/1.jpg"), "Remedy: an absolute address"),
        (("url", "https://a.example/\nurl,https://b.example/"), "a line break in a value"),
        (("uid", "12"), "Remedy: 32 hex digits"),
        (("pdq", "0" * 63), "Remedy: 64 hex digits"),
        (("domain", "a.example,b.example"), "Remedy: the bare name"),
        (("url", '"https://a.example/1.jpg"'), "Remedy: an absolute address"),
        ((), "no value given. Remedy: `laion-dask remove KIND VALUE`, or --file PATH"),
    ],
)
def test_a_bad_request_is_refused_with_the_remedy_and_adds_nothing(
    project: Path, arguments: tuple[str, ...], told: str
) -> None:
    assert told in remove(*arguments, status=1)
    assert (project / "removals.csv").read_text() == HEADER


def test_of_many_values_one_bad_one_stops_all(project: Path) -> None:
    assert "1 refused: domain com" in remove("domain", "good.example", "com", status=1)
    assert (project / "removals.csv").read_text() == HEADER


def test_what_is_there_is_told_and_not_added_twice(project: Path) -> None:
    remove("url", "https://a.example/1.jpg")
    before = (project / "removals.csv").read_text()
    told = remove("url", "HTTPS://A.Example:443/x/../1.jpg", "https://a.example/2.jpg", "https://a.example/2.jpg")
    assert "already there: url https://a.example/1.jpg" in told
    assert "added 1 lines to removals.csv; 2 were there already" in told
    assert (project / "removals.csv").read_text().startswith(before)
    assert [line.value for line in removal_ledger.read(project / "removals.csv")] == [
        "https://a.example/1.jpg",
        "https://a.example/2.jpg",
    ]


@pytest.mark.parametrize("spelling", ["http://a.example/1.jpg", "https://me@a.example./%31.jpg?#top"])
def test_an_address_is_there_in_whatever_spelling(project: Path, spelling: str) -> None:
    remove("url", "https://a.example/1.jpg")
    assert "added 0 lines to removals.csv; 1 were there already" in remove("url", spelling)
    assert len(removal_ledger.read(project / "removals.csv")) == 1


def test_each_line_says_how_many_pairs_it_takes_in_every_spelling(project: Path) -> None:
    urls = [
        "https://a.example/1.jpg",
        "http://a.example/1.jpg#x",
        "https://me@a.example./1.jpg?",
        "https://a.example/2.jpg",
    ]
    rows = [{"url": url, "host": "a.example", "uid": tables.uid(place)} for place, url in enumerate(urls)]
    for folder, table in (
        ("extract/pairs", tables.pairs(*rows, rows[0])),
        ("download", tables.images(*({**row, "md5": "a" * 32} for row in rows))),
    ):
        (project / "data" / folder).mkdir(parents=True)
        tables.write(project / "data" / folder / "00000.parquet", table)
    told = remove("url", "http://A.example/1.jpg", "https://a.example/3.jpg", "--yes")
    assert "url http://a.example/1.jpg: 3 pairs, in every spelling" in told
    assert "url https://a.example/3.jpg: 0 pairs, in every spelling" in told
    assert "removes 3 of 4 pairs of the current version" in told
    remove("md5", "a" * 32, "--yes")
    counted = json.loads(remove("--count", "--json"))["lines"]
    assert [(line["kind"], line["pairs"]) for line in counted] == [("url", 3), ("url", 0), ("md5", 4)]
    assert "http://a.example/1.jpg" in remove("--count")


def test_an_address_of_any_length_is_added_and_read_back(project: Path) -> None:
    for chars in (2_700, 30_000):
        url = f"https://a.example/{'x' * chars}.jpg"
        assert "added 1 lines" in remove("url", url)
        assert removal_ledger.read(project / "removals.csv")[-1].value == url


def test_a_ledger_without_a_last_line_break_gets_one(project: Path) -> None:
    (project / "removals.csv").write_text(f"{HEADER}domain,a.example,,,")
    remove("domain", "b.example")
    assert [line.value for line in removal_ledger.read(project / "removals.csv")] == ["a.example", "b.example"]


def test_nothing_is_added_in_a_dry_run(project: Path) -> None:
    assert "would add 1 lines" in remove("domain", "b.example", "--dry-run")
    assert (project / "removals.csv").read_text() == HEADER


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", " +1", "@sum(1)", "-1", "'=1+1", "\uff1d1+1", "a\u202eb", "one\ntwo", "a\0b", " "]
)
def test_a_reason_or_source_that_is_more_than_words_is_refused(text: str) -> None:
    for request in (Request([("domain", "a.de")], text, "form"), Request([("domain", "a.de")], "asked", text)):
        with pytest.raises(RequestError, match="Remedy"):
            removal_requests.checked(request, DAY)


@pytest.mark.parametrize("text", ["write to jo@mail.example.com", "call +49 30 901820"])
def test_a_person_is_in_the_ledger_only_as_a_salted_hash(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    request = Request([("domain", "a.example")], "asked for", text)
    with pytest.raises(RequestError, match="set LAION_DASK_SALT_FILE to a file outside of the repository"):
        removal_requests.checked(request, DAY)
    with pytest.raises(RequestError, match="the reason names a person"):
        removal_requests.checked(Request(request.wanted, text, "mail"), DAY)
    salt = project / "salt"
    monkeypatch.setenv(removal_requests.SALT_FILE, str(salt))
    with pytest.raises(RequestError, match="LAION_DASK_SALT_FILE: No such file"):
        removal_requests.checked(request, DAY)
    salt.write_text("short")
    with pytest.raises(RequestError, match="fewer than 16 bytes"):
        removal_requests.checked(request, DAY)
    salt.write_text("a" * 32)
    (line,) = removal_requests.checked(request, DAY)
    assert line.source.startswith("hmac-sha256:")
    assert text not in str(line)
    assert removal_requests.pseudonym(text.upper() + " ") == line.source
    salt.write_text("b" * 32)
    assert removal_requests.pseudonym(text) != line.source


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("# asked for\nhttps://a.example/1\n\n b \n", "url", [("url", "https://a.example/1"), ("url", "b")]),
        ('\ufeffkind,value\nurl,"https://a.example/1,2"\n', None, [("url", "https://a.example/1,2")]),
        ("value, kind ,note\na.example,domain,x\n", None, [("domain", "a.example")]),
    ],
)  # fmt: skip
def test_a_file_is_csv_or_one_value_a_line(
    tmp_path: Path, text: str, kind: str | None, expected: list[tuple[str, str]]
) -> None:
    (tmp_path / "many").write_text(text, encoding="utf-8")
    assert removal_requests.read_file(tmp_path / "many", kind) == expected


def test_a_file_that_says_no_kind_or_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "many").write_text("https://a.example/1\n")
    with pytest.raises(RequestError, match=r"has no columns kind and value. Remedy: name the kind"):
        removal_requests.read_file(tmp_path / "many", None)
    (tmp_path / "many").write_bytes(b"\xff\xfe\0")
    with pytest.raises(RequestError, match=r"cannot be read .* Remedy: a text file in UTF-8"):
        removal_requests.read_file(tmp_path / "many", "url")


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        (
            'kind,value\nurl,"https://a.example/1\nurl,https://a.example/2\n',
            (),
            "many:2: cannot be read as CSV: a quote",
        ),
        (
            'kind,value,note\nurl,https://a.example/1,"x\nurl,https://a.example/2,"\n',
            (),
            "many:2: cannot be read as CSV",
        ),
        ("kind,value\nurl,https://a.example/a,b.jpg\n", (), "many:2: 3 values, and the header has 2"),
        ("kind,value\nurl\n", (), "many:2: 1 values, and the header has 2"),
        ("kind,value,value\nurl,https://a.example/1,x\n", (), "many:1: two columns have the same name"),
        ("Kind,Value\nurl,https://a.example/1\n", ("domain",), "Remedy: kind,value in lower case, with commas"),
        ("kind;value\nurl;https://a.example/1\n", ("url",), "Remedy: kind,value in lower case, with commas"),
        (
            "kind,value\ndomain,good.example\n\ndomain,co.uk\n",
            (),
            "many:4: domain co.uk: Remedy: a registered domain; this is a public suffix",
        ),
        ("https://a.example/1\n# a note\n'https://a.example/2\n", ("url",), "many:3: url 'https://a.example/2: Remedy"),
        ("url\nhttps://a.example/1\n", ("url",), "many:1: url url: Remedy: an absolute address"),
        (
            "https://a.example/1 # asked\n",
            ("url",),
            "many:1: url https://a.example/1 # asked: Remedy: an address without",
        ),
        ("https://a.example/1,https://a.example/2\n", ("url",), "Remedy: one address in each line"),
        ("https://a.example/1\rhttps://a.example/2\r", ("url",), "many:1: a carriage return inside a line"),
    ],
)
def test_a_file_that_could_be_read_in_two_ways_is_refused_with_its_line_and_adds_nothing(
    project: Path, text: str, arguments: tuple[str, ...], told: str
) -> None:
    (project / "many").write_bytes(text.encode())
    assert told in remove(*arguments, "--file", "many", status=1)
    assert (project / "removals.csv").read_text() == HEADER


def test_lines_are_added_only_where_the_ledger_gives_them_back(project: Path) -> None:
    ledger = project / "removals.csv"
    for value in ("b.example", "c.example"):
        with pytest.raises(RequestError, match=r"removals\.csv does not have the lines .*Nothing was added"):
            removal_requests.add(
                ledger, [removal_ledger.Removal("domain", value.upper(), "asked", "2026-03-31", "form")]
            )
    assert ledger.read_text() == HEADER
    ledger.write_text(f'{HEADER}domain,a.example,"open,,\n')
    before = ledger.read_bytes()
    assert "removals.csv:2: cannot be read as CSV: a quote is not closed" in remove("domain", "b.example", status=1)
    assert ledger.read_bytes() == before
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "removals.csv"]


def test_a_ledger_behind_a_link_stays_one_and_keeps_its_mode(project: Path) -> None:
    (project / "kept").mkdir()
    ledger = (project / "removals.csv").rename(project / "kept" / "ledger.csv")
    ledger.chmod(0o640)
    (project / "removals.csv").symlink_to(ledger)
    remove("domain", "b.example")
    assert (project / "removals.csv").is_symlink()
    assert ledger.stat().st_mode & 0o777 == 0o640
    assert [line.value for line in removal_ledger.read(ledger)] == ["b.example"]


@pytest.mark.slow
def test_of_many_writers_at_once_none_loses_a_line(project: Path) -> None:
    command = [sys.executable, "-c", WRITER]
    writers = [programs.start([*command, str(number)], cwd=project) for number in range(4)]
    said = [programs.ended(writer) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, said
    assert len({line.value for line in removal_ledger.read(project / "removals.csv")}) == 4 * 25


WRITER = """
import sys
from pathlib import Path
from laion_dask.removals import removal_requests
from laion_dask.blocklists.removal_ledger import Removal
for number in range(25):
    name = f"h{sys.argv[1]}-{number}.example"
    removal_requests.add(Path("removals.csv"), [Removal("domain", name, "asked", "2026-03-31", "form")])
"""


@pytest.mark.slow
def test_a_hundred_thousand_addresses_are_added_in_seconds(project: Path) -> None:
    (project / "many").write_text(
        "".join(f"https://h{number % 999}.example/{number}.jpg\n" for number in range(100_000))
    )
    began = time.process_time()
    assert "added 100,000 lines" in remove("url", "--file", "many")
    # It takes three seconds of processor time; the bound is against what would take minutes.
    assert time.process_time() - began < 60
    assert len(removal_ledger.read(project / "removals.csv")) == 100_000
