"""The Merkle tree over uids: the roots of RFC 6962, and proofs that hold for the truth and for nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.release import merkle

SETS = st.sets(st.integers(0, 300), max_size=40).map(lambda numbers: sorted(f"{number:032x}" for number in numbers))


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, written as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


# The test vectors of Certificate Transparency's reference implementation: 0 to 8 leaves.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("count", ROOTS)
def test_the_tree_is_that_of_certificate_transparency(count: int) -> None:
    tree = merkle.Tree()
    for body in LEAVES[:count]:
        tree.add(hashlib.sha256(b"\0" + bytes.fromhex(body)).digest())
    assert tree.root().hex() == ROOTS[count]
    assert by_definition([bytes.fromhex(body) for body in LEAVES[:count]]).hex() == ROOTS[count]


@given(SETS)
def test_the_root_is_that_of_the_definition(uids: list[str]) -> None:
    assert merkle.root(uids) == (by_definition([uid.encode() for uid in uids]).hex(), len(uids))


@settings(max_examples=60)
@given(SETS, st.integers(0, 301).map(lambda number: f"{number:032x}"))
def test_every_uid_can_be_proved_to_be_in_or_not(uids: list[str], uid: str) -> None:
    proof = merkle.prove(uid, lambda: uids)
    assert proof.present == (uid in uids)
    assert (proof.root, proof.leaves) == merkle.root(uids)
    assert proof.holds()
    assert merkle.Proof.from_dict(proof.as_dict()) == proof
    # The opposite can not be proved with it, nor the same of another uid or another tree.
    assert not replace(proof, present=not proof.present).holds()
    assert not replace(proof, root="0" * 64).holds()
    if proof.present:
        assert not replace(proof, uid=f"{302:032x}").holds()
    for other in uids:
        if not proof.present:
            assert not replace(proof, uid=other).holds()


def test_absence_needs_neighbours() -> None:
    uids = [f"{number:032x}" for number in (1, 3, 5, 7)]
    apart = [merkle.prove(uid, lambda: uids).members[0] for uid in (uids[0], uids[2])]
    proof = merkle.prove(f"{2:032x}", lambda: uids)
    assert [member.index for member in proof.members] == [0, 1]
    assert not replace(proof, uid=f"{4:032x}", members=tuple(apart)).holds()
    # One neighbour is enough at an end only.
    assert not replace(proof, members=proof.members[:1]).holds()
    assert not replace(proof, members=proof.members[1:]).holds()
    assert not replace(proof, members=()).holds()


@pytest.mark.parametrize("uids", [["b", "a"], ["a", "a"]])
def test_uids_out_of_order_or_twice_are_refused(uids: list[str]) -> None:
    with pytest.raises(merkle.MerkleError, match="sorted, each once"):
        merkle.root(uids)
