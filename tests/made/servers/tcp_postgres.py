"""A PostgreSQL server on a port of 127.0.0.1, with passwords, that a test may stop, kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from made.processes.deadlines import LONG_S

from laion_dask.catalog import postgres_account
from laion_dask.catalog.postgres_account import Account

PASSWORD: Final = "hunter2/secret"  # noqa: S105 - of a server that lives as long as its tests
_SETTINGS: Final = {"fsync": "off", "max_connections": "20", "superuser_reserved_connections": "3", "autovacuum": "off"}


@dataclass
class TcpServer:
    """The server: its data folder, its port, and the process that runs."""

    folder: Path
    account: Account
    programs: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def dsn(self, role: str = "postgres", password: str = PASSWORD, database: str = "postgres") -> str:
        """Return how a role comes in."""
        secret = password.replace("/", "%2F")
        return f"postgresql://{role}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self, **settings: str) -> None:
        """Start the server, and wait until it takes connections."""
        options = [word for name, value in {**_SETTINGS, **settings}.items() for word in ("-c", f"{name}={value}")]
        command = [str(self.programs / "postgres"), "-D", ".", *options, "-p", str(self.port), "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self._process = self._run(subprocess.Popen, [*command, "-k", ""], stdout=log, stderr=log)

        until = time.monotonic() + LONG_S
        while not self._answers():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.dsn()):
            return True
        return False

    def _run(self, how, command, **options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        return how(command, cwd=self.folder, env=environment, **self.account.arguments, **options)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End the server, at once unless another signal asks for it otherwise."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def ask(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""
        with psycopg.connect(self.dsn(database=database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def tcp_server() -> Iterator[TcpServer]:
    """Run a server while the block runs."""
    with tempfile.TemporaryDirectory() as base, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        folder = Path(base) / "data"
        account = postgres_account.find(folder)
        Path(base).chmod(0o755)
        folder.mkdir(mode=0o700)
        account.give(folder)
        found = TcpServer(folder, account, postgres_account.programs(account, Path(base)), port)
        secret = Path(base) / "password"
        secret.write_text(PASSWORD)
        account.give(secret)
        found._run(  # type: ignore[no-untyped-call]  # noqa: SLF001 - its own
            subprocess.run,
            [
                *(str(found.programs / "initdb"), "-D", ".", "-U", "postgres", "--auth=scram-sha-256", "--no-sync"),
                *("--pwfile", str(secret), "--locale=C", "--encoding=UTF8"),
            ],
            check=True,
            capture_output=True,
        )
        found.start()
        try:
            yield found
        finally:
            found.stop()
