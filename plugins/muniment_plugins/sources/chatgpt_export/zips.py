"""What is in a zip, and can it be trusted?

The standard library reads overlapping entries, cuts names at NUL and takes a second directory in the
comment for the real one; so the directory is read here (APPNOTE 6.3.10), strictly: what two programs
could understand in two ways is refused.  Nothing is ever extracted to disk: members are read by name.
"""

import bisect
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from attrs import evolve, frozen

from muniment import InputError
from muniment_plugins.sources.chatgpt_export.container import (
    DEFAULT_LIMITS,
    Container,
    Limits,
    Member,
    name_problem,
    shown,
)
from muniment_plugins.sources.chatgpt_export.inflate import DEFLATED, STORED, crc32, inflate

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_SLACK_BYTES = 10_000_000
_MAX_DIRECTORY_BYTES = 24 << 20  # names and numbers of 200,000 files; what is made of it stays below 150 MB
_MAX_END_BYTES = _END.size + 0xFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the data, strongly, or the directory
_STREAMED, _PATCHED, _UTF8 = 0x8, 0x20, 0x800
_REPARSE_POINT = 0x400
_NONE16, _NONE32 = 0xFFFF, 0xFFFFFFFF
"""In place of a number: it stands in a zip64 record."""

_BIG_NUMBERS, _UNICODE_NAME = 0x0001, 0x7075  # kinds of extra fields
_AGAIN = "download it again"


class Zip(Container):
    """An export as it was downloaded."""

    def __init__(self, path: Path, label: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = path
        self.label = label
        self.limits = limits
        with path.open("rb") as file:
            self.members = tuple(_members(file, label, limits))

    def blocks(self, member: Member, start: int = 0) -> Iterator[bytes]:
        what = f"`{shown(member.stored_name)}` in `{self.label}`"
        if _explodes(member.size, member.packed, self.limits):
            raise InputError(f"{what} claims to inflate to {member.size} bytes from {member.packed}, which no "
                             "export does; if you trust the file, raise `max_ratio`")  # fmt: skip
        file = self.path.open("rb")
        try:
            _seek_data(file, member, what)
        except BaseException:
            file.close()
            raise
        blocks = inflate(file, member.packed, member.method, member.size, member.crc or 0, what)
        return _behind(blocks, start) if start else blocks


def _explodes(size: int, packed: int, limits: Limits) -> bool:
    return size > packed * limits.max_ratio + _SLACK_BYTES


# --- the directory --------------------------------------------------------------------------------


@frozen
class _Directory:
    """Where the directory stands.  ``end_record`` is where the record at the end does that names it;
    ``shift`` is how many bytes stand before the zip."""

    entries: int
    start: int
    size: int
    shift: int
    end_record: int


def _members(file: BinaryIO, label: str, limits: Limits) -> Iterator[Member]:
    directory, rivals = _find_directory(file, label)
    if directory.entries > limits.max_members:
        raise _too_many(directory.entries, label, limits)
    if directory.size > _MAX_DIRECTORY_BYTES:
        raise InputError(f"the directory of `{label}` is larger than any export's: check where it comes from")
    file.seek(directory.start)
    members = list(_parse(file.read(directory.size), directory, label, limits))
    _set_bounds(members, directory, label)
    _refuse_second_zip(file, members, directory, rivals, label)
    sound = [m for m in members if not _explodes(m.size, m.packed, limits)]
    size, packed = sum(m.size for m in sound), sum(m.packed for m in sound)
    if _explodes(size, packed, limits):
        raise InputError(f"the files in `{label}` claim to inflate to {size} bytes from {packed}, which no "
                         "export does; if you trust the file, raise `max_ratio`")  # fmt: skip
    return (m for m in members if not m.stored_name.endswith("/"))


def _set_bounds(members: list[Member], directory: _Directory, label: str) -> None:
    """Give each member the place where the next one starts; its data must end before."""
    limit = directory.start
    for i in sorted(range(len(members)), key=lambda i: members[i].offset, reverse=True):
        member = members[i]
        if member.offset < 0 or member.offset + _LOCAL.size + len(member.raw_name) + member.packed > limit:
            raise InputError(f"the files in `{label}` overlap, so it is damaged or built to explode: {_AGAIN}")
        members[i] = evolve(member, limit=limit)
        limit = member.offset


def _refuse_second_zip(
    file: BinaryIO, members: Sequence[Member], directory: _Directory, rivals: Iterable[int], label: str
) -> None:
    """Refuse two zips in one file: other programs may find the other one.

    A zip that is a member's content, stored as it is, has an end record too; that one is no rival.
    """
    starts = sorted((m.offset, m.limit) for m in members)
    for place in rivals:
        at = bisect.bisect_right(starts, (place, 0)) - 1
        inside = at >= 0 and starts[at][0] + _LOCAL.size <= place < starts[at][1]
        if not inside and _is_end_record(file, place):
            raise _two_directories(label)
    file.seek(0)
    if starts and starts[0][0] > 0 and file.read(4) == b"PK\3\4":
        raise InputError(f"`{label}` holds files that its directory does not name, so it was tampered with: {_AGAIN}")


def _is_end_record(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    try:
        return _directory_at(file, at, file.read(_END.size), "") is not None
    except InputError:
        return False


def _find_directory(file: BinaryIO, label: str) -> tuple[_Directory, list[int]]:
    """Return the directory, and the places before its end record of what might be another one."""
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _MAX_END_BYTES)
    file.seek(tail_start)
    tail = file.read(_MAX_END_BYTES)
    records = [m.start() for m in re.finditer(b"PK\5\6", tail) if m.start() + _END.size <= len(tail)]
    exact: list[_Directory] = []
    found: _Directory | None = None
    for at in reversed(records):
        comment = _END.unpack_from(tail, at)[-1]
        if at + _END.size + comment == len(tail):
            exact += filter(None, [_directory_at(file, tail_start + at, tail[at : at + _END.size], label)])
    for at in reversed(records if not exact else ()):
        found = _directory_at(file, tail_start + at, tail[at : at + _END.size], label)
        if found is not None:
            break
    if len(exact) > 1:
        raise _two_directories(label)
    found = exact[0] if exact else found
    if found is None:
        raise InputError(f"`{label}` is not a complete zip: the directory at its end is missing; {_AGAIN}")
    if any(tail_start + at > found.end_record for at in records):
        raise _two_directories(label)
    return found, [tail_start + at for at in records if tail_start + at < found.end_record]


def _directory_at(file: BinaryIO, at: int, record: bytes, label: str) -> _Directory | None:
    """Return the directory that the end record at ``at`` describes; None if there is none.

    Raises:
        InputError: it describes it in two ways, or as being in another file.
    """
    _, *numbers, _ = _END.unpack(record)
    end = at
    if (big := _end64(file, at, label)) is not None:
        end, large = big
        none = (_NONE16, _NONE16, _NONE16, _NONE16, _NONE32, _NONE32)
        if any(n not in (m, b) for n, m, b in zip(numbers, none, large, strict=True)):
            raise InputError(f"the directory of `{label}` is described in two ways, so it was tampered with: {_AGAIN}")
        numbers = large
    disk, start_disk, entries_here, entries, size, start = numbers
    if disk or start_disk or entries_here != entries:
        raise InputError(f"`{label}` is one part of a split zip: join the parts first")
    shift = end - size - start
    if shift < 0:
        return None
    if entries or size:
        file.seek(start + shift)
        if file.read(4) != b"PK\1\2":
            return None
    return _Directory(entries=entries, start=start + shift, size=size, shift=shift, end_record=at)


def _end64(file: BinaryIO, at: int, label: str) -> tuple[int, list[int]] | None:
    """Return where the zip64 record stands that belongs to the end record at ``at``, and its numbers."""
    if at < _END64_LOCATOR.size + _END64.size:
        return None
    locator = at - _END64_LOCATOR.size
    file.seek(locator)
    magic, disk, where, disks = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if magic != b"PK\6\7":
        return None
    if disk or disks > 1:
        raise InputError(f"`{label}` is one part of a split zip: join the parts first")
    # A zip behind other bytes names a place that is too early; the record mostly stands right before the locator.
    found: dict[int, list[int]] = {}
    for place in (where, locator - _END64.size):
        if place + _END64.size <= locator:
            file.seek(place)
            magic, size, _, _, *numbers = _END64.unpack(file.read(_END64.size))
            if magic == b"PK\6\6":
                found[place] = numbers
                if place + 12 + size != locator:
                    raise _damaged(label)
    if len(found) != 1:
        raise _damaged(label)
    return found.popitem()


def _parse(data: bytes, directory: _Directory, label: str, limits: Limits) -> Iterator[Member]:
    at = count = 0
    while at < len(data):
        if data[at : at + 4] != b"PK\1\2" or at + _ENTRY.size > len(data):
            raise _damaged(label)
        (_, _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes, comment_bytes,
         disk, _, attributes, offset) = _ENTRY.unpack_from(data, at)  # fmt: skip
        at += _ENTRY.size
        raw_name = data[at : at + name_bytes]
        extra = data[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        count += 1
        if at > len(data):
            raise _damaged(label)
        if count > limits.max_members:
            raise _too_many(count, label, limits)
        size, packed, offset, disk = _big_numbers(extra, (size, packed, offset), disk, label)
        if disk:
            raise InputError(f"`{label}` is one part of a split zip: join the parts first")
        name, problem = _name(raw_name, flags, extra)
        yield Member(
            name=name,
            size=size,
            crc=crc,
            stored_name=name,
            problem=problem or _problem(name, flags, method, attributes),
            packed=packed,
            offset=offset + directory.shift,
            method=method,
            raw_name=raw_name,
        )
    # Without zip64 records some programs write the lower 16 bits of the number.
    if count != directory.entries and (directory.entries > _NONE16 or count & _NONE16 != directory.entries):
        raise _damaged(label)


def _big_numbers(extra: bytes, small: tuple[int, int, int], disk: int, label: str) -> tuple[int, int, int, int]:
    """Return size, packed size, offset and disk; those that do not fit stand in an extra field."""
    if _NONE32 not in small and disk != _NONE16:
        return *small, disk
    values = _extra(extra, _BIG_NUMBERS)
    numbers: list[int] = []
    for number in small:
        if number == _NONE32:
            if len(values) < 8:
                raise _damaged(label)
            number, values = int.from_bytes(values[:8], "little"), values[8:]
        numbers.append(number)
    if disk == _NONE16:
        if len(values) < 4:
            raise _damaged(label)
        disk = int.from_bytes(values[:4], "little")
    return numbers[0], numbers[1], numbers[2], disk


def _extra(extra: bytes, wanted: int) -> bytes:
    """Return the first extra field of a kind; empty if there is none."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _name(raw_name: bytes, flags: int, extra: bytes) -> tuple[str, str]:
    """Return a member's name, and what is wrong where it has two."""
    name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    second = _extra(extra, _UNICODE_NAME)
    if len(second) < 5 or second[0] != 1 or int.from_bytes(second[1:5], "little") != crc32(raw_name):
        return name, ""
    unicode_name = second[5:].decode("utf-8", "replace")
    if unicode_name == name:
        return name, ""
    # ASCII needs no second name.
    return (name, "it has two names") if raw_name.isascii() else (unicode_name, name_problem(name))


def _too_many(count: int, label: str, limits: Limits) -> InputError:
    return InputError(f"`{label}` names {count} files, more than any export does "
                      f"({limits.max_members}): check where it comes from")  # fmt: skip


def _damaged(label: str) -> InputError:
    return InputError(f"the directory of `{label}` is damaged: {_AGAIN}")


def _two_directories(label: str) -> InputError:
    return InputError(f"`{label}` has two directories, so it was tampered with: {_AGAIN}")


def _problem(name: str, flags: int, method: int, attributes: int) -> str:
    if problem := name_problem(name):
        return problem
    if flags & _ENCRYPTED:
        return "it is encrypted; unpack the zip with its password and give the folder"
    if method not in (STORED, DEFLATED) or flags & _PATCHED:
        return f"it is packed by method {method}; unpack the zip with another program and give the folder"
    if stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG) or attributes & _REPARSE_POINT:
        return "it is a link or a special file"
    return ""


# --- a member's data ------------------------------------------------------------------------------


def _seek_data(file: BinaryIO, member: Member, what: str) -> None:
    """Move to the first byte of a member's data; what stands around it must agree with the directory."""
    file.seek(member.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise InputError(f"{what} is not where the zip's directory says: {_AGAIN}")
    _, _, flags, method, _, _, *numbers, name_bytes, extra_bytes = _LOCAL.unpack(header)
    same = file.read(name_bytes) == member.raw_name and method == member.method and not flags & _ENCRYPTED
    extra = file.read(extra_bytes)
    data = file.tell()
    if data + member.packed > member.limit:
        raise InputError(f"{what} overlaps the next file, so the zip is damaged or built to explode: {_AGAIN}")
    if not same or not _agrees(file, member, numbers, extra, bool(flags & _STREAMED)):
        raise InputError(f"{what} is described in two ways, so the zip was tampered with: {_AGAIN}")
    file.seek(data)


def _agrees(file: BinaryIO, member: Member, numbers: list[int], extra: bytes, streamed: bool) -> bool:
    """Tell whether CRC, packed and inflated size before the data, or behind it, are those of the directory."""
    crc, packed, size = numbers
    if _NONE32 in (packed, size) and len(big := _extra(extra, _BIG_NUMBERS)) >= 16:
        size, packed = struct.unpack_from("<2Q", big)
    if (crc, packed, size) == (member.crc, member.packed, member.size):
        return True
    if not streamed or crc not in (0, member.crc) or packed not in (0, _NONE32) or size not in (0, _NONE32):
        return False
    file.seek(member.packed, os.SEEK_CUR)
    behind = file.read(min(24, member.limit - file.tell()))
    for descriptor in (behind.removeprefix(b"PK\7\x08"), behind):
        for layout, mask in (("<3L", _NONE32), ("<L2Q", -1)):
            if len(descriptor) >= struct.calcsize(layout):
                stated = struct.unpack_from(layout, descriptor)
                if stated == (member.crc, member.packed & mask, member.size & mask):
                    return True
    return False


def _behind(blocks: Iterator[bytes], start: int) -> Iterator[bytes]:
    for block in blocks:
        if start < len(block):
            yield block[start:] if start > 0 else block
        start -= len(block)
