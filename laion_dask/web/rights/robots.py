"""Parse robots.txt and decide for an address by its rules: RFC 9309, AIPREF, Content Signals, RSL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from laion_dask.web.rights import agent_groups
from laion_dask.web.rights.agent_groups import FIRST, Groups, Line
from laion_dask.web.rights.decision import Decision, Policy, decision
from laion_dask.web.rights.path_rules import PathRules, Pattern, compiled, normal_path, path_of, rooted
from laion_dask.web.rights.signals import content_usage, is_rsl_address

PATH: Final = "/robots.txt"

MAX_FILE_BYTES: Final = 500 * 1024
"""RFC 9309, 2.5 asks to parse at least 500 KiB; the rest is not read, and decisions say so."""

CUT: Final = "robots.txt is longer than 500 KiB, and what follows is not read"

_USAGE_LINES: Final = {"content-usage": "content_usage", "content-signal": "content_signal"}
_KEYS: Final = frozenset({"allow", "disallow", "crawl-delay", "license", *_USAGE_LINES})


@dataclass(frozen=True, slots=True)
class _Usage:
    """A Content-Usage or Content-Signal rule of robots.txt: its path, its decision and signal, the line."""

    path: Pattern
    rights: str
    signal: str
    line: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A bot name, and the rules of the groups that concern it: True allows a path."""

    token: str
    rules: tuple[PathRules[bool], ...]

    def allows(self, path: str, longest: Callable[[PathRules[bool]], tuple[int, list[bool]]]) -> bool:
        """Tell whether the bot may fetch a path: the longest rule decides, Allow among equally long ones."""
        found = [longest(rules) for rules in self.rules]
        length = max((length for length, _ in found), default=-1)
        return length < 0 or path == PATH or any(any(values) for place, values in found if place == length)


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """The parsed robots.txt of one scheme, host and port, for some bot names; with its address and Date."""

    refusal: str = ""
    """Why every address is refused; empty where the file decides."""
    absence: str = ""
    """The host's answer where it has no robots.txt; empty where the file decides."""
    asked: tuple[_Asked, ...] = ()
    usage: tuple[_Usage, ...] = ()
    licenses: tuple[str, ...] = ()
    """Addresses of RSL licences for our names, as written."""
    crawl_delay_s: float = 0.0
    """Longest Crawl-delay for one of our own tokens, in seconds; 0 without one."""
    cut: bool = False
    """The file is longer than MAX_FILE_BYTES."""
    source: str = ""
    time: str | None = None

    def decide(self, url: str, policy: Policy) -> Decision:
        """Decide for an absolute URL of this host: a refusal for any token counts.

        Of a cut file only the refusals count; what it allows is `unknown`, with evidence that the file is cut.
        """
        if self.refusal:
            return self._decision("refused", "robots", self.refusal)
        if self.absence:
            # Without robots.txt there is no signal; the host's answer is recorded as evidence.
            return self._decision("allowed", "", self.absence)
        path = path_of(url)
        refused = self._refused(path)
        if refused:
            found = [self._decision("refused", "robots", f"robots.txt disallows the path for {refused}")]
        else:
            found = [self._decision("unknown" if self.cut else "allowed", "robots", CUT if self.cut else "")]
        return policy.strictest([*found, *self._used(path)])

    def _refused(self, path: str) -> str:
        # Names share groups, so each group is matched once.
        matched: dict[int, tuple[int, list[bool]]] = {}

        def longest(rules: PathRules[bool]) -> tuple[int, list[bool]]:
            if id(rules) not in matched:
                matched[id(rules)] = rules.longest(path)
            return matched[id(rules)]

        return next((asked.token for asked in self.asked if not asked.allows(path, longest)), "")

    def _used(self, path: str) -> Iterator[Decision]:
        # The longest path decides; of equally long ones the most restrictive rule (AIPREF, attachment draft).
        for signal in _USAGE_LINES.values() if self.usage else ():
            matching = [rule for rule in self.usage if rule.signal == signal and rule.path.matches(path)]
            longest = max((rule.path.length for rule in matching), default=0)
            for rule in matching:
                if rule.path.length == longest:
                    yield self._decision(rule.rights, signal, rule.line)

    def _decision(self, rights: str, signal: str, evidence: str) -> Decision:
        return decision(rights, signal, evidence, self.source, self.time)


def parse_robots(
    status: int,
    body: bytes,
    tokens: Sequence[str],
    ai_tokens: Sequence[str] = (),
    *,
    source: str = "",
    time: str | None = None,
) -> RobotsRules:
    """Parse the answer to GET /robots.txt by RFC 9309, 2.3.1; status 0: unreachable (no connection, time-out).

    2xx: the first 500 KiB count. 4xx other than 429, and too many redirects: no rules. 429, 5xx and unreachable: all
    addresses are refused (429 as Google does; the RFC would allow them). `ai_tokens` are checked like `tokens`, but
    only where the file names them, and without their Crawl-delay.
    """
    ours = tuple(tokens) or (agent_groups.EVERYBODY,)
    if status in {0, 429} or status >= 500:
        refusal = f"robots.txt answered {status}" if status else "robots.txt is unreachable"
        return RobotsRules(refusal, source=source, time=time)
    if not 200 <= status < 300:
        return RobotsRules(absence=f"robots.txt answered {status}", source=source, time=time)
    text, cut = agent_groups.text_of(body, MAX_FILE_BYTES)
    everyone = tuple(dict.fromkeys((*ours, *ai_tokens)))
    groups = agent_groups.parse(text, [token.lower() for token in everyone], _KEYS)
    # All names that the file does not have follow the groups for `*`, so one of them is enough.
    unnamed = [token for token in everyone if token.lower() not in groups.named][:1]
    asked = (*(token for token in everyone if token.lower() in groups.named), *unnamed)
    rules = {names: _path_rules(lines) for names, lines in groups.lines.items() if names != {FIRST}}
    return RobotsRules(
        asked=tuple(_Asked(token, tuple(rules[names] for names in groups.of(token.lower()))) for token in asked),
        usage=tuple(_usage_rules(groups, asked)),
        # Many hosts answer every address with an HTML page, in which such a line may mean something else.
        licenses=() if text.lstrip().startswith("<") else tuple(_licenses(groups, asked)),
        crawl_delay_s=max((delay for token in ours for delay in _delays(groups, token)), default=0.0),
        cut=cut,
        source=source,
        time=time,
    )


def _path_rules(lines: Iterable[Line]) -> PathRules[bool]:
    """Return the rules of a group by pattern: True allows, and wins where the same pattern is disallowed too."""
    found: dict[str, bool] = {}
    for line in lines:
        if line.key == "allow" and line.value[:1] in {"/", "*"}:
            found[normal_path(line.value)] = True
        elif line.key == "disallow" and line.value:
            found.setdefault(normal_path(rooted(line.value)), False)
    return PathRules(found)


def _delays(groups: Groups, token: str) -> Iterator[float]:
    for names in groups.of(token.lower()):
        for line in groups.lines[names]:
            if line.key == "crawl-delay" and _NUMBER.fullmatch(line.value):
                yield min(float(line.value), math.ldexp(1.0, 31))


_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{0,12})?")


def _licenses(groups: Groups, asked: Iterable[str]) -> Iterator[str]:
    """Yield licence addresses: those in the groups of each name, else those of the whole file (RSL 1.0, 4.4)."""
    found: dict[str, None] = {}
    for token in asked:
        lines = [one for names in groups.of(token.lower()) for one in _addresses(groups.lines[names])]
        found.update(dict.fromkeys(lines or _addresses(groups.lines[frozenset({FIRST})])))
    yield from found


def _addresses(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the addresses of License lines; a line may have several, but no other words."""
    for line in lines:
        words = [word.strip("<>,;") for word in line.value.split()] if line.key == "license" else []
        if all(map(is_rsl_address, words)):
            yield from words


def _usage_rules(groups: Groups, asked: Iterable[str]) -> Iterator[_Usage]:
    """Yield the usage rules that concern us; those before the first group concern all names."""
    concerned = dict.fromkeys([frozenset({FIRST}), *(names for token in asked for names in groups.of(token.lower()))])
    for names in concerned:
        for line in dict.fromkeys(line for line in groups.lines[names] if line.key in _USAGE_LINES):
            rule = _usage_rule(line)
            if rule is not None:
                yield rule


def _usage_rule(line: Line) -> _Usage | None:
    path, value = "/", line.value
    if value.startswith("/"):
        # The path ends at the first blank (AIPREF, attachment draft).
        path, *rest = value.split(maxsplit=1)
        value = rest[0] if rest else ""
    if line.key == "content-usage":
        preference = content_usage(value)
    else:
        # Content Signals: ai-train=no|yes, in any case.
        preference = content_usage(value.lower(), "ai-train", "no", "yes")
    rights = {"n": "refused", "no": "refused", "y": "allowed", "yes": "allowed", "?": "unknown"}.get(preference)
    return _Usage(compiled(normal_path(path)), rights, _USAGE_LINES[line.key], line.text) if rights else None
