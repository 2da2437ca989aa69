"""What several test modules share: the folder of real inputs, checked parameters."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from distributed import Client
from made.places import ROOT
from made.processes.dask_clients import threads_of_this_process
from made.projects.built import build
from made.projects.project import Project
from xdist.scheduler import LoadFileScheduling

from laion_dask import params
from laion_dask.catalog import database


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs beside the checkout; tests that read them are skipped where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/data with real inputs")
    return folder


@pytest.fixture(scope="session")
def defaults() -> params.Params:
    """Read params.yaml as committed."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Project]:
    """Build the small demo once for all processes of this test run: the clone, and a copy of its files for reading."""
    base = tmp_path_factory.getbasetemp()
    # Each process of xdist has a folder of its own in that of the run.
    return build((base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "built")


@pytest.fixture(scope="session")
def small(built: tuple[Path, Project]) -> Project:
    """The small demo, run by `dvc repro` from crawl to report with two workers; only for reading."""
    return built[1]


@pytest.fixture(scope="module", params=[1, 3], ids=["one worker", "three workers"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Threads stand in for workers: the same scheduler and the same tasks, without seconds for each new process."""
    with threads_of_this_process(request.param) as client:
        yield client


@pytest.fixture(scope="session")
def translator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where `made.texts.translators` makes its tiny models, once for each family."""
    return tmp_path_factory.mktemp("translators")


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A real PostgreSQL, started once; each test makes its own tables."""
    # The path of a Unix socket has about 100 characters: pytest's own folders may be too deep for that.
    with tempfile.TemporaryDirectory() as folder, database.server(None, Path(folder) / "pg") as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            # Nothing here has to survive a power cut.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        yield dsn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hosts", action="store_true", help="run tests/hosts, as `make test-hosts` does")


def pytest_configure() -> None:
    """Let programs that tests start hear Ctrl-C and SIGHUP also where a shell or nohup has started the tests."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name packed bytes by their length: gzip's hold the time, and all processes of a run must agree on the names."""
    return f"gzip of {len(val)} bytes" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


# What a module holds that starts workers: its tests are marked `cluster`, as those that ask for the fixture `client`.
STARTS_A_CLUSTER = {"LocalCluster", "Project", "cluster", "threads_of_this_process"}
# Files whose tests start programs (Git, PostgreSQL, decoders), file in MLflow, load models, or are very many: together
# they would take as long as half of what `make test-fast` runs.
SLOW_FILES = {
    *(
        "catalog/test_postgres.py",
        "clip/test_models.py",
        "demo/training/test_evaluate.py",
        "download/test_url_tables.py",
    ),
    *("experiments/test_recipes_table.py", "experiments/test_versions.py", "images/test_decoders.py"),
    *("removals/test_purge_links.py", "removals/test_purge_places.py", "removals/traces/test_trace_kinds.py"),
    *("report/test_tracking.py", "versions/test_diff.py", "web/archive/test_exchanges.py"),
}
assert all((ROOT / "tests" / name).is_file() for name in SLOW_FILES), "SLOW_FILES names a file that is not there"
# Its tests need the small demo first, and take longest.
BUILDS = "test_dvc.py"
# Files whose tests share nothing that takes time to make: each test may run in another process.
ONE_BY_ONE = {"tests/benchmarks/test_benchmarks.py", "tests/images/test_decoders.py"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder and fixtures, and put files into an order in which no process waits for another."""
    if not config.getoption("hosts"):
        # They need root, and minutes in which nothing else runs.
        config.hook.pytest_deselected(items=[item for item in items if item.path.parent.name == "hosts"])
        items[:] = [item for item in items if item.path.parent.name != "hosts"]
    for item in items:
        folder, fixtures = item.path.parent.name, getattr(item, "fixturenames", ())
        file = item.path.relative_to(ROOT / "tests").as_posix() if item.path.is_relative_to(ROOT / "tests") else ""
        if folder in {"whole", "benchmarks", "hosts"} or file in SLOW_FILES or "dsn" in fixtures:
            item.add_marker("slow")
        if item.path.stem.endswith("_browser"):
            item.add_marker("browser")
        names = vars(item.module) if isinstance(item, pytest.Function) else {}
        if "client" in fixtures or STARTS_A_CLUSTER & set(names):
            item.add_marker("cluster")
    # The file that builds the small demo comes first, those that read it come after the other slow ones.
    reads = {item.path for item in items if "built" in getattr(item, "fixturenames", ())}

    def place(item: pytest.Item) -> int:
        if item.path.name == BUILDS:
            return 0
        if item.get_closest_marker("slow") is None and item.path not in reads:
            return 3
        return 2 if item.path in reads else 1

    items.sort(key=place)


class FilesAndTests(LoadFileScheduling):
    """Give each process whole files, whose fixtures it then makes once, but the tests of some files one by one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return nodeid if file in ONE_BY_ONE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesAndTests | None:
    """Distribute as `FilesAndTests` says where files are distributed."""
    return FilesAndTests(config, log) if config.getoption("dist") == "loadfile" else None
