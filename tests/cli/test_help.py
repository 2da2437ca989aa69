"""What a user reads first: help that fits 80 columns with examples that can be copied, the version, usual mistakes."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from made.places import ROOT
from made.processes import programs
from typer.testing import CliRunner

import laion_dask
from laion_dask.cli.main import app

TOP = typer.main.get_command(app)


def commands(command: Any = TOP, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - as typer has it
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands())


def run(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(args), env={"COLUMNS": "80"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def blocks(text: str) -> list[str]:
    """The lines of a help text that are printed as they stand."""
    return [line for block in re.findall(r"^\x08\n((?:.+\n?)+)", text, re.MULTILINE) for line in block.splitlines()]


def examples(text: str) -> list[list[str]]:
    """The commands of this program that a help text shows, as words."""
    joined = "\n".join(blocks(text)).replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip().startswith("laion-dask ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_no_example_is_wrapped_and_no_option_cut(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    status, said, told = run(*path, "--help")
    lines = said.splitlines()
    assert (status, told) == (0, "")
    assert max(map(len, lines)) <= 80
    shown = {line.strip() for line in lines}
    assert [line for line in blocks(command.help or "") if line.strip() not in shown] == []
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts) if option[:2] == "--"}
    assert options - set(said.split()) == set()
    # What looks like markup would be left out.
    words = {word for one in command.params for word in (getattr(one, "help", None) or "").replace("\\[", "[").split()}
    assert [word for word in words if len(word) < 12 and word not in said] == []


WITH_EXAMPLES = [path for path, command in COMMANDS.items() if examples(command.help or "")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=" ".join)
def test_every_example_can_be_copied(path: tuple[str, ...]) -> None:
    """Its command, options and values are taken; nothing is run."""
    for words in examples(COMMANDS[path].help or ""):
        command, rest, context = TOP, words[1:], None
        while hasattr(command, "commands") and rest:
            command, rest = command.commands[rest[0]], rest[1:]
        context = command.make_context(" ".join(words), rest)
        assert context.args == []


def test_most_commands_show_examples() -> None:
    assert len(WITH_EXAMPLES) >= 15


@pytest.mark.parametrize("words", [("--version",), ("--version", "status")])
def test_the_version_is_one_line_and_ends_the_command(words: tuple[str, ...]) -> None:
    status, said, _ = run(*words)
    assert status == 0
    assert re.fullmatch(rf"laion-dask {laion_dask.__version__}( \(commit [0-9a-f]{{7,}}(, files changed)?\))?\n", said)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?"),
        (["status", "--jsn"], "No such option: --jsn (Possible options: --json)"),
        (["why"], "Missing argument 'URL|UID|FILE'"),
        (["crawls", "X", "--wats", "many"], "Invalid value for '--wats'"),
        (["export", "subset"], "Missing option '--out'"),
        (["linkrot", "gone", "gone"], "gone has no tables of an earlier download. Remedy: "),
        (["replay", "gone.warc.gz"], "no such file: gone.warc.gz. Remedy: "),
        (["verify", "a folder"], "a folder/manifest.json is missing. Remedy: "),
    ],
)
def test_a_mistake_is_told_without_a_traceback(words: list[str], told: str) -> None:
    status, _, said = run(*words)
    assert status in {1, 2}
    assert told in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said


def test_an_option_may_be_spelled_with_underscores() -> None:
    status, _, told = run("purge", "--dry_run", "--no_such")
    assert status == 2
    assert "No such option: --no-such" in told


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from laion_dask.cli.main import app\n"
        "try: app(['download', '--help'])\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'pyarrow', 'numpy', 'dask', 'distributed', 'dvc', 'mlflow', 'duckdb')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = programs.finished([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
