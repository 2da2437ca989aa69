"""Where a replay server listens, and the headers by which it tells its client what a host did not answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MARK: Final = "Laion-Dask-Replay"
"""Header of a request whose client wants to be told what was not answered, and of the answers that tell it."""
NO_ANSWER: Final = "no answer"
"""Mark of an answer that stands for none: the host has closed the connection, or does not exist."""
NO_BODY: Final = "no body"
"""Mark of an answer whose headers were recorded and whose body was not: the connection is lost after them."""
MARK_DATE: Final = "Laion-Dask-Replay-Date"
"""Header with the WARC-Date of the record, for a client that sent the mark."""


@dataclass(frozen=True, slots=True)
class ReplayAddress:
    """Where a replay server listens, and the certificate authority that its clients must trust."""

    host: str
    http_port: int
    https_port: int
    ca_pem: str
    marks: bool = False
    """The server says itself where a host gave no answer (`MARK`), so silence and a lost connection are never that."""
    token: str = field(default="", repr=False)
    """What a request has to have as its `MARK` to be answered; empty: nothing."""
