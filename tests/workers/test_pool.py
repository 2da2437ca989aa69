"""The driver keeps the workers that have passed the handshake, whatever Dask's client asks the scheduler meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import pytest
from made.processes.dask_clients import threads_of_this_process

from laion_dask.workers.pool import open_pool

WORKERS = 3


def test_workers_stay_while_the_timer_of_the_client_asks_for_none_of_them(tmp_path: Path) -> None:
    # Every two seconds by default: of many looks in a long run, one meets it.
    often = {"distributed.client.scheduler-info-interval": "1 ms"}
    with (
        dask.config.set(often),
        threads_of_this_process(WORKERS) as client,
        open_pool(client, tmp_path, "test", print) as pool,
    ):
        assert len(pool.settle()) == WORKERS
        for _ in range(300):
            pool.look(now=True)
            assert len(pool.members()) == WORKERS


def test_a_worker_that_is_missing_in_one_answer_of_the_scheduler_may_work_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        threads_of_this_process(WORKERS) as client,
        open_pool(client, tmp_path, "test", print) as pool,
    ):
        all_members = pool.settle()
        asked = client.scheduler.identity

        async def without_the_first(**given: int) -> dict[str, Any]:
            about = dict(await asked(**given))
            return about | {"workers": dict(list(about["workers"].items())[1:])}

        with monkeypatch.context() as patch:
            patch.setattr(type(client.scheduler), "identity", staticmethod(without_the_first), raising=False)
            pool.look(now=True)
        assert len(pool.members()) == WORKERS - 1
        pool.look(now=True)
        assert pool.members() == all_members
