"""Keep the addresses of MLflow's artifacts relative to the project, so that a moved or copied one has its own.

MLflow records absolute addresses: a moved project shows no artifacts, and a copied one writes into the first. MLflow
reads a relative address from the folder in which it runs, as it does `sqlite:///mlflow.db`; this project reads both
from the folder of the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

FOLDER: Final = "mlruns"
"""The folder of the artifacts, beside the database."""
_SQLITE: Final = "sqlite:///"
_PATIENCE_S: Final = 60.0


def database(uri: str) -> Path | None:
    """Return the file of a SQLite address, None for another address."""
    return Path(uri.removeprefix(_SQLITE)).resolve() if uri.startswith(_SQLITE) else None


def local(address: str, beside: Path) -> Path | None:
    """Return the path of an address of artifacts, read from the folder `beside`; None for an address elsewhere."""
    parts = urlsplit(address)
    if parts.scheme not in {"", "file"}:
        return None
    return beside / (unquote(parts.path) if parts.scheme else address)


def make_relative(file: Path) -> int:
    """Make the addresses in a database relative to its folder, and return how many were changed.

    An absolute address stays only where it leads elsewhere and its files do not lie beside the database.
    """
    with _changing(file) as connection:
        runs = connection.execute("select run_uuid, experiment_id, artifact_uri from runs").fetchall()
        changed = [(path, run) for run, _, address in runs if (path := _relative(address, file.parent))]
        connection.executemany("update runs set artifact_uri = ? where run_uuid = ?", changed)
        elsewhere = _with_runs_elsewhere(connection)
        experiments = connection.execute("select experiment_id, artifact_location from experiments").fetchall()
        moved = [
            (path, experiment)
            for experiment, address in experiments
            if (path := _relative(address, file.parent, moved=experiment not in elsewhere))
        ]
        connection.executemany("update experiments set artifact_location = ? where experiment_id = ?", moved)
    return len(changed) + len(moved)


def experiment_id(file: Path, name: str) -> str | None:
    """Return the id of an experiment that is not deleted, else of the one with the latest run, None without any."""
    with closing(_connect(file)) as connection:
        named = connection.execute(
            "select experiment_id from experiments where name = ? and lifecycle_stage = 'active'", [name]
        ).fetchone()
        latest = connection.execute("select experiment_id from runs order by start_time desc limit 1").fetchone()
    row = named or latest
    return str(row[0]) if row else None


def experiment_tag(file: Path, experiment: str, key: str) -> str | None:
    """Return the value of an experiment's tag."""
    with closing(_connect(file)) as connection:
        row = connection.execute(
            "select value from experiment_tags where experiment_id = ? and key = ?", [experiment, key]
        ).fetchone()
    return str(row[0]) if row else None


def set_experiment_tag(file: Path, experiment: str, key: str, value: str) -> None:
    """Set a tag of an experiment, as MLflow does."""
    with _changing(file) as connection:
        connection.execute(
            "insert or replace into experiment_tags (key, value, experiment_id) values (?, ?, ?)",
            [key, value, experiment],
        )


def _with_runs_elsewhere(connection: sqlite3.Connection) -> set[int]:
    """Return the experiments that have runs, none of which lies beside the database."""
    of_experiment: dict[int, bool] = {}
    for experiment, address in connection.execute("select experiment_id, artifact_uri from runs"):
        path = local(address or "", Path())
        here = path is not None and not path.is_absolute()
        of_experiment[experiment] = of_experiment.get(experiment, False) or here
    return {experiment for experiment, here in of_experiment.items() if not here}


def _relative(address: str | None, beside: Path, *, moved: bool | None = None) -> str | None:
    """Return an absolute address as one relative to a folder; None if it is relative, or leads elsewhere.

    What was recorded in another folder ends in `mlruns/...`. `moved` says whether it is here now; None: if it exists.
    """
    path = local(address or "", Path())
    if path is None or not path.is_absolute():
        return None
    if path.is_relative_to(beside):
        return path.relative_to(beside).as_posix()
    if FOLDER not in path.parts:
        return None
    start = len(path.parts) - 1 - path.parts[::-1].index(FOLDER)
    tail = Path(*path.parts[start:])
    return tail.as_posix() if ((beside / tail).is_dir() if moved is None else moved) else None


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=_PATIENCE_S)


@contextmanager
def _changing(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(_connect(file)) as connection, connection:
        yield connection
