"""Read the machine's settings of the cluster, for each stage; refuse what is not known, with the remedy.

Settings of the machine are Dask configuration, never parameters. In ~/.config/dask/laion-dask.yaml:

    laion-dask:
      cluster:
        kind: auto          # auto, local, cuda, the address or the file of a scheduler, or the import path of a class
        options: {}         # arguments of that class
        workers: null       # how many workers to start; null: one for each core, or each GPU, of this machine
        adapt: null         # instead of workers: {minimum: 0, maximum: 20}, as Dask's adaptive scaling takes it
        patience: null      # how long to wait for a worker, such as 2 hours; null: by the kind
        resources: {}       # Dask resources that each task asks for, such as {GPU: 1}
        host: null          # this machine's address at which workers reach its servers; null: found out
        dashboard: null     # address of the dashboard of a local cluster, such as :8787; null: none
        performance-report: auto  # Dask's own report of each stage: auto (after a minute), true or false
        overlap: false      # score each shard as soon as download has finished it, on workers of score's settings
        score:              # the same settings again, for one stage only; a stage with a kind of its own inherits none
          kind: cuda        # of options, workers, adapt, patience and resources

or, in the environment, DASK_LAION_DASK__CLUSTER__WORKERS=4 and DASK_LAION_DASK__CLUSTER__SCORE__KIND=cuda.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import dask

_SECTION: Final = "laion-dask.cluster"
_KEYS: Final = (
    *("kind", "options", "workers", "adapt", "patience", "resources", "host", "dashboard"),
    *("performance-report", "overlap"),
)
STAGES: Final = (
    *("crawl", "extract", "catalog", "download", "score", "group", "filter", "translate", "caption", "release"),
    "report",
)
_OF_A_KIND: Final = ("options", "workers", "adapt", "patience", "resources")
_OWN: Final = ("auto", "local", "cuda")
_MOST_WORKERS: Final = 4096
_CLASS: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KINDS: Final = (
    "auto, local, cuda, a scheduler's address such as tls://host:8786, the path of its scheduler file (….json), or the "
    "import path of a cluster class such as dask_jobqueue.SLURMCluster"
)
# Workers of this machine come within seconds. A batch queue may take a night; it says so every minute.
_PATIENCE_S: Final = {"own": 120.0, "address": 600.0, "file": 600.0, "class": 86_400.0}


class ClusterError(Exception):
    """The configured cluster cannot be started or reached; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that apply to one stage."""

    kind: str
    """As written: auto, local, cuda, an address, a path, an import path."""
    form: str
    """own (auto, local, cuda), address, file or class."""
    options: Mapping[str, Any]
    workers: int | None
    adapt: Mapping[str, Any] | None
    patience_s: float
    resources: Mapping[str, float]
    host: str | None
    dashboard: str | None
    performance_report: bool | None
    """None: for stages that take a minute or longer."""
    overlap: bool = False
    """Run parts of the next stage, on workers of its own, while this stage runs."""
    where: Mapping[str, str] = field(default_factory=dict)
    """The full key under which each setting was found, for messages."""


def setting(name: str, default: object = None) -> Any:  # noqa: ANN401 - Dask configuration is untyped
    """Return one setting as written, without those of single stages."""
    return dask.config.get(f"{_SECTION}.{name}", default)


def settings(stage: str | None = None) -> Settings:
    """Return the settings of a stage, or those of all stages; raises `ClusterError` with key, value and remedy."""
    section = dask.config.get(_SECTION, {}) or {}
    if not isinstance(section, Mapping):
        raise _refused(_SECTION, section, f"a mapping of {', '.join(_KEYS)}")
    _check_names(section, _SECTION, (*_KEYS, *STAGES))
    found = {_plain(name): (value, f"{_SECTION}.{_plain(name)}") for name, value in section.items()}
    for name in STAGES:
        own = found.pop(name, (None, ""))[0]
        if own is None:
            continue
        if not isinstance(own, Mapping):
            raise _refused(f"{_SECTION}.{name}", own, f"a mapping of {', '.join(_KEYS)}")
        _check_names(own, f"{_SECTION}.{name}", _KEYS)
        if name == stage:
            if any(_plain(key) == "kind" for key in own):
                # What is set beside another kind belongs to that kind.
                found = {key: value for key, value in found.items() if key not in _OF_A_KIND}
            found |= {_plain(key): (value, f"{_SECTION}.{name}.{_plain(key)}") for key, value in own.items()}
    return _checked(found)


def _checked(found: Mapping[str, tuple[Any, str]]) -> Settings:
    def of(name: str, default: object = None) -> tuple[Any, str]:
        value, key = found.get(name, (None, f"{_SECTION}.{name}"))
        return (default if value is None else value), key

    kind, key = of("kind", "auto")
    form = _form(str(kind))
    if form is None:
        raise ClusterError(f"{key} = {kind!r} is not known. Remedy: use {_KINDS}")
    adapt = of("adapt")
    workers = _workers(*of("workers"))
    options = _mapping(*of("options", {}))
    if form == "class" and workers is None and adapt[0] is None:
        raise ClusterError(
            f"{key} = {kind!r} starts no worker by itself. Remedy: set {_SECTION}.workers to how many you want, or "
            f"{_SECTION}.adapt to {{minimum: 0, maximum: 20}}"
        )
    if form != "class" and (options or adapt[0] is not None):
        name = "options" if options else "adapt"
        raise ClusterError(
            f"{of(name)[1]} = {of(name)[0]!r} has no meaning for kind {kind!r}. Remedy: remove it, or name a cluster "
            f"class in {_SECTION}.kind"
        )
    return Settings(
        kind=str(kind),
        form=form,
        options=options,
        workers=workers,
        adapt=None if adapt[0] is None else _mapping(*adapt),
        patience_s=_seconds(*of("patience", _PATIENCE_S[form])),
        resources=_resources(*of("resources", {})),
        host=_text(*of("host")),
        dashboard=of("dashboard")[0] or None,
        performance_report=_report(*of("performance-report", "auto")),
        overlap=_switch(*of("overlap", False)),
        where={name: of(name)[1] for name in _KEYS},
    )


def _form(kind: str) -> str | None:
    if kind in _OWN:
        return "own"
    if "://" in kind:
        return "address"
    if kind.endswith(".json"):
        return "file"
    return "class" if _CLASS.fullmatch(kind) else None


def _plain(name: object) -> str:
    return str(name).replace("_", "-")  # Dask takes both for the same


def _check_names(section: Mapping[Any, Any], key: str, known: tuple[str, ...]) -> None:
    for name, value in section.items():
        if _plain(name) not in known:
            near = difflib.get_close_matches(_plain(name), known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"
            raise ClusterError(f"{key}.{name} = {value!r} is not a setting. Remedy: {remedy}")


def _workers(value: Any, key: str) -> int | None:  # noqa: ANN401 - as configured
    # Dask turns environment variables that look like numbers into numbers, and leaves the others as text.
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_WORKERS):
        return value
    message = f"a whole number from 1 to {_MOST_WORKERS:,}, or null for one process per core ({cores()} here)"
    raise _refused(key, value, message)


def _mapping(value: Any, key: str) -> dict[str, Any]:  # noqa: ANN401 - as configured
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items()}
    raise _refused(key, value, "a mapping such as {cores: 4, memory: 16GB}")


def _resources(value: Any, key: str) -> dict[str, float]:  # noqa: ANN401 - as configured
    found = _mapping(value, key)
    for name, amount in found.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount <= 0:
            raise _refused(f"{key}.{name}", amount, "a positive number, such as 1")
    return found


def _seconds(value: Any, key: str) -> float:  # noqa: ANN401 - as configured
    from dask.utils import parse_timedelta  # noqa: PLC0415 - imports much, and only a run needs it

    try:
        seconds = float(parse_timedelta(value))
    except (ValueError, KeyError, TypeError):
        seconds = -1.0
    if isinstance(value, bool) or not seconds > 0:
        raise _refused(key, value, "a time such as 90 s, 20 minutes or 12 hours")
    return seconds


def _text(value: Any, key: str) -> str | None:  # noqa: ANN401 - as configured
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise _refused(key, value, "an address or a name of this machine, such as 10.0.0.5")


def _report(value: Any, key: str) -> bool | None:  # noqa: ANN401 - as configured
    if value == "auto":
        return None
    if isinstance(value, bool):
        return value
    raise _refused(key, value, "auto, true or false")


def _switch(value: Any, key: str) -> bool:  # noqa: ANN401 - as configured
    if isinstance(value, bool):
        return value
    raise _refused(key, value, "true or false")


def _refused(key: str, value: object, remedy: str) -> ClusterError:
    return ClusterError(f"{key} = {value!r} is refused. Remedy: {remedy}")


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def at_most(asked: int | None, parts: int, stage: str) -> Iterator[None]:
    """Start at most `asked` workers (None: the setting) for a stage, and not more than it has parts."""
    found = settings(stage)
    wanted = asked or found.workers or (cores() if found.form == "own" else None)
    if wanted is None:
        yield
        return
    with dask.config.set({f"{_SECTION}.{stage}.workers": min(wanted, max(1, parts))}):
        yield
