"""What waits compressed comes back as it was, and never whole."""

import os
import pickle

from muniment.packed import PackedBytes, RowPacker

MEGABYTE = 2**20


class TestPackedBytes:
    def test_they_come_back(self):
        """Whatever the pieces were: what compresses and what does not, nothing, one byte."""
        pieces = [os.urandom(3 * MEGABYTE), b"a" * 5 * MEGABYTE, b"", memoryview(b"x")]

        packed = PackedBytes.of(pieces)

        assert b"".join(packed) == b"".join(pieces)
        assert len(packed) == sum(map(len, pieces))

    def test_no_piece_is_larger_than_a_megabyte(self):
        packed = PackedBytes.of([b"a" * 10 * MEGABYTE])

        assert [len(p) for p in packed] == [MEGABYTE] * 10
        assert sum(map(len, packed.blocks)) < MEGABYTE

    def test_they_come_twice(self):
        packed = PackedBytes.of([b"once", b"twice"])

        assert b"".join(packed) == b"".join(packed) == b"oncetwice"

    def test_nothing_comes_back_as_nothing(self):
        assert list(PackedBytes.of([])) == []


class TestRowPacker:
    def test_rows_come_back_in_their_order(self):
        rows = [(i, "text \u00e9 \0", None, True, -i) for i in range(2500)]
        packer = RowPacker()
        for first in range(0, len(rows), 300):
            packer.add(rows[first : first + 300])

        packed = packer.packed()

        assert list(packed) == list(packed) == rows
        assert len(packed) == 2500

    def test_no_rows_are_none(self):
        packed = RowPacker().packed()

        assert (list(packed), len(packed)) == ([], 0)

    def test_packed_rows_travel_to_another_process(self):
        packer = RowPacker()
        packer.add([(1, "a")])

        assert list(pickle.loads(pickle.dumps(packer.packed()))) == [(1, "a")]
