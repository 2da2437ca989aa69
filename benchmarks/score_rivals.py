"""A name, a model and shards in, one line of JSON out: images a second of one way to embed them.

    python -m benchmarks.score_rivals forward --weights FILE FOLDER

Each way runs in processes of its own. Starting Python, imports and loading the model are not counted. Only the standard
library is imported here, since clip-retrieval lives in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_FORWARD_ROWS = 64


def forward(tars: Sequence[Path], weights: str, rounds: int, *, cut: bool = False) -> Iterator[int]:
    """Pass tensors in memory through both towers, again and again: no decoding, no table, no file.

    Texts have the whole context, as open_clip's tokenizer gives them; with `cut`, what the stage's text tower sees.
    """
    import torch  # noqa: PLC0415 - each way imports its own

    from laion_dask import models, params, pixels, towers  # noqa: PLC0415
    from laion_dask.shards import read_shard  # noqa: PLC0415

    model = models.load(spec(params.Model, weights))
    rooms = torch.empty((_FORWARD_ROWS, *model.preparation.side, 3), dtype=torch.uint8)
    for (_, body), room in zip(read_shard(tars[0]), rooms.numpy(), strict=False):
        pixels.prepare(pixels.decode(body), [model.preparation], [room])
    tensors = pixels.normalised(rooms, model.preparation).contiguous()
    # As long as the longest of the corpus: a batch has the length of its longest text.
    texts = ["a photo of small red house by sea two dogs green trees night a photo"] * _FORWARD_ROWS
    tokens = model.tokens(texts) if cut else model.tokenizer(texts)
    encode = towers.encode_text if cut else lambda network, rows: network.encode_text(rows)
    with torch.inference_mode():
        yield 0
        for _ in range(rounds):
            model.network.encode_image(tensors)
            encode(model.network, tokens)
            yield _FORWARD_ROWS


def short(tars: Sequence[Path], weights: str, rounds: int) -> Iterator[int]:
    """Do as `forward`, with texts as the stage's text tower sees them: without the positions behind the longest."""
    return forward(tars, weights, rounds, cut=True)


def decode(tars: Sequence[Path], weights: str, reduced: int) -> Iterator[int]:
    """Read, decode and preprocess, as the stage does, without any model behind it."""
    import numpy as np  # noqa: PLC0415

    from laion_dask import models, params, pixels  # noqa: PLC0415
    from laion_dask.shards import read_shard  # noqa: PLC0415

    preparation = models.load(spec(params.Model, weights)).preparation
    room = np.empty((*preparation.side, 3), np.uint8)
    yield 0
    for tar in tars:
        count = 0
        for _, body in read_shard(tar):
            pixels.prepare(pixels.decode(body, preparation.needed_px if reduced else None), [preparation], [room])
            count += 1
        yield count


def clip_retrieval(tars: Sequence[Path], weights: str, batch: int) -> Iterator[int]:
    """Run the released inference of clip-retrieval, its reader, mapper, writer and runner, with its own defaults."""
    import tempfile  # noqa: PLC0415

    from all_clip import load_clip  # noqa: PLC0415
    from clip_retrieval.clip_inference.logger import LoggerWriter  # noqa: PLC0415
    from clip_retrieval.clip_inference.mapper import ClipMapper  # noqa: PLC0415
    from clip_retrieval.clip_inference.reader import WebdatasetReader  # noqa: PLC0415
    from clip_retrieval.clip_inference.runner import Runner  # noqa: PLC0415
    from clip_retrieval.clip_inference.writer import NumpyWriter  # noqa: PLC0415

    name = f"open_clip:ViT-B-32/{weights}"
    began: list[float] = []
    kinds = {"enable_text": True, "enable_image": True, "enable_metadata": False}
    loading = {"clip_model": name, "use_jit": False, "warmup_batch_size": 1, "clip_cache_path": None}
    _, preprocess, tokenizer = load_clip(**loading)

    def reader(sampler: Any) -> Any:  # noqa: ANN401 - clip-retrieval's own
        # Four processes that prepare are its default.
        return WebdatasetReader(sampler, preprocess, tokenizer, [str(tar) for tar in tars], batch, 4, **kinds)

    def logger(number: int) -> Any:  # noqa: ANN401 - clip-retrieval's own
        # The runner builds this last, before it asks for the first batch.
        made = LoggerWriter(partition_id=number, stats_folder=f"{folder}/stats")
        began.append(time.perf_counter())
        return made

    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            reader_builder=reader,
            mapper_builder=lambda: ClipMapper(**kinds, use_mclip=False, mclip_model="", **loading),
            writer_builder=lambda number: NumpyWriter(number, folder, **kinds, output_partition_count=1),
            logger_builder=logger,
            output_partition_count=1,
        )
        runner(0)
        seconds = time.perf_counter() - began[0]
        import numpy as np  # noqa: PLC0415

        rows = [len(np.load(file)) for file in Path(folder, "img_emb").glob("*.npy")]
    print(json.dumps({"images": sum(rows), "seconds": seconds}))
    return iter(())


def spec(kind: Callable[..., Any], weights: str) -> Any:  # noqa: ANN401 - params.Model, which is not imported here
    """Return the model of a weights file: ViT-B-32, or the demo's."""
    if weights == "demo":
        return kind(name="demo", model="demo")
    return kind(name="b32", model="ViT-B-32", pretrained=weights)


WAYS: dict[str, Callable[[Sequence[Path], str, int], Iterator[int]]] = {
    "forward": forward,
    "short": short,
    "decode": decode,
    "clip_retrieval": clip_retrieval,
}


def main() -> None:
    """Measure one way and print what was found; `--start` waits for that moment, so that two run beside each other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score_rivals")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("tars", nargs="+", type=Path)
    parser.add_argument("--weights", required=True, help="checkpoint of ViT-B-32, or demo")
    parser.add_argument("--number", type=int, default=0, help="rounds of forward, batch of clip-retrieval, 1: reduced")
    parser.add_argument("--core", type=int, help="the core to run on; any where left out")
    parser.add_argument("--ready", type=Path, help="file to write when loaded; the run begins when its .go is there")
    wanted = parser.parse_args()
    if wanted.core is not None:
        os.sched_setaffinity(0, {wanted.core})
    steps = WAYS[wanted.way](wanted.tars, wanted.weights, wanted.number)
    if next(steps, None) is None:
        return
    if wanted.ready:
        wanted.ready.touch()
        while not wanted.ready.with_suffix(".go").exists():
            time.sleep(0.005)
    began = time.perf_counter()
    images = sum(steps)
    json.dump({"images": images, "seconds": time.perf_counter() - began}, sys.stdout)


if __name__ == "__main__":
    main()
