"""Texts of the web and of files reach no terminal with what could steer it, and no table as a formula."""

from __future__ import annotations

import ast
import csv
import io
import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from made.places import ROOT
from rich.console import Console
from typer.testing import CliRunner

from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.cli import console
from laion_dask.cli import why as cli_why
from laion_dask.cli.main import app
from laion_dask.download.rates import DownloadRates
from laion_dask.runner.progress import Progress
from laion_dask.storage import printable, sheets
from laion_dask.versions import why

HOSTILE = "a\x1b[2J\x1b]0;t\x07\r\x9b31m\u202egnp.1\u2066\u200b\u2028[red]b"
HARMLESS = r"a\x1b[2J\x1b]0;t\x07\r\x9b31m\u202egnp.1\u2066\u200b\u2028[red]b"
# Signs of Arabic, Syriac and Kaithi that stand for something, though Unicode counts them among format characters.
VISIBLE = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}


def test_every_control_and_hidden_character_is_written_out_and_nothing_else_of_a_text() -> None:
    for number in range(sys.maxunicode + 1):
        character, category = chr(number), unicodedata.category(chr(number))
        steers = category in {"Cc", "Cf", "Cs", "Zl", "Zp"} and number not in VISIBLE and character not in "\t\n"
        shown = printable.plain(character)
        assert not steers or (shown.isascii() and shown.isprintable() and len(shown) > 1), hex(number)
        if category[0] in "LNPSM" and not unicodedata.name(character, "").endswith(
            ("FILLER", "JOINER", "SELECTOR ONE", "SELECTOR TWO", "SELECTOR THREE", "SELECTOR FOUR")
        ):
            assert shown == character or number in {0x17B4, 0x17B5} or number >= 0xE0000, hex(number)
    assert printable.plain(HOSTILE) == HARMLESS
    assert printable.line("a\nb\tc") == "a\\nb\tc"
    assert printable.plain("Größe: 狐 \N{FOX FACE}, ca. 5 €\n") == "Größe: 狐 \N{FOX FACE}, ca. 5 €\n"


def test_what_the_commands_print_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(HOSTILE)
    rows = console.table(f"title {HOSTILE}", HOSTILE)
    rows.add_row(HOSTILE)
    console.console().print(rows)
    console.console().print(HOSTILE)
    with pytest.raises(typer.Exit):
        console.fail(HOSTILE)
    out, err = capsys.readouterr()
    assert out.count(HARMLESS) == 5
    assert err == f"{HARMLESS}\n"
    assert printable.plain(out + err) == out + err


def pair(**more: object) -> why.PairHistory:
    said = why.InVersion(
        "v1", "1", known=True, member=False, stage="download", reason="robots", evidence={"x": HOSTILE}
    )
    place = dict.fromkeys(("page_url", "page_date", "url", "crawl", "wat", "text"), f"{HOSTILE}\nfalse")
    fields: dict[str, Any] = {
        "uid": "0" * 32,
        "removed": False,
        "uid_sha256": "",
        "since": "",
        "ledger": (),
        "versions": (said,),
    }
    return why.PairHistory(**{**fields, "found": ({**place, "record_offset": 1},), **more})


def test_why_tells_evidence_texts_and_reasons_in_one_line_each_and_without_steering(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = Removal("url", "https://a.example/", f"{HOSTILE}\nfalse", "2026-01-01")
    cli_why._print(why.Explanation({}, (line,), (pair(), pair(removed=True, found=(), ledger=(line,)))))  # noqa: SLF001
    out = capsys.readouterr().out
    assert printable.plain(out) == out
    assert not [told for told in out.splitlines() if told.startswith("false")]
    assert out.replace("\n", "").count("gnp.1") >= 5


def test_the_progress_of_a_download_shows_hosts_as_they_are_and_never_steers() -> None:
    progress = Progress("download", "images", DownloadRates())
    counts = {"images": {"seen": 1, "kept": 1, "dropped": {}}, "bytes": 1}
    for host in ("[fe80::1]", f"h{HOSTILE}"):
        progress.finish("00000", 1, {**counts, "slow": [{"host": host, "seconds": 1.0, "tries": 1}]})
    assert "[fe80::1]" in printable.line(progress.line())
    assert HARMLESS in printable.line(progress.line())


def test_a_file_with_escapes_in_it_is_refused_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "removals.csv").write_text("kind,value,reason,date,source\n")
    (tmp_path / "many").write_text(f"kind,value\nurl,{HOSTILE.replace(chr(13), '')}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["remove", "--file", "many", "--reason", "r", "--source", "s"])
    assert told.exit_code == 1
    assert r"many:2: url a\x1b[2J" in told.output
    assert printable.plain(told.output) == told.output


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "typer.echo",
            "print",
            "sys.stderr.write",
            "Console",
        }:
            yield node


def test_nothing_is_printed_past_the_place_that_makes_it_harmless() -> None:
    direct = []
    paths = [*(ROOT / "laion_dask").rglob("*.py"), *(ROOT / "workflow").glob("*.py")]
    for path in paths:
        for call in calls(path):
            text = ast.unparse(call)
            if path.as_posix().endswith("cli/console.py") or "printable." in text or "typer.style" in text:
                continue
            direct.append(f"{path.name}: {text}")
    # What these print are words and numbers of ours.
    allowed = (
        "progress.py: Console(",
        "verify.py: Console(",
        "against_lock.py: Console(",
        "stage.py: print(summary(",
        "replay.py: print(line",
        "hub.py: sys.stderr.write",
        *(f"{name}.py: typer.echo(" for name in ("faces", "train")),  # of the demo's models
        "purge_scan.py: print(f'{self._what}",
        "run.py: print(line",
        "program.py: sys.stderr.write(f'\\n{stage.name}: interrupted",
        "program.py: sys.stderr.write(f'\\n{stage.name}: ended by",
    )
    assert [one for one in direct if not one.startswith(allowed)] == []


# Tables


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", r"'\r=1"),
        ("\n=1", r"'\n=1"),
        ("  =1", "'  =1"),
        ("'=1", "''=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a\x1b[2J\u202eb\nc", r"a\x1b[2J\u202eb\nc"),
        ("a=b", "a=b"),
        ("-0.25", "-0.25"),
        ("+1,000.5 %", "+1,000.5 %"),
        ("-1e-05", "-1e-05"),
        ("-", "'-"),
        ("a.example", "a.example"),
        (-0.25, -0.25),
        (-3, -3),
        (None, None),
        (True, True),
    ],
)
def test_a_cell_of_a_table_is_no_formula_and_a_number_stays_one(value: object, expected: object) -> None:
    assert sheets.cell(value) == expected


def test_a_table_is_written_with_harmless_names_and_cells(tmp_path: Path) -> None:
    sheets.write_flat(tmp_path / "a.csv", [{"=name": "=1", "b": 1}, {"b": None, "c": "x,y"}])
    assert (tmp_path / "a.csv").read_text() == "'=name,b,c\n'=1,1,\n,,\"x,y\"\n"
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert rows == [["'=name", "b", "c"], ["'=1", "1", ""], ["", "", "x,y"]]


def test_every_table_goes_through_the_one_writer() -> None:
    paths = [path for folder in ("laion_dask", "workflow", "experiments") for path in (ROOT / folder).rglob("*.py")]
    writers = {
        path.name for path in paths if "csv.writer(" in path.read_text() or "csv.DictWriter(" in path.read_text()
    }
    # The ledger is read back as it was written; removal_requests refuses such words instead.
    assert writers == {"sheets.py", "removal_requests.py"}


def test_the_console_of_the_commands_shows_markup_as_it_is() -> None:
    screen = console.console()
    assert isinstance(screen, Console)
    with screen.capture() as captured:
        screen.print("[bold]x[/bold] [link=https://a.example]y[/link]")
    assert captured.get() == "[bold]x[/bold] [link=https://a.example]y[/link]\n"
    assert json.dumps(HOSTILE).isascii()
