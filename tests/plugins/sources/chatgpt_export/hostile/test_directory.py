"""A zip that two programs could understand in two ways is refused."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

TWO_DIRECTORIES = "`x.zip` has two directories, so it was tampered with: download it again"
DAMAGED = "the directory of `x.zip` is damaged: download it again"
TWO_WAYS = "the directory of `x.zip` is described in two ways, so it was tampered with: download it again"
INCOMPLETE = "`x.zip` is not a complete zip: the directory at its end is missing; download it again"
OVERLAP = "the files in `x.zip` overlap, so it is damaged or built to explode: download it again"
SPLIT = "`x.zip` is one part of a split zip: join the parts first"


def described_in_two_ways(name: str = "conversations.json") -> str:
    return f"`{name}` in `x.zip` is described in two ways, so the zip was tampered with: download it again"


class TestEnd:
    """The records at the end, of which there must be one set."""

    def test_a_plain_one_is_read(self, built: Any, entry: Any, titles: Any) -> None:
        assert titles(built(entry())) == ["Talk 1"]

    @pytest.mark.parametrize("comment_bytes", [0, 5, 22])
    def test_a_record_in_the_comment(self, comment_bytes: int, built: Any, entry: Any, end: Any, refusal: Any) -> None:
        """Whether or not its own comment reaches the end."""
        fake = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, comment_bytes)

        assert refusal(built(entry(), end=end(comment=fake))) == TWO_DIRECTORIES

    def test_a_record_in_the_comment_that_describes_nothing(
        self, built: Any, entry: Any, end: Any, refusal: Any
    ) -> None:
        """Others take it for the real one, and fail."""
        fake = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, 99, 7, 9)

        assert refusal(built(entry(), end=end(comment=fake))) == TWO_DIRECTORIES

    def test_two_zips_one_behind_the_other(self, built: Any, entry: Any, refusal: Any, tmp_path: Path) -> None:
        """Some programs read the first, some the last."""
        first = built(entry(n=1)).read_bytes()

        assert refusal(built(entry(n=2), before=first)) == TWO_DIRECTORIES

    def test_two_zips_far_apart(self, built: Any, entry: Any, refusal: Any) -> None:
        """The end record of the first is out of sight; its files are not."""
        first = built(entry(n=1)).read_bytes() + b"\0" * 70_000

        assert refusal(built(entry(n=2), before=first)) == (
            "`x.zip` holds files that its directory does not name, so it was tampered with: download it again"
        )

    def test_a_record_in_the_directory(self, built: Any, entry: Any, refusal: Any) -> None:
        """In the comment of a file, or in its extra field."""
        fake = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)

        assert refusal(built(entry(central={"comment": fake}))) == TWO_DIRECTORIES

    def test_a_zip_that_is_a_file_in_the_zip(self, built: Any, entry: Any, titles: Any) -> None:
        """Stored as it is, at the very end: it has an end record of its own, and is no rival."""
        inner = built(entry(n=2)).read_bytes()

        assert titles(built(entry(n=1), entry(b"file-1.dat", inner, method=0))) == ["Talk 1"]

    def test_a_zip_in_a_zip_that_is_cut_off(self, built: Any, entry: Any, refusal: Any) -> None:
        """The inner one is whole, but nobody asked for it."""
        inner = built(entry(n=2)).read_bytes()
        path = built(entry(n=1), entry(b"file-1.dat", inner, method=0))
        data = path.read_bytes()
        path.write_bytes(data[: data.index(inner) + len(inner)])

        assert refusal(path) == (
            "`x.zip` holds files that its directory does not name, so it was tampered with: download it again"
        )

    @pytest.mark.parametrize("entries", [0, 1, 3, 65535])
    def test_another_number_of_files(self, entries: int, built: Any, entry: Any, end: Any, refusal: Any) -> None:
        """Some programs count, some read to the end of the directory."""
        path = built(entry(), entry(b"a.txt"), end=end(entries=entries))

        assert refusal(path) == DAMAGED

    def test_a_directory_that_ends_early(self, built: Any, entry: Any, end: Any, refusal: Any) -> None:
        path = built(entry(), entry(b"a.txt"), end=end(size=60))

        assert refusal(path) in (INCOMPLETE, DAMAGED)

    def test_a_directory_larger_than_the_file(self, built: Any, entry: Any, end: Any, refusal: Any) -> None:
        assert refusal(built(entry(), end=end(size=2**31))) == INCOMPLETE

    @pytest.mark.parametrize("disk", [1, 7])
    def test_a_file_on_another_disk(self, disk: int, built: Any, entry: Any, refusal: Any) -> None:
        assert refusal(built(entry(central={"disk": disk}))) == SPLIT


class TestZip64:
    """Numbers that stand twice must be the same."""

    def test_a_plain_one_is_read(self, built: Any, entry: Any, end: Any, titles: Any) -> None:
        assert titles(built(entry(), end=end(zip64=True))) == ["Talk 1"]
        assert titles(built(entry(), end=end(zip64=True, end_large=False))) == ["Talk 1"]

    @pytest.mark.parametrize("lie", [{"entries": 9}, {"size": 0}, {"start": 5}])
    def test_other_numbers_than_the_end_record(
        self, lie: dict[str, int], built: Any, entry: Any, end: Any, refusal: Any
    ) -> None:
        """Some programs never look at zip64 unless they must."""
        assert refusal(built(entry(), end=end(zip64=True, end_large=False, large=lie))) == TWO_WAYS

    @pytest.mark.parametrize(
        "lie",
        [
            {"entries": 2**62},
            {"size": 2**63},
            {"start": 2**64 - 1},
            {"record": 0},
            {"record": 2**64 - 1},
            {"entries": 2},
        ],
    )
    def test_numbers_that_cannot_be(self, lie: dict[str, int], built: Any, entry: Any, end: Any, refusal: Any) -> None:
        """Nothing is allocated, nothing is read beyond the file."""
        said = refusal(built(entry(), end=end(zip64=True, large=lie)))

        assert said in (DAMAGED, INCOMPLETE) or said.startswith("`x.zip` names 4611686018427387904 files")

    def test_a_record_elsewhere(self, built: Any, entry: Any, end: Any, refusal: Any) -> None:
        """The locator names another place, where another record stands."""
        other = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 0, 0, 0, 0)
        where = built(entry(behind=other)).read_bytes().index(b"PK\6\6")

        assert refusal(built(entry(behind=other), end=end(zip64=True, large={"where": where}))) == DAMAGED

    def test_sizes_that_no_extra_field_gives(self, built: Any, entry: Any, refusal: Any) -> None:
        assert refusal(built(entry(central={"size": 0xFFFFFFFF}))) == DAMAGED

    def test_sizes_beyond_the_file(self, built: Any, entry: Any, refusal: Any) -> None:
        extra = struct.pack("<2H2Q", 1, 16, 2**63, 2**63)

        assert refusal(built(entry(central={"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": extra}))) == OVERLAP


class TestTwoHeaders:
    """What stands before a file's data must agree with the directory."""

    @pytest.mark.parametrize(
        "lie",
        [
            {"name": b"conversations.jsom"}, {"method": 0}, {"crc": 1}, {"size": 7}, {"packed": 7}, {"size": 0},
            {"packed": 0xFFFFFFFF}, {"flags": 1}, {"size": 0xFFFFFFFF, "extra": struct.pack("<2H2Q", 1, 16, 7, 7)},
        ],
    )  # fmt: skip
    def test_that_disagree(self, lie: dict[str, Any], built: Any, entry: Any, refusal: Any) -> None:
        assert refusal(built(entry(local=lie))) == described_in_two_ways()

    def test_that_leave_the_numbers_to_a_descriptor(self, built: Any, entry: Any, titles: Any, changed: Any) -> None:
        """Behind the data: with and without a mark, in 4 and in 8 bytes."""
        plain = entry()
        crc, packed, size = zlib.crc32(plain.data), len(plain.stored), len(plain.data)
        for layout in ("<3L", "<L2Q"):
            for mark in (b"", b"PK\7\x08"):
                unknown = {"crc": 0, "packed": 0, "size": 0}
                behind = mark + struct.pack(layout, crc, packed, size)
                path = built(changed(plain, flags=8, local=unknown, behind=behind), entry(b"z.txt", b"z"))

                assert titles(path) == ["Talk 1"]

    @pytest.mark.parametrize("behind", [b"", b"PK\7\x08" + b"\0" * 12, b"\xff" * 24])
    def test_with_a_descriptor_that_disagrees(self, behind: bytes, built: Any, entry: Any, refusal: Any) -> None:
        """A program that reads from the front takes another length for the file."""
        unknown = {"crc": 0, "packed": 0, "size": 0}

        assert refusal(built(entry(flags=8, local=unknown, behind=behind))) == described_in_two_ways()

    def test_data_behind_the_end_of_the_packed_data(self, built: Any, entry: Any, refusal: Any, changed: Any) -> None:
        """Bytes that no program inflates: a place for another file's header."""
        plain = entry()

        assert refusal(built(changed(plain, packed=plain.stored + b"hidden"))) == (
            "`conversations.json` in `x.zip` has something behind its end, so the zip was tampered with:"
            " download it again"
        )


class TestOverlaps:
    """Files that share bytes make a small zip inflate to anything."""

    def test_of_the_same_data(self, built: Any, entry: Any, refusal: Any) -> None:
        entries = [entry(), *(entry(b"%d.dat" % i, central={"offset": 0}) for i in range(50))]

        assert refusal(built(*entries)) == OVERLAP

    def test_that_quote_the_next_header(self, built: Any, entry: Any, refusal: Any) -> None:
        """Each file's data is a stored block that holds the header of the next: no two start at one place."""
        kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = kernel.compress(b"\0" * 100_000) + kernel.flush()
        names = [b"%02d.dat" % i for i in range(20)]
        headers = [struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, 0, 0, len(n), 0) + n for n in names]
        body, places = b"", []
        for header in headers:
            places.append(len(body))
            body += header + struct.pack("<BHH", 0, len(headers[0]), len(headers[0]) ^ 0xFFFF)
        body += data
        directory = b"".join(
            struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(body) - place - 36, 100_000, len(name), 0, 0, 0, 0,
                0, place,
            ) + name
            for name, place in zip(names, places, strict=True)
        )  # fmt: skip
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 20, 20, len(directory), len(body), 0)
        path = built(entry())
        path.write_bytes(body + directory + end)

        assert refusal(path) == OVERLAP

    def test_by_a_longer_extra_field_before_the_data(self, built: Any, entry: Any, refusal: Any) -> None:
        """Which the directory does not tell."""
        path = built(entry(local={"extra": b"\0" * 500}), entry(b"a.dat", b"x", method=0))
        data = bytearray(path.read_bytes())
        at = data.index(b"\0" * 500)
        del data[at : at + 490]
        shift = 490
        end_at = data.rindex(b"PK\5\6")
        struct.pack_into("<L", data, end_at + 16, struct.unpack_from("<L", data, end_at + 16)[0] - shift)
        second = data.rindex(b"PK\1\2")
        struct.pack_into("<L", data, second + 42, struct.unpack_from("<L", data, second + 42)[0] - shift)
        path.write_bytes(data)

        assert "overlap" in refusal(path)

    def test_many_small_ones_that_inflate_to_much(self, built: Any, entry: Any, refusal: Any) -> None:
        """Each below the slack that small files have, all together not."""
        entries = [entry(b"%d.dat" % i, b"\0" * 5_000_000) for i in range(12)]

        said = refusal(built(entry(), *entries))

        assert said.startswith("the files in `x.zip` claim to inflate to 60000")
        assert said.endswith("which no export does; if you trust the file, raise `max_ratio`")


class TestNames:
    """One name, one file."""

    @pytest.mark.parametrize("other", [b"Conversations.json", b"CONVERSATIONS.JSON", b"conversations.json"])
    def test_that_differ_by_case_alone(self, other: bytes, built: Any, entry: Any, refusal: Any) -> None:
        """On many systems the second would replace the first."""
        said = refusal(built(entry(n=1), entry(n=2, name=other)))

        assert said == "`x.zip` holds `conversations.json` twice, so nobody can say which counts: download it again"

    def test_ids_that_differ_by_case_are_two(self, built: Any, entry: Any, titles: Any) -> None:
        """Assets are named by ids, which do."""
        assert titles(built(entry(), entry(b"file-Ab.dat", b"1"), entry(b"file-aB.dat", b"2"))) == ["Talk 1"]

    def test_a_second_name_in_an_extra_field(self, built: Any, entry: Any, refusal: Any) -> None:
        """Some programs take it for the name."""
        second = b"conversations.json"
        extra = struct.pack("<2HBL", 0x7075, 5 + len(second), 1, zlib.crc32(b"holiday.json")) + second

        assert refusal(built(entry(name=b"holiday.json", central={"extra": extra}))).startswith(
            "`x.zip` holds no conversations.json"
        )
        extra = struct.pack("<2HBL", 0x7075, 5 + 5, 1, zlib.crc32(second)) + b"a.txt"
        assert refusal(built(entry(central={"extra": extra}))) == (
            "`conversations.json` in `x.zip` cannot be read: it has two names"
        )

    @pytest.mark.parametrize("digits", [b"10000", b"999999999", b"9" * 18])
    def test_a_number_that_promises_too_many_files(self, digits: bytes, built: Any, entry: Any, refusal: Any) -> None:
        """Nobody makes a list of what is missing between."""
        name = b"conversations-%s.json" % digits

        assert refusal(built(entry(name=b"conversations-000.json"), entry(n=2, name=name))) == (
            f"`x.zip` holds `{name.decode()}`, but no export has so many files of conversations:"
            " check where it comes from"
        )

    @pytest.mark.parametrize("digits", ["9" * 5000, "\u0663", "1\n"])
    def test_what_is_no_number_is_no_shard(self, digits: str, built: Any, entry: Any, titles: Any) -> None:
        name = f"conversations-{digits}.json".encode()

        assert titles(built(entry(), entry(name, b"[]", flags=0x800))) == ["Talk 1"]


class TestKinds:
    """What must not be read is refused where it is needed."""

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"flags": 0x1}, "it is encrypted; unpack the zip with its password and give the folder"),
            ({"flags": 0x41}, "it is encrypted; unpack the zip with its password and give the folder"),
            ({"flags": 0x2000}, "it is encrypted; unpack the zip with its password and give the folder"),
            ({"method": 99, "packed": b"x"}, "it is packed by method 99; unpack the zip with another program and give"
             " the folder"),
            ({"flags": 0x20}, "it is packed by method 8; unpack the zip with another program and give the folder"),
            ({"attributes": 0o120777 << 16}, "it is a link or a special file"),
            ({"attributes": 0o010644 << 16}, "it is a link or a special file"),
            ({"attributes": 0o020644 << 16, "central": {"made_by": 20}}, "it is a link or a special file"),
            ({"attributes": 0x400}, "it is a link or a special file"),
        ],
    )  # fmt: skip
    def test_are_named(self, changes: dict[str, Any], why: str, built: Any, entry: Any, refusal: Any) -> None:
        assert refusal(built(entry(**changes))) == f"`conversations.json` in `x.zip` cannot be read: {why}"

    def test_rights_do_not_matter(self, built: Any, entry: Any, titles: Any) -> None:
        """Nothing is extracted, so nothing becomes a program that runs as somebody else."""
        assert titles(built(entry(attributes=0o106777 << 16))) == ["Talk 1"]

    def test_zips_within_are_never_opened(self, built: Any, entry: Any, refusal: Any) -> None:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("conversations.json", "[]")

        assert refusal(built(entry(b"inner.zip", inner.getvalue()))) == (
            "`x.zip` holds zips, but no conversations.json; give the zips themselves (a glob such as `*.zip`)"
        )


class TestSidecars:
    """A file beside the conversations costs little, whatever is in it."""

    @pytest.mark.parametrize("name", [b"user.json", b"library_files.json", b"export_manifest.json"])
    def test_too_many_values_are_left_alone(self, name: bytes, built: Any, entry: Any, titles: Any) -> None:
        """Three bytes of JSON can become a hundred in memory; the conversations are read."""
        data = b"[" + b"[]," * 1_100_000 + b"[]]"

        assert titles(built(entry(), entry(name, data, method=0))) == ["Talk 1"]
