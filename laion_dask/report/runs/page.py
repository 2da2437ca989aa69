"""Find the page of MLflow that shows a project's versions: its server or database, and the experiment."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from laion_dask.report.runs import places, store, view
from laion_dask.versions import identity


class PageError(Exception):
    """There is no page to show; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Page:
    """Where the runs of a project are."""

    uri: str
    """Of MLflow's database, or of a server that runs."""
    folder: Path
    """The folder in which a server must run to find the artifacts."""
    experiment_id: str

    @property
    def server(self) -> str:
        """The address of the server that holds the runs, without an account in it; "" for a database."""
        return _shown(self.uri) if self.uri.startswith(("http://", "https://")) else ""

    def address(self, server: str) -> str:
        """Return the address of the runs table on a server, with thresholds and counts as columns."""
        return view.address(server, self.experiment_id)


def find(root: Path, experiment: str) -> Page:
    """Find where the runs of a project are, and prepare its database: addresses of artifacts, and the saved view.

    `experiment` is the name of MLflow's experiment; if it has none of that name, the one with the latest run is shown.
    Raises `PageError` if nothing was logged yet, or the database cannot be read.
    """
    root = identity.project_root(root / "dvc.lock")
    uri = store.address(root)
    file = places.database(uri)
    if file is None:
        return Page(uri, root, _on_a_server(root, uri, experiment))
    if not file.is_file():
        raise _nothing(f"there is no {file}")
    try:
        if file.parent == root:
            places.make_relative(file)
        found = places.experiment_id(file, experiment)
        if found is None:
            raise _nothing(f"{file} has no runs")
        if view.is_ours(places.experiment_tag(file, found, view.TAG)):
            places.set_experiment_tag(file, found, view.TAG, view.value())
    except sqlite3.Error as error:
        raise PageError(
            f"{file} cannot be read as MLflow's database ({error}). Remedy: end what writes to it, or move it away;"
            " `python -m experiments.rebuild_mlflow` makes another"
        ) from error
    return Page(uri, file.parent, found)


def _on_a_server(root: Path, uri: str, experiment: str) -> str:
    with store.opened(root, uri) as opened:
        found = opened.client.get_experiment_by_name(experiment)
        if found is None:
            raise _nothing(f"{_shown(uri)} has no experiment {experiment!r}, which report.experiment names")
        return opened.experiment(experiment)


def _shown(uri: str) -> str:
    """Return an address without name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _nothing(what: str) -> PageError:
    return PageError(
        f"{what}: no version was logged yet. Remedy: `make repro` builds and logs one; `python -m"
        " experiments.rebuild_mlflow` restores the runs of versions in Git's history"
    )
