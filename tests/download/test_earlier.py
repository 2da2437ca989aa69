"""An earlier version is asked for again: every pair gets its class, and what has changed is not taken in silently."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from made.servers.downloads import run_archiving, write_work
from made.servers.faulty_hosts import QUICK
from made.versions import sample_version, tables
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from laion_dask import params, schema
from laion_dask.cli.main import app
from laion_dask.download import earlier
from laion_dask.images import hashes
from laion_dask.report import linkrot_figure, run_metrics
from laion_dask.report.part import write as write_report
from laion_dask.schema import comparison
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import PDQ_DISTANCE
from laion_dask.storage import shards
from laion_dask.versions import linkrot
from laion_dask.web.archive.replay import Loopback

NAME = "00003"
# Path, what the address gives now, class.
PAIRS = [
    ("/same", "same", "same_bytes"),
    ("/again", "recompressed", "same_picture"),
    ("/other", "other", "changed"),
    ("/refused", "noai", "newly_refused"),
    ("/html", "html", "gone"),
    ("/404", "404", "gone"),
    ("/403", "403", "gone"),
    ("/503", "503", "unreachable"),
    ("/silent", "silent", "unreachable"),
]


def drawn(seed: int) -> Image.Image:
    """Return a soft picture, as photographs are: noise has no perceptual hash worth the name."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def hosts(*, later: bool) -> Any:  # noqa: ANN401 - a handler
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        places = {path: (place, now) for place, (path, now, _) in enumerate(PAIRS)}
        if request.path not in places:
            return web.Response(status=404)
        place, now = places[request.path]
        if now.isdecimal() and later:
            return web.Response(status=int(now))
        if now == "silent" and later and request.transport is not None:
            request.transport.abort()
        bodies = {
            "recompressed": jpeg(drawn(place).resize((300, 225)), 60),
            "other": jpeg(drawn(100)),
            "html": b"<html>parked</html>",
        }
        body = bodies.get(now, jpeg(drawn(place))) if later else jpeg(drawn(place))
        headers = {"X-Robots-Tag": "noai"} if now == "noai" and later else {}
        return web.Response(body=body, headers=headers, content_type="image/jpeg")

    return answer


@pytest.fixture(scope="module")
def settings(defaults: params.Params) -> params.Download:
    return defaults.download.model_copy(update=QUICK)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    urls = [f"http://{'odd' if place % 2 else 'even'}.example{path}" for place, (path, _, _) in enumerate(PAIRS)]
    path = write_work(tmp_path_factory.mktemp("work") / "work.parquet", urls)
    table = pq.read_table(path)
    dates = [f"20{20 + place % 3}-05-01T00:00:00Z" for place in range(len(urls))]
    place = table.schema.get_field_index("page_date")
    pq.write_table(table.set_column(place, "page_date", [dates]).cast(schema.WORK.schema), path)
    return path


@pytest.fixture(scope="module")
def before(work: Path, settings: params.Download, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("before") / "out"
    with Loopback(hosts(later=False)) as server:
        run_archiving(out, work, settings, address=server.address)
    assert set(shards.read_rows(out / f"{NAME}.parquet")["reason"].to_pylist()) == {KEEP}
    return out


def again(out: Path, work: Path, before: Path, settings: params.Download, changed: str, name: str = NAME) -> Path:
    update = {"verify": str(before), "changed": changed}
    with Loopback(hosts(later=True)) as server:
        run_archiving(out, work, settings.model_copy(update=update), address=server.address, name=name)
    return out


@pytest.fixture(scope="module")
def now(work: Path, before: Path, settings: params.Download, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return again(tmp_path_factory.mktemp("now") / "out", work, before, settings, "drop")


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "dropped"), [("drop", ["/other"]), ("strict", ["/again", "/other"]), ("keep", [])])
def test_what_has_changed_is_dropped_with_its_own_reason_and_its_hash_on_record(
    tmp_path: Path, work: Path, before: Path, settings: params.Download, changed: str, dropped: list[str]
) -> None:
    out = again(tmp_path / "out", work, before, settings, changed)
    rows = shards.read_rows(out / f"{NAME}.parquet").to_pylist()
    found = [row for row in rows if row["reason"] == earlier.CHANGED_BYTES]
    assert [row["url"].rpartition("example")[2] for row in found] == dropped
    assert all(row["sha256"] and row["md5"] and row["bytes"] and not row["width"] for row in found)
    of_class = {path: name for path, _, name in PAIRS}
    assert [row["compared"] for row in found] == [of_class[path] for path in dropped]
    assert all(row["compared"] is None for row in rows if row not in found)
    stored = {key for key, _ in shards.read_shard(out / f"{NAME}.tar")}
    assert stored == {row["key"] for row in rows if row["reason"] == KEEP}
    report = linkrot.write(tmp_path / "report", out, before, top_hosts=2)
    assert {share.found: share.count for share in report.everything.shares} == {
        found: sum(name == found for _, _, name in PAIRS) for found in comparison.CLASSES
    }


def test_every_pair_has_its_class_and_rates_have_intervals(now: Path, before: Path, tmp_path: Path) -> None:
    report = linkrot.write(tmp_path, now, before, top_hosts=1)
    rows = schema.LINKROT.check(pq.read_table(tmp_path / "linkrot.parquet")).to_pylist()
    assert [row["found"] for row in rows] == [found for _, _, found in PAIRS]
    gone = report.everything.share("gone")
    assert (gone.count, gone.total, gone.rate) == (3, len(PAIRS), 3 / len(PAIRS))
    assert gone.low < 3 / len(PAIRS) < gone.high
    assert [(group.name, group.pairs) for group in report.years] == [("2020", 3), ("2021", 3), ("2022", 3)]
    assert [(group.name, group.pairs) for group in report.hosts] == [("even.example", 5)]
    assert report.hosts_total == 2
    assert linkrot.read(tmp_path / "linkrot.json") == report
    assert json.loads((tmp_path / "linkrot.json").read_text())["classes"] == comparison.CLASSES
    for group in (report.everything, *report.years, *report.hosts):
        assert sum(share.count for share in group.shares) == group.pairs


def test_numbers_for_mlflow_have_the_same_names_in_every_version(now: Path, before: Path, tmp_path: Path) -> None:
    values = linkrot.metrics(linkrot.write(tmp_path, now, before, top_hosts=1))
    for found in comparison.CLASSES:
        assert {f"linkrot.{found}.{part}" for part in ("rate", "low", "high")} <= values.keys()
    assert values["linkrot.pairs"] == len(PAIRS)
    assert values["linkrot.2020.same_bytes.rate"] == pytest.approx(1 / 3)


def test_a_pair_is_found_whatever_shard_had_it(
    tmp_path: Path, work: Path, before: Path, settings: params.Download
) -> None:
    out = again(tmp_path / "out", work, before, settings, "drop", name="00000")
    report = linkrot.write(tmp_path / "report", out, before, top_hosts=1)
    assert report.everything.pairs == len(PAIRS)
    assert report.everything.share("changed").count == 1


def test_without_a_picture_of_then_other_bytes_count_as_changed(now: Path, before: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    # Tables of before the perceptual hash, without their tars.
    pq.write_table(pq.read_table(before / f"{NAME}.parquet").drop(["pdq"]), tmp_path / "tables" / f"{NAME}.parquet")
    report = linkrot.write(tmp_path / "report", now, tmp_path / "tables", top_hosts=1)
    assert (report.everything.share("same_picture").count, report.everything.share("changed").count) == (0, 2)


def test_hashes_of_the_tables_are_used_where_they_are_there(tmp_path: Path) -> None:
    table = tables.images({"uid": tables.uid(1)}, {"uid": tables.uid(2), "reason": "not_found"})
    if "pdq" not in table.column_names:
        table = table.append_column("pdq", [["ab" * 32, None]])
    else:
        table = table.set_column(table.schema.get_field_index("pdq"), "pdq", [["ab" * 32, None]])
    tables.write(tmp_path / "00000.parquet", table)
    found = earlier.with_pictures(earlier.earlier(tmp_path, "00007", {tables.uid(1), tables.uid(2), tables.uid(3)}))
    assert {uid: before.pdq for uid, before in found.items()} == {tables.uid(1): "ab" * 32}


@pytest.mark.parametrize(
    ("reason", "status", "rights", "signal", "found"),
    [
        ("not_found", 404, "unknown", "", "gone"),
        ("http_error", 403, "allowed", "robots", "gone"),
        ("http_error", 500, "unknown", "", "unreachable"),
        ("http_error", 429, "unknown", "", "unreachable"),
        ("timeout", 0, "unknown", "", "unreachable"),
        ("unreachable", 0, "unknown", "", "unreachable"),
        ("host_failing", 0, "unknown", "", "unreachable"),
        ("not_archived", 0, "unknown", "", "unreachable"),
        ("robots", 0, "refused", "robots", "newly_refused"),
        ("x_robots_tag", 200, "refused", "x_robots_tag", "newly_refused"),
        ("not_found", 404, "refused", "robots", "gone"),
        ("truncated_image", 200, "allowed", "robots", "gone"),
        ("private_address", 0, "unknown", "", "gone"),
    ],
)
def test_a_pair_without_a_picture_is_gone_refused_or_undecided(
    reason: str, status: int, rights: str, signal: str, found: str
) -> None:
    row = {"reason": reason, "http_status": status, "rights": rights, "rights_signal": signal}
    assert earlier.classify(row, earlier.Before("0" * 64, None, "", Path()), None) == found


def test_two_hashes_of_one_picture_are_within_31_bits_and_of_two_pictures_are_not() -> None:
    bodies = jpeg(drawn(1)), jpeg(drawn(1).resize((300, 225)), 60), jpeg(drawn(2))
    one, small, other = (hashes.pdq_as_stored(body).hex for body in bodies)
    assert earlier.bits_apart(one, one) == 0
    assert earlier.bits_apart(one, small) <= PDQ_DISTANCE < earlier.bits_apart(one, other)


def test_a_folder_without_tables_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(earlier.EarlierError, match=r"dvc get \. data/download"):
        earlier.shard_files(tmp_path)


def test_the_figure_has_the_same_bytes_each_time(now: Path, before: Path, tmp_path: Path) -> None:
    report = linkrot.write(tmp_path, now, before, top_hosts=5)
    drawings = [linkrot_figure.write(tmp_path / name, report) for name in ("one", "two")]
    assert [picture.name for picture in drawings if picture] == ["linkrot", "linkrot"]
    for kind in ("png", "svg"):
        one, two = ((tmp_path / name / f"linkrot.{kind}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_the_command_line_compares_two_folders(now: Path, before: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["linkrot", str(before), str(now), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "same bytes             1   11.11 %  (95 %: 1.99 to 43.50)" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "linkrot.json",
        "linkrot.parquet",
        "linkrot.png",
        "linkrot.svg",
    ]
    refused = CliRunner().invoke(app, ["linkrot", str(tmp_path), str(now)])
    assert refused.exit_code == 1
    assert "Remedy" in refused.stderr


def test_versions_without_a_common_pair_say_so(now: Path, tmp_path: Path) -> None:
    tables.write(tmp_path / "00000.parquet", tables.images({"uid": "f" * 32}))
    done = CliRunner().invoke(app, ["linkrot", str(tmp_path), str(now)])
    assert done.exit_code == 0
    assert "the two downloads have no pair in common" in done.stdout
    assert linkrot_figure.write(tmp_path, linkrot.write(tmp_path, now, tmp_path, top_hosts=1)) is None


@pytest.mark.slow
def test_the_report_shows_link_rot_where_an_earlier_version_was_compared_with(
    defaults: params.Params, tmp_path: Path
) -> None:
    data, metrics = sample_version.write(tmp_path / "version", links=60, shards=1)
    changed = {"verify": str(data / "download")}
    settings = defaults.model_copy(update={"download": defaults.download.model_copy(update=changed)})
    write_report(tmp_path / "out", data, metrics, settings, {})
    text = " ".join((tmp_path / "out" / "report.html").read_text(encoding="utf-8").split())
    kept = json.loads((metrics / "download.json").read_text())["images"]["kept"]
    assert f"{kept} pairs of the earlier version" in text
    assert "same bytes" in text
    assert (tmp_path / "out" / "figures" / "linkrot.svg").is_file()
    values = run_metrics.every_number(tmp_path / "out", metrics)
    assert (values["linkrot.same_bytes.rate"], values["linkrot.pairs"]) == (1.0, kept)
    assert "linkrot" not in (tmp_path / "out" / "statistics.json").read_text()


@pytest.mark.parametrize(("place", "remedy"), [(0, "dvc get . data/download"), (1, "the folder with 00000.parquet")])
def test_a_folder_that_is_not_there_is_told_and_leaves_no_report(
    now: Path, before: Path, tmp_path: Path, place: int, remedy: str
) -> None:
    folders = [str(before), str(now)]
    folders[place] = str(tmp_path / "b")
    done = CliRunner().invoke(app, ["linkrot", *folders, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert f"{tmp_path / 'b'} has no tables of" in done.output
    assert remedy in done.output
    assert not (tmp_path / "out").exists()
