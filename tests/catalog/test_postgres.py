"""The embedded PostgreSQL: it starts in any folder, for its user alone, and ends with its last user."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from made.places import ROOT
from made.processes import programs, users

from laion_dask.catalog import database, postgres_account
from laion_dask.catalog.database import CatalogError

PATHS = {
    "a space": "a b",
    "a quote": "it's",
    "double quotes": 'say "so"',
    "a shell's own": "a & b; c | d > e",
    "a substitution": "$(id) `id` $HOME",
    "a percent sign": "100%d",
    "a backslash": "a\\b",
    "a comma and a number sign": "a,b#c?d=e&f",
    "other letters": "größe-数据-🗃",
    "a leading dash": "-D",
    "a line break": "a\nb",
    "more than a socket's path may have": "/".join(["deep" * 15] * 5),
}
RUN = """
import sys, time
from pathlib import Path
from laion_dask.catalog import database
with database.server(None, Path(sys.argv[1])) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(query).fetchone()
        return found[0] if found else None


def socket_of(dsn: str) -> Path:
    return Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"])) / ".s.PGSQL.5432"


def process_of(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    run = programs.start(
        [sys.executable, "-c", RUN, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stderr=None, encoding="utf-8"
    )
    return run, programs.line_of(run).strip()


def ended(run: subprocess.Popen[str]) -> None:
    said = programs.ended(run)
    assert run.returncode == 0, said


@pytest.mark.parametrize("name", PATHS)
def test_it_starts_in_a_folder_of_any_name_and_nowhere_else(name: str, tmp_path: Path) -> None:
    folder = tmp_path / PATHS[name] / "postgresql"
    with database.server(None, folder) as dsn:
        assert ask(dsn, "select 1") == 1
        assert len(str(socket_of(dsn))) <= 100
        process = process_of(folder)
    assert not programs.is_there(process)
    assert not socket_of(dsn).parent.exists()
    assert {path.name for path in folder.parent.iterdir()} == {
        "postgresql",
        "postgresql.lock",
        "postgresql.users",
    }
    beside = tmp_path / Path(PATHS[name]).parts[0]
    assert list(tmp_path.iterdir()) == [beside]


class TestWhoComesIn:
    """Its own user, by a socket in a closed folder; nobody else, and nobody over the network."""

    def test_socket_and_folders_are_closed_to_others_and_no_port_is_open(self, tmp_path: Path) -> None:
        with database.server(None, tmp_path / "pg") as dsn:
            modes = {
                path: stat.S_IMODE(path.stat().st_mode)
                for path in (socket_of(dsn), socket_of(dsn).parent, tmp_path / "pg")
            }
            assert modes == {socket_of(dsn): 0o700, socket_of(dsn).parent: 0o700, tmp_path / "pg": 0o700}
            assert ask(dsn, "show listen_addresses") == ""
            assert ask(dsn, "select count(*) from pg_hba_file_rules") == 1
            assert ask(dsn, "select auth_method from pg_hba_file_rules") == "peer"

    def test_another_user_is_refused_though_the_path_is_long(self, folder: Path) -> None:
        users.needs_root()
        with database.server(None, folder / PATHS["more than a socket's path may have"] / "pg") as dsn:
            said = users.as_user(users.NOBODY, lambda: ask(dsn, "select 1"))
            assert "ermission denied" in said
            # Were the folder open by accident, the server itself would still ask who connects.
            socket_of(dsn).chmod(0o777)
            for path in (socket_of(dsn).parent, folder):
                path.chmod(0o755)
            said = users.as_user(users.NOBODY, lambda: ask(dsn, "select 1"))
            assert "Peer authentication failed" in said or "no entry" in said
            assert ask(dsn, "select 1") == 1

    def test_no_folder_above_is_opened_for_the_account_of_roots_server(self, tmp_path: Path) -> None:
        users.needs_root()
        closed = tmp_path / "closed"
        (closed / "project").mkdir(parents=True)
        closed.chmod(0o700)
        before = {path: path.stat().st_mode for path in [closed / "project", *(closed / "project").parents]}
        with database.server(None, closed / "project" / "pg") as dsn:
            assert ask(dsn, "select 1") == 1
            assert (closed / "project" / "pg").stat().st_uid != 0
        assert {path: path.stat().st_mode for path in before} == before

    @pytest.mark.slow
    def test_programs_that_the_account_may_not_reach_are_copied_for_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users.needs_root()
        found = postgres_account.installed()
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        for path in (found, found.with_name(f"{found.name}.libs")):
            programs.finished(["cp", "-r", str(path), str(closed / path.name)], check=True)
        monkeypatch.setattr(postgres_account, "installed", lambda: closed / found.name)
        with database.server(None, tmp_path / "pg") as dsn:
            assert ask(dsn, "select upper('ä')") == "Ä"
            assert (socket_of(dsn).parent / "programs").is_dir()
        assert not socket_of(dsn).parent.exists()

    @pytest.mark.slow
    def test_a_second_user_has_a_server_of_its_own_at_the_same_time(self, folder: Path) -> None:
        other = users.named_user()
        if users.as_user(other, lambda: os.access(postgres_account.installed(), os.R_OK)) != "True":
            pytest.skip("the environment lies below a folder that other users may not enter")
        theirs = folder / "theirs"
        theirs.mkdir()
        os.chown(theirs, other, other)

        def work() -> object:
            with database.server(None, theirs / "pg") as dsn:
                return ask(dsn, "select 'of ' || pg_read_file('PG_VERSION')")

        with database.server(None, folder / "ours") as dsn:
            assert users.as_user(other, work).strip() == f"of {postgres_account.MAJOR}"
            assert ask(dsn, "select 1") == 1


class TestHowItEnds:
    """With its last user; what a killed run has left is ended by the next."""

    @pytest.mark.slow
    def test_two_runs_share_a_server_and_the_last_one_ends_it(self, tmp_path: Path) -> None:
        first, address = started(tmp_path / "pg")
        second, same = started(tmp_path / "pg")
        process = process_of(tmp_path / "pg")
        assert address == same != ""
        ended(first)
        assert ask(same, "select 1") == 1
        ended(second)
        assert not programs.is_there(process)

    @pytest.mark.slow
    def test_the_server_of_a_killed_run_is_ended_by_the_next(self, tmp_path: Path) -> None:
        killed, address = started(tmp_path / "pg")
        with psycopg.connect(address) as connection:
            connection.execute("create table kept as select 7 as number")
        killed.kill()
        programs.ended(killed)
        process = process_of(tmp_path / "pg")
        assert programs.is_there(process)
        with database.server(None, tmp_path / "pg") as dsn:
            assert ask(dsn, "select number from kept") == 7
            assert not programs.is_there(process)
            assert not socket_of(address).parent.exists()

    @pytest.mark.slow
    def test_data_of_a_server_that_was_killed_too_are_taken_over(self, tmp_path: Path) -> None:
        killed, _ = started(tmp_path / "pg")
        process = process_of(tmp_path / "pg")
        killed.kill()
        programs.ended(killed)
        os.kill(process, signal.SIGKILL)
        with database.server(None, tmp_path / "pg") as dsn:
            assert ask(dsn, "select 1") == 1

    @pytest.mark.slow
    def test_a_note_that_names_a_process_of_somebody_else_stops_nothing(self, tmp_path: Path) -> None:
        # As after a restart of the machine, when the number belongs to another program.
        with database.server(None, tmp_path / "pg"):
            lines = (tmp_path / "pg" / "postmaster.pid").read_text().splitlines()
        with programs.running(["sleep", "3600"]) as other:
            (tmp_path / "pg" / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]))
            with database.server(None, tmp_path / "pg") as dsn:
                assert ask(dsn, "select 1") == 1
            assert other.poll() is None

    @pytest.mark.slow
    @pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4, 0.6, 0.8])
    def test_an_interruption_while_it_starts_leaves_no_server(self, after_s: float, tmp_path: Path) -> None:
        code = RUN.replace("with database", "print('begins', flush=True)\nwith database")
        command = [sys.executable, "-c", code, str(tmp_path / "pg")]
        run = programs.start(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert programs.line_of(run) == "begins\n"
        time.sleep(after_s)
        run.send_signal(signal.SIGINT)
        programs.ended(run)
        assert run.returncode != 0
        assert [path for path in Path("/proc").glob("[0-9]*/cwd") if _is_in(path, tmp_path)] == []

    @pytest.mark.slow
    def test_a_run_whose_server_is_elsewhere_is_not_joined(self, tmp_path: Path) -> None:
        # As on a folder that two machines share: the lock is held, and no process here is the server.
        run, _ = started(tmp_path / "pg")
        process = process_of(tmp_path / "pg")
        os.kill(process, signal.SIGKILL)
        programs.until(lambda: not programs.is_there(process), "the server ends")
        with (
            pytest.raises(CatalogError, match="another run uses it, and that run's server is not on this machine"),
            database.server(None, tmp_path / "pg"),
        ):
            pass
        ended(run)


def _is_in(link: Path, folder: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder)
    except OSError:
        return False


class TestWhereItCannotStart:
    """One error with the cause and the remedy."""

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda place: place.write_text("x"), "the folder has other files than PostgreSQL's. Remedy: move it"),
            (
                lambda place: (place.mkdir(), (place / "mine.txt").touch()),
                "the folder has other files than PostgreSQL's. Remedy: move it away",
            ),
            (
                lambda place: (place.mkdir(), (place / "PG_VERSION").write_text("16\n")),
                f"its data are of PostgreSQL 16, and this is {postgres_account.MAJOR}. Remedy: it is safe to delete",
            ),
            (lambda place: place.symlink_to(place), "Remedy: give another folder with LAION_DASK_HOME"),
            (lambda place: place.parent.joinpath("pg.lock").mkdir(), "Remedy: give another folder"),
        ],
        ids=["a file", "other files", "another version", "a circle of links", "no lock"],
    )
    def test_what_lies_there_is_told(self, make: Callable[[Path], object], told: str, tmp_path: Path) -> None:
        make(tmp_path / "pg")
        with pytest.raises(CatalogError) as refused, database.server(None, tmp_path / "pg"):
            pass
        assert told in str(refused.value)
        assert f"the embedded PostgreSQL in {tmp_path / 'pg'} does not start: " in str(refused.value)

    def test_damaged_data_are_told_with_the_words_of_the_log(self, tmp_path: Path) -> None:
        with database.server(None, tmp_path / "pg"):
            pass
        (tmp_path / "pg" / "global" / "pg_control").write_bytes(b"")
        with (
            pytest.raises(CatalogError, match=r"(?s)pg_control.*Remedy: see .*pg/log; it is safe to delete the folder"),
            database.server(None, tmp_path / "pg"),
        ):
            pass

    def test_a_user_without_a_name_is_told_so(self, folder: Path) -> None:
        folder.chmod(0o777)

        def start() -> None:
            with database.server(None, folder / "pg"):
                pass

        said = users.as_user(users.NAMELESS, start)
        assert "CatalogError" in said
        assert f"the user with number {users.NAMELESS} has no name on this machine" in said
        assert "Remedy: add a line" in said

    def test_a_folder_of_another_user_is_told_so(self, folder: Path) -> None:
        with database.server(None, folder / "pg"):
            pass
        folder.chmod(0o777)
        for path in folder.glob("pg.*"):
            path.chmod(0o666)

        def start() -> None:
            with database.server(None, folder / "pg"):
                pass

        said = users.as_user(users.named_user(), start)
        assert "CatalogError" in said
        assert "Remedy: " in said

    def test_a_folder_that_cannot_be_written_is_told_so(self, folder: Path) -> None:
        def start() -> None:
            with database.server(None, folder / "pg"):
                pass

        said = users.as_user(users.named_user(), start)
        assert "CatalogError" in said
        assert "Permission denied" in said
        assert "Remedy: give another folder with LAION_DASK_HOME" in said

    @pytest.mark.parametrize(
        ("mount", "told"),
        [
            ("size=8m", "No space left on device"),
            ("size=1m", "No space left on device"),
        ],
    )
    def test_a_full_disk_is_told_with_the_remedy(self, mount: str, told: str, folder: Path) -> None:
        said = _mounted(f"mount -t tmpfs -o {mount} tmpfs {folder}", folder / "pg")
        assert "CatalogError" in said
        assert told in said
        assert "Remedy: free space there and run again" in said

    def test_a_read_only_disk_is_told_with_the_remedy(self, folder: Path) -> None:
        said = _mounted(f"mount -t tmpfs -o ro tmpfs {folder}", folder / "pg")
        assert "CatalogError" in said
        assert "Read-only file system" in said
        assert "Remedy: give another folder" in said

    @pytest.mark.slow
    def test_a_shared_memory_of_64_kb_is_enough(self, folder: Path) -> None:
        assert "done" in _mounted("mount -t tmpfs -o size=64k tmpfs /dev/shm", folder / "pg")


def _mounted(mount: str, folder: Path) -> str:
    """Start a server where something is mounted that only its own process sees, and use it a little."""
    users.needs_root()
    code = (
        "import sys, pathlib, psycopg\nfrom laion_dask.catalog import database\n"
        "with database.server(None, pathlib.Path(sys.argv[1])) as dsn, psycopg.connect(dsn) as connection:\n"
        "    connection.execute('set max_parallel_workers_per_gather = 4')\n"
        "    connection.execute('set min_parallel_table_scan_size = 0')\n"
        "    connection.execute('set parallel_setup_cost = 0')\n"
        "    connection.execute('set parallel_tuple_cost = 0')\n"
        "    connection.execute('create table t as select n, n::text as x from generate_series(1, 200000) n')\n"
        "    connection.execute('select count(*) from t a join t b using (x)')\n"
        "    print('done')\n"
    )
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", code, str(folder)]
    run = programs.finished(command, cwd=ROOT)
    if "mount" in run.stderr and "Traceback" not in run.stderr:
        pytest.skip(f"nothing can be mounted here: {run.stderr.strip()}")
    return run.stdout + run.stderr


def test_the_user_that_may_connect_is_the_one_of_this_process() -> None:
    assert postgres_account.find(Path("nowhere")).client == pwd.getpwuid(os.geteuid()).pw_name
