"""Shards for training: which text of a pair becomes its caption, by shares, and what they hold of the others."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.versions import sample_version, tables
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.release import webdataset
from laion_dask.release.exports import DatasetFolders, ExportError

ALL = ["alt", "english", "caption"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_version.write(tmp_path_factory.mktemp("version"))[0]


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("alt", {"alt": 1.0}),
        ("caption", {"caption": 1.0}),
        ("alt=0.25, caption=0.75", {"alt": 0.25, "caption": 0.75}),
        ("alt=0.2,english=0.3,caption=0.5", {"alt": 0.2, "english": 0.3, "caption": 0.5}),
    ],
)
def test_a_mix_is_read(text: str, mix: dict[str, float]) -> None:
    assert webdataset.parse(text) == mix


@pytest.mark.parametrize(
    "text", ["", "alt=0.5", "alt=0.5,caption=0.6", "alt,alt", "text=1", "alt=x", "alt=-1,caption=2"]
)
def test_a_mix_that_is_none_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(ExportError, match=r"--mix .*Remedy"):
        webdataset.parse(text)


@pytest.mark.parametrize("mix", [{"alt": 0.5, "caption": 0.5}, {"alt": 0.2, "english": 0.3, "caption": 0.5}])
def test_texts_are_drawn_by_their_shares_and_the_same_for_a_seed(mix: dict[str, float]) -> None:
    uids = [tables.uid(number) for number in range(20_000)]
    drawn = [webdataset.draw(uid, mix, ALL, 1) for uid in uids]
    for kind, share in mix.items():
        assert abs(drawn.count(kind) / len(uids) - share) < 0.02
    assert drawn == [webdataset.draw(uid, mix, ALL, 1) for uid in uids]
    assert drawn != [webdataset.draw(uid, mix, ALL, 2) for uid in uids]


@pytest.mark.parametrize(
    ("available", "found"), [(["alt"], {"alt"}), (["alt", "caption"], {"caption"}), (["alt", "english"], {"english"})]
)
def test_a_missing_text_gives_way_to_the_others_of_the_mix_then_to_the_alt_text(
    available: list[str], found: set[str]
) -> None:
    mix = {"english": 0.5, "caption": 0.5}
    assert {webdataset.draw(tables.uid(number), mix, available, 1) for number in range(50)} == found


def test_a_shard_has_every_kept_pair_with_the_drawn_text_and_all_others_beside_it(data: Path, tmp_path: Path) -> None:
    source = DatasetFolders(data / "download", data / "score", data / "filter")
    mix = webdataset.parse("alt=0.5,caption=0.5")
    counts = webdataset.write(source, data, tmp_path / "out", mix, 7)
    kept = {
        row["uid"]
        for path in (data / "filter").glob("0*.parquet")
        for row in pq.read_table(path).to_pylist()
        if row["reason"] == "keep"
    }
    samples = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            bodies = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        keys = sorted({name.partition(".")[0] for name in bodies})
        samples += [(bodies[f"{key}.txt"].decode(), json.loads(bodies[f"{key}.json"])) for key in keys]
    rows = [row for _, row in samples]
    assert {row["uid"] for row in rows} == kept
    assert len(rows) == len(kept) == counts.total()
    assert Counter(row["caption_from"] for row in rows) == counts
    assert set(counts) == {"alt", "caption"}
    for text, row in samples:
        by = {"alt": row["alt_text"], "caption": row["top_caption"]}
        assert text == row["caption"] == by[row["caption_from"]]
        assert row["alt_text"].startswith("a drawn thing")


def test_a_stage_without_texts_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    source = DatasetFolders(data / "download", data / "score", data / "filter")
    with pytest.raises(ExportError, match=r"--mix names caption, and .*caption has no texts. Remedy: name a model"):
        webdataset.write(source, tmp_path, tmp_path / "out", {"caption": 1.0}, 1)
    assert not (tmp_path / "out").exists()


def test_the_command_says_which_texts_were_taken(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    result = CliRunner().invoke(app, ["export", "webdataset", "--mix", "caption", "--out", str(tmp_path / "a b")])
    assert result.exit_code == 0, result.output
    assert "captions from: alt " in result.output
    result = CliRunner().invoke(app, ["export", "subset", "--mix", "caption", "--out", str(tmp_path / "c")])
    assert result.exit_code == 2
