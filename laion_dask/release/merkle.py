"""Compute the Merkle root of sorted uids, and prove that a uid is or is not among them.

The tree is that of Certificate Transparency (RFC 6962, section 2.1): a leaf is sha256(0x00 + uid), a node is
sha256(0x01 + left + right), and of n leaves the left side has the largest power of two below n. Uids are the leaves in
the order of their bytes, so that a uid is absent where two neighbours enclose the place that it would have.
A root or a proof takes one pass and as many digests in memory as the tree is deep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

ALGORITHM: Final = "RFC 6962, SHA-256; leaves are the uids as UTF-8, sorted, each once"
EMPTY: Final = hashlib.sha256().hexdigest()
"""Root of no leaves (RFC 6962)."""


class MerkleError(Exception):
    """Uids are not in order, or a proof is not one; the message has the value and the remedy."""


def leaf(uid: str) -> bytes:
    """Return the digest of one leaf."""
    return hashlib.sha256(b"\0" + uid.encode()).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the digest of two digests."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The root of leaves that come one after another: only the digests of complete subtrees are kept."""

    def __init__(self) -> None:
        self.leaves = 0
        self._complete: list[bytes] = []

    def add(self, digest: bytes) -> None:
        """Add the digest of the next leaf."""
        # As many complete subtrees end here as the number of leaves before has ones at its end.
        count = self.leaves
        while count & 1:
            digest = node(self._complete.pop(), digest)
            count >>= 1
        self._complete.append(digest)
        self.leaves += 1

    def root(self) -> bytes:
        """Return the root of what was added so far."""
        if not self._complete:
            return bytes.fromhex(EMPTY)
        digest = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            digest = node(left, digest)
        return digest


def ordered(uids: Iterable[str]) -> Iterable[str]:
    """Yield the uids; `MerkleError` where one does not come after the one before."""
    before: str | None = None
    for uid in uids:
        if before is not None and uid <= before:
            message = (
                f"uid {uid!r} comes after {before!r}: they must be sorted, each once. Remedy: build the release anew"
            )
            raise MerkleError(message)
        before = uid
        yield uid


def root(uids: Iterable[str]) -> tuple[str, int]:
    """Return the root of sorted uids, hex, and how many they are; `MerkleError` where they are not in order."""
    tree = Tree()
    for uid in ordered(uids):
        tree.add(leaf(uid))
    return tree.root().hex(), tree.leaves


@dataclass(frozen=True, slots=True)
class Member:
    """Proof that a uid is the leaf at `index`: the digests of the subtrees beside its way up, lowest first, hex."""

    uid: str
    index: int
    path: tuple[str, ...]

    def root(self, leaves: int) -> str:
        """Return the root that this proof leads to in a tree of so many leaves (RFC 9162, section 2.1.3.2)."""
        place, last, digest = self.index, leaves - 1, leaf(self.uid)
        if not 0 <= self.index < leaves:
            return ""
        for side in self.path:
            if last == 0:
                return ""
            if place & 1 or place == last:
                digest = node(bytes.fromhex(side), digest)
                while not place & 1 and place:
                    place, last = place >> 1, last >> 1
            else:
                digest = node(digest, bytes.fromhex(side))
            place, last = place >> 1, last >> 1
        return digest.hex() if last == 0 else ""


@dataclass(frozen=True, slots=True)
class Proof:
    """Proof that a uid is, or is not, a leaf of the tree with this root.

    Of a uid that is in, `members` is its own proof; of one that is not, those of its neighbours: one at either end of
    the tree, none where the tree is empty.
    """

    uid: str
    present: bool
    leaves: int
    root: str
    members: tuple[Member, ...]

    def holds(self) -> bool:
        """Say whether the proof is one; the reader must know `root` and `leaves` of the tree from elsewhere."""
        if self.leaves == 0:
            return not self.present and self.root == EMPTY and not self.members
        if not self.members or any(member.root(self.leaves) != self.root for member in self.members):
            return False
        if self.present:
            return len(self.members) == 1 and self.members[0].uid == self.uid
        places = [member.index for member in self.members]
        if len(self.members) == 2:
            return places[1] == places[0] + 1 and self.members[0].uid < self.uid < self.members[1].uid
        first, last = places == [0], places == [self.leaves - 1]
        return (first and self.uid < self.members[0].uid) or (last and self.members[0].uid < self.uid)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        members = [{"uid": one.uid, "index": one.index, "path": list(one.path)} for one in self.members]
        return {
            "uid": self.uid,
            "present": self.present,
            "leaves": self.leaves,
            "root": self.root,
            "algorithm": ALGORITHM,
            "members": members,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Proof:
        """Read what `as_dict` wrote."""
        members = tuple(Member(one["uid"], one["index"], tuple(one["path"])) for one in values["members"])
        return cls(values["uid"], values["present"], values["leaves"], values["root"], members)


def prove(uid: str, uids: Callable[[], Iterable[str]]) -> Proof:
    """Prove whether `uid` is among the sorted uids, which are read twice: to find its place, then for the digests."""
    tree, below, found = Tree(), 0, False
    for one in ordered(uids()):
        tree.add(leaf(one))
        below += one < uid
        found |= one == uid
    size = tree.leaves
    places = [below] if found else [place for place in (below - 1, below) if 0 <= place < size]
    return Proof(uid, found, size, tree.root().hex(), _members(places, size, uids()))


def _members(places: Sequence[int], size: int, uids: Iterable[str]) -> tuple[Member, ...]:
    ways = [_siblings(place, 0, size) for place in places]
    wanted = {span: Tree() for way in ways for span in way}
    # Subtrees of one way follow each other; those of two ways may overlap: each leaf goes into every tree around it.
    spans = sorted(wanted)
    names, active, following = {}, [], 0
    for index, uid in enumerate(uids):
        while following < len(spans) and spans[following][0] == index:
            active.append(spans[following])
            following += 1
        active = [span for span in active if index < span[1]]
        if index in places:
            names[index] = uid
        digest = leaf(uid) if active else b""
        for span in active:
            wanted[span].add(digest)
    return tuple(
        Member(names[place], place, tuple(wanted[span].root().hex() for span in way))
        for place, way in zip(places, ways, strict=True)
    )


def _siblings(place: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans of leaves (from, to) under the nodes beside the way from a leaf up to the root, lowest first."""
    spans = []
    while end - start > 1:
        half = start + (1 << ((end - start - 1).bit_length() - 1))
        if place < half:
            spans.append((half, end))
            end = half
        else:
            spans.append((start, half))
            start = half
    return spans[::-1]
