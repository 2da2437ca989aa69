"""Connect to the catalog's PostgreSQL; tell each error as what it is, with the remedy and never with a password.

The only module that imports a database driver.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from laion_dask.catalog import postgres

RIGHTS_NEEDED: Final = (
    "CONNECT on the database, and CREATE in it (the schema laion_dask is made there) or the schema itself: "
    "`create schema laion_dask authorization <role>`; its tables have to belong to the same role"
)
FEWER_TASKS: Final = (
    "use fewer workers for this stage (laion-dask.cluster.catalog.workers), or raise the server's max_connections or "
    "the limit of the role"
)
OWN_HOST_ONLY: Final = (
    "set LAION_DASK_DSN to a server that all workers reach; or let this machine run the stage: "
    "laion-dask.cluster.catalog.kind: local (DASK_LAION_DASK__CLUSTER__CATALOG__KIND=local)"
)
_TLS: Final = "TLS"
_REFUSES: Final = "refuses"
# SQLSTATE, or a word of ours where there is none -> what happened, remedy; a longer code comes before its class.
_REMEDIES: Final = {
    "08": ("does not answer", "check LAION_DASK_DSN and the server, then run again"),
    _TLS: ("cannot be spoken to over TLS", "check sslmode and sslrootcert in LAION_DASK_DSN"),
    "28P01": (
        "refuses the password",
        "correct user and password in LAION_DASK_DSN, or in ~/.pgpass of this host and of each worker",
    ),
    "28": ("refuses this role", "check user and password in LAION_DASK_DSN, and the server's pg_hba.conf"),
    "3D000": ("has no such database", "create it, or name another one in LAION_DASK_DSN"),
    "3F000": ("lost its tables", "run again, and let no other run use this database: the tables are created again"),
    "42P01": ("lost its tables", "run again, and let no other run use this database: the tables are created again"),
    "42501": ("refuses", f"grant {RIGHTS_NEEDED}"),
    "25006": ("is read-only", "name the primary in LAION_DASK_DSN, not a standby"),
    "2BP01": ("cannot drop its tables", "drop the objects that depend on them; the message names them"),
    "53100": ("has no disk space left", "free space on the database's disk, then run again: loaded buckets are kept"),
    "53200": ("has no memory left", "use fewer workers or more buckets (catalog.buckets), then run again"),
    "53300": ("has no connection left", FEWER_TASKS),
    "53": ("has reached one of its limits", "raise the limit that the message names, then run again"),
    "55P03": ("is in use by another run", "wait for it to end, then run again"),
    "57014": (
        "cancelled a statement",
        "run again: loaded buckets are kept; where the message names a timeout, raise that of the role or the database",
    ),
    "57P03": ("takes no connections now", "wait until it has started, then run again: loaded buckets are kept"),
    "57": ("ended the connection", "check that the server runs, then run again: loaded buckets are kept"),
    "58": ("cannot use its disk", "see the server's log, then run again: loaded buckets are kept"),
    "40": ("rolled back the load of a bucket", "run again, and let no other run use this database"),
    _REFUSES: ("refuses the connection", "see its message, and check user, password and database in LAION_DASK_DSN"),
}
# libpq hides the SQLSTATE of a connection that was not made; servers of other languages get the general remedy.
_WORDS: Final = {
    r"password authentication failed|no password supplied|password is empty": "28P01",
    r"no pg_hba\.conf entry|pg_hba\.conf rejects|authentication failed|not permitted to log in": "28000",
    r"role \".*\" does not exist|no such user": "28000",
    r"database \".*\" (does not exist|is not currently accepting connections)": "3D000",
    r"permission denied for database": "42501",
    r"too many clients|too many connections|connection slots are reserved|number of connections": "53300",
    r"database system is|database system was|not yet accepting connections": "57P03",
    r"SSL|certificate|TLS": _TLS,
    r"FATAL": _REFUSES,
}
# Without keepalives TCP waits for hours for a server that has disappeared, and without the last one, which is about
# data that were sent, a quarter of an hour.
_TIMEOUTS: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 90_000,
}


class CatalogError(Exception):
    """The database cannot be used; the message has the cause and the remedy."""


@contextmanager
def connected(dsn: str, *, autocommit: bool = False) -> Iterator[Any]:
    """Yield a connection; the block is one transaction unless `autocommit`.

    An error of the driver with a known code, or of a connection that was not made, is raised as `CatalogError` with the
    remedy; any other is a bug and passes.
    """
    conninfo = _complete(dsn)
    import psycopg  # noqa: PLC0415 - the driver stays in the process that needs it

    try:
        connection = psycopg.connect(conninfo, autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise _unconnected(error, dsn) from None
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        # libpq reports a lost connection without a code.
        lost = "57" if isinstance(error, psycopg.OperationalError) else ""
        found = next((code for code in _REMEDIES if (error.sqlstate or lost).startswith(code)), None)
        if found is None:
            raise
        # Without the driver's error as cause: its message may have the password.
        raise CatalogError(_message(found, _cause(error, dsn))) from None


def embedded(dsn: str) -> Path | None:
    """Return the folder of the socket of the embedded server; None where the DSN names another server."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - the driver stays in the process that needs it

    folder = Path(str(conninfo_to_dict(dsn).get("host") or ""))
    return folder if folder.name.startswith(postgres.SOCKETS) else None


def _unconnected(error: Exception, dsn: str) -> CatalogError:
    """Return the error of a connection that was not made, as the server's words tell it, with the host that asked."""
    text = str(error)
    # A password was asked for, so this is a server's refusal in a language that we do not know.
    answered = bool(getattr(getattr(error, "pgconn", None), "used_password", False))
    code = next((code for words, code in _WORDS.items() if re.search(words, text)), _REFUSES if answered else "08")
    asked = f"{_cause(error, dsn)} (asked from {socket.gethostname()})"
    if code in {"08", "28000"} and embedded(dsn) is not None:  # no socket here, or another user's process
        return CatalogError(
            f"the embedded PostgreSQL cannot be reached from {socket.gethostname()}: it runs on the driver's machine "
            f"only: {_cause(error, dsn)}. Remedy: {OWN_HOST_ONLY}"
        )
    return CatalogError(_message(code, asked))


def _message(code: str, cause: str) -> str:
    what, remedy = _REMEDIES[code if code in _REMEDIES else code[:2]]
    return f"PostgreSQL {what}: {cause}. Remedy: {remedy}"


def _cause(error: Exception, dsn: str) -> str:
    """Return a driver's message in one line, without the password."""
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - the driver stays in the process that needs it

    text = " ".join(str(error).split())
    password = str(conninfo_to_dict(dsn).get("password") or "")
    for spelled in {password, quote(password, safe="")} - {""}:
        text = text.replace(spelled, "***")
    return text


def _complete(dsn: str) -> str:
    """Return the DSN with default timeouts where it has none; `CatalogError`, without the DSN, if it is malformed."""
    import psycopg  # noqa: PLC0415 - the driver stays in the process that needs it

    try:
        parameters = psycopg.conninfo.conninfo_to_dict(dsn)
        for host in str(parameters.get("host", "")).split(","):
            if not host.startswith(("/", "@")):
                host.encode("idna")  # as psycopg does, outside its own errors
        return psycopg.conninfo.make_conninfo(dsn, **{name: _TIMEOUTS[name] for name in _TIMEOUTS.keys() - parameters})
    except (psycopg.ProgrammingError, UnicodeError):
        message = "LAION_DASK_DSN cannot be read. Remedy: postgresql://user@host:5432/database, or unset it"
        # The driver's message quotes the DSN, which may have a password.
        raise CatalogError(message) from None
