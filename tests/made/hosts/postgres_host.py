"""A PostgreSQL server on a host of its own that asks for a password; its programs are those of the package."""

from __future__ import annotations

import secrets
from typing import Final

from made.hosts.network import Host
from made.processes import programs

from laion_dask.catalog import postgres_account

PORT: Final = 5432
_FOLDER: Final = "/tmp/pg"  # noqa: S108 - of the host, which has a /tmp of its own
_AS_USER: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # nobody: it refuses to run as root
_MAKE: Final = """
set -e
umask 077
mkdir $1 $1/programs
cp -r $2/. $1/programs/package
if [ -d $2.libs ]; then cp -r $2.libs $1/programs/; fi
printf %s "$3" > $1/password
chown -R 65534:65534 $1
"""
_OWN: Final = """
create role builder login password '{password}';
create database pairs owner builder;
"""


def serve(host: Host, subnet: str) -> str:
    """Start a server that takes connections from a subnet, and return the DSN of a role that owns a database."""
    password = secrets.token_urlsafe(16)
    package = postgres_account.installed()
    host.run("sh", "-c", _MAKE, "make", _FOLDER, package, password)
    tools = f"{_FOLDER}/programs/package/pginstall{postgres_account.MAJOR}/bin"
    access = ("--auth-local=reject", "--auth-host=scram-sha-256", f"--pwfile={_FOLDER}/password")
    host.run(*_AS_USER, f"{tools}/initdb", "-D", f"{_FOLDER}/data", "-U", "admin", "--no-sync", *access)
    rule = f"echo 'host all all {subnet} scram-sha-256' >> {_FOLDER}/data/pg_hba.conf"
    host.run("sh", "-c", rule)
    # Nothing here has to survive a power loss of this host.
    settings = {"listen_addresses": host.address, "port": str(PORT), "unix_socket_directories": "", "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = host.serve("postgres", *_AS_USER, f"{tools}/postgres", "-D", f"{_FOLDER}/data", *options)
    ready = host.command(f"{tools}/pg_isready", "-h", host.address, "-p", str(PORT), "-t", "5")
    programs.until(lambda: programs.finished(ready).returncode == 0, "PostgreSQL takes connections", server)
    for statement in _OWN.format(password=password).strip().splitlines():
        connect = ("-h", host.address, "-p", str(PORT), "-U", "admin", "-d", "postgres", "-c", statement)
        host.run(f"{tools}/psql", *connect, PGPASSWORD=password)
    return f"postgresql://builder:{password}@{host.address}:{PORT}/pairs"
