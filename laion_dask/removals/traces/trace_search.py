"""Search blocks of bytes for traces, leaving out those inside a value that a remaining pair has too.

A removed address may be the beginning of a kept one, a removed text a part of another. Word boundaries cannot separate
these, since files may store values without separators. So `Traces.kept` has the values of kept pairs that contain a
trace, and a trace does not count inside one of them. In a text file an address that continues with a letter, digit,
path or query is another address; any other character ends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from laion_dask.removals.traces import trace_forms
from laion_dask.removals.traces.trace_fold import fold
from laion_dask.removals.traces.trace_forms import Kind
from laion_dask.removals.traces.trace_patterns import Patterns
from laion_dask.removals.traces.trace_values import Traces

BLOCK: Final = 1 << 22
_BEFORE: Final = 2048
"""Compared bytes of a kept value before the trace in it."""
_EDGE: Final = _BEFORE + 2 * trace_forms.LONGEST
"""Upper limit of a trace with the compared bytes around it."""
_CARRY: Final = 12 * _EDGE
"""Overlap of consecutive blocks in bytes: escapes make a value up to twelve times as long."""
_SURE, _IF_BINARY, _NO = 2, 1, 0
# The bytes of text files: other control characters make a file binary.
_OF_TEXT: Final = bytes({*range(32, 256), 9, 10, 12, 13, 27} - {127})
_OF_HOST: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_GOES_ON: Final = re.compile(rb"(?!https?:)[A-Za-z0-9]|[/?][A-Za-z0-9%_~.&=/-]")
_SITE_ENDS: Final = re.compile(rb"\.?(?::(?:80|443)?)?/?\??(?![A-Za-z0-9/?%_~.&=:-])")
_HOST_BEFORE: Final = re.compile(rb"//(?:[^/?#\s\"'<>]*@)?$")
_DOMAIN_BEFORE: Final = re.compile(rb"//(?:[^/?#\s\"'<>]*@)?(?:[A-Za-z0-9_-]+\.)*$")
_DOMAIN_ENDS: Final = re.compile(rb"(?!\.?[A-Za-z0-9_-])")
_LETTER_BEFORE: Final = re.compile(rb"[A-Za-z0-9\x80-\xff][ ]*$")
_LETTER_BEHIND: Final = re.compile(rb"[ ]*[A-Za-z0-9\x80-\xff]")
_BEGINS: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?")


class Search:
    """The patterns of all traces, and the kept values inside which they do not count."""

    def __init__(self, traces: Traces) -> None:
        self._kinds: dict[bytes, set[Kind]] = {}
        for values, forms in (
            (traces.urls, trace_forms.of_address),
            (traces.texts, trace_forms.of_text),
            (traces.digests, trace_forms.of_digest),
            (traces.bodies, trace_forms.of_body),
        ):
            for value in values:
                for form, kind in forms(value):
                    self._kinds.setdefault(form, set()).add(kind)
        for domain in traces.domains:
            for form in trace_forms.encodings(domain):
                self._kinds.setdefault(form, set()).add(Kind.DOMAIN)
        self._kinds.pop(b"", None)
        self._patterns = Patterns(self._kinds)
        self._kept: dict[bytes, dict[tuple[int, int], set[bytes]]] = {}
        for value in traces.kept:
            for form in {fold(one) for one in trace_forms.encodings(value)}:
                self._keep(form)

    def found(self, block: bytes, *, first: bool = True, last: bool = True) -> Iterator[tuple[Kind, bool, int]]:
        """Yield (kind, whether it counts in text too, place) of traces; those at an edge are left to the next block."""
        folded = fold(block)
        for text in (block, folded) if folded != block else (block,):
            for start, end in self._patterns.find(text):
                if (first or start >= _EDGE) and (last or end <= len(text) - _EDGE):
                    yield from ((kind, sure, start) for kind, sure in self._judged(text, start, end))

    def values(self, lines: bytes) -> Iterator[tuple[bytes, bytes, Kind]]:
        """Yield (folded line, folded trace, kind) for each trace in a line, also as a part of something longer."""
        for text in {lines, fold(lines)}:
            for start, end in self._patterns.find(text):
                behind = text.find(b"\n", end)
                line = text[text.rfind(b"\n", 0, start) + 1 : len(text) if behind < 0 else behind]
                for kind in self._kinds[text[start:end]]:
                    yield line, text[start:end], kind

    def _keep(self, value: bytes) -> None:
        begins = _BEGINS.match(value)
        value = value[begins.end() :] if begins else value
        for start, end in self._patterns.find(value):
            left = max(0, start - _BEFORE)
            piece = value[left : end + trace_forms.LONGEST]
            shapes = self._kept.setdefault(value[start:end], {})
            shapes.setdefault((start - left, len(piece)), set()).add(piece)

    def _judged(self, text: bytes, start: int, end: int) -> Iterator[tuple[Kind, bool]]:
        before, trace, after = text[max(0, start - _EDGE) : start], text[start:end], text[end : end + _EDGE]
        for kind in self._kinds[trace]:
            counts = _counts(kind, before, after)
            if counts and (kind in {Kind.DIGEST, Kind.BODY} or not self._is_kept(before, trace, after)):
                yield kind, counts == _SURE

    def _is_kept(self, before: bytes, trace: bytes, after: bytes) -> bool:
        """Tell whether the trace is inside a value of a kept pair."""
        trace = trace if trace in self._kept else fold(trace)
        shapes = self._kept.get(trace)
        if not shapes:
            return False
        before, after = fold(before), fold(after)
        for (left, length), values in shapes.items():
            if left <= len(before):
                piece = before[len(before) - left :] + trace + after[: length - left - len(trace)]
                if piece in values:
                    return True
        return False


def _counts(kind: Kind, before: bytes, after: bytes) -> int:
    """Return whether a trace counts, by the bytes next to it: always, only in binary files, or never."""
    if kind is Kind.ADDRESS:
        if before and before[-1] in _OF_HOST:
            return _NO  # another host
        return _IF_BINARY if _GOES_ON.match(after) else _SURE
    if kind is Kind.SITE:
        return _SURE if _HOST_BEFORE.search(before) and _SITE_ENDS.match(after) else _NO
    if kind is Kind.DOMAIN:
        return _SURE if _DOMAIN_BEFORE.search(before[-300:]) and _DOMAIN_ENDS.match(after) else _NO
    if kind is Kind.WORD:
        sides = bool(_LETTER_BEFORE.search(before[-64:])) + bool(_LETTER_BEHIND.match(after))
        return (_SURE, _IF_BINARY, _NO)[sides]
    return _SURE


class Stream:
    """Searches one file or member block by block, for its first trace."""

    def __init__(self, search: Search, *, text: bool = False) -> None:
        self._search = search
        self._pieces: list[bytes] = []
        self._size = 0
        self._carry = b""
        self._first = True
        self._is_text = text
        self._binary = False
        self._perhaps = ""
        self.found = ""

    def feed(self, data: bytes) -> None:
        """Search the next bytes."""
        if self.found or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= BLOCK:
            self._look(last=False)

    def end(self) -> str:
        """Search the remaining bytes; return the kind of the first trace, empty if there is none."""
        if not self.found:
            self._look(last=True)
        return self.found

    @property
    def is_binary(self) -> bool:
        """Whether the bytes so far are not text."""
        return self._binary

    def _look(self, *, last: bool) -> None:
        fresh = b"".join(self._pieces)
        self._binary = self._binary or (not self._is_text and bool(fresh.translate(None, _OF_TEXT)))
        block = self._carry + fresh
        for kind, sure, _ in self._search.found(block, first=self._first, last=last):
            if sure or self._binary:
                self.found = kind.value.strip()
                break
            self._perhaps = kind.value.strip()
        else:
            if self._binary and self._perhaps:
                self.found = self._perhaps
        self._carry, self._pieces, self._size, self._first = block[-_CARRY:], [], 0, False
