"""Write what of requirements.lock a machine without a GPU needs: all but the packages for GPUs, and torch by itself.

    python setup/for_processors.py requirements.lock FOLDER
    python setup/for_processors.py --installed     # says if torch cannot be used as it was installed

FOLDER/processors.lock has every other pin with its hashes. FOLDER/torch.txt has torch and torchvision without hashes:
the lock's are those of the builds for GPUs, and builds for processors come from an index that the user names. Needs
nothing but Python's own library, since it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OF_GPUS: Final = re.compile(r"(nvidia|cuda)-.+|triton|dask-cuda")
_BUILDS: Final = ("torch", "torchvision")
"""Packages that have a build for GPUs and one for processors."""
_PIN: Final = re.compile(r"([A-Za-z0-9._-]+)==([^ \\]+)")


@dataclass(frozen=True)
class Pin:
    """One pin of the lock: its lines with hashes, and which packages ask for it."""

    name: str
    version: str
    text: str
    asked_by: frozenset[str]


def pins(lock: str) -> list[Pin]:
    """Read a lock that `uv pip compile` has written. Raises `ValueError` for a line that belongs to no pin."""
    found: list[Pin] = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", "\n" + lock.strip()):
        if not block.strip():
            continue
        match = _PIN.match(block)
        if match is None:
            raise ValueError(f"no pin: {block.splitlines()[0]!r}")
        asked = re.findall(r"^    #(?: via|  ) +([A-Za-z0-9][A-Za-z0-9._-]*)", block, re.MULTILINE)
        found.append(Pin(match[1], match[2], block, frozenset(asked)))
    return found


def only_for_gpus(found: list[Pin]) -> frozenset[str]:
    """Name the packages for GPUs, and those that nothing else asks for."""
    dropped = {pin.name for pin in found if _OF_GPUS.fullmatch(pin.name)}
    asked_by: dict[str, set[str]] = {}
    for pin in found:
        # A package may have several pins, for several versions of Python.
        asked_by.setdefault(pin.name, set()).update(pin.asked_by)
    while more := {name for name, by in asked_by.items() if name not in dropped and by and by <= dropped}:
        dropped |= more
    return frozenset(dropped)


def main(lock: Path, folder: Path) -> None:
    """Write both files."""
    found = pins(lock.read_text(encoding="utf-8"))
    dropped = only_for_gpus(found)
    kept = [pin.text for pin in found if pin.name not in dropped and pin.name not in _BUILDS]
    builds = [f"{pin.name}=={pin.version}" for pin in found if pin.name in _BUILDS]
    (folder / "processors.lock").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "torch.txt").write_text("\n".join(builds) + "\n", encoding="utf-8")


def installed() -> str:
    """Return why the installed torch or torchvision cannot be used without packages for GPUs; "" if they can."""
    try:
        import torch  # noqa: PLC0415 - only when it was installed
        import torchvision  # noqa: F401, PLC0415 - fails beside a torch that it was not built against
    except (ImportError, OSError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return f"it was built for CUDA {torch.version.cuda}" if torch.version.cuda else ""


if __name__ == "__main__":
    if sys.argv[1] == "--installed":
        if problem := installed():
            sys.exit(
                f"setup: the torch and torchvision of CPU_INDEX are no builds for processors: {problem}. Remedy: an "
                "index that has them (docs/install.md), or make setup CPU_INDEX= for the builds of requirements.lock"
            )
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
