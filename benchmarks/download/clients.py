"""A downloader's name and a table in, its images, seconds and processor seconds out: each runs as users run it.

Every client is a process of its own, and what it and all its children used is read when it has ended. Both reach the
loopback server by names: img2dataset through a `sitecustomize.py` that resolves every name to it (its workers are new
processes that import it too), ours through the address that the replay server's clients get. Ports of URLs stay 80 and
443 for both. Both trust the server's authority beside those of certifi's list.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import environments
from benchmarks.bars import BenchError
from benchmarks.environments import BENCH, ROOT

LOCK: Final = Path(__file__).with_name("img2dataset.lock")
SIDE_PX: Final = 256
IMG2DATASET_THREADS: Final = 64

_SITECUSTOMIZE: Final = """\
import os, socket

_ports = {80: int(os.environ["BENCH_HTTP_PORT"]), 443: int(os.environ["BENCH_HTTPS_PORT"])}
_asked = socket.getaddrinfo


def getaddrinfo(host, port, *args, **kwargs):
    if isinstance(host, str) and host.endswith(".bench.example"):
        return _asked("127.0.0.1", _ports[int(port)], *args, **kwargs)
    return _asked(host, port, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
"""
_IMG2DATASET: Final = """\
import json, sys
import img2dataset

if __name__ == "__main__":
    img2dataset.download(**json.loads(sys.argv[1]))
"""


@dataclass(frozen=True)
class Server:
    """Where the loopback server listens."""

    http_port: int
    https_port: int
    bundle: Path
    """Certifi's authorities and the server's own."""


@dataclass(frozen=True)
class Used:
    """What a client took: images that it stored, by the clock and by the processor, and its largest process."""

    images: int
    seconds: float
    cpu: float
    peak_mb: float

    def after(self, start: Used) -> Used:
        """Return what is left without starting and ending, measured with a table of a few rows."""
        return Used(self.images - start.images, self.seconds - start.seconds, self.cpu - start.cpu, self.peak_mb)

    @property
    def per_cpu_s(self) -> float:
        """Return images for each second of the processor."""
        return self.images / self.cpu


def environment_of_img2dataset() -> Path:
    """Return the Python of img2dataset's environment."""
    return environments.python_of(LOCK, "img2dataset (about 650 MB)")


def img2dataset(table: Path, out: Path, server: Server, *, shard_rows: int, mode: str, workers: int) -> Used:
    """Run the released img2dataset as its documentation says: webdataset, sha256, certificates checked."""
    site = BENCH / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    script = site / "run_img2dataset.py"
    script.write_text(_IMG2DATASET)
    arguments = {
        "url_list": str(table),
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "text",
        "output_format": "webdataset",
        "output_folder": str(out),
        "processes_count": workers,
        "thread_count": IMG2DATASET_THREADS,
        "image_size": SIDE_PX,
        "resize_mode": mode,
        "resize_only_if_bigger": True,
        "number_sample_per_shard": shard_rows,
        # Ours stores no EXIF: it would cost img2dataset time for nothing that is compared.
        "extract_exif": False,
        "compute_hash": "sha256",
        "enable_wandb": False,
    }
    environment = {
        "PYTHONPATH": str(site),
        "SSL_CERT_FILE": str(server.bundle),
        "BENCH_HTTP_PORT": str(server.http_port),
        "BENCH_HTTPS_PORT": str(server.https_port),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "WANDB_MODE": "disabled",
    }
    used = _run([environment_of_img2dataset(), script, json.dumps(arguments)], environment)
    return _counted(used, out)


def ours(table: Path, out: Path, server: Server, **options: Any) -> Used:  # noqa: ANN401 - options of many types
    """Run `laion-dask download` as a program; `options` change rules of its download section."""
    arguments = {"table": str(table), "out": str(out), **options}
    ports = {"http_port": server.http_port, "https_port": server.https_port, "bundle": str(server.bundle)}
    used = _run([sys.executable, "-m", "benchmarks.download.ours", json.dumps(arguments | ports)], {})
    return _counted(used, out)


def _run(command: list[Any], environment: Mapping[str, str]) -> Used:
    log = BENCH / "client.log"
    began = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env={**os.environ, **environment}, stdout=stream, stderr=stream
        )
        peak = _Peak(process.pid)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(map(str, command[:3]))} failed:\n{log.read_text()[-3000:]}")
    # The processor seconds of a process hold those of the children it has waited for.
    return Used(0, seconds, used.ru_utime + used.ru_stime, peak.stop())


def _counted(used: Used, out: Path) -> Used:
    images = sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))
    return Used(images, used.seconds, used.cpu, used.peak_mb)


class _Peak:
    """Watches the largest resident memory that any process below one has (Linux)."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak_kb, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Return the peak in MB."""
        self._over.set()
        self._thread.join()
        return self._peak_kb * 1024 / 1e6

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            todo = [self._pid]
            while todo:
                pid = todo.pop()
                try:
                    todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                    status = Path(f"/proc/{pid}/status").read_text()
                    self._peak_kb = max(self._peak_kb, int(status.partition("VmHWM:")[2].split()[0]))
                except (OSError, IndexError, ValueError):
                    continue  # it has just ended
