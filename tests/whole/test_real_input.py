"""Real WARC and WAT pairs, the whole way through replay: counts of links, pairs and images as stated beside them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made.checkout import SECTIONS as STAGES
from made.processes.elsewhere import scheduler, worker
from made.projects.project import Project

pytestmark = pytest.mark.slow

# By WAT and WARC: rows with an alt text (README, "WAT files: counts"), distinct pairs, and those whose image lies
# inside the WARC (README, "End to end"): archive.org pages, books.toscrape, Wikipedia's main page.
COUNTS = {
    "aut__example": (666, 99, 69),
    "node-warc__books.toscrape": (20, 20, 20),
    "ukwa__main-page": (17, 17, 17),
}
LINKS = 844 + 20 + 17


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Project:
    """The three pairs in one version, with rules that drop nothing that has an alt text and an image."""
    warcs = [path for path in sorted((shared_data / "warc_real").iterdir()) if path.name.split(".warc")[0] in COUNTS]
    project = Project.create(
        tmp_path_factory.mktemp("real") / "p",
        {
            "crawl.source": "files",
            "crawl.files": [str(shared_data / "wat_derived" / f"{name}.warc.wat.gz") for name in COUNTS],
            "extract.min_chars": 1,
            "extract.refused_extensions": [],
            "extract.page_opt_out": "record",
            "catalog.buckets": 1,
            "download.warcs": [str(path) for path in warcs],
            "catalog.lists": [],
            "filter.min_side_px": 1,
            "filter.max_aspect_ratio": 100.0,
            "filter.similarity": {"en": -1.0, "multi": -1.0, "nolang": -1.0},
            "filter.max_punsafe": 1.0,
            "filter.max_pwatermark": 1.0,
            "filter.duplicate_images": "keep",
        },
    )
    folder = tmp_path_factory.mktemp("cluster")
    with scheduler(folder) as address, worker(address, folder / "w"):
        project.run_in_one_process(*STAGES, DASK_LAION_DASK__CLUSTER__KIND=address)
    return project


def of_wat(project: Project, pattern: str, name: str) -> pa.Table:
    rows = pa.concat_tables(pq.read_table(path) for path in sorted((project.folder / "data").glob(pattern)))
    return rows.filter(pc.match_substring(rows["wat"], name))


def test_every_image_link_is_counted(real: Project) -> None:
    links = real.metrics("extract")["links"]
    assert links["seen"] == LINKS
    assert links["kept"] == sum(rows for rows, _, _ in COUNTS.values())
    assert links["dropped"] == {"no_alt": LINKS - links["kept"]}


@pytest.mark.parametrize("name", COUNTS)
def test_rows_pairs_and_images_equal_the_stated_counts(real: Project, name: str) -> None:
    rows, pairs, images = COUNTS[name]
    extracted = of_wat(real, "extract/pairs/*.parquet", name)
    assert extracted.num_rows == rows
    assert len(set(extracted["uid"].to_pylist())) == pairs
    attempts = of_wat(real, "download/*.parquet", name)
    assert attempts.num_rows == pairs
    assert attempts["reason"].to_pylist().count("keep") == images


@pytest.mark.parametrize("name", COUNTS)
def test_every_image_is_released_with_its_size_and_similarity(real: Project, name: str) -> None:
    released = of_wat(real, "release/*-0*.parquet", name)
    assert released.num_rows == COUNTS[name][2]
    assert pc.min(released["WIDTH"]).as_py() >= 1
    assert pc.all(pc.is_finite(released["similarity"])).as_py()


def test_the_report_shows_the_version(real: Project) -> None:
    page = (real.folder / "data" / "report" / "report.html").read_text()
    assert "This is a demo" not in page
    assert f"{LINKS:,}" in page
