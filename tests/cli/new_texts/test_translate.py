"""`laion-dask translate` without a project: tables in, the same rows with English texts out, one line for a mistake."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.places import ROOT
from made.processes import programs
from made.processes.dask_clients import threads_of_this_process
from made.projects.project import left_behind
from made.texts import translators
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.cluster import kinds
from laion_dask.schema.reasons import KEEP
from laion_dask.standalone import tables
from laion_dask.standalone import translate as standalone

if TYPE_CHECKING:
    from distributed import Client

OURS = ["translation", "english", "source_language", "cut"]
ROWS = [
    {"id": "007", "text": "eine rote circle", "lang": "de"},
    {"id": "008", "text": None, "lang": "fr"},
    {"id": "009", "text": "ein blaue Quadrat", "lang": None},
    {"id": "010", "text": "eine blaue Quadrat", "lang": "xx"},
]
REASONS = [KEEP, "untranslatable_text", "no_language", "language_unknown_to_model"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture
def here(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in; commands run on threads of this process."""

    @contextmanager
    def opened(stage: str, *, gpu: bool = False) -> Iterator[Client]:
        assert (stage, gpu) == ("translate", True)
        yield client

    monkeypatch.setattr(kinds, "open_client", opened)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(translator_folder: Path) -> str:
    return str(translators.make(translator_folder, "m2m100").folder)


def run(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["translate", *map(str, args)], env={"COLUMNS": "80"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def written(kind: str, path: Path, rows: list[dict[str, str | None]]) -> Path:
    """Write rows as a table of a kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif kind.startswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        split = "\t" if kind == "tsv" else ","
        lines = [split.join(rows[0]), *(split.join(value or "" for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl", "jsonl.gz"])
def test_a_table_of_any_format_keeps_its_rows_and_columns_and_gets_ours(here: Path, model: str, kind: str) -> None:
    table = written(kind, here / f"texts.{kind}", ROWS)
    status, said, told = run(table, "--model", model, "--lang-col", "lang", "--out", "o", "--compute", "float32")
    assert status == 0, told
    found = pq.read_table("o/translations/texts.parquet")
    assert found.select(["id", "text", "lang"]).to_pylist() == ROWS
    assert found["translation"].to_pylist() == REASONS
    assert found["source_language"].to_pylist() == ["de", "fr", "", ""]
    assert found.column_names[3:7] == OURS
    english = found["english"].to_pylist()
    assert english[0]
    assert english[1:] == [None] * 3
    assert [path.name for path in (here / "o").iterdir()] == ["translations"]
    words = " ".join(said.split())
    assert "│ texts │ 4 │ 1 │" in words
    assert "texts/s (tokenize" in words
    assert "licence of its weights: apache-2.0" in words


def test_without_a_column_of_languages_they_are_detected(here: Path, model: str) -> None:
    texts = ["eine große rote Scheibe auf einem weißen Tisch", "une grande maison bleue dans la forêt", "zzz"]
    written("csv", here / "t.csv", [{"caption": text} for text in texts])
    assert run("t.csv", "--model", model, "--out", "o")[0] == 0
    found = pq.read_table("o/translations/t.parquet")
    assert found["detected_language"].to_pylist()[:2] == ["de", "fr"]
    assert found["source_language"].to_pylist()[:2] == ["de", "fr"]


def test_the_line_that_shows_how_to_look_at_it_works_as_printed(here: Path, model: str) -> None:
    written("csv", here / "t.csv", ROWS)
    _, said, _ = run("t.csv", "--model", model, "--lang-col", "lang", "--out", here / "o [red]")
    (line,) = [line for line in said.splitlines() if line.startswith("look")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = programs.finished(["bash", "-c", line.removeprefix("look")], check=True, env={"PATH": path})
    assert "language_unknown_to_model" in shown.stdout


def test_a_folder_of_tables_is_written_as_the_same_folder(here: Path, model: str) -> None:
    written("parquet", here / "shards" / "00000.parquet", ROWS)
    written("parquet", here / "shards" / "more" / "00000.parquet", ROWS[:1])
    written("csv", here / "shards" / "notes.csv", ROWS)
    (here / "shards" / "00000.tar").write_bytes(b"")
    assert run("shards", "--model", model, "--lang-col", "lang", "--out", "o")[0] == 0
    found = sorted(path.relative_to("o/translations").as_posix() for path in Path("o").rglob("*.parquet"))
    assert found == ["00000.parquet", "more/00000.parquet"]
    assert pq.read_table("o/translations/00000.parquet").num_rows == 4


def test_of_a_scored_folder_the_tables_of_its_images_are_translated(here: Path) -> None:
    (here / "scored" / "score" / "embeddings.zarr").mkdir(parents=True)
    written("parquet", here / "scored" / "images" / "00000.parquet", ROWS)
    written("parquet", here / "scored" / "score" / "00000.parquet", ROWS)
    assert tables.find(here / "scored") == [here / "scored" / "images" / "00000.parquet"]


@pytest.mark.parametrize("group", [1, 3, 100])
def test_pieces_of_a_table_are_its_rows(tmp_path: Path, group: int) -> None:
    table = pa.table({"place": range(17)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=group)
    for rows in (1, 4, 5, 17, 99):
        found = [tables.read(piece) for piece in tables.pieces(tmp_path / "t.parquet", rows)]
        assert [len(piece) for piece in found[:-1]] == [rows] * (len(found) - 1)
        assert pa.concat_tables(found).equals(table)
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert [tables.read(piece) for piece in tables.pieces(tmp_path / "empty.parquet", 4)] == [table.slice(0, 0)]


def test_columns_keep_their_types_and_a_row_that_cannot_be_read_stays(tmp_path: Path) -> None:
    lines = ['{"text": "a", "n": 1, "x": 1.5}', "no json", '{"text": 5, "n": 2, "y": true, "z": null}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = pq.read_table(tables.as_parquet(tmp_path / "t.jsonl", tmp_path / "out", ["text"]))
    assert table.to_pylist() == [
        {"text": "a", "n": 1, "x": 1.5, "y": None, "z": None},
        dict.fromkeys(("text", "n", "x", "y", "z")),
        {"text": "5", "n": 2, "x": None, "y": True, "z": None},
    ]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["t.csv"], 2, "no output folder. Remedy: give --out DIR with t.csv"),
        (["t.csv", "--out", "o"], 2, "no model given. Remedy: give --model NAME, or --params FILE"),
        (["--model", "demo"], 2, "no table given. Remedy: give a table or a folder with the options"),
        (["none.csv", "--model", "MODEL", "--out", "o"], 1, "none.csv: no such file or folder"),
        (["t.png", "--model", "MODEL", "--out", "o"], 1, "t.png: what format is it?"),
        (["empty", "--model", "MODEL", "--out", "o"], 1, "empty has no tables"),
        (["t.csv", "--model", "none", "--out", "o"], 1, "none/model.bin is missing. Remedy: "),
        (["t.csv", "--model", "MODEL", "--out", "o", "--text-col", "x"], 1, "no column x, but id, text, lang. Remedy"),
        (["t.csv", "--model", "MODEL", "--out", "o", "--lang-col", "x"], 1, "Remedy: name it with --lang-col"),
        (["t.csv", "--model", "MODEL", "--out", "o", "--family", "nllb"], 1, "has no eng_Latn"),
        (["t.csv", "--model", "MODEL", "--out", "o", "--compute", "fp8"], 1, "translate.compute = 'fp8'"),
        (["ours.csv", "--model", "MODEL", "--out", "o"], 1, "has a column english, which this command writes"),
    ],
)
def test_every_mistake_ends_in_one_clear_message(
    here: Path, model: str, args: list[str], status: int, message: str
) -> None:
    (here / "empty").mkdir()
    (here / "t.png").write_bytes(b"")
    written("csv", here / "t.csv", ROWS)
    written("csv", here / "ours.csv", [row | {"english": "x"} for row in ROWS])
    found, _, told = run(*(model if arg == "MODEL" else arg for arg in args))
    assert found == status, told
    assert message in " ".join(told.split())
    assert "Traceback" not in told


def test_a_finished_folder_is_replaced_only_where_asked(here: Path, model: str) -> None:
    written("csv", here / "t.csv", ROWS)
    command = ("t.csv", "--model", model, "--lang-col", "lang", "--out", "o")
    assert run(*command)[0] == 0
    status, _, told = run(*command)
    assert status == 1
    assert "o holds a finished translation (translations). Remedy: --overwrite" in " ".join(told.split())
    assert run(*command, "--overwrite")[0] == 0
    (here / "theirs" / "translations").mkdir(parents=True)
    status, _, told = run(*command[:-1], "theirs", "--overwrite")
    assert status == 1
    assert "does not belong to a translation" in told


def translating(run: int) -> list[int]:
    """The processes of a run that have loaded CTranslate2: its workers."""
    found = []
    for process in programs.family(run):
        with suppress(OSError):
            if "libctranslate2" in Path(f"/proc/{process}/maps").read_text():
                found.append(process)
    return found


@pytest.mark.slow
def test_after_ctrl_c_and_a_killed_worker_the_same_command_ends_with_the_bytes_of_a_fresh_run(
    here: Path, model: str
) -> None:
    rows = [{"text": text, "lang": "de"} for text in translators.TEXTS * 2]
    for place in range(6):
        written("parquet", here / "t" / f"{place}.parquet", rows)
    command = [sys.executable, "-m", "laion_dask.cli.main", "translate", "t", "--model", model, "--lang-col", "lang"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    first = programs.start([*command, "--workers", "1", "--out", "o"], cwd=here, env=environment)
    parts = here / "o" / standalone.WORK / "parts"
    programs.until(lambda: any(parts.glob("*/counts.json")), "a piece is finished", first)
    os.killpg(first.pid, signal.SIGINT)
    said = programs.ended(first)
    assert first.returncode == 130, said
    assert "translate: interrupted. Finished pieces are kept; the same command resumes from here." in said
    assert left_behind(here) == []
    finished = {path.stat().st_ino for path in parts.glob("*/counts.json")}
    assert 0 < len(finished) < 6
    again = programs.start([*command, "--workers", "2", "--out", "o"], cwd=here, env=environment)
    programs.until(lambda: bool(translating(again.pid)), "a worker has loaded the model", again)
    os.kill(translating(again.pid)[0], signal.SIGKILL)
    said = programs.ended(again)
    assert again.returncode == 0, said
    assert "resuming" in said
    assert run("t", "--model", model, "--lang-col", "lang", "--out", "fresh")[0] == 0
    assert digests(here / "o") == digests(here / "fresh")
