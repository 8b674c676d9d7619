"""How is one short hash made of many entries, and how is it proved what it covers?

The Merkle tree of RFC 6962, section 2.1 (RFC 9162, section 2.1 says the same), over SHA-256.  All
functions are pure; an entry is bytes of any length, a hash is 32 bytes.
"""

import hashlib
from collections.abc import Iterable, Sequence

from attrs import define, field

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


@define
class Tree:
    """A tree that grows by one leaf at a time and keeps log2 of its size in hashes.

    ``peaks`` are the roots of its whole subtrees, the largest first: one for each bit of ``size``.
    """

    size: int = 0
    peaks: list[bytes] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        if len(self.peaks) != self.size.bit_count() or any(len(p) != HASH_BYTES for p in self.peaks):
            raise ValueError(f"these are not the peaks of a tree of {self.size} leaves")

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> "Tree":
        """Return the tree of leaf hashes."""
        tree = cls()
        for leaf in leaves:
            tree.append(leaf)
        return tree

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        size = self.size
        while size & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the hash of the whole tree; of an empty one, that of nothing."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        *others, root = self.peaks
        for peak in reversed(others):
            root = node_hash(peak, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    return Tree.of(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return what shows that the leaf at ``index`` is one of ``leaves``: at most log2 of their number.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    path: list[bytes] = []
    while len(leaves) > 1:
        split = _split(len(leaves))
        if index < split:
            path.append(root_of(leaves[split:]))
            leaves = leaves[:split]
        else:
            path.append(root_of(leaves[:split]))
            leaves, index = leaves[split:], index - split
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """Return what shows that the first ``size`` of ``leaves`` were there before the others came.

    Raises:
        IndexError: there are not as many, or ``size`` is below 1.
    """
    if not 1 <= size <= len(leaves):
        raise IndexError(size)
    path: list[bytes] = []
    is_known = True
    while size != len(leaves):
        split = _split(len(leaves))
        if size <= split:
            path.append(root_of(leaves[split:]))
            leaves = leaves[:split]
        else:
            path.append(root_of(leaves[:split]))
            leaves, size, is_known = leaves[split:], size - split, False
    # Who asks has the old root; any other subtree must be told.
    return [*([] if is_known else [root_of(leaves)]), *path[::-1]]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether ``proof`` shows that ``leaf`` is number ``index`` of the ``size`` leaves under ``root``."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return False
    first, last, made = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            made = node_hash(sibling, made)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            made = node_hash(made, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and made == root


def verify_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Say whether ``proof`` shows that the tree under ``root`` begins with the one under ``old_root``.

    Of an empty old tree nothing can be shown: False.
    """
    if old_size == size:
        return size > 0 and not proof and old_root == root
    if not 0 < old_size < size:
        return False
    known = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not known:
        return False
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_made = made = known[0]
    for sibling in known[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_made, made = node_hash(sibling, old_made), node_hash(sibling, made)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            made = node_hash(made, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_made == old_root and made == root


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return int(1 << ((size - 1).bit_length() - 1))
