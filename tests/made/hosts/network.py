"""Several hosts on one machine: network, mount, process, and IPC namespaces, joined by a bridge that only they see.

A host has an address, a name, and its own /tmp, /dev/shm and /run. It sees the software of this machine (read-only) and
the folders that it is given: the same one for all hosts (shared), or a copy for each (own disks). All of it belongs to
the processes that hold the namespaces, which end with the tests: the machine's own network is not touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from made.hosts import host_init
from made.places import ROOT
from made.processes import programs

PREFIX: Final = "10.77.0."
ADDRESSES: Final = {"head": f"{PREFIX}10", "n1": f"{PREFIX}11", "n2": f"{PREFIX}12", "db": f"{PREFIX}20"}
"""Every host that there can be: the driver and the scheduler run on `head`, workers on the others."""
_PRIVATE: Final = ("/tmp", "/dev/shm", "/run")  # noqa: S108 - they become the host's own
_BRIDGE: Final = "hosts"
_NEW: Final = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "--kill-child")
# Of the environment hosts get only this: other variables could name what they do not see. OPENBLAS_* and MKL_* choose
# kernels of matrix products, and with them the last digits of numbers.
_PASSED_ON: Final = re.compile(r"LANG|LC_ALL|HOME|TZ|(OPENBLAS|MKL|OMP|ONEDNN|DNNL|ATEN|NPY)_\w+")


def why_not() -> str:
    """Return why this machine cannot have hosts, or nothing."""
    if os.geteuid() != 0:
        return "hosts need root, to make namespaces"
    if missing := [name for name in ("ip", "unshare", "nsenter", "mount") if shutil.which(name) is None]:
        return f"hosts need the programs {', '.join(missing)} (Debian: iproute2, util-linux)"
    bridge = f"mount -t tmpfs tmpfs /mnt && ip link add {_BRIDGE} type bridge && ip link add p0 type veth peer name p1"
    done = programs.finished([*_NEW, "--propagation", "private", "sh", "-c", bridge])
    return f"this machine forbids namespaces: {(done.stdout + done.stderr).strip()}" if done.returncode else ""


@dataclass
class Host:
    """A running host; programs on it are started from here."""

    name: str
    network: Network
    holder: subprocess.Popen[str]
    init: int
    """Its first process, as this machine numbers it."""
    space: int
    """Its namespace of processes."""
    entered: list[subprocess.Popen[str]] = field(default_factory=list)
    """The programs that have been started on it."""

    @property
    def address(self) -> str:
        return ADDRESSES[self.name]

    def command(self, *words: str | Path, cwd: Path = Path("/"), **environment: str) -> list[str]:
        """Return the command that runs a program on this host, with this environment and little else."""
        given = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        given |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **environment}
        variables = [f"{name}={value}" for name, value in given.items()]
        enter = ["nsenter", "--target", str(self.init), "--mount", "--uts", "--ipc", "--pid", "--net"]
        return [*enter, "env", "--ignore-environment", f"--chdir={cwd}", *variables, *map(str, words)]

    def run(self, *words: str | Path, cwd: Path = Path("/"), within_s: float = 300.0, **environment: str) -> str:
        """Run a program to its end and return what it writes; the test fails unless its status is 0."""
        done = programs.finished(self.command(*words, cwd=cwd, **environment), within_s=within_s, check=True)
        return done.stdout + done.stderr

    def start(
        self, *words: str | Path, cwd: Path = Path("/"), stdin: int | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a program; what it writes is read by `programs.ended`."""
        return self._kept(programs.start(self.command(*words, cwd=cwd, **environment), stdin=stdin))

    def serve(self, name: str, *words: str | Path, cwd: Path = Path("/"), **environment: str) -> subprocess.Popen[str]:
        """Start a program that runs on; what it writes goes into a log, which a failing test prints."""
        with (self.network.logs / f"{self.name}-{name}.log").open("a") as log:
            return self._kept(programs.start(self.command(*words, cwd=cwd, **environment), stdout=log))

    def _kept(self, run: subprocess.Popen[str]) -> subprocess.Popen[str]:
        self.entered.append(run)
        return self.network.kept(run)

    def log(self, name: str) -> str:
        return (self.network.logs / f"{self.name}-{name}.log").read_text(errors="replace")

    def processes(self) -> list[int]:
        """List the processes of this host, as this machine numbers them; the first one last."""
        found: list[int] = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "ns" / "pid").stat().st_ino == self.space and int(entry.name) != self.init:
                    found.append(int(entry.name))
        return [*found, self.init]

    def is_on(self) -> bool:
        return self.holder.poll() is None

    def cut(self) -> None:
        """Take the cable out: packets get lost from now on, and nobody is told."""
        self.network.switch("ip", "link", "set", self.name, "down")

    def mend(self) -> None:
        """Put the cable in again."""
        self.network.switch("ip", "link", "set", self.name, "up")

    def power_off(self) -> None:
        """Lose power: the others hear nothing any more, not even that connections end; then every process is gone."""
        self.cut()
        os.kill(self.init, signal.SIGKILL)
        self.resume()
        self.holder.wait(programs.PATIENCE_S)
        # The kernel removes the link some time after the namespace; a host of this name may start before.
        self.network.unplug(self.name)

    def stop(self) -> None:
        """Stop every process but the first one, as if the host had been paused."""
        self.signal(signal.SIGSTOP)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process but the first one, as a batch system does to those of a job."""
        self._send(number, [process for process in self.processes() if process != self.init])

    def resume(self) -> None:
        """Let the processes go on that `stop` has stopped."""
        # nsenter stops and goes on with the program that it waits for.
        self._send(signal.SIGCONT, [*self.processes(), *(run.pid for run in self.entered)])

    @staticmethod
    def _send(number: signal.Signals, processes: Iterable[int]) -> None:
        for process in processes:
            if programs.is_there(process):
                with suppress(ProcessLookupError):
                    os.kill(process, number)


@dataclass
class Network:
    """The bridge, and the hosts that are joined to it."""

    logs: Path
    bridge: int
    """The process that holds its namespace."""
    hosts: dict[str, Host] = field(default_factory=dict)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def host(self, name: str, folders: Mapping[Path, Path]) -> Host:
        """Start a host; `folders` maps paths to the folders that lie there, beside this machine's software."""
        shown = [(str(path), str(path), True) for path in software()]
        shown += [(str(path), str(source), False) for path, source in folders.items()]
        wanted = {"name": name, "hosts": str(self._names()), "private": _PRIVATE, "folders": shown}
        program = [sys.executable, "-I", host_init.__file__, json.dumps(wanted)]
        holder = programs.start([*_NEW, "--propagation", "private", *program], stdin=subprocess.PIPE)
        self._stack.callback(_end, holder)
        init = int(programs.line_of(holder))
        # A host keeps its card's address when it starts again: the others may still know it.
        card = "02:00:" + ":".join(f"{int(number):02x}" for number in ADDRESSES[name].split("."))
        peer = ("name", "eth0", "address", card, "netns", str(init))
        self.switch("ip", "link", "add", name, "type", "veth", "peer", *peer)
        self.switch("ip", "link", "set", name, "master", _BRIDGE, "up")
        host = self.hosts[name] = Host(name, self, holder, init, Path(f"/proc/{init}/ns/pid").stat().st_ino)
        for words in ("addr add {}/24 dev eth0", "link set eth0 up", "link set lo up"):
            host.run("ip", *words.format(host.address).split())
        return host

    def switch(self, *command: str) -> None:
        """Run a command in the namespace of the bridge."""
        programs.finished(["nsenter", "--target", str(self.bridge), "--net", *command], check=True)

    def unplug(self, name: str) -> None:
        """Remove the link of a host that has ended, if it is still there."""
        programs.finished(["nsenter", "--target", str(self.bridge), "--net", "ip", "link", "delete", name])

    def kept(self, run: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Remember a program, so that it ends with the network."""
        self._stack.callback(_end, run)
        return run

    def _names(self) -> Path:
        path = self.logs / "hosts"
        path.write_text("127.0.0.1 localhost\n" + "".join(f"{at} {name}\n" for name, at in ADDRESSES.items()))
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def software() -> Sequence[Path]:
    """List the folders with this project and Python, where they could lie below a folder that is each host's own."""
    places = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(place for place in places if not any(other in place.parents for other in places))


@contextmanager
def opened(logs: Path) -> Iterator[Network]:
    """Make a bridge in a network of its own; at the end every host and every program on them is killed."""
    logs.mkdir(parents=True, exist_ok=True)
    make = f"ip link add {_BRIDGE} type bridge && ip link set {_BRIDGE} up && echo ready && exec cat"
    with programs.running(["unshare", "--net", "sh", "-c", make], stdin=subprocess.PIPE) as bridge:
        programs.line_of(bridge)
        with Network(logs, bridge.pid) as network:
            yield network


def _end(run: subprocess.Popen[str]) -> None:
    programs.kill(run)
    run.wait(programs.PATIENCE_S)
    for stream in (run.stdin, run.stdout):
        with suppress(OSError):
            if stream is not None:
                stream.close()
