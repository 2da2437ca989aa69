"""Decide by a picture's C2PA manifest: its assertions about data mining and training.

A manifest is detected in the bytes; reading it needs the library c2pa (`pip install laion-dask[c2pa]`). Without the
library a manifest is `unknown`, never allowed.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

from laion_dask.web.rights.decision import SILENT, Decision, decision

NOT_INSTALLED: Final = "manifest present, c2pa not installed"

# The description box of a manifest store (C2PA 2.1, 11.1.4.2): type, then the UUID of `c2pa`. It lies in one piece in
# JPEG's APP11, PNG's caBX, WEBP's C2PA, TIFF's tag 52545 and ISO media's uuid box, which has a UUID of its own.
_STORE: Final = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
_BOX: Final = b"\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81"
_TYPES: Final = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"....ftyp", re.DOTALL), "image/avif"),
    (re.compile(rb"GIF8"), "image/gif"),
    (re.compile(rb"II\*\0|MM\0\*"), "image/tiff"),
)
# CAWG Training and Data Mining 1.1; the second is C2PA's own of 1.x, removed in 2.0.
_ASSERTIONS: Final = re.compile(r"(?:cawg|c2pa)\.training-mining(?:__\d+)?")
# Entries about inference are left out: a data set makes no such use of a picture.
_ENTRIES: Final = frozenset(
    f"{owner}.{entry}"
    for owner in ("cawg", "c2pa")
    for entry in ("data_mining", "ai_training", "ai_generative_training")
)
_VALID: Final = frozenset({"Valid", "Trusted"})


def decide_manifest(body: bytes, time: str | None) -> Decision:
    """Decide by the training-mining assertions of a manifest store; SILENT without a store or assertions.

    `notAllowed` refuses, and so does `constrained`, because a data set cannot meet a constraint. This holds for the
    picture and its ingredients, and with an invalid signature too. `allowed` needs a valid signature.
    """
    # JPEG files have no ISO media boxes, so most pictures are searched once only.
    if _STORE not in body and (body.startswith(b"\xff\xd8\xff") or _BOX not in body):
        return SILENT
    c2pa = library()
    if c2pa is None:
        return decision("unknown", "c2pa", NOT_INSTALLED, "file", time)
    kind = next((name for sign, name in _TYPES if sign.match(body)), "")
    try:
        with c2pa.Reader(kind, io.BytesIO(body), context=_context()) as reader:
            store = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except (c2pa.C2paError, ValueError, TypeError) as error:
        # Only the type of the error: its message differs between versions of the library.
        kind = type(error).__name__.removeprefix("_")
        return decision("unknown", "c2pa", f"manifest cannot be read ({kind})", "file", time)
    entries = sorted(set(_uses(store)))
    if not entries:
        return SILENT
    uses = {use for _, use in entries}
    rights = "refused" if uses & {"notAllowed", "constrained"} else "unknown"
    if uses == {"allowed"} and state in _VALID:
        rights = "allowed"
    evidence = "; ".join([*(f"{entry}: {use}" for entry, use in entries), f"signature: {state}"])
    return decision(rights, "c2pa", evidence, "file", time)


def _uses(store: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for manifest in store.get("manifests", {}).values():
        for assertion in manifest.get("assertions", []):
            if not _ASSERTIONS.fullmatch(str(assertion.get("label", ""))):
                continue
            data = assertion.get("data")
            entries = data.get("entries") if isinstance(data, dict) else None
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                if name in _ENTRIES:
                    yield name, str(entry.get("use") if isinstance(entry, dict) else entry)


@cache
def library() -> ModuleType | None:
    """Return the library c2pa, None where it is not installed."""
    try:
        return importlib.import_module("c2pa")
    except ImportError:
        return None


@cache
def _context() -> Any:  # noqa: ANN401 - the library has no types
    c2pa = importlib.import_module("c2pa")
    # A picture must not trigger any request: no remote manifests, no revocation lists.
    verify = {"remote_manifest_fetch": False, "ocsp_fetch": False}
    return c2pa.Context(c2pa.Settings.from_dict({"verify": verify}))
