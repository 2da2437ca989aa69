"""Options as JSON in, a downloaded table out: `laion-dask download` as it runs, but for where the hosts are.

    python -m benchmarks.download.ours '{"table": ..., "out": ..., "rules": {...}, ...}'

Rules of the download section are those of params.yaml under `rules`. Robots.txt, tdmrep.json and all other signals are
asked for and bind; every name is resolved to the loopback server, as in a replay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client

from laion_dask import params
from laion_dask.download import worklist
from laion_dask.download.rates import DownloadRates
from laion_dask.runner.progress import Progress
from laion_dask.runner.stage import Resources
from laion_dask.standalone.download import download_tables, network
from laion_dask.web.fetch.replay_address import ReplayAddress


def main() -> None:
    """Download one table."""
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    bundle = Path(wanted["bundle"]).read_text(encoding="utf-8")
    address = ReplayAddress("127.0.0.1", wanted["http_port"], wanted["https_port"], bundle)
    settings = params.load()
    live = {"source": "web", "contact": "bench@bench.example", **wanted["rules"]}
    # The demo's list of known content is made by `make repro`, which a benchmark does not ask for.
    catalog = settings.catalog.model_copy(update={"lists": ()})
    settings = settings.model_copy(update={"catalog": catalog, "download": settings.download.model_copy(update=live)})

    @contextmanager
    def reach(rules: params.Download, work: Path, client: Client) -> Iterator[Resources]:
        with network(rules, work, client) as resources:
            yield {**resources, "replay": address}

    cut = worklist.WorkListRules(worklist.ColumnNames(), shard_rows=wanted["shard_rows"])
    out = Path(wanted["out"])
    progress = Progress("download", "images", DownloadRates())
    download_tables([Path(wanted["table"])], out, settings, cut, progress, workers=wanted["workers"], reach=reach)


if __name__ == "__main__":
    main()
