import io
import struct
import zipfile
from pathlib import Path

import pytest

from muniment import InputError
from muniment_plugins.sources.chatgpt_export import inflate as inflate_module
from muniment_plugins.sources.chatgpt_export.container import Limits, Member
from muniment_plugins.sources.chatgpt_export.zips import Zip


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read(path: Path, name: str = "a.json", limits: Limits | None = None) -> bytes:
    container = Zip(path, path.name, limits or Limits())
    (member,) = (m for m in container.members if m.name == name)
    return b"".join(container.blocks(member))


def member_of(path: Path, name: str) -> Member:
    return next(m for m in Zip(path, path.name).members if m.name == name)


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        import zlib

        monkeypatch.setattr(inflate_module, "_zlib", zlib)


@pytest.mark.usefixtures("library")
class TestReading:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("data", [b"", b"x", b"content " * 400_000, bytes(range(256)) * 9000])
    def test_gives_what_was_packed(self, data: bytes, method: int, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"before": b"1", "a.json": data, "after": b"2"}, method)

        assert read(path) == data

    def test_gives_blocks_of_bounded_size(self, tmp_path: Path) -> None:
        """Also where a little input inflates to much."""
        path = write(tmp_path / "z.zip", {"a.json": b"\x00" * 50_000_000})
        container = Zip(path, "z.zip", Limits(max_ratio=2000))

        sizes = [len(b) for b in container.blocks(container.members[0])]

        assert sum(sizes) == 50_000_000
        assert max(sizes) <= inflate_module.BLOCK_BYTES

    @pytest.mark.parametrize("start", [0, 1, 999_999, 1_000_000, 1_048_576, 3_000_000])
    def test_starts_in_the_middle(self, start: int, tmp_path: Path) -> None:
        data = bytes(i % 251 for i in range(3_000_000))
        path = write(tmp_path / "z.zip", {"a.json": data})
        container = Zip(path, "z.zip")

        assert b"".join(container.blocks(container.members[0], start)) == data[start:]

    def test_reads_zip64(self, tmp_path: Path) -> None:
        """Sizes in the extra field, and a zip64 end record."""
        path = tmp_path / "z.zip"
        write(path, {"a.json": b"content"})
        path.write_bytes(as_zip64(path.read_bytes()))

        assert read(path) == b"content"

    def test_reads_a_streamed_zip(self, tmp_path: Path) -> None:
        """With data descriptors instead of sizes in the local headers."""

        class Pipe(io.BytesIO):
            def seekable(self) -> bool:
                return False

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", b"content")
            archive.writestr("b.json", b"more")
        (tmp_path / "z.zip").write_bytes(pipe.getvalue())

        assert read(tmp_path / "z.zip", "b.json") == b"more"

    def test_reads_a_zip_behind_other_bytes_and_before_some(self, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"a.json": b"content"})
        path.write_bytes(b"#!/bin/sh\n" + path.read_bytes() + b"\n\n")

        assert read(path) == b"content"

    def test_reads_names_in_any_script(self, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"\u4f60\u597d.json": b"content"})

        assert read(path, "\u4f60\u597d.json") == b"content"


def as_zip64(data: bytes) -> bytes:
    """Rewrite the end of a zip so that all its numbers stand in zip64 records."""
    at = data.rindex(b"PK\5\6")
    _, _, _, n, total, _, start, _ = struct.unpack("<4s4H2LH", data[at:])
    entry = bytearray(data[start:at])
    crc_sizes = struct.unpack_from("<2L", entry, 20)
    extra = struct.pack("<2H3Q", 1, 24, crc_sizes[1], crc_sizes[0], 0)
    name_bytes, extra_bytes = struct.unpack_from("<2H", entry, 28)
    struct.pack_into("<2L", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<L", entry, 42, 0xFFFFFFFF)
    entry = entry[: 46 + name_bytes] + extra + entry[46 + name_bytes + extra_bytes :]
    where = start + len(entry)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, n, total, len(entry), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:start] + bytes(entry) + end64 + locator + end


class TestRefusals:
    """Every one is a sentence that names the file and says what to do."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write(tmp_path / "z.zip", {"a.json": b"content " * 1000, "b.json": b"more " * 1000})

    def refusal(self, path: Path, name: str = "a.json", limits: Limits | None = None) -> str:
        with pytest.raises(InputError) as caught:
            read(path, name, limits)
        return str(caught.value)

    def test_cut_off(self, path: Path) -> None:
        """At every place."""
        data = path.read_bytes()
        for end in range(2, len(data), 7):
            path.write_bytes(data[:end])

            assert self.refusal(path) == (
                "`z.zip` is not a complete zip: the directory at its end is missing; download it again"
            )

    def test_cut_off_at_the_beginning(self, path: Path) -> None:
        path.write_bytes(b"PK\3\4" + path.read_bytes()[40:])

        assert "`z.zip`" in self.refusal(path)

    @pytest.mark.usefixtures("library")
    def test_damaged_data(self, path: Path) -> None:
        """Whichever byte of the member's data it is."""
        data = path.read_bytes()
        member = member_of(path, "a.json")
        first = member.offset + 30 + len("a.json")
        for at in range(first, first + member.packed):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])

            refusal = self.refusal(path)
            assert refusal.startswith("`a.json` in `z.zip` ")
            assert refusal.endswith(": download it again")

    def test_wrong_checksum(self, path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data.replace(data[14:18], b"\0\0\0\0"))

        assert self.refusal(path) == ("`a.json` in `z.zip` is damaged (its checksum does not match): download it again")

    def test_data_that_outgrows_its_size(self, path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data.replace(data[18:26], data[18:22] + struct.pack("<L", 100)))

        assert self.refusal(path) == (
            "`a.json` in `z.zip` holds more than the 100 bytes that the zip's directory names; "
            "it was tampered with: download it again"
        )

    def test_too_high_a_ratio(self, tmp_path: Path) -> None:
        path = write(tmp_path / "bomb.zip", {"a.json": b"\x00" * 30_000_000})

        assert self.refusal(path) == (
            "`a.json` in `bomb.zip` claims to inflate to 30000000 bytes from "
            f"{member_of(path, 'a.json').packed}, which no export does; if you trust the file, raise `max_ratio`"
        )

    def test_overlapping_members(self, path: Path) -> None:
        """Two directory entries for the same data: a bomb that needs no high ratio."""
        data = bytearray(path.read_bytes())
        second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
        struct.pack_into("<L", data, second + 42, 0)
        path.write_bytes(data)

        assert self.refusal(path) == (
            "the files in `z.zip` overlap, so it is damaged or built to explode: download it again"
        )

    def test_a_member_that_quotes_the_next(self, path: Path) -> None:
        """Its data reaches into the next member."""
        data = bytearray(path.read_bytes())
        entry = data.index(b"PK\1\2")
        struct.pack_into("<L", data, entry + 20, member_of(path, "a.json").packed + 20)
        path.write_bytes(data)

        assert self.refusal(path) == (
            "the files in `z.zip` overlap, so it is damaged or built to explode: download it again"
        )

    def test_too_many_members(self, path: Path) -> None:
        assert self.refusal(path, limits=Limits(max_members=1)) == (
            "`z.zip` names 2 files, more than any export does (1): check where it comes from"
        )

    def test_two_directories(self, path: Path) -> None:
        """A second, empty one in the comment of the first, which the standard library takes for the real one."""
        data = bytearray(path.read_bytes())
        fake = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
        struct.pack_into("<H", data, len(data) - 2, len(fake))
        path.write_bytes(bytes(data) + fake)
        assert zipfile.ZipFile(path).namelist() == []

        assert self.refusal(path) == "`z.zip` has two directories, so it was tampered with: download it again"

    def test_another_name_in_the_local_header(self, path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(b"a.json", b"x.json", 1))

        assert self.refusal(path) == (
            "`a.json` in `z.zip` is described in two ways, so the zip was tampered with: download it again"
        )

    def test_a_part_of_a_split_zip(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        struct.pack_into("<2H", data, len(data) - 18, 1, 1)
        path.write_bytes(data)

        assert self.refusal(path) == "`z.zip` is one part of a split zip: join the parts first"

    def test_a_damaged_directory(self, path: Path) -> None:
        data = path.read_bytes()
        second = data.rindex(b"PK\1\2")
        path.write_bytes(data[:second] + b"XXXX" + data[second + 4 :])

        assert self.refusal(path) == "the directory of `z.zip` is damaged: download it again"

    def test_nothing_but_its_own_error_comes_of_any_damage(self, path: Path) -> None:
        """Any byte may be anything."""
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            try:
                container = Zip(path, "z.zip")
                for member in container.members:
                    b"".join(container.blocks(member))
            except InputError as error:
                assert "`z.zip`" in str(error)


class TestProblems:
    """What must not be read is said in the member; only who needs it has to care."""

    @pytest.mark.parametrize(
        "name", ["../a.json", "x/../a.json", "/a.json", "C:a.json", "x\\a.json", "a.json\0.txt", "..\\a.json"]
    )
    def test_names_that_point_elsewhere(self, name: str, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"x" * len(name): b"content"})
        path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))

        (member,) = Zip(path, "z.zip").members

        assert member.problem == "its name points out of the export"

    def test_encrypted(self, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"a.json": b"content"})
        data = bytearray(path.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(data)

        assert member_of(path, "a.json").problem == (
            "it is encrypted; unpack the zip with its password and give the folder"
        )

    def test_packed_by_an_unknown_method(self, tmp_path: Path) -> None:
        path = write(tmp_path / "z.zip", {"a.json": b"content"}, zipfile.ZIP_BZIP2)

        assert member_of(path, "a.json").problem == (
            "it is packed by method 12; unpack the zip with another program and give the folder"
        )

    def test_links(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            info = zipfile.ZipInfo("a.json")
            info.create_system = 3
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")

        assert member_of(tmp_path / "z.zip", "a.json").problem == "it is a link or a special file"
