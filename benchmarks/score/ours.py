"""Shards in, images a second out, of the stage `score` and of its parts alone, in the same processes of one thread.

Every way runs on the same open cluster, one process a core, after each has loaded the model: only the work differs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distributed import Client

    from laion_dask import params

_BATCH: Final = 64

Result = dict[str, Any]


def rules(weights: str, decode: str = "full") -> params.Score:
    """Return the parameters of a run: ViT-B-32 with the weights of a file, or `demo` with its heads."""
    from laion_dask import params  # noqa: PLC0415
    from laion_dask.params import heads as head_params  # noqa: PLC0415

    demo = weights == "demo"
    model: dict[str, Any] = (
        {"name": "demo", "model": "demo"} if demo else {"name": "b32", "model": "ViT-B-32", "pretrained": weights}
    )
    heads = (head_params.Head(kind="demo"),) if demo else ()
    return params.Score(
        models=(params.Model(**model),),
        heads=heads,
        tags=(),
        faces=None,
        masked_text=None,
        batch=_BATCH,
        decode=decode,
        compile="none",
    )


@contextmanager
def opened(settings: params.Score) -> Iterator[Client]:
    """Yield a local cluster of one process for each core, with the model loaded in each."""
    import dask  # noqa: PLC0415

    from laion_dask.cluster import kinds  # noqa: PLC0415
    from laion_dask.score import part as score  # noqa: PLC0415

    workers = len(os.sched_getaffinity(0))
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": workers}),
        kinds.open_client(gpu=True) as client,
    ):
        each(client, score.about, settings)
        yield client


def each(client: Client, function: Any, *args: Any) -> list[Any]:  # noqa: ANN401 - any task
    """Run a function in every worker at the same time; return what it returns in each.

    A list among the arguments has one value for each worker.
    """
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    futures = [
        client.submit(
            function, *(arg[place] if isinstance(arg, list) else arg for arg in args), workers=[worker], pure=False
        )
        for place, worker in enumerate(workers)
    ]
    return list(client.gather(futures))


def forward(settings: params.Score, table: Path, rounds: int, texts: str) -> float:
    """Pass a batch of a shard through both towers, as tensors in memory; return images/s of this process.

    The networks and the tensors are those that the stage computes with: texts without the positions that are behind the
    longest of the batch, or, `whole`, as open_clip's tokenizer gives them.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from laion_dask.clip import clip, models, preprocess, text_tower  # noqa: PLC0415
    from laion_dask.storage import shards  # noqa: PLC0415

    model = models.load(settings.models[0])
    captions = pq.read_table(table, columns=["caption"])["caption"].to_pylist()[:_BATCH]
    rooms = torch.empty((len(captions), *model.preparation.side, 3), dtype=torch.uint8)
    for (_, body), room in zip(shards.read_shard(table.with_suffix(".tar")), rooms.numpy(), strict=False):
        preprocess.prepare(preprocess.decode(body), [model.preparation], [room])
    images = preprocess.normalised(rooms, model.preparation)
    whole = texts == "whole"
    tokens = model.tokenizer(captions) if whole else model.tokens(captions)
    with torch.inference_mode():
        began = time.perf_counter()
        for _ in range(rounds):
            clip.unit(model.network.encode_image(images))
            clip.unit(model.network.encode_text(tokens) if whole else text_tower.encode_text(model.network, tokens))
        return rounds * len(captions) / (time.perf_counter() - began)


def decode(settings: params.Score, tars: Sequence[Path]) -> float:
    """Read, decode and preprocess as the stage does, without any model behind it; return images/s of this process."""
    import numpy as np  # noqa: PLC0415

    from laion_dask.clip import models, preprocess  # noqa: PLC0415
    from laion_dask.storage import shards  # noqa: PLC0415

    preparation = models.load(settings.models[0]).preparation
    reduced = settings.decode == "reduced"
    room = np.empty((*preparation.side, 3), np.uint8)
    images, began = 0, time.perf_counter()
    for tar in tars:
        for _, body in shards.read_shard(tar):
            image = preprocess.decode(body, preparation.needed_px if reduced else None)
            preprocess.prepare(image, [preparation], [room], quick=reduced)
            images += 1
    return images / (time.perf_counter() - began)


def stage(client: Client, settings: params.Score, tables: Sequence[Path], shard_rows: int, work: Path) -> Result:
    """Run the stage's tasks over shards; images, seconds and the shares of the time."""
    from laion_dask.runner import parts  # noqa: PLC0415
    from laion_dask.runner.part import Part  # noqa: PLC0415
    from laion_dask.runner.progress import Progress  # noqa: PLC0415
    from laion_dask.score import part as score  # noqa: PLC0415

    shutil.rmtree(work, ignore_errors=True)
    todo = [
        Part(
            table.stem,
            table.stem,
            {
                "name": table.stem,
                "images": table,
                "tar": table.with_suffix(".tar"),
                "shard_rows": shard_rows,
                "settings": settings,
            },
            weight=table.with_suffix(".tar").stat().st_size,
        )
        for table in tables
    ]
    progress = Progress("score", "images")
    began = time.perf_counter()
    done = parts.run(score.score, todo, work, client, progress=progress)
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    images = sum(part.counts["images"]["kept"] for part in done)
    return {"images": images, "seconds": seconds, "shares": progress.shares()}
