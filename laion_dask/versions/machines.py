"""What a version was built with: processor, GPUs, Python, packages; and which machines have reproduced it.

A version's own files must not depend on the machine, so this is in `reproduced.json` beside dvc.lock, under Git.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from laion_dask.storage import printable

RECORD: Final = "reproduced.json"
# Instruction sets that libraries choose their kernels by; sums in another order have other last digits.
_INSTRUCTIONS: Final = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
# By which torch, oneDNN, MKL, OpenBLAS, CTranslate2 and CUDA choose other kernels than they would by themselves.
_SETTINGS: Final = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
    "CT2_FORCE_CPU_ISA",
    "CT2_USE_MKL",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)
_CPUINFO: Final = Path("/proc/cpuinfo")
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def here(cpuinfo: Path = _CPUINFO) -> dict[str, Any]:
    """Return what of this machine can change the last digits of a result; no name of a host or a user."""
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return {
        "processor": printable.line(model[1].strip()) if model else platform.processor() or platform.machine(),
        "instructions": [name for name in _INSTRUCTIONS if name in known],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpus": _gpus(),
        "settings": [printable.line(f"{name}={os.environ[name]}") for name in _SETTINGS if name in os.environ],
    }


def _gpus() -> list[str]:
    """Return the names of the GPUs that a run here would use; [] without NVIDIA's driver."""
    from laion_dask.workers import gpus  # noqa: PLC0415 - brings the driver's library

    if not gpus.visible():
        return []
    import pynvml  # noqa: PLC0415 - only where the machine has it

    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    return sorted({name.decode() if isinstance(name, bytes) else str(name) for name in names})


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Say in which properties two machines differ."""

    def said(value: Any) -> str:  # noqa: ANN401 - of JSON
        return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)

    return [
        printable.line(f"{name}: {said(recorded[name])} there, {said(current[name])} here")
        for name in current
        if name in recorded and recorded[name] != current[name]
    ]


def pins(requirements: str) -> dict[str, set[str]]:
    """Return the versions of each package in requirements.lock; several if they depend on Python or the system."""
    found: dict[str, set[str]] = {}
    for name, version in _PIN.findall(requirements):
        found.setdefault(_normal(name), set()).add(version)
    return found


def other_packages(requirements: str) -> list[str]:
    """Name the installed packages whose version is not that of requirements.lock.

    Packages that are not installed are left out: the lock also has those of other systems.
    """
    found = []
    for name, versions in sorted(pins(requirements).items()):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        # A local label such as +cpu is another build of the same release.
        if installed not in versions:
            found.append(f"{name} {installed}, not {' or '.join(sorted(versions))}")
    return found


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries of reproduced.json; [] if there is none."""
    return list(json.loads(path.read_bytes())) if path.is_file() else []


def add(path: Path, version: str, machine: Mapping[str, Any], packages: list[str]) -> None:
    """Record that this machine has built the version; an entry of the same machine is replaced."""
    entry = {"version": version, **machine, "other_packages": packages}
    known = [one for one in read(path) if any(one.get(name) != entry[name] for name in ("version", *machine))]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps([*known, entry], indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def version(outs: Mapping[str, str]) -> str:
    """Return the digest that names the outs of a dvc.lock in reproduced.json."""
    return hashlib.sha256(json.dumps(sorted(outs.items())).encode()).hexdigest()[:32]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
