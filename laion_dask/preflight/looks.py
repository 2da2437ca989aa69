"""Read the files that parameters name as their stages read them, as far as that is quick.

Small files are read whole, of large ones only the beginning: a file of another kind is reported before a run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.blocklists import known_lists
from laion_dask.filter import clip_losses, given_scores, uid_sets
from laion_dask.filter.sampling import balance
from laion_dask.inputs.named_files import NamedFile
from laion_dask.release import part
from laion_dask.storage import objects
from laion_dask.web.warc.warc_files import GZIP_MAGIC

_ASKED_FOR: Final = 16
"""Addresses of HTTP that a preflight asks for, one request each; and WARC files that it opens."""
_HEAD_BYTES: Final = 4096
_FASTTEXT: Final = (793_712_314).to_bytes(4, "little")
_WARC: Final = b"WARC/"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind a first byte: a frame that zstd skips (RFC 8878, 3.1.2)


class LookError(Exception):
    """A file is of another kind than its parameter asks for; the message has the file and the remedy."""


def look(one: NamedFile, settings: params.Params) -> None:
    """Read a file that exists; raises the error of the module that reads it, which names the file and the remedy."""
    section, _, rest = one.key.partition(".")
    name, _, place = rest.partition(".")
    path = Path(one.path)
    ways: dict[tuple[str, str], Callable[[], object]] = {
        ("extract", "language_model"): lambda: _language_model(path),
        ("download", "warcs"): lambda: _warcs(one.found()),
        ("catalog", "lists"): lambda: known_lists.look(settings.catalog.lists[int(place.partition(".")[0])]),
        ("score", "heads"): lambda: _head(settings.score, int(place.partition(".")[0])),
        ("score", "faces"): lambda: _faces(settings.score),
        ("score", "masked_text"): lambda: _masked_text(settings.score),
        ("filter", "keep_uids"): lambda: uid_sets.look(path),
        ("filter", "drop_uids"): lambda: uid_sets.look(path),
        ("filter", "text_entities"): lambda: balance.read_entries(path),
        ("filter", "image_based"): lambda: clip_losses.opened(path),
        ("filter", "computed"): lambda: _computed(settings.filter, place, path),
        ("release", "tombstones"): lambda: part.earlier_tombstones(path, rows=False),
    }
    if (section, name) in ways:
        ways[section, name]()


def _language_model(path: Path) -> None:
    """Read the first bytes of a fastText model."""
    with path.open("rb") as stream:
        if stream.read(len(_FASTTEXT)) != _FASTTEXT:
            raise LookError(f"{path} is not a fastText model. Remedy: such a file, or null for lid.176.ftz")


def _warcs(paths: Sequence[Path]) -> None:
    """Read the first bytes of the first WARC files; those of a zstd file say too little."""
    for path in paths[:_ASKED_FOR]:
        with path.open("rb") as stream:
            start = stream.read(_HEAD_BYTES)
        if start.startswith(GZIP_MAGIC):
            with suppress(zlib.error):
                start = zlib.decompressobj(wbits=31).decompress(start, len(_WARC))
        elif start.startswith(_ZSTD) or start[1:4] == _SKIPPABLE:
            continue
        if not start.startswith(_WARC):
            raise LookError(f"{path} is not a WARC file. Remedy: take it out of the glob, or write it anew")


def look_at_address(one: NamedFile) -> None:
    """List what an address or its glob names, and read the first byte of the first object.

    Of the first addresses of HTTP the size is asked for, since each is a request. Raises the error of the module that
    reads it.
    """
    if objects.can_list(one.path):
        objects.first_byte(objects.find(one.path)[0])
        return
    from laion_dask.crawl import listing  # noqa: PLC0415 - only where there are addresses

    if int(one.key.rpartition(".")[2]) < _ASKED_FOR:
        listing.sizes([one.path])


def _head(rules: params.Score, place: int) -> None:
    from laion_dask.score import heads  # noqa: PLC0415 - seconds

    heads.load((rules.heads or ())[place])


def _masked_text(rules: params.Score) -> None:
    from laion_dask.score import text_mask  # noqa: PLC0415 - seconds

    if rules.masked_text is not None:
        text_mask.test(rules.masked_text)


def _computed(rules: params.Filter, place: str, path: Path) -> None:
    number, _, key = place.partition(".")
    one = rules.computed[int(number)]
    if key == "file":
        given_scores.look(path, str(one.file_column))
    else:
        clip_losses.opened(path)


def _faces(rules: params.Score) -> None:
    from laion_dask.score import faces  # noqa: PLC0415 - seconds

    if rules.faces is not None:
        faces.load(rules.faces)
