"""Commands in, lines and status out: crawls, parameters, recipes, counts; on a narrow terminal too."""

from __future__ import annotations

import difflib
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from made.places import ROOT
from made.processes import programs
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli import console
from laion_dask.cli import params as cli_params
from laion_dask.cli.main import app
from laion_dask.crawl import listing
from laion_dask.crawl.estimate import MEASURED
from laion_dask.params import recipes
from laion_dask.storage import objects

CRAWL = "CC-MAIN-2024-22"


def run(*args: str, **environment: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(args), env={"COLUMNS": "80", **environment})
    # Else a bug would pass for a refusal: both have status 1.
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """A small Common Crawl: a list of crawls, one of them with ten WATs of 1,000 to 1,009 bytes."""
    folder = tmp_path / "bucket"
    paths = [f"crawl-data/{CRAWL}/segments/1/wat/CC-{place:05d}.warc.wat.gz" for place in range(10)]
    for place, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x" * (1_000 + place))
    (folder / "crawl-data" / CRAWL / "wat.paths.gz").write_bytes(gzip.compress("\n".join(paths).encode()))
    listed = [
        {"id": f"CC-MAIN-2024-{week}", "name": f"week {week}", "from": f"2024-0{week % 9 + 1}-01T00"}
        for week in (18, 22)
    ]
    (folder / "collinfo.json").write_text(json.dumps(listed))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# Crawls


def test_crawls_are_listed_newest_first(host: str) -> None:
    status, said, _ = run("crawls", "--list-url", f"{host}/collinfo.json")
    assert status == 0
    assert said.index("CC-MAIN-2024-22") < said.index("CC-MAIN-2024-18")
    assert "laion-dask crawls CC-MAIN-2024-22" in said
    status, said, _ = run("crawls", "--json", "--list-url", f"{host}/collinfo.json")
    assert [crawl["id"] for crawl in json.loads(said)] == ["CC-MAIN-2024-22", "CC-MAIN-2024-18"]


def test_an_estimate_names_sizes_costs_and_every_measurement_that_it_rests_on(host: str) -> None:
    status, said, _ = run("crawls", CRAWL, "--base-url", host, "--wats", "4", "--cores", "8", "--sizes", "3")
    assert status == 0
    words = " ".join(said.split())
    assert f"{CRAWL}: 4 of 10 WATs, 1.0" in words
    assert "(mean of 3)" in words
    assert "hours on 8 cores" in words
    for name, measure in MEASURED.items():
        assert (measure.unit in words) is (name != "wat_bytes")


def test_the_estimate_as_json_has_the_numbers_and_their_sources(host: str) -> None:
    status, said, _ = run("crawls", CRAWL, "--base-url", host, "--json", "--sizes", "10")
    (one,) = json.loads(said)["crawls"]
    assert status == 0
    assert (one["id"], one["listed"], one["wats"], one["asked"]) == (CRAWL, 10, 10, 10)
    assert one["wat_bytes"] == float(f"{1004.5:.4g}")
    assert json.loads(said)["measured"].keys() == MEASURED.keys()


def test_sizes_are_of_the_wats_that_the_stage_would_read(host: str, defaults: params.Params) -> None:
    changes = {"source": "commoncrawl", "crawls": (CRAWL,), "base_url": host, "wats": 3, "seed": 5}
    rows = listing.list_wats(params.Crawl(**(defaults.crawl.model_dump() | changes))).to_pylist()
    expected = sum(listing.sizes([row["location"] for row in rows]))
    _, said, _ = run("crawls", CRAWL, "--base-url", host, "--wats", "3", "--seed", "5", "--sizes", "3", "--json")
    assert json.loads(said)["crawls"][0]["read_bytes"] == expected


def test_sizes_that_cannot_be_had_are_said_and_the_usual_size_stands_in(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_WAITS_S", ())
    for path in (tmp_path / "bucket").rglob("*.wat.gz"):
        path.unlink()
    status, said, told = run("crawls", CRAWL, "--base-url", host)
    assert status == 0
    assert "does not exist, though it is listed" in told
    assert "the usual size" in told
    assert "361 MB each (the usual size)" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["CC-MAIN-2031-01", "--base-url", "{host}"],
            "CC-MAIN-2031-01/wat.paths.gz does not exist. Remedy: check the id",
        ),
        (
            [CRAWL, "--base-url", "{host}", "--wats", "11"],
            "= 11, but there are 10 WATs of CC-MAIN-2024-22. Remedy: lower it",
        ),
        ([CRAWL, "--base-url", "http://127.0.0.1:9"], "cannot be read (Cannot connect to host 127.0.0.1:9"),
        (["--list-url", "http://127.0.0.1:9/x"], "Remedy: check the address and the network"),
    ],
)
def test_what_cannot_be_asked_for_ends_in_one_line(host: str, args: list[str], message: str) -> None:
    status, _, told = run("crawls", *(arg.format(host=host) for arg in args))
    assert status == 1
    assert message in told
    assert len(told.strip().splitlines()) == 1


# Numbers


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "", "0"),
        (7, "", "7"),
        (0.417, "", "0.42"),
        (999, "B", "999 B"),
        (1_000, "B", "1.00 kB"),
        (36_468_000_000, "", "36.5 G"),
        (361e6, "B", "361 MB"),
        (12.345, "", "12.3"),
        (3.2e16, "B", "32.0 PB"),
        (3.2e19, "B", "32,000 PB"),
        (999_999, "B", "1,000 kB"),
    ],
)
def test_numbers_have_three_digits_and_a_step_of_a_thousand(number: float, unit: str, text: str) -> None:
    assert console.short(number, unit) == text


# Parameters and recipes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("params.yaml", "removals.csv"):
        (folder / name).write_text((ROOT / name).read_text())
    return folder


def test_the_recipes_are_listed_in_one_line_each() -> None:
    status, said, _ = run("recipes")
    assert status == 0
    lines = said.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    for line, name in zip(lines, recipes.names(), strict=True):
        assert line.endswith(recipes.describe(name).title.removeprefix(f"{name}: "))
    assert "laion-dask recipes NAME" in said


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_that_is_named_is_shown_with_what_its_header_says(name: str) -> None:
    status, said, _ = run("recipes", name)
    assert status == 0
    recipe = recipes.describe(name)
    assert said.startswith(f"{name}: {recipe.title.removeprefix(f'{name}: ')}\n")
    assert all(line in said for line in recipe.notes.splitlines())
    assert f"laion-dask params --recipe {name}" in said


def test_a_recipe_is_shown_with_the_files_that_it_reads(project: Path) -> None:
    _, said, _ = run("recipes", "metaclip-400m")
    assert "- filter.balance.entries = assets/metaclip_metadata.json (not in this folder)\n" in said
    assert "make repro RECIPE=metaclip-400m ON=demo" in said
    (project / "assets").mkdir()
    (project / "assets" / "metaclip_metadata.json").touch()
    assert "metaclip_metadata.json\n" in run("recipes", "metaclip-400m")[1]
    status, _, told = run("recipes", "laion-5b", "laion5b")
    assert (status, "there is no recipe 'laion5b'. Remedy: 'laion-5b', perhaps" in told) == (1, True)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", recipes.names())
def test_the_values_that_hold_with_a_recipe_are_printed(name: str) -> None:
    status, said, _ = run("params", "--recipe", name)
    assert status == 0
    printed = dict(line.split(" = ", 1) for line in said.splitlines())
    for key, value in recipes.load(name).extract.model_dump(mode="json").items():
        assert json.loads(printed[f"extract.{key}"]) == value


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if name != "demo"])
def test_writing_a_recipe_changes_its_lines_and_no_other_character(project: Path, name: str) -> None:
    (project / "experiments").symlink_to(ROOT / "experiments")
    before = (ROOT / "params.yaml").read_text().splitlines()
    status, said, told = run("params", "--recipe", name, "--recipe", "demo", "--write")
    assert status == 0, told
    after = (project / "params.yaml").read_text().splitlines()
    found = params.load(project / "params.yaml")
    assert found == recipes.load(f"{name} demo", ROOT / "params.yaml")
    off = [section for section, value in found if value is None]
    # A section that becomes null takes one line: its own, without a comment behind it.
    section = ""
    sections = [section := line if line[:1].strip() else section for line in before]
    rest = [
        line for line, of in zip(before, sections, strict=True) if line == of or of.rstrip(":") not in off or not line
    ]
    assert len(after) == len(rest)
    changed = [(old, new) for old, new in zip(rest, after, strict=True) if old != new]
    assert len(changed) == len(said.splitlines())
    for old, new in changed:
        assert old.split(":")[0] == new.split(":")[0]
        assert old.partition(" # ")[2] == new.partition(" # ")[2]
    assert sorted(path.name for path in project.iterdir()) == ["experiments", "params.yaml", "removals.csv"]


def test_a_recipe_whose_files_are_missing_is_refused_before_anything_is_written(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    status, _, told = run("params", "--recipe", "metaclip-400m", "--write")
    assert status == 1
    assert "filter.balance.entries = assets/metaclip_metadata.json. Nothing was written. Remedy: put them there" in told
    assert "or add --recipe demo (ON=demo), which replaces them by the demo's" in told
    assert (project / "params.yaml").read_bytes() == before
    # Who only looks is told, and sees the values.
    status, said, told = run("params", "--recipe", "metaclip-400m")
    assert (status, 'recipe = ["metaclip-400m"]' in said, "files are missing" in told) == (0, True, True)


def git(folder: Path, *command: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.example")
    programs.finished(["git", *identity, *command], cwd=folder, check=True)


@pytest.mark.slow
def test_another_recipe_starts_from_what_git_has_and_never_mixes_with_the_first(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    for name in ("cc2dataset", "datacomp", "datacomp-basic"):
        assert run("params", "--recipe", name, "--write")[0] == 0
        assert params.load(project / "params.yaml") == recipes.load(name, ROOT / "params.yaml")
    text = (project / "params.yaml").read_text().replace("top_hosts: 20 ", "top_hosts: 21 ")
    (project / "params.yaml").write_text(text)
    status, _, told = run("params", "--recipe", "datacomp", "--write")
    assert status == 1
    assert "already has recipe datacomp-basic and other changed values: datacomp would be mixed with it" in told
    assert "Remedy: `git checkout params.yaml` first" in told
    assert (project / "params.yaml").read_text() == text


def test_columns_that_will_not_be_there_are_told_at_once(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  where: null ", "  where: asthetic > 5 "))
    status, _, told = run("params")
    assert status == 1
    assert "filter.where = 'asthetic > 5': the column asthetic does not exist. Remedy: aesthetic, perhaps" in told


def test_a_recipe_that_is_written_already_changes_nothing(project: Path) -> None:
    cli_params.write_recipes(Path("params.yaml"), "cc2dataset")
    once = (project / "params.yaml").read_bytes()
    assert run("params", "--recipe", "cc2dataset", "--write")[1] == "params.yaml has all values of cc2dataset already\n"
    assert (project / "params.yaml").read_bytes() == once


def test_a_file_without_changes_comes_back_byte_for_byte(project: Path) -> None:
    yaml = cli_params.round_trip()
    text = io.StringIO()
    yaml.dump(yaml.load(project / "params.yaml"), text)
    lines = (project / "params.yaml").read_text().splitlines(keepends=True)
    assert "".join(difflib.unified_diff(lines, text.getvalue().splitlines(keepends=True))) == ""


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--recipe", "cc2datset"], 1, "there is no recipe 'cc2datset'. Remedy: 'cc2dataset', perhaps"),
        (["--write"], 2, "--write needs a recipe. Remedy: add --recipe NAME"),
        (["none.yaml"], 1, "none.yaml is missing"),
        (["none.yaml", "--recipe", "cc2dataset", "--write"], 1, "none.yaml is missing"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(
    project: Path, args: list[str], status: int, message: str
) -> None:
    before = (project / "params.yaml").read_bytes()
    found, _, told = run("params", *args)
    assert found == status
    assert message in told
    assert (project / "params.yaml").read_bytes() == before


def test_the_help_of_params_explains_every_text_step() -> None:
    from laion_dask.extract.text import STEPS

    words = " ".join(run("params", "--help")[1].split())
    for name, meaning in STEPS.items():
        assert f"{name}: {meaning}" in words


# As a program


@pytest.mark.parametrize("command", [[], ["extract"], ["crawls"], ["params"], ["recipes"]])
def test_help_answers_at_once_and_fits_a_narrow_terminal(command: list[str]) -> None:
    done = programs.finished(
        [sys.executable, "-m", "laion_dask.cli.main", *command, "--help"],
        check=True,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)},
    )
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert not done.stderr


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    code = f"cd {ROOT} && {sys.executable} -m laion_dask.cli.main columns | head -n 1"
    done = programs.finished(["bash", "-c", code])
    assert "Traceback" not in done.stderr
