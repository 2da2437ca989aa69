"""Shards and a checkpoint in, one line of JSON out: how long clip-retrieval's released inference takes for them.

    python -m benchmarks.score.rivals --weights FILE TAR...

It lives in an environment of its own: only the standard library is imported at the top. Starting Python, imports and
loading the model are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# clip-retrieval's default.
_BATCH = 256


def clip_retrieval(tars: Sequence[Path], weights: str, batch: int) -> dict[str, float]:
    """Run the released inference, its reader, mapper, writer and runner, with its own defaults."""
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
    return {"images": sum(rows), "seconds": seconds}


def main() -> None:
    """Measure, and print what was found as the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.rivals")
    parser.add_argument("tars", nargs="+", type=Path)
    parser.add_argument("--weights", required=True, help="checkpoint of ViT-B-32")
    wanted = parser.parse_args()
    try:
        found = clip_retrieval(wanted.tars, wanted.weights, _BATCH)
    except Exception:  # noqa: BLE001 - told, and then ended
        traceback.print_exc()
        sys.stderr.flush()
        # Its process of logging waits for ever, and a normal end of this one for that.
        os._exit(1)
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
