"""img2dataset's options: what each of them means here, and what is refused or left out, never in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from made.places import ROOT
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.cli.peers.img2dataset import OptionError, translate

# As img2dataset's documentation for LAION-400M and others writes it -> as it is written here.
COMMANDS = {
    "LAION-400M": (
        """--url_list=laion400m.parquet --input_format parquet --url_col URL --caption_col TEXT
        --output_format webdataset --output_folder laion400m-data --processes_count 16 --thread_count 128
        --image_size 256 --save_additional_columns ["NSFW","similarity","LICENSE"] --enable_wandb True""",
        """laion400m.parquet --input-format parquet --url-col URL --caption-col TEXT --out laion400m-data --workers 16
        --connections 128 --image-size 256 --save-additional-columns NSFW,similarity,LICENSE""",
    ),
    "a text of addresses": (
        "--url_list=my.txt --output_folder=out --thread_count=64 --image_size=256 --input_format=txt.gz",
        "my.txt --out out --connections 64 --image-size 256 --input-format txt",
    ),
    "json is JSON lines": ("--input_format json", "--input-format jsonl"),
    "smaller images stay": ("--resize_only_if_bigger=True", "--smaller keep"),
    "smaller images are enlarged": ("--resize_only_if_bigger False", "--smaller enlarge"),
    "a switch without a value": ("--resize_only_if_bigger --image_size 9", "--smaller keep --image-size 9"),
    "bodies as received": ("--disable_all_reencoding", "--encode-format original --resize-mode no"),
    "hashes are checked": ('--verify_hash ["md5","md5"]', "--hash-col md5"),
    "a shard": ("--number_sample_per_shard 100 --oom_shard_count 8", "--shard-rows 100 --shard-digits 8"),
    "the largest image": ("--max_image_area 90000", "--max-pixels 90000"),
    "finished shards are replaced": ("--incremental_mode overwrite", "--overwrite"),
    "hyphens, as its reader of options takes them": ("--output-folder o --url-list t.csv", "--out o t.csv"),
    "options that both have": ("--timeout 5 --retries=2 --image-size 9", "--timeout 5 --retries=2 --image-size 9"),
    "this program's own": ("t.csv --out o --shard-rows 5 --hash-col h", "t.csv --out o --shard-rows 5 --hash-col h"),
    "behind two hyphens": ("--out o -- --url_list", "--out o -- --url_list"),
}
LEFT_OUT = {
    "--enable_wandb True": "a project records its versions in MLflow",
    "--wandb_project mine": "a project records its versions in MLflow",
    "--subjob_size 1000": "a task is a shard",
    "--max_shard_retry 3": "the same command makes only unfinished shards",
    "--output_format webdataset": "this program does so anyway",
    "--extract_exif False": "this program does so anyway",
    "--compute_hash sha256": "this program does so anyway",
    "--distributor multiprocessing": "Dask spreads the work over processes",
    "--incremental_mode incremental": "the same command resumes",
    "--min_image_size 0": "this program does so anyway",
    "--max_aspect_ratio inf": "this program does so anyway",
    "--skip_reencode False": "images are encoded again, as asked",
    "--save_additional_columns None": "no further column is asked for",
    "--verify_hash None": "no column of hashes is named",
}
REFUSED = {
    "--skip_reencode True": "--encode-format original --resize-mode no",
    "--output_format files": "`tar xf` gives files",
    "--extract_exif True": "leave it out",
    "--compute_hash sha512": "leave it out",
    "--distributor pyspark": "DASK_LAION_DASK__CLUSTER__KIND",
    "--incremental_mode extend": "another folder",
    "--min_image_size 200": "original_width",
    "--max_aspect_ratio 3": "filter.max_aspect_ratio",
    "--user_agent_token mine": "--contact",
    "--disallowed_header_directives []": "--rights",
    "--upscale_interpolation area": "leave it out",
    "--downscale_interpolation area": "leave it out",
}


@pytest.mark.parametrize("case", COMMANDS)
def test_what_has_a_counterpart_becomes_it(case: str) -> None:
    theirs, ours = COMMANDS[case]
    assert translate(theirs.split())[0] == ours.split()


@pytest.mark.parametrize("words", LEFT_OUT)
def test_what_decides_nothing_is_left_out_with_a_note(words: str) -> None:
    name, value = words.split()
    for given in ([name, value], [f"{name}={value}"]):
        assert translate(["t.csv", *given]) == (["t.csv"], [f"{words} is left out: {LEFT_OUT[words]}"])


@pytest.mark.parametrize("words", REFUSED)
def test_what_would_give_another_data_set_is_refused_with_the_remedy(words: str) -> None:
    with pytest.raises(OptionError) as refused:
        translate(words.split())
    message = str(refused.value)
    assert message.startswith(f"{words} is refused: ")
    assert REFUSED[words] in message.partition("Remedy: ")[2]


def test_every_option_that_the_page_maps_is_read_and_means_what_the_page_says() -> None:
    page = (ROOT / "docs" / "download.md").read_text().partition("## Coming from img2dataset")[2]
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    known = {"TABLE...": [], **{option: [] for one in _options() for option in one.opts}}
    for names, meaning in rows:
        for name in re.findall(r"`(\w+)`", names):
            if name in {"timeout", "retries"}:
                continue
            try:
                said, notes = translate([f"--{name}=1"])
            except OptionError:
                continue
            assert said != [f"--{name}=1"], f"{name} is not read"
            assert notes or not said[0].startswith("--") or said[0] in known
            options = re.findall(r"`(--[a-z-]+)", meaning)
            assert not (said and said[0].startswith("--") and options) or said[0] in options, name


def _options() -> list[typer.core.TyperOption]:
    return typer.main.get_command(app).commands["download"].params  # type: ignore[attr-defined, no-any-return]


def test_the_command_that_is_run_is_printed_and_a_mistake_of_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    words = ["--url_list=my urls.csv", "--output_folder", "o", "--enable_wandb=True"]
    done = CliRunner().invoke(app, ["download", *words])
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "download: --enable_wandb True is left out: a project records its versions in MLflow"
    assert lines[1] == "download: this means: laion-dask download 'my urls.csv' --out o"
    assert lines[2].startswith("download: no contact given, which the user agent must name. Remedy: --contact")
    done = CliRunner().invoke(app, ["download", "--skip_reencode"])
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)


def test_a_folder_of_tables_is_each_of_its_files(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", ".hidden", "_SUCCESS"):
        (tmp_path / name).touch()
    assert translate([f"--url_list={tmp_path}"])[0] == [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="is a folder without files"):
        translate([f"--url_list={tmp_path / 'empty'}"])
