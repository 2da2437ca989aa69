"""Say whether the version whose counts are in metrics/ is built in this folder, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.storage import printable
from laion_dask.versions import identity

_LISTED: Final = 5
_LONGEST: Final = 60
_ABSENT: Final = "absent"
_RESTORE: Final = "`make repro` builds it; `dvc pull` fetches it from a remote that has it"


def notes(project: Path, stages: Sequence[str], counted: Sequence[str]) -> Iterator[str]:
    """Yield a line for each reason why the counts of a project may not be what its files and parameters give.

    `stages` are all stages in order, `counted` those that have counts. An empty result means: built, and unchanged.
    """
    if missing := [stage for stage in stages if stage not in counted]:
        yield f"not finished: {', '.join(missing)} {_have(missing)} no counts. `make repro` continues"
    missing = [stage for stage in counted if not (project / "data" / stage).is_dir()]
    if len(missing) == len(counted):
        yield f"not built here: there is no data/. The counts are those of the version in metrics/: {_RESTORE}"
    elif missing:
        yield f"not built here: {', '.join(f'data/{stage}' for stage in missing)}. {_RESTORE}"
    try:
        changes = list(changed(project))
    except (OSError, YAMLError, TypeError, AttributeError, ValueError) as error:
        why = " ".join(str(error).split())
        yield f"params.yaml and dvc.lock cannot be compared ({why}). Remedy: `laion-dask params` checks the parameters"
        return
    if changes:
        shown = "; ".join(changes[:_LISTED]) + f"; and {len(changes) - _LISTED} more" * (len(changes) > _LISTED)
        yield f"params.yaml has changed since: {shown}. `make repro` builds that version"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def changed(project: Path) -> Iterator[str]:
    """Yield each parameter whose value in params.yaml is not that in dvc.lock, with both values.

    Raises what reading raises; a project without dvc.lock has no recorded values.
    """
    lock = project / "dvc.lock"
    if not lock.is_file():
        return
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {})
    told: set[str] = set()
    for stage in stages.values():
        for file, expected in (stage.get("params") or {}).items():
            values = YAML(typ="safe", pure=True).load(project / file)
            before = dict(identity.flat(expected))
            now = dict(identity.flat({key: _at(values, key) for key in expected}))
            for key in dict.fromkeys([*before, *now]):
                if before.get(key, _ABSENT) != now.get(key, _ABSENT) and key not in told:
                    told.add(key)
                    yield printable.line(f"{key} {_said(before, key)} -> {_said(now, key)}")


def _at(values: Any, key: str) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value of a dotted key; {} if there is none, which adds no key to a flat mapping."""
    for step in key.split("."):
        if not isinstance(values, Mapping) or step not in values:
            return {}
        values = values[step]
    return values


def _said(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return _ABSENT
    text = json.dumps(values[key], ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
