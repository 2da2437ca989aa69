"""A small project in which pairs have been removed: built, not run, with every place where traces of pairs lie."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
from made.places import ROOT
from made.servers.faulty_hosts import picture
from made.versions import tables

from laion_dask.storage import embeddings, shards

ROWS: Final = 4
GONE: Final = [(0, 1), *((1, place) for place in range(ROWS))]
"""Shard and row: one of several, and all of a shard."""


def uid(shard: int, place: int) -> str:
    return tables.uid(shard * ROWS + place)


def url(shard: int, place: int) -> str:
    return f"https://a.example/{shard}-{place}.jpg"


def text(shard: int, place: int) -> str:
    return f"a drawn thing, {shard} and {place}"


def body(shard: int, place: int) -> bytes:
    """The last of the first shard is the picture of one that goes, and stays."""
    return picture(5 if (shard, place) in {(0, 3), (1, 1)} else 10 * shard + place)


def build(project: Path) -> Path:
    """Make a project of two shards, released without the pairs that its ledger names; with parts and artifacts."""
    data = project / "data"
    store = data / "score" / embeddings.STORE
    store.parent.mkdir(parents=True)
    group = embeddings.create(store, {"b32": {"model": "x"}}, shards=2, shard_rows=ROWS, dimensions={"b32": 3})
    pairs: list[dict[str, Any]] = []
    (data / "download").mkdir()
    for shard in range(2):
        rows = [
            {"uid": uid(shard, at), "url": url(shard, at), "caption": text(shard, at),
             "final_url": f"{url(shard, at)}?at=last"}
            for at in range(ROWS)
        ]  # fmt: skip
        pairs += [{"uid": row["uid"], "url": row["url"], "text": row["caption"]} for row in rows]
        with shards.ShardWriter(data / "download", f"{shard:05d}") as writer:
            for at, row in enumerate(tables.images(*rows).to_pylist()):
                writer.add(row, body(shard, at))
        name = f"{shard:05d}.parquet"
        tables.write(
            data / "score" / name,
            tables.scores(*({"uid": row["uid"], "slot": shard * ROWS + at} for at, row in enumerate(rows))),
        )
        fates = [{"uid": uid(shard, at), "shard": shard} for at in range(ROWS)]
        fates = [one | ({"reason": "removed_later"} if (shard, at) in GONE else {}) for at, one in enumerate(fates)]
        tables.write(data / "filter" / name, tables.verdicts(*fates))
        part = project / ".laion_dask" / "parts" / "download" / f"part{shard}"
        part.mkdir(parents=True)
        shutil.copy(data / "download" / name, part)
        (part / "counts.json").write_text("{}")
    shards.write_sizes(data / "download")
    for array in ("image", "text"):
        embeddings.array(group, f"b32/{array}")[:] = np.ones((2 * ROWS, 3), np.float16)
    tables.write(data / "extract" / "pairs" / "00.parquet", tables.pairs(*pairs))
    (project / "mlruns").mkdir()
    (project / "mlruns" / "old.html").write_text(f"<img src='{url(0, 1)}'>")
    (project / "mlruns" / "new.html").write_text(f"<img src='{url(0, 2)}'>")
    asked = "".join(f"url,{url(*one)},asked,2026-01-01,form\n" for one in GONE)
    (project / "removals.csv").write_text(f"kind,value,reason,date,source\n{asked}")
    shutil.copy(ROOT / "params.yaml", project)
    return project
