"""Changes of params.yaml in, one DVC experiment for each out; those that are there already are not run again.

Experiments run in the copy of the project that `dvc exp run --temp` makes, so that params.yaml, data/ and what Git sees
stay as they are. Only the stages that a change reaches run: the others come out of the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from experiments import values, versions
from laion_dask import params

_NAME_CHARS: Final = 60
_DIGEST_CHARS: Final = 8
_TAIL_LINES: Final = 15


class RunError(Exception):
    """Experiments cannot be run here, or one failed; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One experiment to run: what it is called, what it changes, and the name that says so."""

    label: str
    changes: Mapping[str, Any]
    """New values by dotted key; empty for the project's params.yaml as it is."""
    name: str
    upto: str | None = None
    """The last stage that runs; None: all of them."""


def plan(root: Path, wanted: Sequence[tuple[str, Mapping[str, Any]]], upto: str | None = None) -> list[Trial]:
    """Check labels and changes against params.yaml, all of them before any is run, and name each by its content.

    The name ends in a digest of all parameters and of everything in the project that dvc.yaml depends on: the same
    question about the same code is the same experiment, whatever was committed in between. With `upto` no stage behind
    that one runs, and names are others. Raises `RunError` where no version was built yet, `values.ValuesError` and
    `params.ParamsError` for what params.yaml does not take.
    """
    if not (root / "dvc.lock").is_file():
        raise RunError(f"{root} has no dvc.lock. Remedy: `make repro` first, so that experiments have what they change")
    base = YAML(typ="safe", pure=True).load(root / "params.yaml")
    code = _project_digest(root)
    trials = []
    for label, changes in wanted:
        checked = params.parse(values.lay(base, changes), source=f"params.yaml with {label}")
        content = json.dumps([code, checked.model_dump(mode="json"), *([upto] if upto else [])], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_CHARS]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:_NAME_CHARS]
        trials.append(Trial(label, changes, f"{slug}-{digest}", upto))
    return trials


def run(
    root: Path, trials: Sequence[Trial], say: Callable[[str], None] | None = None
) -> list[versions.ComparedVersion]:
    """Run what is not there yet, one after the other, and return all versions in the order of the trials.

    Raises `RunError` at the end if any failed; the others are kept. Ctrl-C ends the one that runs and keeps the rest:
    the same call goes on from there.
    """
    say = say or _say
    ready = versions.experiments(root)
    todo = [trial for trial in trials if trial.name not in ready]
    say(f"{len(trials)} experiments, {len(trials) - len(todo)} of them there already")
    began = time.monotonic()
    failed: dict[str, str] = {}
    for place, trial in enumerate(todo, start=1):
        start = time.monotonic()
        said = _run_one(root, trial, _head(place, todo, trial), say)
        now = time.monotonic()
        left = (now - began) / place * (len(todo) - place)
        if said:
            failed[trial.label] = said
        result = "failed" if said else _result(versions.read(root, trial.name), trial.upto)
        say(f"{_head(place, todo, trial)}{result}, {now - start:.0f} s; {_minutes(left)} left")
    if failed:
        lines = "\n".join(f"{label}:\n{said}" for label, said in failed.items())
        raise RunError(
            f"{len(failed)} of {len(trials)} experiments failed, the others are kept:\n{lines}\n"
            "Remedy: mend the cause and give the same command; only these run again"
        )
    return [versions.read(root, trial.name, trial.label) for trial in trials]


def _run_one(root: Path, trial: Trial, head: str, say: Callable[[str], None]) -> str:
    """Run one experiment; returns "" or the end of what was said where it failed."""
    changes = [word for key, value in trial.changes.items() for word in ("-S", values.override(key, value))]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", trial.name, *changes]
    command += [trial.upto] if trial.upto else []
    # Finished parts and the embedded database lie in the project, not in the copy that is deleted.
    home = os.environ.get("LAION_DASK_HOME") or str(root / ".laion_dask")
    log = Path(home) / "experiments" / f"{trial.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "LAION_DASK_HOME": home, "PATH": _path()}
    lines: list[str] = []
    with (
        log.open("w", encoding="utf-8") as told,
        subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            told.write(line)
            lines.append(line.rstrip())
            if found := re.match(r"Running stage '(\w+)'", line):
                say(head + found[1])
    if process.returncode or trial.name not in versions.experiments(root):
        return "\n".join(["  " + line for line in lines if line][-_TAIL_LINES:]) + f"\n  (all of it: {log})"
    return ""


def _path() -> str:
    # `dvc exp run` calls python by name: it must be this one, also where no environment was activated.
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def _project_digest(root: Path) -> str:
    """Digest what the stages depend on, but for what they make: code, removals, reference tables, dvc.yaml itself."""
    stages = YAML(typ="safe", pure=True).load(root / "dvc.yaml")["stages"]
    outs = {out if isinstance(out, str) else next(iter(out)) for spec in stages.values() for out in spec["outs"]}
    deps = {dep for spec in stages.values() for dep in spec.get("deps", [])} - outs
    digest = hashlib.sha256((root / "dvc.yaml").read_bytes())
    for dep in sorted(deps):
        path = root / dep
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _result(version: versions.ComparedVersion, upto: str | None) -> str:
    words = []
    kept = version.number(f"{upto or 'release'}.pairs.kept")
    if kept is not None:
        words.append(f"{kept:,.0f} pairs")
    # The metrics of stages that did not run are those of the project.
    for name in () if upto else ("precision", "recall"):
        share = version.number(f"report.truth.keep.{name}")
        if share is not None:
            words.append(f"{name} {share:.3f}")
    return ", ".join(words) or "done"


def _head(place: int, todo: Sequence[Trial], trial: Trial) -> str:
    return f"[{place}/{len(todo)}] {trial.label}: "


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _say(line: str) -> None:
    # On a terminal what is running stands in one line, which its result replaces.
    end = "\n"
    if sys.stderr.isatty():
        stage = re.fullmatch(r"\[.*: [a-z]+", line) is not None
        line, end = f"\r\x1b[2K{line}", "" if stage else "\n"
    print(line, end=end, file=sys.stderr, flush=True)  # noqa: T201 - this is what people read
