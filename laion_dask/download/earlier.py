"""Compare a download with an earlier one: same bytes, same picture, changed, gone or refused.

Links rot, and whoever buys an expired domain can serve other images to poison a model's training data (Carlini et al.,
arXiv 2302.10149). So bytes are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from laion_dask.images import hashes
from laion_dask.schema.comparison import CHANGED, GONE, REFUSED, SAME_BYTES, SAME_PICTURE, UNREACHABLE
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import PDQ_DISTANCE
from laion_dask.storage import numbered, shards

CHANGED_BYTES: Final = "changed_bytes"
_UNDECIDED: Final = frozenset(
    {
        "unreachable",
        "timeout",
        "host_failing",
        "host_budget",
        "shard_budget",
        "refused_port",
        "not_archived",
        "decoder_crashed",
    }
)

Mode = Literal["drop", "strict", "keep"]


class EarlierError(Exception):
    """An earlier download cannot be read; the message has the folder and the remedy."""


@dataclass(frozen=True, slots=True)
class Before:
    """A pair in an earlier version; `key` and `tar` locate its stored picture, if it has no PDQ hash."""

    sha256: str
    pdq: str | None
    key: str
    tar: Path


def shard_files(folder: Path) -> list[Path]:
    """List the tables of an earlier download; `EarlierError` if the folder has none."""
    paths = numbered.tables(folder)
    if not paths:
        message = (
            f"{folder} has no tables of an earlier download. Remedy: `dvc get . data/download --rev REVISION --out "
            f"{folder}`, or correct download.verify in params.yaml"
        )
        raise EarlierError(message)
    return paths


def earlier(folder: Path, name: str, uids: Collection[str]) -> dict[str, Before]:
    """Return the pairs that the earlier download in `folder` downloaded, by uid.

    The table of the same shard is read first: if both versions have the same work list, it is the only one.
    """
    files = shard_files(folder)
    same = [path for path in files if path.stem == name]
    pairs = dict(_rows(same, uids))
    missing = set(uids) - _known(same)
    if missing:
        pairs |= dict(_rows([path for path in files if path.stem != name], missing))
    return pairs


def _known(files: Collection[Path]) -> set[str]:
    return {str(uid) for path in files for uid in pq.read_table(path, columns=["uid"])["uid"].to_pylist()}


def _rows(files: Collection[Path], uids: Collection[str]) -> Iterator[tuple[str, Before]]:
    wanted = pa.array(sorted(uids), pa.string())
    for path in files:
        names = [name for name in ("uid", "sha256", "key", "pdq") if name in pq.read_schema(path).names]
        condition = (ds.field("reason") == KEEP) & ds.field("uid").isin(wanted)
        table = ds.dataset(path).to_table(columns=names, filter=condition)
        for row in table.filter(pc.is_valid(table["sha256"])).to_pylist():
            yield row["uid"], Before(row["sha256"], row.get("pdq"), row["key"], path.with_suffix(".tar"))


def with_pictures(found: Mapping[str, Before]) -> dict[str, Before]:
    """Return the same with a PDQ hash for each pair, computed from the stored picture if the table has none.

    A pair whose tar is missing keeps None: it counts as changed unless the bytes are the same.
    """
    lacking: dict[Path, dict[str, str]] = {}
    for uid, before in found.items():
        if before.pdq is None and before.tar.is_file():
            lacking.setdefault(before.tar, {})[before.key] = uid
    completed = dict(found)
    for tar, uids in sorted(lacking.items()):
        for key, picture in shards.read_shard(tar):
            if key in uids:
                before = found[uids[key]]
                now = hashes.pdq_as_stored(picture).hex
                completed[uids[key]] = Before(before.sha256, now, before.key, before.tar)
    return completed


def bits_apart(one: str, other: str) -> int:
    """Return the number of bits in which two PDQ hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def compare(before: Before, sha256: str | None, now: str | None) -> str:
    """Return the class of a pair that was downloaded again, by its new sha256 and PDQ hash."""
    if sha256 == before.sha256:
        return SAME_BYTES
    if before.pdq is None or now is None:
        return CHANGED
    return SAME_PICTURE if bits_apart(before.pdq, now) <= PDQ_DISTANCE else CHANGED


def refusal(class_of_pair: str, mode: Mode) -> str | None:
    """Return why a pair of this class is refused; None if it is not.

    `drop` refuses other pictures. `strict` also refuses other bytes of the same picture, since invisible noise can
    mislead a model. `keep` refuses nothing.
    """
    if class_of_pair == CHANGED and mode != "keep":
        return "another picture than the earlier version has"
    if class_of_pair == SAME_PICTURE and mode == "strict":
        return "the picture of the earlier version in other bytes"
    return None


def classify(row: Mapping[str, Any], before: Before, now: str | None) -> str:
    """Return the class of a pair by its row of `schema.IMAGES` and the PDQ hash of the downloaded picture."""
    reason = row["reason"]
    if reason == KEEP:
        return compare(before, row["sha256"], now)
    if reason == CHANGED_BYTES:
        # A download of before there was the column refused nothing but other pictures, unless it was strict.
        return str(row.get("compared") or CHANGED)
    if row["rights"] == "refused" and reason == row["rights_signal"]:
        return REFUSED
    later = row["http_status"] == 429 or row["http_status"] >= 500
    if reason in _UNDECIDED or (reason == "http_error" and later):
        return UNREACHABLE
    return GONE
