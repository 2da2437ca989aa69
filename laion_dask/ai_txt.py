"""The answer to GET /ai.txt in, what it says of a picture out: Spawning's file, read when media are downloaded.

The grammar is that of robots.txt with file types as patterns (`Disallow: *.jpg`). Other formats share the address
(pages in Markdown, an Internet-Draft of 2026): what has no user-agent line with rules says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from laion_dask.rights import SILENT, Decision, decision
from laion_dask.signals import matches, normal_path, path_of

PATH: Final = "/ai.txt"

_MAX_BYTES: Final = 500 * 1024
_TYPES: Final = {
    "image/jpeg": ("jpg", "jpeg"),
    "image/png": ("png",),
    "image/gif": ("gif",),
    "image/webp": ("webp",),
    "image/avif": ("avif",),
    "image/bmp": ("bmp",),
    "image/tiff": ("tif", "tiff"),
    "image/x-icon": ("ico",),
    "image/vnd.microsoft.icon": ("ico",),
    "image/svg+xml": ("svg",),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One Allow or Disallow line: its pattern, and the line as received."""

    pattern: str
    refuses: bool
    line: str


@dataclass(frozen=True, slots=True)
class AiTxt:
    """The rules of a host for each of our tokens, where and when they were read; without groups it says nothing."""

    groups: tuple[tuple[Rule, ...], ...] = ()
    source: str = ""
    time: str | None = None

    def decide(self, url: str, content_type: str = "") -> Decision:
        """Decide by address, and by the type of the response where it is known: a refusal for any token counts.

        The longest pattern that matches decides, Disallow among equally long ones: the file is there to reserve. A
        pattern for a type (`*.jpg`) also holds for an address without that ending whose response is of that type.
        """
        if not self.groups:
            return SILENT
        path = path_of(url).lower()
        endings = _TYPES.get(content_type.partition(";")[0].strip().lower(), ())
        found = []
        for group in self.groups:
            matching = [rule for rule in group if _matches(rule.pattern, path, endings)]
            if matching:
                found.append(max(matching, key=lambda rule: (len(rule.pattern), rule.refuses)))
        if not found:
            return SILENT
        rule = max(found, key=lambda rule: rule.refuses)
        return decision("refused" if rule.refuses else "allowed", "ai_txt", rule.line, self.source, self.time)


def _matches(pattern: str, path: str, endings: tuple[str, ...]) -> bool:
    return matches(pattern, path) or any(pattern.removesuffix("$") in {f"*.{end}", f"/*.{end}"} for end in endings)


def parse_ai_txt(status: int, body: bytes, tokens: Sequence[str], source: str = "", time: str | None = None) -> AiTxt:
    """Read the answer: for each token the groups that name it, else those for `*`; file types know no case."""
    if not 200 <= status < 300:
        return AiTxt()
    text = body[:_MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip().startswith("<"):
        # A page: many hosts answer every address with one.
        return AiTxt()
    groups: dict[str, list[Rule]] = {}
    for agents, rule in _rules(text):
        for agent in agents:
            groups.setdefault(agent, []).append(rule)
    chosen = [groups.get(token.lower(), groups.get("*", [])) for token in tokens or ("*",)]
    return AiTxt(tuple(dict.fromkeys(tuple(rules) for rules in chosen if rules)), source, time)


def _rules(text: str) -> Iterator[tuple[list[str], Rule]]:
    agents: list[str] = []
    in_names = False
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        name, colon, value = line.partition(":")
        key, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            agents = [*(agents if in_names else []), value.partition("/")[0].strip().lower()]
            in_names = True
            continue
        in_names = False
        if key in {"allow", "disallow"} and value:
            yield agents, Rule(normal_path(value).lower(), key == "disallow", line)
