"""Shards as others read them: webdataset, open_clip's data loader, and DataComp's resharder by its published rules."""

from __future__ import annotations

import gc
import io
import json
import tarfile
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made.processes.dask_clients import threads_of_this_process
from made.servers.downloads import JPEG, picture, write_warc
from made.versions.tables import image_row
from PIL import Image

from laion_dask import params
from laion_dask.cluster import kinds
from laion_dask.download import worklist
from laion_dask.runner.progress import Progress
from laion_dask.standalone.download import download_tables
from laion_dask.storage import packaged, shards

ROWS, SHARD_ROWS, GONE = 23, 10, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 10, 10 and 3 rows, as `laion-dask download` writes them; one row of them is not found."""
    place = tmp_path_factory.mktemp("readers")
    urls = [f"http://h{number % 3}.example/{number}.jpg" for number in range(ROWS)]
    bodies = {url: picture(number) for number, url in enumerate(urls) if number != GONE}
    warc = write_warc(place / "a.warc.gz", [(url, "200 OK", JPEG, body) for url, body in bodies.items()])
    table = place / "t.csv"
    table.write_text("url,text\n" + "".join(f"{url},caption {number}\n" for number, url in enumerate(urls)))
    settings = params.load(packaged.parameters())
    rules = settings.download.model_copy(update={"warcs": (str(warc),)})
    cut = worklist.WorkListRules(worklist.ColumnNames(), shard_rows=SHARD_ROWS, digits=8, order="given")
    # The demo's list lies beside the demo's crawl, which is not there.
    catalog = settings.catalog.model_copy(update={"lists": ()})
    whole = settings.model_copy(update={"download": rules, "catalog": catalog})
    with threads_of_this_process(1) as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(kinds, "open_client", lambda *_, **__: nullcontext(client))
        download_tables([table], place / "out", whole, cut, Progress("download", "images"))
    return place / "out"


def wanted() -> list[tuple[str, str]]:
    """Key and caption of every image, in order."""
    return [(f"{number:09d}", f"caption {number}") for number in range(ROWS) if number != GONE]


@pytest.fixture
def untidy() -> Iterator[None]:
    """Let a reader leave its files open, and close them here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.mark.slow
@pytest.mark.usefixtures("untidy")
def test_webdataset_reads_every_sample_in_order(folder: Path) -> None:
    import webdataset

    tars = sorted(map(str, folder.glob("*.tar")))
    samples = list(
        webdataset.WebDataset(tars, shardshuffle=False).decode("pil").to_tuple("__key__", "jpg", "txt", "json")
    )
    assert [(key, text) for key, _, text, _ in samples] == wanted()
    for key, image, text, values in samples:
        assert (values["key"], values["caption"], len(values["uid"])) == (key, text, 32)
        assert image.size == (values["width"], values["height"])


@pytest.mark.slow
@pytest.mark.usefixtures("untidy")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_data_loader_of_open_clip_reads_every_sample_and_the_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch
    from open_clip_train import data
    from webdataset.tariterators import tar_file_expander

    # Newer releases of webdataset mark the end of a shard by an empty sample, which open_clip 3.3 does not expect.
    monkeypatch.setattr(data, "tar_file_expander", partial(tar_file_expander, eof_value=None))
    braces = str(folder / "{00000000..00000002}.tar")
    assert data.get_dataset_size(braces) == (ROWS - 1, 3)
    arguments = Namespace(
        train_data=braces, val_data=None, dataset_resampled=False, train_num_samples=None, val_num_samples=None,
        train_data_upsampling_factors=None, seed=0, batch_size=2, workers=1, world_size=1,
    )  # fmt: skip
    loader = data.get_wds_dataset(
        arguments,
        lambda image: torch.from_numpy(np.asarray(image.resize((8, 8)))),
        is_train=True,
        tokenizer=lambda text: [text],
    ).dataloader
    assert loader.num_samples == ROWS - 1
    texts = []
    for images, captions in loader:
        assert images.shape == (2, 8, 8, 3)
        texts += captions
    assert sorted(texts) == sorted(text for _, text in wanted())


def count_shards(folder: Path) -> int:
    """Count as DataComp's resharder does: by binary search for the first number without a shard of eight digits."""
    low, high = 0, 10**8
    while low < high:
        middle = (low + high) // 2
        exists = (folder / f"{middle:08d}.tar").is_file()
        low, high = (middle + 1, high) if exists else (low, middle)
    return low


def test_a_resharder_by_the_rules_of_datacomp_finds_every_shard_sample_and_uid(folder: Path) -> None:
    shards_found = count_shards(folder)
    assert shards_found == 3
    sizes = json.loads((folder / "sizes.json").read_text())
    keys = []
    for number in range(shards_found):
        stats = json.loads((folder / f"{number:08d}_stats.json").read_text())
        assert stats["successes"] == sizes[f"{number:08d}.tar"]
        with tarfile.open(folder / f"{number:08d}.tar") as tar:
            names = tar.getnames()
            # jpg, txt and json of a sample stand side by side, and the JSON has its uid.
            assert len(names) == 3 * stats["successes"]
            for first in range(0, len(names), 3):
                key = names[first].partition(".")[0]
                assert sorted(names[first : first + 3]) == [f"{key}.{kind}" for kind in ("jpg", "json", "txt")]
                member, image = tar.extractfile(f"{key}.json"), tar.extractfile(f"{key}.jpg")
                assert member is not None
                assert image is not None
                found: dict[str, Any] = json.loads(member.read())
                assert int(found["uid"], 16) >= 0
                assert len(found["uid"]) == 32
                Image.open(io.BytesIO(image.read())).load()
                keys.append(key)
    assert keys == [key for key, _ in wanted()]


@pytest.mark.parametrize(
    ("name", "place", "shard_rows", "key"),
    [
        ("00000", 0, 10_000, "000000000"),
        ("00003", 12, 10_000, "000030012"),
        ("00000003", 9_999, 10_000, "000000039999"),
        ("00003", 12, 1_000, "00003012"),
        ("00003", 12, 1_001, "000030012"),
        ("00003", 511, 512, "00003511"),
        ("00003", 0, 1, "00003"),
        ("12", 7, 10, "127"),
    ],
)
def test_keys_follow_the_rule_of_img2dataset(name: str, place: int, shard_rows: int, key: str) -> None:
    assert shards.key(name, place, shard_rows) == key


def test_sizes_are_refused_where_a_number_is_missing(tmp_path: Path) -> None:
    for name in ("00000", "00002"):
        shards.write_shard(tmp_path, name, [(image_row(0), b"jpg")])
    with pytest.raises(shards.ShardError, match="not numbered from 0 without a gap: 00000, 00002"):
        shards.write_sizes(tmp_path)
