"""Read the files that parameters name as their stages read them, as far as that is quick.

Small files are read whole, of large ones only the beginning: a file of another kind is reported before a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from laion_dask import params
from laion_dask.blocklists import known_lists
from laion_dask.filter import balance, clip_losses, uid_sets
from laion_dask.inputs.named_files import NamedFile
from laion_dask.release import part


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


def _head(rules: params.Score, place: int) -> None:
    from laion_dask.score import heads  # noqa: PLC0415 - seconds

    heads.load((rules.heads or ())[place])


def _faces(rules: params.Score) -> None:
    from laion_dask.score import faces  # noqa: PLC0415 - seconds

    if rules.faces is not None:
        faces.load(rules.faces)
