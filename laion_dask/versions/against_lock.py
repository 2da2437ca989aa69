"""Compare the outs of a project with dvc.lock, stage by stage, and say why the first one differs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.storage import printable
from laion_dask.versions import checkout, identity, machines, outs

WORKSPACE: Final = "workspace"
"""Instead of a revision: dvc.lock as it lies in the folder."""
_LOCK, _PIPELINE, _REQUIREMENTS = "dvc.lock", "dvc.yaml", "requirements.lock"
_INPUTS = "inputs"
_ORDER: Final = (_INPUTS, *identity.STAGES, "report")
DESCRIBES: Final = frozenset({"report"})
"""Stages that describe a version and are no part of it."""
_WEIGHTS: Final = ("laion_dask/demo/model", "laion_dask/demo/translator", "laion_dask/demo/captioner")
_LISTED: Final = 3


class LockError(Exception):
    """There is no dvc.lock to compare with, or it cannot be read; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Out:
    """One out of a stage that is not as dvc.lock has it."""

    path: str
    missing: bool
    files: Sequence[str] | None
    """Names of files that differ, are missing or are extra; None if the old list of files is not in DVC's cache."""

    def __str__(self) -> str:
        """Say it in a line."""
        if self.missing:
            return f"{self.path} is missing"
        if self.files is None:
            return f"{self.path} differs"
        return f"{self.path} differs in {_some(self.files)}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage beside dvc.lock."""

    name: str
    differing: Sequence[Out]
    after: Sequence[str] = ()
    """Its dependencies that are outs which differ: a stage that reads other data writes other data."""
    recorded: bool = True
    """False for a stage of dvc.yaml that dvc.lock does not have: its run was never finished."""

    @property
    def state(self) -> str:
        """Return equal, missing, differs, or unknown where dvc.lock has nothing to compare with."""
        if not self.recorded:
            return "unknown"
        if not self.differing:
            return "equal"
        return "missing" if all(out.missing for out in self.differing) else "differs"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All stages of a dvc.lock beside the files of the project."""

    rev: str
    """The commit whose dvc.lock was read, or `workspace`."""
    version: str
    stages: Sequence[Stage]
    machine: Mapping[str, Any]
    other_packages: Sequence[str]
    causes: Sequence[str] = field(default=())
    """Why the first stage that differs does so: what is known to differ, or what may."""
    since: Sequence[str] = field(default=())
    """Where all stages are equal: what has changed since they ran, each with its stage. `dvc repro` would run it."""

    @property
    def first(self) -> Stage | None:
        """Return the first stage that is not equal; None if all that make a version are equal."""
        return next((stage for stage in self._of_version if stage.state != "equal"), None)

    @property
    def first_differing(self) -> Stage | None:
        """Return the first stage whose files are here and are others; None if there is none."""
        return next((stage for stage in self._of_version if stage.state == "differs"), None)

    @property
    def _of_version(self) -> Iterator[Stage]:
        return (stage for stage in self.stages if stage.name not in DESCRIBES)


def total_bytes(project: Path, rev: str) -> int:
    """Return how many bytes `compare` is going to read of outs."""
    _, lock = _lock(project, rev)
    return sum(outs.size(project / out) for out in _recorded(lock) if (project / out).exists())


def compare(project: Path, rev: str, advance: outs.Advance = lambda _: None) -> Comparison:
    """Compare every out of dvc.lock at this revision, or of the workspace's, with the files in the project.

    Files are read in full; nothing is taken from DVC's cache but the old list of files of an out that differs. Raises
    `LockError` if there is no such revision or dvc.lock.
    """
    commit, lock = _lock(project, rev)
    recorded = _recorded(lock)
    found = {path: outs.listing(project / path, advance) for path in recorded}
    wrong = [path for path in recorded if outs.digest(found[path]) != recorded[path]]
    cache = _cache_folder(project) if any(found[path] for path in wrong) else None
    stages = []
    for name in _ordered({*lock, *_named(project, commit)}):
        locked = lock.get(name, {})
        paths = [out["path"] for out in locked.get("outs", ())]
        differing = [_out(path, found[path], recorded[path], cache) for path in paths if path in wrong]
        reads = [dep["path"] for dep in locked.get("deps", ()) if any(_within(dep["path"], out) for out in wrong)]
        stages.append(Stage(name, differing, reads, recorded=name in lock))
    requirements = _file(project, commit, _REQUIREMENTS)
    comparison = Comparison(
        commit, machines.version(recorded), stages, machines.here(), machines.other_packages(requirements)
    )
    if comparison.first is None:
        since = [f"{one.name}: {cause}" for one in stages for cause in _changed(project, lock.get(one.name, {}), one)]
        return replace(comparison, since=since)
    first = comparison.first_differing
    if first is None:
        return comparison
    causes = list(_causes(project, commit, lock[first.name], first, found))
    later = next(
        (stage for stage in stages if stage.state == "differs" and stage.name not in {_INPUTS, "report"}), None
    )
    if first.name == _INPUTS and later is not None:
        causes += [cause for cause in _causes(project, commit, lock[later.name], later, found) if cause not in causes]
    return replace(comparison, causes=causes or list(_possible(project, comparison)))


def _ordered(names: Iterable[str]) -> list[str]:
    """Return the names of stages in the order of the data, names that are not known here last."""
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def _named(project: Path, commit: str) -> Iterable[str]:
    """Return the stages of dvc.yaml at a commit; none if it cannot be read."""
    try:
        return dict(_yaml(_file(project, commit, _PIPELINE), _PIPELINE).get("stages") or {})
    except LockError:
        return ()


def _changed(project: Path, locked: Mapping[str, Any], stage: Stage) -> Iterator[str]:
    """Yield which code, weights, inputs and parameters of a stage are not those that dvc.lock has."""
    for dep in locked.get("deps", ()):
        path = str(dep["path"])
        if path in stage.after or outs.digest(outs.listing(project / path)) == dep.get("md5"):
            continue
        kind = "weights" if path in _WEIGHTS else "code" if path.startswith(("laion_dask/", "workflow/")) else "input"
        yield printable.line(f"{kind}: {path} is not that of dvc.lock")
    for file, expected in locked.get("params", {}).items():
        values = _yaml((project / file).read_text(encoding="utf-8"), file) if (project / file).is_file() else {}
        now = dict(identity.flat({key: value for key in expected for value in _section(values, key)}))
        then = dict(identity.flat(expected))
        for key in sorted({*then, *now}):
            if now.get(key, ...) != then.get(key, ...):
                before, after = then.get(key, "absent"), now.get(key, "absent")
                yield printable.line(f"parameter: {key} is {before} in dvc.lock, {after} here")


def _causes(
    project: Path, commit: str, locked: Mapping[str, Any], stage: Stage, found: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield what is known to differ: the stage's code, parameters, weights and inputs, or a file changed by hand."""
    yield from _changed(project, locked, stage)
    if stage.name == _INPUTS:
        places = "; ".join(str(out) for out in stage.differing if out.path.startswith("data/"))
        yield printable.line(f"input: parameters name other files, or a named file has other content: {places}")
    yield from _weights(project, commit, stage.name)
    workspace = _stages((project / _LOCK).read_text(encoding="utf-8")) if (project / _LOCK).is_file() else {}
    ran = {out["path"]: out.get("md5") for out in workspace.get(stage.name, {}).get("outs", ())}
    for differing in stage.differing:
        if differing.path in ran and ran[differing.path] != outs.digest(found[differing.path]):
            yield printable.line(f"by hand: {differing.path} is not what `dvc repro` wrote here last")


def _weights(project: Path, commit: str, stage: str) -> Iterator[str]:
    """Yield the models whose files have other digests than in the metrics of the revision."""
    path = f"metrics/{stage}.json"
    then, now = (_metrics(text) for text in (_file(project, commit, path), _file(project, WORKSPACE, path)))
    for kind in ("weights_sha256", "heads_sha256"):
        before, after = then.get(kind) or {}, now.get(kind) or {}
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                pair = (str(before.get(name, "none"))[:12], str(after.get(name, "none"))[:12])
                yield printable.line(f"weights: {name} ({kind}) is {pair[0]} there, {pair[1]} here")


def _possible(project: Path, found: Comparison) -> Iterator[str]:
    """Yield what may be the cause where code, parameters, weights and inputs are equal: packages, the machine."""
    if found.other_packages:
        yield printable.line(f"packages: other versions than requirements.lock: {_some(found.other_packages, 10)}")
    known = [one for one in machines.read(project / machines.RECORD) if one.get("version") == found.version]
    differences = [machines.differences(one, found.machine) for one in known]
    if not known:
        yield f"machine: {machines.RECORD} has no machine that built this version; this is {_machine(found.machine)}"
    elif all(differences):
        nearest = min(differences, key=len)
        yield f"machine: {'; '.join(nearest)}"
    elif not found.other_packages:
        yield (
            "not known: code, parameters, weights, inputs, packages, processor, GPUs, settings and Python are those"
            " that built it. What remains are compiler flags of fastText, settings that are not looked at, or a fault"
        )


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return printable.line(f"{machine['processor']}, {gpus}, {machine['system']}, Python {machine['python']}")


def _out(path: str, found: Mapping[str, str], recorded: str, cache: Path | None) -> Out:
    before = outs.cached_listing(cache, recorded) if cache is not None and found else {}
    if not before:
        return Out(path, missing=not found, files=None)
    names = sorted(name for name in {*before, *found} if before.get(name) != found.get(name))
    return Out(path, missing=False, files=names)


def _lock(project: Path, rev: str) -> tuple[str, dict[str, Any]]:
    """Return the commit of a revision, or `workspace`, and the stages of its dvc.lock."""
    commit = WORKSPACE if rev == WORKSPACE else _commit(project, rev)
    text = _file(project, commit, _LOCK)
    if text:
        return commit, _stages(text)
    where = "this folder" if commit == WORKSPACE else f"this folder at {rev}"
    if not (project / _PIPELINE).is_file():
        raise LockError(f"{where} has neither {_LOCK} nor {_PIPELINE}. Remedy: run this in the project's folder")
    message = f"{where} has no {_LOCK}: no version was built and committed there"
    raise LockError(f"{message}. Remedy: `make repro`, then commit {_LOCK}; or name another revision with --rev")


def _commit(project: Path, rev: str) -> str:
    try:
        return checkout.find_commit(rev, project)
    except checkout.VersionError as error:
        if not (project / _PIPELINE).is_file():
            message = f"this folder has no {_PIPELINE}. Remedy: run this in the project's folder"
        elif _git(project, "rev-parse", "--git-dir") is None:
            message = "this folder is in no Git repository, or Git is not installed. Remedy: `--rev workspace`"
        else:
            message = f"there is no revision {rev} here. Remedy: --rev with one that `git log` or `git tag` lists"
        raise LockError(message) from error


def _stages(lock: str) -> dict[str, Any]:
    return dict(_yaml(lock, _LOCK).get("stages") or {})


def _yaml(text: str, name: str) -> dict[str, Any]:
    """Read a file of the project that maps names to values; `LockError` if it is damaged."""
    try:
        return dict(YAML(typ="safe", pure=True).load(text) or {})
    except (YAMLError, TypeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise LockError(f"{name} cannot be read ({what}). Remedy: `git checkout {name}`") from error


def _recorded(lock: Mapping[str, Any]) -> dict[str, str]:
    """Return DVC's hash of each out by its path."""
    return {str(out["path"]): str(out.get("md5", "")) for stage in lock.values() for out in stage.get("outs", ())}


def _file(project: Path, commit: str, path: str) -> str:
    """Return a file of the project at a commit, or in the workspace; "" if there is none."""
    if commit == WORKSPACE:
        return (project / path).read_text(encoding="utf-8") if (project / path).is_file() else ""
    shown = _git(project, "show", f"{commit}:./{path}")
    return "" if shown is None else shown.decode(errors="replace")


def _git(project: Path, *arguments: str) -> bytes | None:
    """Return what Git prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, check=False)  # noqa: S607 - as users
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _metrics(text: str) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


def _cache_folder(project: Path) -> Path | None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=project, capture_output=True, text=True, check=False
    )
    return project / done.stdout.strip() if done.returncode == 0 else None


def _within(path: str, out: str) -> bool:
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def _some(names: Sequence[str], listed: int = _LISTED) -> str:
    more = f" and {len(names) - listed:,} more" if len(names) > listed else ""
    return ", ".join(names[:listed]) + more


def _section(values: Mapping[str, Any], path: str) -> list[Any]:
    """Return the value of a dotted name in nested mappings, in a list that is empty if there is none."""
    value: Any = values
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return []
        value = value[step]
    return [value]
