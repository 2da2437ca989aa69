"""Ask a server on this machine for an address."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from made.processes import programs


def get(address: str) -> tuple[int, bytes]:
    """Return status and body of the answer; status 0 if there is none."""
    parts = urlsplit(address)
    connection = HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=programs.PATIENCE_S)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()
