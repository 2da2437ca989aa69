"""The whole way, on real components: a small demo crawl, real processes, PostgreSQL, http and https, a real CLIP."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from made.checkout import SECTIONS as STAGES
from made.processes import programs
from made.projects.project import SMALL, Project, left_behind
from made.texts.listing import stored
from warcio.archiveiterator import ArchiveIterator

from laion_dask import schema
from laion_dask.catalog import database
from laion_dask.images import metadata
from laion_dask.release import exports
from laion_dask.schema import groups
from laion_dask.schema.ledger import Ledger, LedgerError
from laion_dask.schema.reasons import FUNNEL
from laion_dask.versions import linkrot

pytestmark = pytest.mark.slow


# Where the fixture `small` has two: the workers that are killed with their stage (0: it is not), and those after them.
# Of four workers that score, each of which imports torch for seconds, score/test_part.py has a test.
WORKERS = {
    "extract": (1, 4),
    "catalog": (0, 1),
    "download": (4, 1),
    "score": (2, 1),
    "group": (0, 1),
    "filter": (0, 4),
    "translate": (0, 4),
    "caption": (2, 1),
    "release": (0, 1),
}


@pytest.fixture(scope="module")
def killed(small: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Killed with -9 in extract, download, score and caption, and gone on with by another number of workers."""
    project = Project.create(tmp_path_factory.mktemp("killed") / "p", SMALL)
    project.adopt(small, "crawl")
    for stage, (before, after) in WORKERS.items():
        if before:
            status, said = project.interrupt(stage, signal.SIGKILL, workers=before)
            assert status == -signal.SIGKILL, said
            assert not (project.folder / "data" / stage).exists()
        project.run(stage, workers=after)
    return project


def read(project: Project, pattern: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((project.folder / "data").glob(pattern)))


def rows_of(dsn: str) -> int:
    """Count the pairs that a database holds."""
    with psycopg.connect(dsn) as connection:
        ((count,),) = connection.execute("select count(*) from laion_dask.pairs").fetchall()
    return int(count)


def reasons(path: Path) -> list[str]:
    return [str(reason) for reason in pq.read_table(path, columns=["reason"])["reason"].to_pylist()]


class TestTheFunnelAddsUp:
    def test_every_stage_sees_what_the_one_before_kept(self, small: Project) -> None:
        ledgers = [Ledger.from_dict(small.metrics(stage)[name]) for stage, name in FUNNEL]
        for (stage, _), ledger in zip(FUNNEL, ledgers, strict=True):
            ledger.check(stage)
            assert ledger.seen > 0
        assert [ledger.kept for ledger in ledgers[:-1]] == [ledger.seen for ledger in ledgers[1:]]

    @pytest.mark.parametrize(
        ("stage", "name"), [entry for entry in FUNNEL if entry[0] not in {"score", "group", "release"}]
    )
    def test_a_reason_that_is_not_counted_breaks_it(self, small: Project, stage: str, name: str) -> None:
        counts = small.metrics(stage)[name]
        for reason in counts["dropped"]:
            ledger = Ledger.from_dict(counts)
            del ledger.dropped[reason]
            with pytest.raises(LedgerError, match=stage):
                ledger.check(stage)

    def test_every_pair_of_the_catalog_has_exactly_one_verdict(self, small: Project) -> None:
        verdicts = read(small, "filter/*.parquet")
        pairs = read(small, "extract/pairs/*.parquet")
        assert sorted(verdicts["uid"].to_pylist()) == sorted(set(pairs["uid"].to_pylist()))


class TestTables:
    @pytest.mark.parametrize(
        ("pattern", "table"),
        [
            ("crawl/wats.parquet", schema.WATS),
            ("crawl/truth.parquet", schema.TRUTH),
            ("extract/pairs/*.parquet", schema.PAIRS),
            ("catalog/shards/*.parquet", schema.WORK),
            ("catalog/removed.parquet", schema.REMOVED),
            ("download/*.parquet", schema.IMAGES),
            ("score/*.parquet", schema.scores(["demo"])),
            ("group/0*.parquet", groups.GROUPS),
            ("group/near.parquet", groups.EDGES),
            ("group/semantic.parquet", groups.EDGES),
            ("filter/*.parquet", schema.VERDICTS),
            ("release/en-*.parquet", schema.RELEASE),
            ("release/tombstones.parquet", schema.TOMBSTONES),
        ],
    )
    def test_a_stage_writes_the_table_of_the_vocabulary(
        self, small: Project, pattern: str, table: schema.Table
    ) -> None:
        rows = read(small, pattern)
        table.check(rows)
        assert rows.num_rows > 0

    def test_row_i_of_a_shard_is_slot_i_of_its_arrays(self, small: Project) -> None:
        store = zarr.open_group(small.folder / "data" / "score" / "embeddings.zarr", mode="r")
        image, text = np.asarray(store["demo/image"]), np.asarray(store["demo/text"])
        for path in sorted((small.folder / "data" / "score").glob("*.parquet")):
            scores = pq.read_table(path)
            failed = np.array(pq.read_table(small.folder / "data" / "download" / path.name)["reason"]) != "keep"
            slots = scores["slot"].to_numpy()
            assert np.array_equal(np.isnan(image[slots]).all(axis=1), failed)
            lengths = np.linalg.norm(image[slots].astype(np.float32)[~failed], axis=1)
            assert np.allclose(lengths, 1, atol=2e-3)
            cosines = (image[slots].astype(np.float32) * text[slots].astype(np.float32)).sum(axis=1)
            assert np.allclose(cosines[~failed], scores["similarity"].to_numpy()[~failed], atol=2e-3)

    def test_no_picture_that_was_written_carries_metadata(self, small: Project, tmp_path: Path) -> None:
        written = [small.folder / "data" / stage for stage in STAGES[1:]]
        source = exports.DatasetFolders(*(small.folder / "data" / stage for stage in ("download", "score", "filter")))
        for view in (exports.clip_retrieval, exports.datacomp, exports.subset):
            assert view(source, tmp_path / view.__name__, None) > 0
        found = metadata.scan(*written, small.folder / "mlruns", tmp_path)
        # The stored ones, and those of the page's gallery.
        assert found.pictures > small.metrics("download")["images"]["kept"]
        assert found.found == ()
        assert found.archives == ()

    def test_no_byte_of_a_listed_picture_is_under_the_work_folders(self, small: Project) -> None:
        known = small.folder / "data" / "crawl" / "known.txt"
        listed = {line for line in known.read_text().splitlines() if not line.startswith("#")}
        found: dict[str, bytes] = {}
        for warc in sorted((small.folder / "data" / "crawl" / "warc").glob("*.gz")):
            with warc.open("rb") as stream:
                for record in ArchiveIterator(stream):
                    body = record.content_stream().read()
                    if hashlib.sha256(body).hexdigest() in listed:
                        found[str(record.rec_headers.get_header("WARC-Target-URI"))] = body
        assert {hashlib.sha256(body).hexdigest() for body in found.values()} == listed
        digests = [hashlib.new(kind, body).hexdigest() for body in found.values() for kind in ("md5", "sha1", "sha256")]
        secrets = [*found.values(), *(digest.encode() for digest in digests)]
        web = [small.folder / "data" / "crawl", small.folder / ".laion_dask" / "parts" / "crawl"]
        # What the crawl says of an address is not known to be listed before its picture is there.
        earlier = {"extract", "catalog", "postgresql"}
        searched = 0
        for path, body in stored(small.folder, web):
            searched += 1
            assert [secret for secret in secrets if secret in body] == [], path
            if earlier.isdisjoint(path.parts):
                assert [url for url in found if url.encode() in body] == [], path
        assert searched > 100

    def test_no_removed_or_listed_pair_is_in_the_release(self, small: Project) -> None:
        verdicts = read(small, "filter/*.parquet").to_pylist()
        out = {row["uid"] for row in verdicts if row["reason"].startswith(("removed_", "listed_"))}
        kept = set(read(small, "release/*-0*.parquet")["uid"].to_pylist())
        assert out
        assert not out & kept


class TestAgainstTheDemosTruth:
    def test_opted_out_broken_duplicate_and_removed_pairs_are_exact(self, small: Project) -> None:
        decisions = json.loads((small.folder / "data" / "report" / "truth.json").read_text())
        exact = {
            name: decision
            for name, decision in ((entry["name"], entry) for entry in decisions)
            if name not in {"keep", "unsafe", "watermark", "low_similarity", "near_duplicate", "caption_right"}
            and not name.startswith(("language", "split"))
        }
        assert {"robots", "x_robots_tag", "duplicate_pair", "removed_url", "not_found"} <= exact.keys()
        wrong = {name: entry for name, entry in exact.items() if entry["false_positives"] or entry["false_negatives"]}
        assert wrong == {}

    @pytest.mark.parametrize("name", ["low_similarity", "unsafe", "watermark", "near_duplicate", "caption_right"])
    def test_wrong_captions_unsafe_and_watermarked_pictures_are_found(self, small: Project, name: str) -> None:
        decisions = json.loads((small.folder / "data" / "report" / "truth.json").read_text())
        found = next(entry for entry in decisions if entry["name"] == name)
        assert found["true_positives"] >= 5
        assert found["precision"] >= 0.9
        assert found["recall"] >= 0.9


class TestSameInputSameBytes:
    @pytest.mark.parametrize("stage", STAGES[1:-1])
    def test_a_run_killed_half_way_and_resumed_by_one_or_four_workers_equals_one_of_two_that_was_not(
        self, small: Project, killed: Project, stage: str
    ) -> None:
        assert killed.digests(stage) == small.digests(stage)


class TestArchive:
    def test_a_download_is_rebuilt_from_its_archive_and_verified_against_itself(
        self, small: Project, tmp_path: Path
    ) -> None:
        kept = Project.create(tmp_path / "kept", {**SMALL, "download.archive": True})
        kept.adopt(small, "crawl", "extract", "catalog")
        kept.run("download")
        first = kept.digests("download")
        shards = {name: digest for name, digest in first.items() if not name.endswith((".warc.gz", ".cdxj"))}
        assert shards == small.digests("download")
        earlier = shutil.copytree(kept.folder / "data" / "download", tmp_path / "earlier")
        changes = {
            "download.source": "archive",
            "download.warcs": [f"{earlier}/*.warc.gz"],
            "download.archive": True,
            "download.verify": str(earlier),
        }
        rebuilt = Project.create(tmp_path / "rebuilt", {**SMALL, **changes})
        # The lists of known content lie beside the crawl.
        rebuilt.adopt(kept, "crawl", "catalog")
        rebuilt.run("download", workers=1)
        again = rebuilt.digests("download")
        listed = {path.stem for path in earlier.glob("*.parquet") if "listed_hash" in reasons(path)}
        tables = {f"download/{shard}{end}" for shard in listed for end in (".parquet", "_stats.json")}
        assert {name for name in first if first[name] != again[name]} == tables
        assert again.keys() == first.keys()
        # A listed picture is in no archive: what was known content is now not there, and nothing else differs.
        for shard in listed:
            then = reasons(earlier / f"{shard}.parquet")
            now = reasons(rebuilt.folder / "data" / "download" / f"{shard}.parquet")
            assert now == ["not_archived" if reason == "listed_hash" else reason for reason in then]
        report = linkrot.write(tmp_path / "report", rebuilt.folder / "data" / "download", earlier, top_hosts=3)
        assert report.everything.share("same_bytes").count == small.metrics("download")["images"]["kept"]
        assert report.everything.share("same_bytes").rate == 1


class TestInterruption:
    def test_ctrl_c_ends_before_the_work_is_done_leaves_nothing_running_and_resumes(
        self, small: Project, tmp_path: Path
    ) -> None:
        project = Project.create(tmp_path / "p", SMALL)
        project.adopt(small, "crawl", "extract", "catalog")
        status, said = project.interrupt("download", signal.SIGINT)
        assert status == 130, said
        shards = len([*(small.folder / "data" / "download").glob("*.parquet")])
        assert 0 < len([*(project.folder / ".laion_dask" / "parts" / "download").glob("*/counts.json")]) < shards
        assert "interrupted" in said
        assert "Traceback" not in said
        assert left_behind(project.folder) == []
        project.run("download", workers=1)
        assert project.digests("download") == small.digests("download")

    def test_a_catalog_whose_database_was_deleted_between_two_runs_is_made_again_from_the_files(
        self, small: Project, tmp_path: Path
    ) -> None:
        project = Project.create(tmp_path / "p", SMALL)
        project.adopt(small, "crawl", "extract")
        project.run("catalog", workers=1)
        database_folder = project.folder / ".laion_dask" / "postgresql"
        shutil.rmtree(database_folder)
        shutil.rmtree(project.folder / "data" / "catalog")
        # Its finished parts are still there: without a look into the database the run would end with nothing in it.
        assert [*(project.folder / ".laion_dask" / "parts" / "catalog").glob("*/counts.json")]
        project.run("catalog", workers=2)
        assert project.digests("catalog") == small.digests("catalog")
        assert project.metrics("catalog") == small.metrics("catalog")
        with database.server(None, database_folder) as dsn:
            assert rows_of(dsn) == small.metrics("extract")["links"]["kept"]


class TestBadInput:
    def test_an_unknown_parameter_stops_at_once_with_key_value_and_remedy(self, tmp_path: Path) -> None:
        project = Project.create(tmp_path / "p", {})
        with (project.folder / "params.yaml").open("a") as stream:
            stream.write("fliter: 3\n")
        process = project.start("crawl", workers=1)
        said = programs.ended(process)
        assert process.returncode == 1
        assert "fliter = 3" in said
        assert "Remedy" in said
        assert "Traceback" not in said

    def test_a_missing_and_a_damaged_wat_are_counted_and_the_rest_goes_on(self, small: Project, tmp_path: Path) -> None:
        wats = sorted((small.folder / "data" / "crawl" / "wat").glob("*.gz"))
        (tmp_path / "w").mkdir()
        (tmp_path / "w" / "a.warc.wat.gz").write_bytes(wats[0].read_bytes())
        (tmp_path / "w" / "b.warc.wat.gz").write_bytes(wats[1].read_bytes()[:50_000])
        (tmp_path / "w" / "c.warc.wat.gz").write_bytes(b"this is no WAT\n" * 100)
        gone = tmp_path / "w" / "d.warc.wat.gz"
        gone.write_bytes(b"soon gone")
        project = Project.create(tmp_path / "p", {"crawl.source": "files", "crawl.files": [f"{tmp_path}/w/*.gz"]})
        project.run("crawl", workers=1)
        gone.unlink()
        project.run("extract", workers=1)
        records = project.metrics("extract")["records"]
        assert records["dropped"]["wat_unreadable"] >= 1
        assert records["dropped"]["truncated"] == 1
        assert project.metrics("extract")["links"]["kept"] > 50

    def test_a_stage_without_its_input_says_what_to_run(self, tmp_path: Path) -> None:
        project = Project.create(tmp_path / "p", SMALL)
        process = project.start("score", workers=1)
        said = programs.ended(process)
        assert process.returncode == 1
        assert "dvc repro" in said


def test_a_lost_database_is_a_clear_error_and_a_server_that_the_environment_names_gives_the_same_work_list(
    small: Project, dsn: str, tmp_path: Path
) -> None:
    project = Project.create(tmp_path / "p", SMALL)
    project.adopt(small, "crawl", "extract")
    process = project.start("catalog", LAION_DASK_DSN="postgresql://nobody@127.0.0.1:9/none", workers=1)
    said = programs.ended(process)
    assert process.returncode == 1
    assert "LAION_DASK_DSN" in said
    project.run("catalog", LAION_DASK_DSN=dsn, workers=1)
    assert project.digests("catalog") == small.digests("catalog")
    assert not (project.folder / ".laion_dask" / "postgresql").exists()
    assert rows_of(dsn) == small.metrics("extract")["links"]["kept"]
