"""Join the rounds of one shard: each row from the last round that tried it.

Later rounds have only the rows that failed for now, which have no image yet: so the rounds' tars have distinct keys and
are merged in one pass. Memory holds the rows of a shard and one image for each round.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.blocklists import known_content
from laion_dask.schema.ledger import Ledger
from laion_dask.storage import shards
from laion_dask.web.archive.writer import join as join_archives

_SLOWEST: Final = 5


def settle(out: Path, *, name: str, rounds: Sequence[Path], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write one shard (see `part.download`) from the folders of its rounds, the first of which has all rows.

    Returns the same counts as `download`, with those of `beside`. Raises `shards.ShardError` if the rounds do not fit
    together.
    """
    rows: dict[str, dict[str, Any]] = {}
    # Parquet names the items of lists in its own way: as read, a shard of one round would have other bytes.
    ours = {field.name: field for field in schema.IMAGES.schema}
    columns = pa.schema([ours.get(field.name, field) for field in pq.read_schema(rounds[0] / f"{name}.parquet")])
    for folder in rounds:
        rows |= {row["key"]: row for row in pq.read_table(folder / f"{name}.parquet").to_pylist()}
    tars = [shards.read_members(folder / f"{name}.tar") for folder in rounds]
    images = heapq.merge(*tars, key=lambda image: image[0])
    image = next(images, None)
    with shards.ShardWriter(out, name, columns, index=True) as writer:
        for key, row in rows.items():
            members: list[tuple[str, bytes]] = []
            if image is not None and image[0] == key:
                members, image = image[1], next(images, None)
            writer.adopt(row, members)
        if image is not None:
            raise shards.ShardError(f"{name}: the rounds have the image {image[0]} twice, or without its row")
    join_archives(out, name, rounds)
    write_tries(out, name, [row for folder in rounds for row in pq.read_table(tries_file(folder, name)).to_pylist()])
    later = read_later(rounds[-1], name)
    write_later(out, name, later)
    return count(rows.values(), later) | dict(beside or {})


def count(rows: Iterable[Mapping[str, Any]], later: Sequence[int]) -> dict[str, Any]:
    """Count the rows of a shard: their ledger, bytes received, hosts, matches by list, and how many failed for now."""
    ledger, received, hosts, listed = Ledger(), 0, set(), Counter[str]()
    for row in rows:
        ledger.add([row["reason"]])
        received += row["bytes"]
        if row["reason"] in known_content.LISTED:
            listed.update(row["listed_by"])
        else:
            hosts.add(row["host"])
    counts = {"images": ledger.as_dict(), "bytes": received, "hosts": len(hosts), "later": len(later)}
    return counts | {"listed": dict(listed)}


def slowest(tries: pa.Table) -> list[dict[str, Any]]:
    """Return the hosts with the longest mean time of a try: host, tries, total seconds."""
    hosts = tries.group_by("host").aggregate([("seconds", "sum"), ("seconds", "count")]).to_pylist()
    hosts.sort(key=lambda row: (-row["seconds_sum"] / row["seconds_count"], row["host"]))
    return [
        {"host": row["host"], "tries": row["seconds_count"], "seconds": round(row["seconds_sum"], 3)}
        for row in hosts[:_SLOWEST]
    ]


def tries_file(folder: Path, name: str) -> Path:
    """Return the path of a part's table of tries and their durations (`schema.TRIES`)."""
    return folder / "tries" / f"{name}.parquet"


def later_file(folder: Path, name: str) -> Path:
    """Return the path of a part's list of rows that failed for now, as indices in the work list."""
    return folder / "later" / f"{name}.json"


def read_later(folder: Path, name: str) -> list[int]:
    """Read the indices, in the work list, of the rows that failed for now."""
    return [int(place) for place in json.loads(later_file(folder, name).read_bytes())]


def write_later(folder: Path, name: str, places: Sequence[int]) -> None:
    """Write the list that `read_later` reads."""
    path = later_file(folder, name)
    path.parent.mkdir()
    path.write_text(json.dumps(sorted(places)))


def write_tries(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Write the table of a shard's tries, in the order of its rows, and return it."""
    in_order = sorted(rows, key=lambda row: (row["key"], row["round"], row["attempt"]))
    table = pa.Table.from_pylist(in_order, schema=schema.TRIES.schema)
    path = tries_file(folder, name)
    path.parent.mkdir()
    pq.write_table(table, path, compression="zstd")
    return table


def join_tries(files: Iterable[Path], out: Path) -> None:
    """Write the tries of many shards into one table; memory holds one shard's."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(out, schema.TRIES.schema, compression="zstd") as writer:
        for file in files:
            writer.write_table(schema.TRIES.check(pq.read_table(file)))
