"""What a worker compares before it works, and what it forgets when a file has changed under its name."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client
from made.processes.squares import numbers, run

from laion_dask import params
from laion_dask.inputs.named_files import named_files
from laion_dask.params import filters, heads
from laion_dask.runner import part_files, tasks
from laion_dask.runner.tasks import PartUnseenError
from laion_dask.score import tags
from laion_dask.workers import absolute
from laion_dask.workers import checks as worker_checks
from laion_dask.workers.checks import Ticket, WorkerRefusedError

PROMPTS = "{group: {first: a, second: b}}"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_checks, "_WAIT_S", 0.0)
    monkeypatch.setattr(part_files, "_WAIT_S", 0.0)


def test_a_process_with_code_folder_and_files_of_the_driver_may_work(tmp_path: Path) -> None:
    tag = heads.Tag(kind="zero_shot", file=str(tmp_path / "prompts.yaml"))
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    with worker_checks.issue_ticket(tmp_path, worker_checks.named_files([tag])) as ticket:
        assert [*ticket.files] == [str(tmp_path / "prompts.yaml")]
        worker_checks.check(ticket)
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.yaml"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one, _: replace(one, code=replace(one.code, files="0" * 32)), "its code is not the driver's"),
        (lambda one, _: replace(one, code=replace(one.code, python="2.7")), r"Python 3\.\d+, not 2\.7"),
        (lambda one, _: replace(one, code=replace(one.code, libraries=(("numpy", "1"),))), "numpy .*, not 1"),
        (lambda one, _: replace(one, nonce="of another run"), "it does not see the driver's folder"),
        (lambda one, folder: replace(one, sign=folder / "x" / ".run-1"), "does not see the driver's folder .*x"),
        (lambda one, folder: replace(one, files={str(folder / "f"): "0" * 64}), "f has the sha256 .* on the driver"),
        (lambda one, folder: replace(one, files={str(folder / "g"): "0" * 64}), "g cannot be read there"),
    ],
)
def test_a_process_that_differs_is_refused_with_host_reason_and_remedy(
    change: Callable[[Ticket, Path], Ticket], said: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("theirs")
    with (
        worker_checks.issue_ticket(tmp_path, {}) as ticket,
        pytest.raises(WorkerRefusedError, match=rf"^a worker on .* is refused: .*{said}.* Remedy: "),
    ):
        worker_checks.check(change(ticket, tmp_path))


@pytest.mark.slow
def test_what_was_cached_of_a_file_is_forgotten_when_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    tag = heads.Tag(kind="zero_shot", file=str(file))
    for label in ("second", "third"):
        file.write_text(PROMPTS.replace("second", label))
        with worker_checks.issue_ticket(tmp_path, worker_checks.named_files([tag])) as ticket:
            worker_checks.check(ticket)
        assert [*tags.groups(tag)["group"]] == ["first", label]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("longer")])
def test_a_part_whose_input_is_another_here_is_refused(change: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "input").write_text("short")
    args = {"location": str(tmp_path / "input"), "deep": [{"path": tmp_path / "input"}]}
    seen = worker_checks.statuses(args)
    worker_checks.check_inputs(seen)
    change(tmp_path / "input")
    with pytest.raises(WorkerRefusedError, match="input is missing there, or another file than the driver's"):
        worker_checks.check_inputs(seen)


def test_a_relative_path_is_refused(tmp_path: Path) -> None:
    worker_checks.check_paths({"deep": [{"path": tmp_path}]})
    with pytest.raises(WorkerRefusedError, match="the path data/x is relative"):
        worker_checks.check_paths({"deep": [{"path": Path("data/x")}]})


def test_a_part_that_the_driver_does_not_find_ends_the_run(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tasks.finish_parts

    def finish(function: tasks.PartFunction, calls: Sequence[tasks.Call], ticket: Ticket) -> tasks.Answer:
        answer = whole(function, calls, ticket)
        shutil.rmtree(calls[0].folder)  # as if it had been another disk
        return answer

    monkeypatch.setattr(tasks, "finish_parts", finish)
    with pytest.raises(
        PartUnseenError, match=r"part 02: a worker on .* has finished it, but on the driver .*Remedy: mount the folder"
    ):
        run(numbers(2), tmp_path, client)


def test_every_file_that_parameters_name_is_absolute_for_a_task(
    tmp_path: Path, defaults: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_text("tensors")
    (tmp_path / "clip").mkdir()
    values = defaults.model_dump(mode="json")
    values["extract"]["language_model"] = "lid.bin"
    values["catalog"]["lists"] = [{"name": "one", "kind": "md5", "file": "list.txt"}]
    values["download"] |= {"warcs": ["w/*.gz"], "verify": "earlier"}
    values["score"]["models"] = [
        {"name": "a", "model": "local-dir:clip"},
        {"name": "b", "model": "ViT-B-32", "pretrained": "weights.pt"},
        {"name": "c", "model": "ViT-B-32", "pretrained": "openai"},
    ]
    values["score"]["heads"] = [{"kind": "demo"}, {"kind": "aesthetic_v1", "file": "head.pth", "column": "other"}]
    values["score"]["tags"] = [{"kind": "zero_shot", "file": "tags.yaml"}, {"kind": "zero_shot", "file": "demo"}]
    values["score"]["faces"] = {"file": "faces.onnx"}
    values["group"]["evaluation"] = ["eval.npy"]
    values["filter"] |= {
        "keywords": {"file": "words.txt", "above_punsafe": 0.9},
        "text_entities": "entities.txt",
        "keep_uids": ["keep.npy"],
        "drop_uids": ["drop.npy"],
        "computed": [{"column": "near", "kind": "normsim", "model": "a", "targets": "targets.npy", "norm": 2}],
        "image_based": {"model": "a", "centroids": "centroids.npy", "targets": "nearest.npy"},
        "balance": {"entries": "entries.json", "t": 5, "seed": 1},
    }
    values["release"]["tombstones"] = "stones.parquet"
    settings = params.parse(values)
    sections = {name: absolute.absolute(getattr(settings, name)) for name in params.Params.model_fields}
    named = [one for one in named_files(settings) if one.key.split(".")[0] in sections]
    assert len(named) > 15
    for one in named:
        steps = one.key.split(".")
        value = functools.reduce(_step, steps[1:], sections[steps[0]])
        assert str(value).removeprefix("local-dir:") == str(tmp_path / one.path), one.key
    assert [model.pretrained for model in sections["score"].models] == [None, str(tmp_path / "weights.pt"), "openai"]
    assert (sections["score"].heads[0].file, sections["score"].tags[1].file) == (None, "demo")
    assert absolute.absolute(settings) == settings


def _step(value: object, step: str) -> object:
    return value[int(step)] if isinstance(value, tuple) else getattr(value, step)


def test_a_folder_of_lists_by_language_is_absolute_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rule = filters.Balance(by_language="lists", t=5, seed=1)
    assert absolute.absolute(rule).by_language == str(tmp_path / "lists")


def test_paths_in_dataclasses_and_sequences_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ticket = Ticket(Path("sign"), "", worker_checks.code_digest.of_process())
    rule = filters.Keywords(file="words.txt", above_punsafe=0.5)
    found = absolute.absolute({"one": ticket, "many": (Path("a"), [Path("b")], "text"), "rule": rule})
    assert found["one"].sign == tmp_path / "sign"
    assert found["many"] == (tmp_path / "a", [tmp_path / "b"], "text")
    assert found["rule"].file == str(tmp_path / "words.txt")
    assert set(absolute.paths(found)) == {tmp_path / name for name in ("sign", "a", "b")}
    assert rule.file == "words.txt"
