"""What a study started from: the workspace's parameters, removals and code, beside those of HEAD.

A page under Git must not get numbers of parameters, removals or code that are only in somebody's working folder.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from experiments import values
from laion_dask.storage import printable

_PARAMS, _REMOVALS, _PIPELINE = "params.yaml", "removals.csv", "dvc.yaml"
_DIGITS: Final = 16
_LISTED: Final = 5


class BaselineError(Exception):
    """A page under Git would get numbers of something else than HEAD has; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The digests of what the workspace's versions are built from, and what of it differs from HEAD."""

    parameters: str
    removals: str
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line of a page."""
        digests = (
            f"**Baseline.** `{_PARAMS}` with values of sha256 `{self.parameters}`, `{_REMOVALS}` of `{self.removals}`"
        )
        return f"{digests}; not those of HEAD: {'; '.join(self.changed)}." if self.changed else f"{digests}."


def read(root: Path) -> Baseline:
    """Return the baseline of a project's folder; outside of a Git repository nothing differs from HEAD."""
    try:
        here = _parameters((root / _PARAMS).read_text(encoding="utf-8"))
    except (YAMLError, TypeError) as error:
        what = " ".join(str(error).split())
        raise BaselineError(f"{_PARAMS} cannot be read ({what}). Remedy: `git checkout {_PARAMS}`") from error
    removals = (root / _REMOVALS).read_bytes() if (root / _REMOVALS).is_file() else b""
    in_git = _git(root, "rev-parse", "--git-dir").returncode == 0
    changed = tuple(_changes(root, here, removals)) if in_git else ()
    return Baseline(_digest(_text(here).encode()), _digest(removals), changed)


def refuse_other_parameters(root: Path, page: Path, found: Baseline) -> None:
    """Raise `BaselineError` if Git has the page or a file of its folder, but the workspace is not what HEAD has."""
    if found.changed and _is_tracked(root, page):
        changed = "; ".join(found.changed[:_LISTED])
        more = f" and {len(found.changed) - _LISTED} more" if len(found.changed) > _LISTED else ""
        raise BaselineError(
            f"{page} is under Git, but the workspace is not what HEAD has: {changed}{more}. Remedy: commit the change"
            " or take it back (`git checkout FILE`), or write elsewhere with --out"
        )


def refuse_a_change(root: Path, started: Baseline) -> None:
    """Raise `BaselineError` if the workspace is no longer what a study started from."""
    now = read(root)
    if now != started:
        changed = "; ".join(now.changed[:_LISTED]) or "it is that of HEAD again"
        raise BaselineError(
            f"{_PARAMS}, {_REMOVALS} or code have changed while the study ran ({changed}), so its numbers are of two"
            " workspaces. Remedy: give the same command again; experiments that fit are not run again"
        )


def _changes(root: Path, here: dict[str, Any], removals: bytes) -> Iterator[str]:
    committed = _of_head(root, _PARAMS)
    if committed is None:
        yield f"HEAD has no {_PARAMS}"
    else:
        head = _parameters(committed.decode())
        for key in sorted({*here, *head}):
            # As text, 1, 1.0 and true are three values, as they are in the digest.
            if _text(here.get(key, ...)) != _text(head.get(key, ...)):
                yield printable.line(f"{key} {head.get(key, 'absent')} -> {here.get(key, 'absent')}")
    if (_of_head(root, _REMOVALS) or b"") != removals:
        yield f"{_REMOVALS} has other content"
    for path in _uncommitted(root):
        yield printable.line(f"{path} has other content")


def _uncommitted(root: Path) -> list[str]:
    """Return the files of code that stages depend on and that are not as HEAD has them."""
    if not (root / _PIPELINE).is_file():
        return []
    stages = YAML(typ="safe", pure=True).load(root / _PIPELINE)["stages"].values()
    code = {dep for stage in stages for dep in stage.get("deps", ()) if dep.startswith(("laion_dask/", "workflow/"))}
    done = _git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--", _PIPELINE, *sorted(code))
    entries = done.stdout.decode(errors="replace").split("\0")
    # Two letters and a blank, then the path; a renamed file has its old path as an entry of its own.
    return sorted(entry[3:] for entry in entries if entry[2:3] == " ")


def _parameters(text: str) -> dict[str, Any]:
    return dict(values.flat(YAML(typ="safe", pure=True).load(text)))


def _text(value: Any) -> str:  # noqa: ANN401 - any YAML value
    return json.dumps(value, sort_keys=True, default=str)


def _of_head(root: Path, name: str) -> bytes | None:
    done = _git(root, "show", f"HEAD:./{name}")
    return done.stdout if done.returncode == 0 else None


def _is_tracked(root: Path, page: Path) -> bool:
    """Tell whether Git's index has the page, or figures and tables of its folder; links to there count."""
    place = (root / page).resolve()
    return bool(_git(root, "ls-files", "--", str(place), str(place.with_suffix(""))).stdout)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)  # noqa: S607 - as users do


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
