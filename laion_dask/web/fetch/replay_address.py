"""The address of a replay server, and the headers by which it marks what hosts did not answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MARK: Final = "Laion-Dask-Replay"
"""Header of requests that ask the server to mark missing answers, and of the marked answers."""
NO_ANSWER: Final = "no answer"
"""Mark where the host gave no answer: it closed the connection, or does not exist."""
NO_BODY: Final = "no body"
"""Mark where only the headers were recorded: the connection is lost after them."""
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
