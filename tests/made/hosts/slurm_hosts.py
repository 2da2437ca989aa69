"""Slurm on hosts: Debian's daemons without systemd, with their files below each host's own /run; jobs run as root."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from made.hosts.network import ADDRESSES, Network
from made.processes import programs

_NEEDED: Final = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
_RUN: Final = "/run/slurm"
_SOCKET: Final = "/run/munge/socket"
_CONFIGURATION: Final = """
ClusterName=hosts
SlurmctldHost={head}({head_address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket}
StateSaveLocation={run}/state
SlurmdSpoolDir={run}/spool
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
{nodes}
PartitionName=all Nodes={names} Default=YES State=UP
"""


def why_not() -> str:
    """Return why this machine cannot have Slurm, or nothing."""
    places = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [name for name in _NEEDED if shutil.which(name, path=places) is None]
    return f"needs the programs {', '.join(missing)} (Debian: apt-get install slurm-wlm munge)" if missing else ""


def serve(network: Network, head: str, nodes: Sequence[str], folder: Path) -> dict[str, str]:
    """Start Slurm's daemons and wait until every node is idle; return the environment that its commands need.

    `folder` is one that all hosts see.
    """
    folder.mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    lines = [f"NodeName={name} NodeAddr={ADDRESSES[name]} CPUs=2 RealMemory=4000 State=UNKNOWN" for name in nodes]
    about = {"head": head, "head_address": ADDRESSES[head], "nodes": "\n".join(lines), "names": ",".join(nodes)}
    configuration.write_text(_CONFIGURATION.format(run=_RUN, socket=_SOCKET, **about))
    for name in (head, *nodes):
        host = network.hosts[name]
        host.run("sh", "-c", f"mkdir -p {_RUN}/state {_RUN}/spool /run/munge && chmod 755 /run/munge")
        files = {"key-file": str(key), "socket": _SOCKET} | {
            f"{kind}-file": f"/run/munge/{kind}" for kind in ("pid", "log", "seed")
        }
        munge = host.serve("munge", "/usr/sbin/munged", "--foreground", *(f"--{k}={v}" for k, v in files.items()))
        there = host.command("test", "-S", _SOCKET)
        programs.until(lambda there=there: programs.finished(there).returncode == 0, "munge answers", munge)
    environment = {"SLURM_CONF": str(configuration)}
    controller = network.hosts[head]
    running = controller.serve("slurmctld", "/usr/sbin/slurmctld", "-D", **environment)
    for name in nodes:
        network.hosts[name].serve("slurmd", "/usr/sbin/slurmd", "-D", "-N", name, **environment)

    def idle() -> bool:
        states = programs.finished(controller.command("sinfo", "--noheader", "--format=%t %D", **environment))
        return states.stdout.split() == ["idle", str(len(nodes))]

    programs.until(idle, "every node of Slurm is idle", running)
    return environment
