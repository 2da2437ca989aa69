"""Dask clients for tests, on threads of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def threads_of_this_process(workers: int) -> Iterator[Client]:
    """Open a Dask cluster without processes of its own, so that a test sees what its tasks did."""
    with (
        LocalCluster(
            processes=False,
            n_workers=workers,
            threads_per_worker=1,
            # A free port: with None, Dask serves on 8787 and warns when another run has it.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            # What the tests raise in a worker is no news.
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
