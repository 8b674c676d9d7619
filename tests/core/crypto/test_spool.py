"""Bytes that wait on the disk without being readable there."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.crypto.spool import SealedSpool

DATA = os.urandom(100_003)


class TestSealedSpool:
    @given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 5000)), max_size=8))
    @settings(max_examples=25, deadline=None)
    def test_gives_what_was_put_in(self, places: list[tuple[int, int]]) -> None:
        """From any place on."""
        with SealedSpool(io.BytesIO(DATA)) as spool:
            for at, size in places:
                spool.seek(at)
                assert spool.read(size) == DATA[at : at + size]
            assert (spool.seek(-5, io.SEEK_END), spool.read(), spool.tell()) == (len(DATA) - 5, DATA[-5:], len(DATA))

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
    def test_has_nothing_of_it_on_the_disk(self) -> None:
        """Which is what a killed run leaves."""
        text = b"what people said " * 10_000

        with SealedSpool(io.BytesIO(text)) as spool:
            stored = Path(f"/proc/self/fd/{spool._file.fileno()}").read_bytes()

        assert len(stored) == len(text)
        assert b"people" not in stored

    def test_leaves_no_file_when_the_stream_breaks(self) -> None:
        """Its error is what is raised."""

        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError(5, "it fails")

        with pytest.raises(OSError, match="it fails"):
            SealedSpool(Broken())  # type: ignore[arg-type]
