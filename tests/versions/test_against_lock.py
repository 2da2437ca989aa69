"""`laion-dask verify --against-lock`: which stages are those of dvc.lock, and why the first that is not differs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from made.projects.dvc_projects import call, dvc
from ruamel.yaml import YAML
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.versions import against_lock, machines

pytestmark = pytest.mark.slow

DVC_YAML = f"""
stages:
  crawl:
    cmd: {sys.executable} make.py crawl
    params: [crawl.pages]
    deps: [make.py, removals.csv]
    outs: [data/crawl]
  score:
    cmd: {sys.executable} make.py score
    params: [score]
    deps: [laion_dask/clip, laion_dask/demo/model, data/crawl]
    outs: [data/score]
    metrics: [{{metrics/score.json: {{cache: false}}}}]
  report:
    cmd: {sys.executable} make.py report
    deps: [data/score]
    outs: [data/report]
"""
MAKE = """
import json, sys
from pathlib import Path
crawl, score = Path("params.yaml").read_text().splitlines()
clip, model = (Path("laion_dask", name).read_text() for name in ("clip/clip.py", "demo/model/w.bin"))
reads = {"crawl": crawl + Path("removals.csv").read_text(), "score": score + clip + model, "report": ""}
stage = Path("data") / sys.argv[1]
(stage / "below").mkdir(parents=True)
for number in range(4):
    (stage / "below" / f"{number}.txt").write_text(f"{number} {reads[stage.name]}")
if stage.name == "score":
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/score.json").write_text(json.dumps({"weights_sha256": {"demo": model}}))
"""
FILES = {
    "dvc.yaml": DVC_YAML,
    "make.py": MAKE,
    "params.yaml": "crawl: {pages: 3}\nscore: {models: [demo], batch: 8}\n",
    "removals.csv": "kind\n",
    "laion_dask/clip/clip.py": "x = 1\n",
    "laion_dask/clip/__pycache__/clip.pyc": "no part of the code",
    "laion_dask/demo/model/w.bin": "aaaa",
    "requirements.lock": "a-package==1.0 \\\n    --hash=sha256:00\nno-such-package==3\n",
    ".dvcignore": "__pycache__\n",
    ".gitignore": "/data/\n__pycache__\n",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of three stages, built by DVC and committed."""
    project = tmp_path_factory.mktemp("p") / "project"
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    call(project, "git", "init", "-q")
    dvc(project, "init", "-q")
    dvc(project, "repro", "-q")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "v1")
    return project


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which a test may change things, as the working folder."""
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    monkeypatch.chdir(copy)
    return copy


def verify(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", "--against-lock", *arguments])
    return done.exit_code, done.output


def test_what_dvc_wrote_is_equal_stage_by_stage(project: Path) -> None:
    assert (project / "dvc.lock").is_file()
    status, said = verify()
    assert status == 0, said
    assert [line.split() for line in said.splitlines()[:3]] == [
        [name, "equal"] for name in ("crawl", "score", "report")
    ]
    assert "all stages of the version are equal to dvc.lock of" in said


def test_a_changed_file_is_named_with_its_stage_and_the_status_is_1(project: Path) -> None:
    path = project / "data" / "score" / "below" / "2.txt"
    path.chmod(0o644)
    path.write_text("other")
    status, said = verify()
    assert status == 1
    assert "score       differs  data/score differs in below/2.txt" in said
    assert "The first stage that differs is score." in said
    assert "by hand: data/score is not what `dvc repro` wrote here last" in said
    assert "1 of 3 stages differ" in said


def test_without_dvcs_cache_the_out_is_named_without_its_files(project: Path) -> None:
    shutil.rmtree(project / ".dvc" / "cache")
    (project / "data" / "score" / "more.txt").write_text("extra")
    status, said = verify()
    assert status == 1
    assert "data/score differs\n" in said


def write(project: Path, name: str, text: str) -> None:
    (project / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "stage", "cause"),
    [
        (
            "params.yaml",
            FILES["params.yaml"].replace("3", "4"),
            "crawl",
            "parameter: crawl.pages is 3 in dvc.lock, 4 here",
        ),
        (
            "params.yaml",
            FILES["params.yaml"].replace("8", "16"),
            "score",
            "parameter: score.batch is 8 in dvc.lock, 16 here",
        ),
        ("removals.csv", "kind\nurl\n", "crawl", "input: removals.csv is not that of dvc.lock"),
        ("laion_dask/clip/clip.py", "x = 2\n", "score", "code: laion_dask/clip is not that of dvc.lock"),
        ("laion_dask/demo/model/w.bin", "bbbb", "score", "weights: laion_dask/demo/model is not that of dvc.lock"),
        ("laion_dask/demo/model/w.bin", "bbbb", "score", "weights: demo (weights_sha256) is aaaa there, bbbb here"),
    ],
)  # fmt: skip
def test_a_version_built_from_something_else_names_it(
    project: Path, name: str, text: str, stage: str, cause: str
) -> None:
    write(project, name, text)
    dvc(project, "repro", "-q")
    status, said = verify()
    assert status == 1
    assert f"The first stage that differs is {stage}." in said
    assert f"  {cause}\n" in said
    assert "not known" not in said


def test_the_old_version_is_compared_after_a_new_one_was_built_and_the_workspace_with_itself(project: Path) -> None:
    write(project, "params.yaml", FILES["params.yaml"].replace("8", "16"))
    dvc(project, "repro", "-q")
    status, said = verify()
    assert status == 1
    assert "  parameter: score.batch is 8 in dvc.lock, 16 here" in said
    assert verify("--rev", "workspace")[0] == 0


def test_what_is_not_built_is_no_difference_and_has_its_own_status(project: Path) -> None:
    shutil.rmtree(project / "data" / "crawl")
    status, said = verify()
    assert status == 2
    assert "the first that is missing is crawl" in said
    assert "Remedy: `make repro`, or `dvc pull`" in said
    write(project, "data/score/extra.txt", "both")
    status, said = verify()
    assert status == 1
    assert "The first stage that differs is score." in said
    assert "by hand: data/score" in said
    assert "1 of 3 stages differ" in said


def test_a_stage_whose_run_was_never_finished_is_not_called_equal(project: Path) -> None:
    lock = YAML(typ="safe", pure=True).load(project / "dvc.lock")
    del lock["stages"]["score"], lock["stages"]["report"]
    YAML().dump(lock, project / "dvc.lock")
    call(project, "git", "commit", "-qam", "half of it")
    status, said = verify()
    assert status == 2
    assert "score       unknown  dvc.yaml has it, dvc.lock has no run of it\n" in said
    assert "has no finished run of score. Remedy: `make repro`" in said
    assert "all stages" not in said


@pytest.mark.parametrize(
    ("name", "text", "since"),
    [
        (
            "params.yaml",
            FILES["params.yaml"].replace("3", "4"),
            "crawl: parameter: crawl.pages is 3 in dvc.lock, 4 here",
        ),
        (
            "params.yaml",
            FILES["params.yaml"].replace("8", "8, seed: 1"),
            "score: parameter: score.seed is absent in dvc.lock, 1 here",
        ),
        ("laion_dask/clip/clip.py", "x = 2\n", "score: code: laion_dask/clip is not that of dvc.lock"),
        ("laion_dask/demo/model/w.bin", "b", "score: weights: laion_dask/demo/model is not that of dvc.lock"),
    ],
)  # fmt: skip
def test_equal_files_are_equal_and_what_has_changed_since_is_said(
    project: Path, name: str, text: str, since: str
) -> None:
    write(project, name, text)
    status, said = verify()
    assert status == 0
    assert said.splitlines()[-1] == f"  {since}"
    assert json.loads(verify("--json")[1])["since"] == [since]


def test_a_report_that_differs_is_named_and_is_no_other_version(project: Path) -> None:
    write(project, "data/report/more.html", "x")
    status, said = verify()
    assert status == 0
    assert "report      differs" in said
    assert "it describes the version and is no part of it" in said


def install(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install this version of a package without modules, for this process."""
    about = folder / "site" / f"a_package-{version}.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Metadata-Version: 2.1\nName: a-package\nVersion: {version}\n")
    monkeypatch.syspath_prepend(folder / "site")


def sum_otherwise(project: Path) -> str:
    """Let score's bytes differ where nothing that DVC sees does, as on a machine that sums in another order."""
    known = against_lock.compare(project, "HEAD").version
    write(project, "data/score/below/0.txt", "0.1000001")
    dvc(project, "commit", "--force", "--quiet")
    return known


def causes() -> list[str]:
    """Say why the first stage differs."""
    status, said = verify()
    assert status == 1
    return [line.strip() for line in said.splitlines() if line.startswith("  ")]


def test_another_version_of_a_package_is_a_cause_where_nothing_else_differs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.add(project / machines.RECORD, sum_otherwise(project), machines.here(), [])
    install(tmp_path, "1.1", monkeypatch)
    assert causes() == ["packages: other versions than requirements.lock: a-package 1.1, not 1.0"]


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"processor": "Another CPU"}, "machine: processor: Another CPU there, {processor} here"),
        ({"gpus": ["Another GPU"]}, "machine: gpus: Another GPU there, {gpus} here"),
        ({"python": "3.99.1"}, "machine: python: 3.99.1 there, {python} here"),
        ({"settings": []}, "machine: settings: none there, ATEN_CPU_CAPABILITY=default here"),
    ],
)
def test_another_machine_is_a_cause_where_nothing_else_differs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Mapping[str, Any], said: str
) -> None:
    install(tmp_path, "1.0", monkeypatch)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    here = machines.here()
    machines.add(project / machines.RECORD, sum_otherwise(project), {**here, **recorded}, [])
    assert causes() == [said.format(**{**here, "gpus": ", ".join(here["gpus"]) or "none"})]


def test_without_a_record_this_machine_is_named_and_with_an_equal_one_it_says_that_nothing_differs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "1.0", monkeypatch)
    known = sum_otherwise(project)
    (cause,) = causes()
    assert cause.startswith("machine: reproduced.json has no machine that built this version; this is ")
    assert machines.here()["processor"] in cause
    machines.add(project / machines.RECORD, known, {**machines.here(), "processor": "Another CPU"}, [])
    machines.add(project / machines.RECORD, known, machines.here(), [])
    (cause,) = causes()
    assert cause.startswith("not known: code, parameters, weights, inputs, packages, processor")


def test_a_machine_is_recorded_only_after_equal_bytes_once_and_by_no_name(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "data/crawl/extra.txt", "x")
    status, said = verify("--record")
    assert (status, "this machine is not recorded" in said) == (1, True)
    assert not (project / machines.RECORD).exists()
    (project / "data" / "crawl" / "extra.txt").unlink()
    install(tmp_path, "1.1", monkeypatch)
    for _ in range(2):
        assert "recorded in reproduced.json" in verify("--record")[1]
    (entry,) = json.loads((project / machines.RECORD).read_text())
    assert set(entry) == {"version", *machines.here(), "other_packages"}
    assert entry["other_packages"] == ["a-package 1.1, not 1.0"]


def test_json_has_status_stages_and_causes(project: Path) -> None:
    write(project, "params.yaml", FILES["params.yaml"].replace("8", "16"))
    dvc(project, "repro", "-q")
    status, said = verify("--json")
    found = json.loads(said)
    assert (status, found["status"]) == (1, 1)
    assert [(stage["name"], stage["state"]) for stage in found["stages"]][1] == ("score", "differs")
    assert found["causes"] == ["parameter: score.batch is 8 in dvc.lock, 16 here"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--rev", "no-such-tag"), 1, "there is no revision no-such-tag here. Remedy: "),
        (("data",), 2, "--against-lock takes no DIR"),
        (("--uid", "0"), 2, "are for a DIR"),
        (("--metadata",), 2, "are for a DIR"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_remedy(
    project: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    assert project.is_dir()
    found, text = verify(*arguments)
    assert (found, said in text) == (status, True), text


@pytest.mark.parametrize("option", [("--record",), ("--rev", "v1")])
def test_options_of_this_comparison_are_refused_without_it(project: Path, option: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["verify", str(project / "data"), *option])
    assert (done.exit_code, "are for --against-lock" in done.output) == (2, True)


def break_lock(project: Path) -> None:
    write(project, "dvc.lock", "<<<<<<< ours\nschema: '2.0'\n=======\n")


def take_lock_away(project: Path) -> None:
    call(project, "git", "rm", "-q", "dvc.lock")
    call(project, "git", "commit", "-qm", "no lock")


@pytest.mark.parametrize(
    ("change", "folder", "rev", "said"),
    [
        (lambda _: None, "data/crawl", "HEAD", "has neither dvc.lock nor dvc.yaml. Remedy: run this in the project's"),
        (lambda _: None, "..", "HEAD", "this folder has no dvc.yaml. Remedy: run this in the project's folder"),
        (lambda _: None, "..", "workspace", "this folder has neither dvc.lock nor dvc.yaml"),
        (take_lock_away, ".", "HEAD", "this folder at HEAD has no dvc.lock: no version was built and committed there"),
        (take_lock_away, ".", "workspace", "this folder has no dvc.lock"),
        (break_lock, ".", "workspace", "dvc.lock cannot be read"),
        (lambda project: shutil.rmtree(project / ".git"), ".", "HEAD", "Remedy: `--rev workspace`"),
    ],
)  # fmt: skip
def test_a_folder_without_a_version_is_told_what_is_missing(
    project: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], folder: str, rev: str, said: str
) -> None:
    change(project)
    monkeypatch.chdir(project / folder)
    status, text = verify("--rev", rev)
    assert (status, said in text) == (1, True), text
    assert "Remedy: " in text
    assert len(text.splitlines()) == 1
