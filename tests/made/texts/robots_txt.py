"""A robots.txt in, its decision on a picture out."""

from __future__ import annotations

from laion_dask.web.rights.decision import Decision, Policy
from laion_dask.web.rights.robots import parse_robots

TOKENS = ("MyBot", "CCBot")
STRICT = Policy()
IMAGE = "https://img.example/a/fox.jpg"


def robots(text: str, url: str = IMAGE, tokens: tuple[str, ...] = TOKENS, ai_tokens: tuple[str, ...] = ()) -> Decision:
    """Ask a robots.txt."""
    return parse_robots(200, text.encode(), tokens, ai_tokens).decide(url, STRICT)
