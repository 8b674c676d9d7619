"""Objects of many pieces: joined, compressed, counted, hashed."""

import gzip
import hashlib
import io
import sys

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.components import Format
from muniment.objects import SUFFIXES, ObjectStream, Part, compressed, compressing, decompressing
from muniment.testing.memory_storage import MemoryPlace, MemoryStorage

COMPRESSIONS = sorted(SUFFIXES)


@frozen(kw_only=True)
class Commas(Format):
    suffix = ".txt"

    def header(self):
        return b"["

    def separator(self):
        return b","

    def footer(self):
        return b"]"


def write(pieces, compression="none"):
    place = MemoryPlace()
    stream = ObjectStream(MemoryStorage(place).stage("x"), [compressing(compression)])
    part = Part(stream, Commas())
    for some in pieces:
        part.add(some)
    part.close()
    return stream, place.staged[stream.token]


class TestPart:
    @pytest.mark.parametrize("pieces", [[], [[b"a"]], [[b"a"], [b"b", b"c"]], [[], [b"a"], []]])
    def test_it_joins_pieces(self, pieces):
        """Header, pieces with separators between them only, footer; however they come."""
        _, data = write(pieces)

        assert data == b"[" + b",".join(p for some in pieces for p in some) + b"]"

    @settings(max_examples=20)
    @given(pieces=st.lists(st.binary(max_size=2**12), max_size=5), compression=st.sampled_from(COMPRESSIONS))
    def test_it_comes_back_and_is_what_it_says(self, pieces, compression):
        """What is read is what was written; size and digest are of the object's own bytes."""
        part, data = write([pieces], compression)

        with decompressing(io.BytesIO(data), f"x{SUFFIXES[compression]}") as stream:
            assert stream.read() == b"[" + b",".join(pieces) + b"]"
        assert (part.size, part.sha256) == (len(data), hashlib.sha256(data).hexdigest())

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_it_makes_the_same_bytes_again(self, compression):
        """No time, name or thread shows in the bytes."""
        pieces = [[b"%d" % i * 1000] * 100 for i in range(50)]

        assert write(pieces, compression)[1] == write(pieces, compression)[1]

    def test_it_wraps_the_stream_in_order(self):
        """The first wrapper sees the plain data, the last one makes the bytes that are stored."""
        place = MemoryPlace()
        stream = ObjectStream(MemoryStorage(place).stage("x"), [compressing("gzip"), compressing("zstd")])
        Part(stream, Commas()).close()

        with decompressing(io.BytesIO(place.staged[stream.token]), "x.zst") as stream:
            assert gzip.decompress(stream.read()) == b"[]"


class TestCompressed:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_it_comes_back(self, compression):
        """A single document is a whole object."""
        data = compressed(b"some text", compression)

        with decompressing(io.BytesIO(data), f"x{SUFFIXES[compression]}") as stream:
            assert stream.read() == b"some text"

    def test_gzip_works_without_isal(self, monkeypatch):
        """Where there is no wheel, the standard library does it."""
        fast = compressed(b"some text", "gzip")
        monkeypatch.setitem(sys.modules, "isal", None)

        assert gzip.decompress(compressed(b"some text", "gzip")) == b"some text"
        with decompressing(io.BytesIO(fast), "x.gz") as stream:
            assert stream.read() == b"some text"

    @pytest.mark.parametrize("compression", ["gzip", "zstd", "xz"])
    def test_a_truncated_object_is_an_error(self, compression):
        """Half of an object never reads as the whole of a smaller one."""
        data = compressed(b"some text" * 1000, compression)[:-3]

        with decompressing(io.BytesIO(data), f"x{SUFFIXES[compression]}") as stream, pytest.raises(EOFError):
            stream.read()
