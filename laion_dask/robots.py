"""The answer to GET /robots.txt in, what it says of an address out: RFC 9309, AIPREF and Content Signals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protego import Protego

from laion_dask.rights import Decision, Policy, decision
from laion_dask.signals import content_usage, matches, normal_path, path_of

PATH: Final = "/robots.txt"

# RFC 9309, 2.5: at least 500 KiB have to be read.
MAX_FILE_BYTES: Final = 500 * 1024

_USAGE_LINES: Final = {"content-usage": "content_usage", "content-signal": "content_signal"}


@dataclass(frozen=True, slots=True)
class _Usage:
    """A Content-Usage or Content-Signal rule of robots.txt: where it holds, what it says, the line."""

    path: str
    rights: str
    signal: str
    line: str


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """robots.txt of one scheme, host and port, ready to be asked for `tokens`; where and when it was read."""

    tokens: tuple[str, ...]
    refusal: str = ""
    """Why everything is refused, empty where the file decides."""
    rules: Protego | None = None
    usage: tuple[_Usage, ...] = ()
    crawl_delay_s: float = 0.0
    """Longest Crawl-delay that is asked of one of our own tokens; 0 where none is."""
    source: str = ""
    time: str | None = None
    absence: str = ""
    """How the host answered that has no rules."""

    def decide(self, url: str, policy: Policy) -> Decision:
        """Decide for an absolute URL of this host: a refusal of any token counts."""
        if self.refusal:
            return self._said("refused", "robots", self.refusal)
        if self.rules is None:
            # Nobody spoke, and that is on record too.
            return self._said("allowed", "", self.absence)
        refused = next((token for token in self.tokens if not self.rules.can_fetch(url, token)), "")
        line = f"robots.txt disallows the path for {refused}" if refused else ""
        found = [self._said("refused" if refused else "allowed", "robots", line)]
        if self.usage:
            found += self._used(path_of(url))
        return policy.strictest(found)

    def _used(self, path: str) -> Iterator[Decision]:
        # Longest path wins; of equally long ones that differ the most restrictive (AIPREF, attachment draft).
        for signal in _USAGE_LINES.values():
            matching = [rule for rule in self.usage if rule.signal == signal and matches(rule.path, path)]
            longest = max((len(rule.path) for rule in matching), default=0)
            for rule in matching:
                if len(rule.path) == longest:
                    yield self._said(rule.rights, signal, rule.line)

    def _said(self, rights: str, signal: str, evidence: str) -> Decision:
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
    """Read the answer to GET /robots.txt by RFC 9309, 2.3.1; status 0: unreachable (no connection, time-out).

    2xx: the first 500 KiB count. Other 4xx than 429, and redirects without end: no rules. 429, 5xx and unreachable:
    everything is refused (429 as Google does; the RFC would allow). `ai_tokens` are asked for as `tokens` are, but
    where the file does not name them they add nothing, and their Crawl-delay is not ours.
    """
    ours = tuple(tokens) or ("*",)
    if status in {0, 429} or status >= 500:
        refusal = f"robots.txt answered {status}" if status else "robots.txt is unreachable"
        return RobotsRules(ours, refusal, source=source, time=time)
    if not 200 <= status < 300:
        return RobotsRules(ours, source=source, time=time, absence=f"robots.txt answered {status}")
    text = _text(body)
    everyone = tuple(dict.fromkeys((*ours, *ai_tokens)))
    known = {token.lower() for token in everyone}
    named = {agent.lower() for _, agent in _USER_AGENT.findall(text)} & known
    # Whoever is not named follows the group for everybody, so one of them can stand for all.
    unnamed = [token for token in everyone if token.lower() not in named][:1]
    asked = (*(token for token in everyone if token.lower() in named), *unnamed)

    def ours_or_nobody(line: re.Match[str]) -> str:
        # RFC 9309, 2.2.1: a product token ends before `/1.0` and what follows, and only the whole token matches.
        # protego compares the value as it stands, and would take a group for `Applebot` as one for Applebot-Extended.
        return f"{line[1]}{line[2] if line[2].lower() in known else _NOBODY}"

    rules = Protego.parse(_USER_AGENT.sub(ours_or_nobody, text))
    delays = [delay for token in ours if (delay := rules.crawl_delay(token)) is not None]
    usage = tuple(_usage_rules(text, everyone))
    return RobotsRules(asked, "", rules, usage, max(map(float, delays), default=0.0), source, time)


_NOBODY: Final = "~"
_USER_AGENT: Final = re.compile(
    r"^([ \t]*user-?[ ]?agent[ \t]*[: \t][ \t]*)([a-z0-9_-]+)[^\r\n#]*", re.IGNORECASE | re.MULTILINE
)
# RFC 9309, 2.2: lines end with CR, LF or both; protego would also end them at these.
_NO_LINE_ENDS: Final = {ord(character): " " for character in "\v\f\x1c\x1d\x1e\x85\u2028\u2029"}


def _text(body: bytes) -> str:
    text = body[:MAX_FILE_BYTES].decode("utf-8", "replace").removeprefix("\ufeff").translate(_NO_LINE_ENDS)
    if len(body) > MAX_FILE_BYTES:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
    return re.sub(r"\r\n?", "\n", text)


def _usage_rules(text: str, tokens: Sequence[str]) -> Iterator[_Usage]:
    """Yield the usage rules that concern us: of the groups that name a token, else of the groups for `*`.

    Rules before any group concern everybody.
    """
    groups: dict[str, list[_Usage]] = {}
    agents: list[str] = [""]
    in_names = False
    for raw in text.split("\n"):
        line = raw.partition("#")[0].strip()
        name, colon, value = line.partition(":")
        key = name.strip().lower()
        if not colon or key in {"sitemap", "host"}:
            continue
        if key in {"user-agent", "useragent", "user agent"}:
            token = re.match(r"[a-z0-9_-]+|\*", value.strip().lower())
            agents = [*(agents if in_names else []), token[0] if token else _NOBODY]
            in_names = True
            continue
        in_names = False
        if key in _USAGE_LINES:
            rule = _usage_rule(key, value.strip(), line)
            for agent in agents:
                groups.setdefault(agent, []).extend([rule] if rule else [])
        elif "" not in agents or groups.get(""):
            for agent in agents:
                groups.setdefault(agent, [])
    named = [rule for token in tokens for rule in groups.get(token.lower(), groups.get("*", []))]
    yield from dict.fromkeys([*groups.get("", []), *named])


def _usage_rule(key: str, value: str, line: str) -> _Usage | None:
    path = "/"
    if value.startswith("/"):
        path, _, value = re.sub(r"[ \t]+", " ", value).partition(" ")
    if key == "content-usage":
        preference = content_usage(value)
    else:
        # Content Signals: ai-train=no|yes, written without care for case.
        preference = content_usage(value.lower(), "ai-train", "no", "yes")
    rights = {"n": "refused", "no": "refused", "y": "allowed", "yes": "allowed", "?": "unknown"}.get(preference)
    return _Usage(normal_path(path), rights, _USAGE_LINES[key], line) if rights else None
