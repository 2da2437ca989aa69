"""Compute the Merkle root of sorted uids, and prove that a uid is or is not among them.

The tree is that of Certificate Transparency (RFC 6962, section 2.1): a leaf is sha256(0x00 + uid), a node is
sha256(0x01 + left + right), and of n leaves the left side has the largest power of two below n. The leaves are the uids
sorted by bytes, so two neighbouring leaves prove that a uid between them is absent. A root takes one pass, a proof two;
memory holds as many digests as the tree is deep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

ALGORITHM: Final = "RFC 6962, SHA-256; leaves are the uids as UTF-8, sorted, each once"
EMPTY: Final = hashlib.sha256().hexdigest()
"""Root of an empty tree (RFC 6962)."""


class MerkleError(Exception):
    """Uids are not sorted; the message has the value and the remedy."""


def leaf(uid: str) -> bytes:
    """Return the digest of one leaf."""
    return hashlib.sha256(b"\0" + uid.encode()).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the digest of two digests."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """Computes the root of leaves added one by one, storing only the digests of complete subtrees."""

    def __init__(self) -> None:
        self.leaves = 0
        self._complete: list[bytes] = []

    def add(self, digest: bytes) -> None:
        """Add the digest of the next leaf."""
        # One complete subtree ends here for each trailing one bit of the number of leaves.
        count = self.leaves
        while count & 1:
            digest = node(self._complete.pop(), digest)
            count >>= 1
        self._complete.append(digest)
        self.leaves += 1

    def root(self) -> bytes:
        """Return the root of the leaves so far."""
        if not self._complete:
            return bytes.fromhex(EMPTY)
        digest = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            digest = node(left, digest)
        return digest


def ordered(uids: Iterable[str]) -> Iterable[str]:
    """Yield the uids; `MerkleError` if they are not sorted and unique."""
    previous: str | None = None
    for uid in uids:
        if previous is not None and uid <= previous:
            message = (
                f"uid {uid!r} comes after {previous!r}: they must be sorted, each once. Remedy: build the release again"
            )
            raise MerkleError(message)
        previous = uid
        yield uid


def root(uids: Iterable[str]) -> tuple[str, int]:
    """Return the root of sorted uids, hex, and their number; `MerkleError` if they are not sorted."""
    tree = Tree()
    for uid in ordered(uids):
        tree.add(leaf(uid))
    return tree.root().hex(), tree.leaves


@dataclass(frozen=True, slots=True)
class Member:
    """Inclusion proof of the leaf at `index`: the digests of the sibling subtrees, lowest first, hex."""

    uid: str
    index: int
    path: tuple[str, ...]

    def root(self, leaves: int) -> str:
        """Return the root that follows from this proof in a tree of so many leaves (RFC 9162, section 2.1.3.2)."""
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

    For a present uid, `members` is its own proof; for an absent one, those of its two neighbours: one neighbour at
    either end of the tree, none in an empty tree.
    """

    uid: str
    present: bool
    leaves: int
    root: str
    members: tuple[Member, ...]

    def holds(self) -> bool:
        """Verify the proof; `root` and `leaves` must be compared with those of a trusted manifest."""
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
        """Build a proof from the result of `as_dict`."""
        members = tuple(Member(one["uid"], one["index"], tuple(one["path"])) for one in values["members"])
        return cls(values["uid"], values["present"], values["leaves"], values["root"], members)


def prove(uid: str, uids: Callable[[], Iterable[str]]) -> Proof:
    """Prove whether `uid` is among the sorted uids, in two passes: for its place, and for the digests."""
    tree, below, is_present = Tree(), 0, False
    for one in ordered(uids()):
        tree.add(leaf(one))
        below += one < uid
        is_present |= one == uid
    size = tree.leaves
    places = [below] if is_present else [place for place in (below - 1, below) if 0 <= place < size]
    return Proof(uid, is_present, size, tree.root().hex(), _members(places, size, uids()))


def _members(places: Sequence[int], size: int, uids: Iterable[str]) -> tuple[Member, ...]:
    ways = [_siblings(place, 0, size) for place in places]
    subtrees = {span: Tree() for way in ways for span in way}
    # Subtrees of one path are disjoint, those of two paths may overlap: a leaf is added to every subtree with it.
    spans = sorted(subtrees)
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
            subtrees[span].add(digest)
    return tuple(
        Member(names[place], place, tuple(subtrees[span].root().hex() for span in way))
        for place, way in zip(places, ways, strict=True)
    )


def _siblings(place: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the spans of leaves (from, to) of the sibling subtrees from a leaf up to the root, lowest first."""
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
