"""The address of a replay server, and the headers by which it marks what hosts did not answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

MARK: Final = "Laion-Dask-Replay"
"""Header of requests that ask the server to mark missing answers, and of the marked answers."""
NO_ANSWER: Final = "no answer"
"""Mark where the host gave no answer: it closed the connection, or does not exist."""
NO_BODY: Final = "no body"
"""Mark where only the headers were recorded: the connection is lost after them."""
OWN_NAME: Final = "localhost"
"""A name in the certificate of each replay server."""
MARK_DATE: Final = "Laion-Dask-Replay-Date"
"""Header with the WARC-Date of the record, in answers to clients that sent the mark."""


@dataclass(frozen=True, slots=True)
class ReplayAddress:
    """Where a replay server listens, and the certificate authority (PEM) that its clients must trust."""

    host: str
    http_port: int
    https_port: int
    ca_pem: str
    marks: bool = False
    """The server marks missing answers (`MARK`), so a timeout or a lost connection never means one."""
    token: str = field(default="", repr=False)
    """The value that a request's `MARK` must have; empty where the server answers every client."""
    encrypted: bool = False
    """The server speaks TLS at its http port too, so that the token never travels in clear; see `over_tls`."""


def over_tls(url: str) -> tuple[str, str | None]:
    """Return the URL at which an encrypted replay server is asked for a URL, and the name that TLS asks for.

    A URL of http is asked for by TLS on the same port, under a name of the server's own: the host's name may be one
    that TLS cannot carry. Without a name, it is that of the URL.
    """
    if not url.startswith("http://"):
        return url, None
    parts = urlsplit(url)
    netloc = parts.netloc if parts.port else f"{parts.netloc.removesuffix(':')}:80"
    return parts._replace(scheme="https", netloc=netloc).geturl(), OWN_NAME
