"""The Merkle tree of RFC 6962: roots, proofs, and what must not pass for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.merkle import (
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
"""What the logs of Certificate Transparency are tested with, and the roots over the first 0, 1, 2 ... of them."""
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(e) for e in ENTRIES]
HASHES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


class TestTree:
    @pytest.mark.parametrize("size", range(9))
    def test_it_has_the_roots_of_the_reference(self, size):
        """The roots that every log of Certificate Transparency computes."""
        assert root_of(LEAVES[:size]).hex() == ROOTS[size]

    def test_it_goes_on_from_its_peaks(self):
        """Log2 of the size in hashes is all that must be kept."""
        tree = Tree.of(LEAVES[:5])
        tree = Tree(tree.size, list(tree.peaks))
        tree.append(LEAVES[5])

        assert tree.root().hex() == ROOTS[6]

    def test_it_refuses_peaks_of_another_size(self):
        """As many as the size has bits."""
        with pytest.raises(ValueError, match="not the peaks of a tree of 4 leaves"):
            Tree(4, LEAVES[:2])


class TestInclusion:
    def test_it_is_the_proof_of_the_reference(self):
        """Entry 5 of 8, from the same tests."""
        assert [p.hex() for p in inclusion_proof(LEAVES, 5)] == [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]

    @given(HASHES, st.data())
    def test_every_leaf_can_be_proved(self, leaves, data):
        """At most log2 of the size in hashes."""
        index = data.draw(st.integers(0, len(leaves) - 1))
        proof = inclusion_proof(leaves, index)

        assert len(proof) <= (len(leaves) - 1).bit_length()
        assert verify_inclusion(leaves[index], index, len(leaves), proof, root_of(leaves))

    @given(HASHES, st.data())
    def test_nothing_else_can(self, leaves, data):
        """Another leaf, place, root or path is refused."""
        index = data.draw(st.integers(0, len(leaves) - 1))
        size, root, proof = len(leaves), root_of(leaves), inclusion_proof(leaves, index)
        wrong = b"\xff" * 32

        assert not verify_inclusion(wrong, index, size, proof, root)
        assert not verify_inclusion(leaves[index], index, size, proof, wrong)
        assert not verify_inclusion(leaves[index], index, size, [*proof, wrong], root)
        assert not verify_inclusion(leaves[index], -1, size, proof, root)
        assert not verify_inclusion(leaves[index], size, size, proof, root)
        for other in range(size):
            assert other == index or not verify_inclusion(leaves[index], other, size, proof, root)
        for place in range(len(proof)):
            assert not verify_inclusion(leaves[index], index, size, proof[:place] + proof[place + 1 :], root)
            assert not verify_inclusion(leaves[index], index, size, [*proof[:place], wrong, *proof[place + 1 :]], root)

    def test_there_is_none_of_what_is_not_there(self):
        """An index beyond the leaves."""
        with pytest.raises(IndexError):
            inclusion_proof(LEAVES, 8)


class TestConsistency:
    def test_it_is_the_proof_of_the_reference(self):
        """From 6 of 8 entries, from the same tests."""
        assert [p.hex() for p in consistency_proof(LEAVES, 6)] == [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]

    @given(HASHES, st.data())
    def test_every_beginning_can_be_proved(self, leaves, data):
        """That nothing before was changed, by two roots and a few hashes."""
        size = data.draw(st.integers(1, len(leaves)))
        proof = consistency_proof(leaves, size)

        assert verify_consistency(size, len(leaves), proof, root_of(leaves[:size]), root_of(leaves))

    @given(HASHES, st.data())
    def test_nothing_else_can(self, leaves, data):
        """Another root, size or path is refused."""
        size = data.draw(st.integers(1, len(leaves)))
        count, old, root, proof = len(leaves), root_of(leaves[:size]), root_of(leaves), consistency_proof(leaves, size)
        wrong = b"\xff" * 32

        assert not verify_consistency(size, count, proof, wrong, root)
        assert not verify_consistency(size, count, proof, old, wrong)
        assert not verify_consistency(size, count, [*proof, wrong], old, root)
        assert not verify_consistency(size, size - 1, proof, old, root)
        assert not verify_consistency(0, count, proof, old, root)
        for place in range(len(proof)):
            assert not verify_consistency(size, count, proof[:place] + proof[place + 1 :], old, root)
            changed = [*proof[:place], wrong, *proof[place + 1 :]]
            assert not verify_consistency(size, count, changed, old, root)

    @pytest.mark.parametrize("size", [0, 9])
    def test_there_is_none_of_what_is_not_there(self, size):
        """Of nothing, and of more than there is."""
        with pytest.raises(IndexError):
            consistency_proof(LEAVES, size)
