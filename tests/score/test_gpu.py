"""On a GPU: the results of the processor within 2e-3, memory that runs out, one process a GPU, and the speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made.images import small_clips

from laion_dask import params
from laion_dask.clip import devices, models
from laion_dask.clip.clip import Clip
from laion_dask.clip.devices import Slices
from laion_dask.score import part as score

pytestmark = pytest.mark.gpu

ROWS = 64
# The agreement that is promised between devices.
SIMILARITY = 2e-3


@pytest.fixture(autouse=True, scope="module")
def cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_clips.shard(tmp_path_factory.mktemp("shard"), "00000", ROWS, bad=[7])


def rules(**values: Any) -> params.Score:  # noqa: ANN401 - as in params.yaml
    chosen = {
        "heads": [{"kind": "demo"}],
        "tags": None,
        "faces": None,
        "masked_text": None,
        "batch": None,
        "decode": "full",
        "compile": "none",
    }
    model = {key: values.pop(key) for key in ("precision",) if key in values}
    return params.Score(models=[{"name": "demo", "model": "demo", **model}], **(chosen | values))


def similarities(out: Path, shard: tuple[Path, Path], settings: params.Score) -> np.ndarray:
    out.mkdir()
    score.score(out, name="00000", images=shard[0], tar=shard[1], shard_rows=ROWS, settings=settings)
    return np.asarray(pq.read_table(out / "00000.parquet")["similarity"].to_numpy())


def forget() -> None:
    """Load the models again: they are kept for the life of a process, on the device of their first use."""
    models._load.cache_clear()  # noqa: SLF001 - a second device in one process is a matter of tests only


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_gpu_agrees_with_the_processor(
    shard: tuple[Path, Path], tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = similarities(tmp_path / "gpu", shard, rules(precision=precision))
    forget()
    with monkeypatch.context() as patched:
        patched.setattr(devices, "find", lambda: "cpu")
        wanted = similarities(tmp_path / "cpu", shard, rules())
    forget()
    assert np.allclose(found, wanted, atol=SIMILARITY if precision != "bf16" else 4 * SIMILARITY, equal_nan=True)
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_batch_moves_similarities_by_less_than_the_agreement(
    shard: tuple[Path, Path], tmp_path: Path, batch: int
) -> None:
    wanted = similarities(tmp_path / "whole", shard, rules())
    assert np.allclose(similarities(tmp_path / "batch", shard, rules(batch=batch)), wanted, atol=1e-5, equal_nan=True)


def test_on_one_gpu_the_same_shard_gives_the_same_numbers(shard: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (similarities(tmp_path / name, shard, rules()) for name in ("first", "second"))
    assert np.array_equal(first, second, equal_nan=True)


def test_memory_that_runs_out_halves_the_batch_and_the_results_stay() -> None:
    import torch

    weight = torch.ones(4_096, 4_096, device="cuda")

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return (rows[:, None, :] * weight).sum(-1)  # 64 MB a row

    # What other tests have left in torch's own pool would count as free.
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**30) / total))
    try:
        slices = Slices(256)
        results = slices.run(forward, torch.ones(300, 4_096, device="cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert bool((results == 4_096).all())
    assert len(results) == 300
    assert 1 <= slices.rows <= 16


def test_the_batch_is_found_from_free_memory_and_pixels_are_pinned() -> None:
    model = loaded()
    rows = model.image_slices.rows
    assert rows & (rows - 1) == 0
    assert 64 <= rows <= 1024
    assert devices.pixel_buffer(2, model.preparation.side, "cuda").is_pinned()


def loaded() -> Clip:
    return models.load(params.Model(name="demo", model="demo"))


@pytest.mark.slow
def test_one_process_a_gpu_writes_what_this_process_writes(shard: tuple[Path, Path], tmp_path: Path) -> None:
    import dask

    from laion_dask.cluster import kinds, local
    from laion_dask.runner import parts
    from laion_dask.runner.part import Part
    from laion_dask.runner.progress import Progress

    part = Part(
        "00000",
        "key",
        {"name": "00000", "images": shard[0], "tar": shard[1], "shard_rows": ROWS, "settings": rules()},
    )
    with dask.config.set({"laion-dask.cluster.kind": "cuda"}), kinds.open_client(gpu=True) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == local.visible_gpus()
        (done,) = parts.run(score.score, [part], tmp_path / "work", client, progress=Progress("score", "images"))
    table = pq.read_table(done.folder / "00000.parquet")["similarity"].to_numpy()
    assert np.allclose(table, similarities(tmp_path / "here", shard, rules()), atol=1e-5, equal_nan=True)


@pytest.mark.slow
def test_a_forward_pass_of_vit_l_14_in_bf16_reaches_2000_images_a_second(tmp_path: Path) -> None:
    import open_clip
    import torch

    torch.save(open_clip.create_model("ViT-L-14").state_dict(), tmp_path / "random.pt")
    model = models.load(
        params.Model(name="l14", model="ViT-L-14", pretrained=str(tmp_path / "random.pt"), precision="bf16")
    )
    images = devices.pixel_buffer(model.image_slices.rows, model.preparation.side, "cuda").random_(0, 256)
    model.see(images)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(5):
        model.see(images)
    torch.cuda.synchronize()
    assert 5 * len(images) / (time.perf_counter() - began) >= 2_000
