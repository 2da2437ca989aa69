"""Check at the start of a stage that every worker reaches PostgreSQL, and that it has a connection for each task.

Otherwise parts would fail one after the other, hours later, with the first message of each. A worker that joins later
gets the same message when its first task cannot connect.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from laion_dask.catalog import connections
from laion_dask.catalog.connections import CatalogError

_LISTED: Final = 5
"""Workers that a message names."""
_ELSEWHERE: Final = (
    "give LAION_DASK_DSN a host name that these machines know (not localhost, nor a socket), and let the server listen "
    "there (listen_addresses, pg_hba.conf, firewall); or let this machine run the stage: "
    "laion-dask.cluster.catalog.kind: local (DASK_LAION_DASK__CLUSTER__CATALOG__KIND=local)"
)
# Of pg_stat_activity a role without rights sees little; numbackends counts every connection, this one too.
_FREE: Final = """
    select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
        - (select sum(numbackends) from pg_stat_database)::int + 1,
    (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
    (select nullif(datconnlimit, -1) from pg_database where datname = current_database()),
    (select rolsuper from pg_roles where rolname = current_user), current_setting('max_connections')::int
"""


class Reached(NamedTuple):
    """What a worker says: the host that it is on, and why it does not reach the server; empty where it does."""

    host: str
    cause: str = ""


Socket = tuple[int, int]
"""Device and inode of the folder of the embedded server's socket."""
Ask = Callable[[list[str], Callable[[str, Socket | None], Reached], str, Socket | None], Mapping[str, object]]
"""Runs a function with its arguments on these workers, and returns what each has answered or raised, by address."""


def probe(dsn: str, folder: Socket | None) -> Reached:
    """Say, on a worker, whether it reaches the server; `folder` is that of the embedded server's socket."""
    host = socket.gethostname()
    sockets = connections.embedded(dsn)
    if sockets is not None and _identity(sockets) != folder:
        return Reached(host, f"it has no {sockets}, or another one than the driver's")
    try:
        with connections.connected(dsn):
            return Reached(host)
    except CatalogError as error:
        return Reached(host, str(error))


def check_reach(dsn: str, hosts: Mapping[str, str], ask: Ask) -> None:
    """Raise `CatalogError` unless every worker reaches the server; `hosts` are the workers' hosts by their address.

    The embedded server is asked for by every worker, one of another machine by one worker of each host: it has few
    connections.
    """
    sockets = connections.embedded(dsn)
    folder = None if sockets is None else _identity(sockets)
    chosen = {host: address for address, host in sorted(hosts.items(), reverse=True)}
    answers = ask(sorted(hosts if sockets is not None else chosen.values()), probe, dsn, folder)
    failed = {address: answer for address, answer in answers.items() if not isinstance(answer, Reached) or answer.cause}
    # A worker that has left, or cannot answer, is none of ours to judge: its tasks will tell.
    told = {address: answer for address, answer in failed.items() if isinstance(answer, Reached)}
    if not told:
        return
    lines = [f"{address} on {answer.host}: {answer.cause}" for address, answer in sorted(told.items())[:_LISTED]]
    more = f"; and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    if sockets is not None:
        raise CatalogError(
            f"the embedded PostgreSQL serves this machine only ({socket.gethostname()}), and {len(told)} of "
            f"{len(answers)} workers do not reach it: {'; '.join(lines)}{more}. Remedy: {connections.OWN_HOST_ONLY}"
        )
    raise CatalogError(
        f"the driver on {socket.gethostname()} reaches PostgreSQL, and {len(told)} of {len(answers)} hosts of workers "
        f"do not: {'; '.join(lines)}{more}. Remedy: {_ELSEWHERE}"
    )


def check_connections(dsn: str, tasks: int) -> None:
    """Raise `CatalogError` unless the server has a connection left for each of these tasks at once."""
    with connections.connected(dsn) as connection:
        free, of_role, of_database, is_superuser, most = connection.execute(_FREE).fetchone()
    limits = {f"max_connections = {most}, {free} of them free": int(free)}
    if of_role is not None and not is_superuser:
        limits[f"the connection limit of this role, {of_role}"] = int(of_role)
    if of_database is not None and not is_superuser:
        limits[f"the connection limit of this database, {of_database}"] = int(of_database)
    name = min(limits, key=limits.__getitem__)
    if tasks > limits[name]:
        raise CatalogError(
            f"PostgreSQL has too few connections: {tasks} tasks at once need one each, but there is {name}. Remedy: "
            f"{connections.FEWER_TASKS}"
        )


def _identity(folder: Path) -> Socket | None:
    """Return device and inode of a folder; None where it is missing or may not be looked at."""
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino
