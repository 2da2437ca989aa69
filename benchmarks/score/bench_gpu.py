"""The speed of scoring on a GPU beside its forward pass and the decoding rate; `make bench-score-gpu`.

    python -m benchmarks.score.bench_gpu [--images 49152] [--only ceiling,l14,b32,parity] [--quick]

Everything is measured in this run on this machine, with random weights, on JPEGs that are made for it (shards.py), as
the stage download leaves them: 256 pixels on the longer side, quality 95. The last line is JSON. A run with `--quick`
takes the demo's small network and needs no GPU: it shows that the benchmark runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import environments
from benchmarks.bars import Bar, report
from benchmarks.score import shards as corpora
from benchmarks.score.shards import KB, Corpus

SECTIONS: Final = ("ceiling", "l14", "b32", "parity")
_SHARD_ROWS: Final = 8_192
_SIDE_PX: Final = 256
_PARITY_ROWS: Final = 64
_QUICK_IMAGES: Final = 64
_GB: Final = 1e9


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.bench_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=49_152, help="JPEGs of the corpus (default 49,152)")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="64 images, the demo's network, with or without a GPU")
    wanted = parser.parse_args()
    import torch  # noqa: PLC0415 - so that --help answers at once

    if not (torch.cuda.is_available() or wanted.quick):
        sys.exit("bench-score-gpu: no GPU is visible. Remedy: run it where `nvidia-smi` shows one")
    _print_machine()
    folder = environments.BENCH / "score-gpu"
    cores = len(os.sched_getaffinity(0))
    images, rows = (_QUICK_IMAGES, _QUICK_IMAGES // 2) if wanted.quick else (wanted.images, _SHARD_ROWS)
    corpus = corpora.cached(
        folder / f"shards-{images}", images=images, shard_rows=rows, processes=cores, side_px=_SIDE_PX
    )
    l14, b32 = ("demo", "demo") if wanted.quick else ("ViT-L-14", "ViT-B-32")
    print(f"{corpus.images:,} JPEGs in {len(corpus.tars)} tars, {corpus.bytes_ / corpus.images / KB:.0f} KB each")
    sections, bars = wanted.only.split(","), []
    peak = _matrix_rate() if "ceiling" in sections else float("nan")
    if "l14" in sections:
        bars += large(corpus, folder, peak, l14, ("none",) if wanted.quick else ("none", "default"))
    if "b32" in sections:
        bars += small(corpus, folder, cores, b32, ("full",) if wanted.quick else ("full", "reduced"))
    if "parity" in sections:
        bars += parity(corpus, folder, (b32,) if wanted.quick else (b32, l14))
    report("score-gpu", bars, quick=wanted.quick)


def large(corpus: Corpus, folder: Path, peak: float, model: str, modes: Sequence[str]) -> list[Bar]:
    """Measure a network whose time is its forward pass: the pure pass, as it is and compiled; the stage from tars."""
    bars = []
    for compiled in modes:
        rules = _rules(folder, model, _half(), compiled)
        began = time.perf_counter()
        pure, flop = _pure(rules)
        ready = time.perf_counter() - began
        ours, shares = _stage(corpus, rules, folder)
        tera = pure * flop / 1e12
        print(
            f"{model}, {_half()}, compile {compiled}: pure forward pass {pure:,.0f} images/s with texts, "
            f"{tera:.0f} TFLOP/s, {tera / peak:.0%} of a matrix product's {peak:.0f} (ready after {ready:.0f} s); "
            f"from tars {ours:,.0f} images/s, {ours / pure:.1%} ({shares})",
            flush=True,
        )
        name = f"{model}, {_half()}" + ("" if compiled == "none" else ", compiled")
        bars += [
            Bar(f"{name}, from tars, share of the pure forward pass", ours / pure, 0.85),
            Bar(f"{name}, from tars, images/s", ours, 2_000),
        ]
    return bars


def small(corpus: Corpus, folder: Path, cores: int, model: str, ways: Sequence[str]) -> list[Bar]:
    """Measure a network that waits for decoding: images/s of one core, of all, and the share that the stage reaches."""
    rules = _rules(folder, model, _half())
    pure, _ = _pure(rules)
    bars = []
    for decode in ways:
        asked = rules.model_copy(update={"decode": decode})
        one, every = (_decoding(corpus, asked, number) for number in (1, cores))
        bound = min(pure, every)
        ours, shares = _stage(corpus, asked, folder)
        print(
            f"{model}, {_half()}, decode {decode}: pure forward pass {pure:,.0f} images/s; decoding alone {one:,.0f} "
            f"on one core, {every:,.0f} on {cores}; from tars {ours:,.0f} images/s, {ours / bound:.1%} of the bound "
            f"({shares})",
            flush=True,
        )
        bars.append(Bar(f"{model}, {_half()}, decode {decode}, from tars, share of the bound", ours / bound, 0.9))
    return bars


def parity(corpus: Corpus, folder: Path, names: Sequence[str]) -> list[Bar]:
    """Similarities of the GPU beside those of the processor in float32, over the rows of one shard."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    from laion_dask import params  # noqa: PLC0415
    from laion_dask.clip import devices, models  # noqa: PLC0415
    from laion_dask.score import part as score  # noqa: PLC0415
    from laion_dask.storage.shards import read_shard  # noqa: PLC0415

    table = pq.read_table(corpus.tables[0], columns=["key", "uid", "caption", "split", "reason"])[:_PARITY_ROWS]
    table = table.slice(0, _PARITY_ROWS)
    keys = set(table["key"].to_pylist())
    pictures = [(key, body) for key, body in read_shard(corpus.tars[0]) if key in keys]

    def similarity(rules: params.Score) -> np.ndarray:
        models._load.cache_clear()  # noqa: SLF001 - a second device in one process is a matter of measuring only
        out = folder / "parity"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        score.score_rows(out, name="00000", table=table, pictures=pictures, shard_rows=_PARITY_ROWS, settings=rules)
        return np.asarray(pq.read_table(out / "00000.parquet")["similarity"].to_numpy())

    bars = []
    for model in names:
        find = devices.find
        devices.find = lambda: "cpu"
        try:
            wanted = similarity(_rules(folder, model, "fp32"))
        finally:
            devices.find = find
        for precision in ("fp32", "bf16", "fp16") if _gpu() else ("fp32",):
            error = float(np.abs(similarity(_rules(folder, model, precision)) - wanted).max())
            print(
                f"{model}, {precision} on the GPU, float32 on the processor: similarities differ by {error:.1e}",
                flush=True,
            )
            bars.append(Bar(f"{model}, {precision}, largest difference in similarity", error, 2e-3, at_most=True))
    models._load.cache_clear()  # noqa: SLF001 - as above
    return bars


def _rules(folder: Path, model: str, precision: str, compiled: str = "none") -> Any:  # noqa: ANN401 - params.Score
    import open_clip  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from laion_dask import params  # noqa: PLC0415

    if model == "demo":
        spec = params.Model(name="bench", model="demo", precision=precision)
        return params.Score(
            models=(spec,), heads=(), tags=(), faces=None, masked_text=None, batch=None, decode="full", compile=compiled
        )
    weights = folder / f"{model}.pt"
    if not weights.is_file():
        torch.manual_seed(5)
        torch.save(open_clip.create_model(model).state_dict(), weights)
    spec = params.Model(name="bench", model=model, pretrained=str(weights), precision=precision)
    return params.Score(
        models=(spec,), heads=(), tags=(), faces=None, masked_text=None, batch=None, decode="full", compile=compiled
    )


def _pure(rules: Any) -> tuple[float, float]:  # noqa: ANN401 - params.Score
    """Return images/s of both towers on uint8 pixels and short texts in the GPU's memory, and operations an image."""
    from laion_dask.clip import devices  # noqa: PLC0415
    from laion_dask.score import part as score  # noqa: PLC0415

    model = score.load(rules)["bench"]
    rows = model.image_slices.rows
    device = devices.find()
    pixels = devices.pixel_buffer(rows, model.preparation.side, device).random_(0, 256).to(device)
    tokens = model.tokens(["a photo of small red house by sea two dogs"] * rows).to(device)

    def look() -> None:
        model.see(pixels)
        model.read(tokens)

    rate = rows / _seconds(look, 20)
    transformer = getattr(model.network.visual, "transformer", None)
    if transformer is None:
        return rate, float("nan")  # operations are counted for transformers; the demo's network is none
    width, layers = transformer.width, transformer.layers
    positions = model.network.visual.positional_embedding.shape[0]
    # 12 width^2 weights a layer, used once a position, and attention's two products; 2 operations each.
    image = layers * positions * 2 * (12 * width**2 + 2 * positions * width)
    text, length = model.network.transformer, tokens.shape[1]
    texts = text.layers * length * 2 * (12 * text.width**2 + 2 * length * text.width)
    return rate, float(image + texts)


def _stage(corpus: Corpus, rules: Any, folder: Path) -> tuple[float, str]:  # noqa: ANN401 - params.Score
    """Run the stage's tasks on dask-cuda, one process a GPU; images/s once the workers have loaded the model."""
    import dask  # noqa: PLC0415

    from laion_dask.cluster import kinds  # noqa: PLC0415
    from laion_dask.runner import parts  # noqa: PLC0415
    from laion_dask.runner.progress import Progress  # noqa: PLC0415
    from laion_dask.score import part as score  # noqa: PLC0415

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    todo = [_part(table, corpus.shard_rows, rules) for table in corpus.tables]
    # The first part starts the processes that decode.
    first = _part(corpus.tables[0], corpus.shard_rows, rules)
    progress = Progress("score", "images")
    with (
        dask.config.set({"laion-dask.cluster.kind": "cuda" if _gpu() else "local"}),
        kinds.open_client(gpu=True) as client,
    ):
        client.run(score.about, rules)
        parts.run(score.score, [first], folder / "first", client, progress=Progress("score", "images"))
        began = time.perf_counter()
        done = parts.run(score.score, todo, work, client, progress=progress)
        seconds = time.perf_counter() - began
    for used in (work, folder / "first"):
        shutil.rmtree(used)
    return sum(part.counts["images"]["kept"] for part in done) / seconds, str(progress.shares())


def _part(table: Path, rows: int, rules: Any) -> Any:  # noqa: ANN401 - params.Score, Part
    from laion_dask.runner.part import Part  # noqa: PLC0415

    tar = table.with_suffix(".tar")
    args = {"name": table.stem, "images": table, "tar": tar, "shard_rows": rows, "settings": rules}
    return Part(table.stem, table.stem, args, weight=tar.stat().st_size)


def _decoding(corpus: Corpus, rules: Any, processes: int) -> float:  # noqa: ANN401 - params.Score
    """Return images/s of processes that read tars, decode and prepare, and do nothing else."""
    from laion_dask.score import part as score  # noqa: PLC0415

    preparation = score.load(rules)["bench"].preparation
    jobs = [(corpus.tars[place % len(corpus.tars)], preparation, rules.decode) for place in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=_clean()) as pool:
        list(pool.map(_decode, [(tar, one, how, 32) for tar, one, how in jobs]))
        return sum(pool.map(_decode, [(tar, one, how, 2_048) for tar, one, how in jobs]))


def _clean() -> Any:  # noqa: ANN401 - a multiprocessing context
    import multiprocessing  # noqa: PLC0415

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["laion_dask.clip.preprocess", "open_clip.transform"])
    return context


def _decode(job: tuple[Path, Any, str, int]) -> float:
    from laion_dask.clip import preprocess  # noqa: PLC0415
    from laion_dask.storage.shards import read_shard  # noqa: PLC0415

    tar, preparation, how, most = job
    needed = preparation.needed_px if how == "reduced" else None
    room = np.empty((*preparation.side, 3), np.uint8)
    began, count = time.perf_counter(), 0
    for _, body in read_shard(tar):
        preprocess.prepare(preprocess.decode(body, needed), [preparation], [room])
        count += 1
        if count == most:
            break
    return count / (time.perf_counter() - began)


def _matrix_rate() -> float:
    """Return TFLOP/s of a large bf16 matrix product on random numbers."""
    import torch  # noqa: PLC0415

    side, device = (8_192, "cuda") if _gpu() else (512, "cpu")
    one, two = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: one @ two, 20) / 1e12


def _seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the seconds of one run: the middle of three times so many, after as many to warm up as a quarter."""
    import torch  # noqa: PLC0415

    wait: Callable[[], object] = torch.cuda.synchronize if _gpu() else (lambda: None)
    times = []
    for place in range(4):
        wait()
        began = time.perf_counter()
        for _ in range(rounds if place else max(2, rounds // 4)):
            run()
        wait()
        if place:
            times.append((time.perf_counter() - began) / rounds)
    return sorted(times)[1]


def _gpu() -> bool:
    import torch  # noqa: PLC0415

    return bool(torch.cuda.is_available())


def _half() -> str:
    """Return the precision of the forward pass: bf16 on a GPU; processors compute in float32."""
    return "bf16" if _gpu() else "fp32"


def _print_machine() -> None:
    """Print what a result depends on: the card or its absence, cores and versions."""
    import open_clip  # noqa: PLC0415
    import PIL  # noqa: PLC0415
    import torch  # noqa: PLC0415

    gpu = "no GPU"
    if _gpu():
        memory = torch.cuda.get_device_properties(0).total_memory / _GB
        gpu = f"{torch.cuda.get_device_name()}, {memory:.0f} GB"
    print(
        f"{gpu}, {len(os.sched_getaffinity(0))} cores; Python "
        f"{platform.python_version()}, torch {torch.__version__}, open_clip {open_clip.__version__}, Pillow "
        f"{PIL.__version__}",
        flush=True,
    )


if __name__ == "__main__":
    main()
