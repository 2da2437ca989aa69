"""Read the files that parameters name as their stages read them, as far as that is quick.

Small files are read whole, of large ones only the beginning: a file of another kind is reported before a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.blocklists import known_lists
from laion_dask.filter import balance, clip_losses, uid_sets
from laion_dask.inputs.named_files import NamedFile
from laion_dask.release import part
from laion_dask.storage import objects

_ASKED_FOR: Final = 16
"""Addresses of HTTP that a preflight asks for, one request each."""


def look(one: NamedFile, settings: params.Params) -> None:
    """Read a file that exists; raises the error of the module that reads it, which names the file and the remedy."""
    section, _, rest = one.key.partition(".")
    name, _, place = rest.partition(".")
    path = Path(one.path)
    ways: dict[tuple[str, str], Callable[[], object]] = {
        ("catalog", "lists"): lambda: known_lists.look(settings.catalog.lists[int(place.partition(".")[0])]),
        ("score", "heads"): lambda: _head(settings.score, int(place.partition(".")[0])),
        ("score", "faces"): lambda: _faces(settings.score),
        ("filter", "keep_uids"): lambda: uid_sets.look(path),
        ("filter", "drop_uids"): lambda: uid_sets.look(path),
        ("filter", "text_entities"): lambda: balance.read_entries(path),
        ("filter", "image_based"): lambda: clip_losses.opened(path),
        ("filter", "computed"): lambda: clip_losses.opened(path),
        ("release", "tombstones"): lambda: part.earlier_tombstones(path, rows=False),
    }
    if (section, name) in ways:
        ways[section, name]()


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


def _faces(rules: params.Score) -> None:
    from laion_dask.score import faces  # noqa: PLC0415 - seconds

    if rules.faces is not None:
        faces.load(rules.faces)
