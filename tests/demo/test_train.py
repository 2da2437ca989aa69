"""The command that trains the demo's models: what it says, and that each command reaches its trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from laion_dask.demo import train
from laion_dask.demo.training import captioner, evaluate_texts, translator


def test_the_help_names_every_model() -> None:
    shown = CliRunner().invoke(train.app, ["--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("clip", "faces", "captioner", "translator", "all"))


@pytest.mark.parametrize("command", ["clip", "faces", "captioner", "translator", "all"])
def test_each_command_says_where_it_writes_and_that_of_a_model_of_texts_how_long_it_takes(command: str) -> None:
    shown = CliRunner().invoke(train.app, [command, "--help"], terminal_width=100)
    assert shown.exit_code == 0
    assert ("minutes" in shown.output) is (command in {"captioner", "translator"})
    assert "--out" in shown.output


@pytest.mark.parametrize("name", ["captioner", "translator"])
def test_a_model_is_trained_from_the_seed_then_evaluated_and_the_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[tuple[Path, int]] = []
    trainer = {"captioner": captioner, "translator": translator}[name]
    monkeypatch.setattr(trainer, "train", lambda out, seed, **_: asked.append((out, seed)))
    monkeypatch.setattr(evaluate_texts, f"load_{name}", lambda out: out)
    monkeypatch.setattr(evaluate_texts, f"evaluate_{name}", lambda _: {})
    done = CliRunner().invoke(train.app, [name, "--out", str(tmp_path), "--seed", "3"])
    assert done.exit_code == 0, done.output
    assert asked == [(tmp_path, 3)]
    assert f"{name}: done in 0 min 0 s" in done.output
    done = CliRunner().invoke(train.app, [name, "--out", str(tmp_path), "--evaluate"])
    assert done.exit_code == 0, done.output
    assert len(asked) == 1
