"""Small CLIPs with random weights in folders that open_clip reads, and shards of drawn images to look at."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made.versions import tables
from PIL import Image

from laion_dask.clip.clip import DEMO_MODEL
from laion_dask.schema.reasons import KEEP
from laion_dask.storage.shards import write_shard


def folder(
    path: Path,
    *,
    seed: int,
    dimension: int = 32,
    preprocess: dict[str, Any] | None = None,
    vocab_size: int | None = None,
) -> Path:
    """Save a small CLIP as open_clip does: config, weights and the demo's vocabulary, if no other size is asked for."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = json.loads((DEMO_MODEL / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = dimension
    config["model_cfg"]["vision_cfg"] |= {
        "image_size": 48,
        "layers": 2,
        "width": 64,
        "patch_size": 16,
        "head_width": 32,
    }
    config["model_cfg"]["text_cfg"] |= {"layers": 1, "width": 32, "heads": 2}
    if vocab_size is not None:
        config["model_cfg"]["text_cfg"]["vocab_size"] = vocab_size
    config["preprocess_cfg"] = config.get("preprocess_cfg", {}) | (preprocess or {})
    path.mkdir(parents=True)
    (path / "open_clip_config.json").write_text(json.dumps(config))
    shutil.copy(DEMO_MODEL / "bpe.txt.gz", path)
    torch.manual_seed(seed)
    network = open_clip.model.CLIP(
        **{name: value for name, value in config["model_cfg"].items() if name != "custom_text"}
    )
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, path / "open_clip_model.safetensors"
    )
    return path


def jpeg(number: int, size: tuple[int, int] = (96, 72), quality: int = 90) -> bytes:
    """Draw a picture of coarse colors."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shard(
    path: Path, name: str, rows: int, *, failed: Sequence[int] = (), bad: Sequence[int] = ()
) -> tuple[Path, Path]:
    """Write a shard whose rows take turns in en, multi and nolang; `bad` have bytes that are no image."""
    splits = ("en", "multi", "nolang")
    wanted = [
        {
            "uid": tables.uid(number + 1_000 * int(name)),
            "key": f"{name}{number:04d}",
            "caption": f"a red star, number {number}",
            "split": splits[number % 3],
            **(
                {"reason": "not_found", "status": "failed_to_download", "error_message": "not_found"}
                if number in failed
                else {}
            ),
        }
        for number in range(rows)
    ]
    made = tables.images(*wanted).to_pylist()
    path.mkdir(parents=True, exist_ok=True)
    bodies = [b"" if row["reason"] != KEEP else b"no image" if n in bad else jpeg(n) for n, row in enumerate(made)]
    write_shard(path, name, zip(made, bodies, strict=True))
    return path / f"{name}.parquet", path / f"{name}.tar"


def read(out: Path) -> pa.Table:
    """Read the scores of all shards in a folder."""
    return pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("*.parquet")))
