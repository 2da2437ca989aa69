"""`laion-dask caption DIR`: tars that others made, captioned alone; resumed as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.images import small_captioners, small_clips
from made.places import ROOT
from made.processes import programs
from ruamel.yaml import YAML
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.cli.new_texts.caption import rankers
from laion_dask.schema.new_texts import CAPTIONS

TARS = 4
OF_EACH = 5


def run(*arguments: object) -> Any:  # noqa: ANN401 - click's result
    return CliRunner().invoke(app, ["caption", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tars as img2dataset writes them, with a picture that cannot be decoded and one without a text."""
    folder = tmp_path_factory.mktemp("tars")
    for number in range(TARS):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as out:
            for row in range(OF_EACH):
                bad, silent = (number, row) == (1, 2), (number, row) == (2, 3)
                key = f"{number:05d}{row:04d}"
                body = b"no image" if bad else small_clips.jpeg(10 * number + row)
                known = {"uid": f"{number}{row}" * 16, "url": f"https://a.example/{key}.jpg"}
                members = {"jpg": body, "json": json.dumps(known).encode()}
                members |= {} if silent else {"txt": f"a red star, number {row}".encode()}
                for ending, content in members.items():
                    member = tarfile.TarInfo(f"{key}.{ending}")
                    member.size = len(content)
                    out.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A params.yaml with a small captioner and a repair."""
    base = tmp_path_factory.mktemp("models")
    small_captioners.blip(base / "blip")
    small_captioners.t5(base / "t5")
    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    values["caption"] |= {"model": f"local-dir:{base / 'blip'}", "samples": 4, "batch": 3}
    values["caption"] |= {"min_tokens": 2, "max_tokens": [4, 7]}
    values["caption"]["repair"] = {"model": f"local-dir:{base / 't5'}", "max_tokens": 4}
    yaml.dump(values, base / "params.yaml")
    return base / "params.yaml"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".caption" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tars: Path, rules: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What one worker writes, and says."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run(tars, "--params", rules, "--out", out, "--workers", 1)
    assert done.exit_code == 0, done.output
    return out, done.output


@pytest.mark.slow
@pytest.mark.cluster
class TestAFolder:
    def test_each_picture_has_a_row_with_its_caption_or_a_reason(self, whole: tuple[Path, str]) -> None:
        out, said = whole
        tables = [CAPTIONS.check(pq.read_table(out / "caption" / f"{number:05d}.parquet")) for number in range(TARS)]
        rows = [row for table in tables for row in table.to_pylist()]
        assert [row["reason"] for row in rows].count("undecodable_image") == 1
        assert rows[1 * OF_EACH + 2]["reason"] == "undecodable_image"
        kept = [row for row in rows if row["reason"] == "keep"]
        assert len(kept) == TARS * OF_EACH - 1
        assert all(row["top_caption"] and row["all_captions"] for row in kept)
        assert all(-1 <= row["caption_similarity"] <= 1 for row in kept)
        assert [row["uid"] for row in rows if row["similarity"] is None] == ["12" * 16, "23" * 16]
        images = pq.read_table(out / "images" / "00002.parquet")
        assert images["uid"].equals(tables[2]["uid"])
        assert "captioned 20 images in" in said
        assert "decode" in said
        assert "generate" in said

    def test_the_models_stand_beside_the_captions(self, whole: tuple[Path, str], rules: Path) -> None:
        about = json.loads((whole[0] / "caption" / "models.json").read_text())
        assert (about["model"], about["kind"], about["repair"]["model"]) == ("local-dir:blip", "blip", "local-dir:t5")
        assert len(about["weights_sha256"]) == 64
        assert str(rules.parent) not in json.dumps(about)

    def test_a_run_that_was_killed_goes_on_and_two_workers_write_what_one_writes(
        self, whole: tuple[Path, str], tars: Path, rules: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        command = [Path(sys.executable).parent / "laion-dask", "caption", tars, "--params", rules, "--out", out]
        parts = out / ".caption" / "parts"
        process = programs.start([*command, "--workers", "1"], cwd=tmp_path)
        programs.until(lambda: any(parts.glob("*/counts.json")), "a tar is finished", process)
        process.send_signal(signal.SIGKILL)
        programs.ended(process)
        assert not (out / "caption").exists()
        done = run(tars, "--params", rules, "--out", out, "--workers", 2)
        assert done.exit_code == 0, done.output
        assert "resuming" in done.output
        assert digests(out) == digests(whole[0])
        again = run(tars, "--params", rules, "--out", out)
        assert again.exit_code == 1
        assert "holds a finished captioning" in again.output


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["demo"], [("demo", "demo", None, 1)]),
        (
            ["ViT-L-14:openai:5", "RN50x64:openai"],
            [("rank1", "ViT-L-14", "openai", 5), ("rank2", "RN50x64", "openai", 1)],
        ),
        (["ViT-L-14:openai", "demo"], [("rank1", "ViT-L-14", "openai", 3), ("demo", "demo", None, 1)]),
        (["local-dir:a/b:2", "hf-hub:o/n"], [("rank1", "local-dir:a/b", None, 2), ("rank2", "hf-hub:o/n", None, 1)]),
    ],
)
def test_rank_names_a_model_its_tag_and_how_many_it_keeps(options: list[str], wanted: list[tuple[Any, ...]]) -> None:
    found = rankers(options, samples=3)
    assert [tuple(one[key] for key in ("name", "model", "pretrained", "keep")) for one in found] == wanted
    for one in found:
        params.Ranker(**one)


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--model", "demo"], "caption: no images given. Remedy: give a folder", 2),
        (["DIR", "--model", "demo"], "caption: no output folder. Remedy: give --out DIR", 2),
        (["DIR", "--out", "OUT"], "caption: no model given. Remedy: give --model NAME", 2),
        (["DIR", "--out", "OUT", "--samples", "3", "--params", "params.yaml"], "caption: no model given", 2),
        (["DIR", "--out", "OUT", "--model", "hf-hub:a/b"], "Remedy: give --rank NAME:TAG", 2),
        (["EMPTY", "--out", "OUT", "--model", "demo"], "has no .tar files", 1),
        (["DIR", "--out", "OUT", "--model", "blip", "--rank", "demo"], "caption.model: model 'blip': no such model", 1),
        (["DIR", "--out", "OUT", "--model", "demo", "--kind", "git"], "caption.kind = 'git'", 1),
        (["DIR", "--out", "OUT", "--model", "demo", "--rank", "demo:9"], "rank leaves 9 of 5 samples", 1),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    tars: Path, tmp_path: Path, arguments: list[str], message: str, status: int
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"DIR": tars, "OUT": tmp_path / "out", "EMPTY": tmp_path / "EMPTY", "params.yaml": ROOT / "params.yaml"}
    done = run(*(places.get(argument, argument) for argument in arguments))
    assert done.exit_code == status, done.output
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()
