"""Fuzz what reads our own JSON back: any bytes as a file of records."""

import io

from targets import Target

from muniment import Origin, RecordError
from muniment.canonical import record_to_json
from muniment.testing.hard_records import maximal_record
from muniment.testing.records import make_record
from muniment_plugins.formats.cut import cut_array, cut_lines

ORIGIN = Origin("all.json", "p")


def make() -> Target:
    lines = [record_to_json(r) for r in (maximal_record().record, make_record("a"), make_record("b"))]
    seeds = [b"\n".join(lines), b"[\n" + b",\n".join(lines) + b"\n]\n", b"[" + b", ".join(lines) + b"]", lines[0]]
    words = [
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b'"',
        b"\\",
        b"\n",
        b"\\ud800",
        b"null",
        b'"type":"text"',
        b'"raw":',
        b"9" * 30,
    ]
    return Target(check, seeds, words, max_bytes=16 * 2**10)


def check(data: bytes) -> None:
    for cutter in (cut_lines, cut_array):
        pieces = cutter(io.BytesIO(data))
        end = 0
        while True:
            try:
                piece = next(pieces, None)
            except RecordError:
                break
            if piece is None:
                break
            assert end <= piece.start <= piece.end <= len(data)
            end = piece.end
            try:
                record = piece.decode(ORIGIN)
            except RecordError as error:
                assert len(error.reason) < 400
            else:
                record_to_json(record)


if __name__ == "__main__":
    from engines import start

    start("records")
