"""Parse Spawning's ai.txt and decide for an image address by its rules.

The grammar is that of robots.txt, with file types as patterns (`Disallow: *.jpg`). Other formats use the same address
(Markdown pages, an Internet-Draft of 2026): a file without a user-agent line and rules has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from laion_dask.web.rights import agent_groups
from laion_dask.web.rights.agent_groups import FIRST
from laion_dask.web.rights.decision import SILENT, Decision, decision
from laion_dask.web.rights.path_rules import PathRules, normal_path, path_of, rooted

PATH: Final = "/ai.txt"

MAX_FILE_BYTES: Final = 500 * 1024

CUT: Final = "ai.txt is longer than 500 KiB, and what follows is not read"

_TYPE: Final = re.compile(r"/?\*\.([a-z0-9]+)\$?")
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
    """One Allow or Disallow line: whether it refuses, and the line as received."""

    refuses: bool
    line: str


@dataclass(frozen=True, slots=True)
class _AgentGroup:
    """The rules of the groups with the same names: by path, and by file type for patterns such as `*.jpg`."""

    by_path: PathRules[Rule]
    by_type: Mapping[str, tuple[int, Rule]]

    def deciding(self, path: str, endings: Collection[str]) -> tuple[int, list[Rule]]:
        """Return length and rules of the longest patterns that match the path or one of the type's `endings`."""
        length, found = self.by_path.longest(path)
        for ending in endings:
            place, rule = self.by_type.get(ending, (-1, None))
            if rule is not None and place >= length:
                length, found = place, [rule, *(found if place == length else [])]
        return length, found


@dataclass(frozen=True, slots=True)
class AiTxt:
    """A host's ai.txt: the groups for each of our tokens, its address and Date."""

    asked: tuple[tuple[_AgentGroup, ...], ...] = ()
    cut: bool = False
    """The file is longer than MAX_FILE_BYTES, and its end was not read."""
    source: str = ""
    time: str | None = None

    def decide(self, url: str, content_type: str = "") -> Decision:
        """Decide by the address, and by the type of the response where it is known; a refusal for any token counts.

        The longest matching pattern decides; of equally long ones Disallow, because the purpose of the file is to
        reserve. A pattern for a type (`*.jpg`) also matches a response of that type whose address has another ending.
        Where the file is cut, the decision is `unknown` unless the part that was read refuses.
        """
        if not self.asked and not self.cut:
            return SILENT
        path = path_of(url).lower()
        endings = _TYPES.get(content_type.partition(";")[0].strip().lower(), ())
        found = []
        for groups in self.asked:
            deciding = [group.deciding(path, endings) for group in groups]
            longest = max(length for length, _ in deciding)
            if longest >= 0:
                rules = [rule for length, matching in deciding if length == longest for rule in matching]
                found.append(max(rules, key=lambda rule: rule.refuses))
        rule = max(found, key=lambda rule: rule.refuses, default=None)
        if rule is not None and rule.refuses:
            return decision("refused", "ai_txt", rule.line, self.source, self.time)
        if self.cut:
            return decision("unknown", "ai_txt", CUT, self.source, self.time)
        return decision("allowed", "ai_txt", rule.line, self.source, self.time) if rule is not None else SILENT


def parse_ai_txt(status: int, body: bytes, tokens: Sequence[str], source: str = "", time: str | None = None) -> AiTxt:
    """Parse the answer: for each token the groups that name it, else those for `*`; file types ignore case."""
    if not 200 <= status < 300:
        return AiTxt()
    text, cut = agent_groups.text_of(body, MAX_FILE_BYTES)
    if text.lstrip().startswith("<"):
        # Many hosts answer every address with an HTML page.
        return AiTxt()
    asked = [token.lower() for token in tokens or (agent_groups.EVERYBODY,)]
    found = agent_groups.parse(text, asked, ("allow", "disallow"))
    # A long Markdown page is no ai.txt: only a file with groups counts as cut.
    cut = cut and "user-agent" in text.lower()
    groups = {names: _group(lines) for names, lines in found.lines.items() if lines and FIRST not in names}
    chosen = (tuple(groups[names] for names in found.of(token) if names in groups) for token in asked)
    return AiTxt(tuple({tuple(map(id, some)): some for some in chosen if some}.values()), cut, source, time)


def _group(lines: Iterable[agent_groups.Line]) -> _AgentGroup:
    rules: dict[str, Rule] = {}
    by_type: dict[str, tuple[int, Rule]] = {}
    for line in lines:
        if line.value:
            rule = Rule(line.key == "disallow", line.text)
            pattern = normal_path(_completed(line.value) if rule.refuses else line.value).lower()
            if rule.refuses or pattern not in rules:
                rules[pattern] = rule
    for pattern, rule in rules.items():
        if kind := _TYPE.fullmatch(pattern):
            here = (len(pattern), rule)
            by_type[kind[1]] = max(by_type.get(kind[1], here), here, key=lambda it: (it[0], it[1].refuses))
    return _AgentGroup(PathRules(rules), by_type)


def _completed(pattern: str) -> str:
    """Complete a refused pattern that lacks its beginning: `.jpg` means a type, `a/` a folder."""
    return f"*{pattern}" if pattern.startswith(".") else rooted(pattern)
