"""A Dask scheduler and workers on hosts, started as their users start them, and stages of a project that use them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from made.hosts.network import ADDRESSES, Host, Network
from made.places import ROOT
from made.processes import programs

HEAD: Final = "head"
"""The host of the scheduler and of the driver."""
PORT: Final = 8786
SCHEDULER: Final = f"tcp://{ADDRESSES[HEAD]}:{PORT}"
TLS_SCHEDULER: Final = f"tls://{ADDRESSES[HEAD]}:{PORT}"
_KIND: Final = "DASK_LAION_DASK__CLUSTER__KIND"
# Dask gives a silent host up after this time; its own 30 s would only make the tests longer. It asserts at least 11 s.
_SOON: Final = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}
_PAGE: Final = ROOT / "docs" / "cluster.md"
_POOL: Final = """
import json, sys, distributed
with distributed.Client(sys.argv[1]) as client:
    if int(sys.argv[2]):
        client.wait_for_workers(int(sys.argv[2]), timeout=240)
    print(json.dumps([worker["host"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]))
"""


def scheduler(network: Network, *options: str, **environment: str) -> subprocess.Popen[str]:
    head = network.hosts[HEAD]
    command = ("dask", "scheduler", "--host", head.address, "--no-dashboard", *options)
    return head.serve("scheduler", *command, **_SOON, **environment)


def worker(host: Host, *options: str) -> subprocess.Popen[str]:
    """Start `dask worker` once: when it ends, it stays away."""
    command = ("dask", "worker", SCHEDULER, "--nworkers", "1", "--nthreads", "1", "--no-dashboard")
    return host.serve("worker", *command, "--local-directory", "/tmp/dask", *options, **_SOON)  # noqa: S108 - its own /tmp


def supervised_worker(host: Host, address: str = SCHEDULER, *options: str, **environment: str) -> subprocess.Popen[str]:
    """Start a worker as docs/cluster.md says, in a loop that starts it again whenever it ends."""
    return host.serve(
        "worker", "sh", "-c", page_file("worker.sh"), "worker.sh", address, *options, **_SOON, **environment
    )


def pool(network: Network, at_least: int, **environment: str) -> list[str]:
    """Wait until there are so many workers, and return their hosts' names, sorted."""
    address = environment.get(_KIND, SCHEDULER)
    said = network.hosts[HEAD].run("python", "-c", _POOL, address, str(at_least), **environment)
    names = {address: name for name, address in ADDRESSES.items()}
    return sorted(names[address] for address in json.loads(said.splitlines()[-1]))


def start(network: Network, project: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a program in a project's folder on the head, on the scheduler if no other cluster is configured."""
    settings = {
        **({} if "DASK_CONFIG" in environment else {_KIND: SCHEDULER}),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "PYTHONWARNINGS": "ignore",
        **_SOON,
    }
    return network.hosts[HEAD].start(*command, cwd=project, **{**settings, **environment})


def run(network: Network, project: Path, stages: Sequence[str], **environment: str) -> str:
    """Run stages in a project's folder, one after the other, and return what they say; each ends with status 0."""
    output = ""
    for stage in stages:
        process = start(network, project, "python", "-m", f"workflow.{stage}", **environment)
        said = programs.ended(process)
        assert process.returncode == 0, said
        output += said
    return output


def page_file(title: str) -> str:
    """Return a file that docs/cluster.md shows under this title: what a user copies is what is run here."""
    found = re.search(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', _PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"docs/cluster.md shows no file {title}"
    return found[1]
