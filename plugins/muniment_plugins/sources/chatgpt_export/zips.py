"""What is in a zip, and can it be trusted?

The standard library reads overlapping entries, cuts names at NUL and takes a second directory in the
comment for the real one; so the directory is read here (APPNOTE 6.3.10), strictly.  Nothing is ever
extracted to disk: members are read by name.
"""

import os
import stat
import struct
from collections.abc import Iterator
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
from muniment_plugins.sources.chatgpt_export.inflate import DEFLATED, STORED, inflate

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_SLACK_BYTES = 10_000_000
_MAX_DIRECTORY_BYTES = 256 << 20
_ENCRYPTED, _UTF8 = 0x1, 0x800
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
        if member.size > member.packed * self.limits.max_ratio + _SLACK_BYTES:
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


@frozen
class _Directory:
    entries: int
    start: int
    size: int
    shift: int


def _members(file: BinaryIO, label: str, limits: Limits) -> Iterator[Member]:
    directory = _find_directory(file, label)
    if directory.entries > limits.max_members:
        raise InputError(f"`{label}` names {directory.entries} files, more than any export does "
                         f"({limits.max_members}): check where it comes from")  # fmt: skip
    if directory.size > _MAX_DIRECTORY_BYTES:
        raise InputError(f"the directory of `{label}` is larger than any export's: check where it comes from")
    file.seek(directory.start)
    members = list(_parse(file.read(directory.size), directory, label))
    order = sorted(range(len(members)), key=lambda i: members[i].offset)
    limit = directory.start
    for i in reversed(order):
        member = members[i]
        if member.offset < 0 or member.offset + _LOCAL.size + len(member.raw_name) + member.packed > limit:
            raise InputError(f"the files in `{label}` overlap, so it is damaged or built to explode: {_AGAIN}")
        members[i] = evolve(member, limit=limit)
        limit = member.offset
    return (m for m in members if not m.stored_name.endswith("/"))


def _find_directory(file: BinaryIO, label: str) -> _Directory:
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _END.size - 0xFFFF)
    file.seek(tail_start)
    tail = file.read()
    exact: list[_Directory] = []
    lenient: list[_Directory] = []
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if at + _END.size <= len(tail):
            comment = _END.unpack_from(tail, at)[-1]
            found = _directory_at(file, tail_start + at, tail[at : at + _END.size], label)
            if found is not None:
                (exact if at + _END.size + comment == len(tail) else lenient).append(found)
        at = tail.rfind(b"PK\5\6", 0, at)
    if len(exact) > 1:
        raise InputError(f"`{label}` has two directories, so it was tampered with: {_AGAIN}")
    if not (exact or lenient):
        raise InputError(f"`{label}` is not a complete zip: the directory at its end is missing; {_AGAIN}")
    return (exact or lenient)[0]


def _directory_at(file: BinaryIO, at: int, record: bytes, label: str) -> _Directory | None:
    """Return the directory that the end record at ``at`` describes; None if there is none."""
    _, disk, start_disk, _, entries, size, start, _ = _END.unpack(record)
    end = at
    if entries == 0xFFFF or size == 0xFFFFFFFF or start == 0xFFFFFFFF:
        big = _end64(file, at)
        if big is not None:
            end, disk, start_disk, entries, size, start = big
    if disk or start_disk:
        raise InputError(f"`{label}` is one part of a split zip: join the parts first")
    shift = end - size - start
    if shift < 0:
        return None
    if entries:
        file.seek(start + shift)
        if file.read(4) != b"PK\1\2":
            return None
    return _Directory(entries=entries, start=start + shift, size=size, shift=shift)


def _end64(file: BinaryIO, at: int) -> tuple[int, int, int, int, int, int] | None:
    if at < _END64_LOCATOR.size + _END64.size:
        return None
    file.seek(at - _END64_LOCATOR.size)
    magic, _, where, _ = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if magic != b"PK\6\7":
        return None
    # A zip behind other bytes names a place that is too early; the record mostly stands right before the locator.
    for place in (where, at - _END64_LOCATOR.size - _END64.size):
        if place + _END64.size > at:
            continue
        file.seek(place)
        magic, _, _, _, disk, start_disk, _, entries, size, start = _END64.unpack(file.read(_END64.size))
        if magic == b"PK\6\6":
            return place, disk, start_disk, entries, size, start
    return None


def _parse(data: bytes, directory: _Directory, label: str) -> Iterator[Member]:
    at = 0
    for _ in range(directory.entries):
        if data[at : at + 4] != b"PK\1\2" or at + _ENTRY.size > len(data):
            raise InputError(f"the directory of `{label}` is damaged: {_AGAIN}")
        (_, made_by, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes, comment_bytes,
         _, _, attributes, offset) = _ENTRY.unpack_from(data, at)  # fmt: skip
        at += _ENTRY.size
        raw_name = data[at : at + name_bytes]
        extra = data[at + name_bytes : at + name_bytes + extra_bytes]
        at += name_bytes + extra_bytes + comment_bytes
        if 0xFFFFFFFF in (size, packed, offset):
            size, packed, offset = _big_numbers(extra, size, packed, offset, label)
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        mode = attributes >> 16 if made_by >> 8 == 3 else 0
        yield Member(
            name=name,
            size=size,
            crc=crc,
            stored_name=name,
            problem=_problem(name, flags, method, mode),
            packed=packed,
            offset=offset + directory.shift,
            method=method,
            raw_name=raw_name,
        )


def _big_numbers(extra: bytes, size: int, packed: int, offset: int, label: str) -> tuple[int, int, int]:
    numbers = [size, packed, offset]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            values = struct.iter_unpack("<Q", extra[at : at + length // 8 * 8])
            try:
                return tuple(next(values)[0] if n == 0xFFFFFFFF else n for n in numbers)  # type: ignore[return-value]
            except (StopIteration, RuntimeError):
                break
        at += length
    raise InputError(f"the directory of `{label}` is damaged: {_AGAIN}")


def _problem(name: str, flags: int, method: int, mode: int) -> str:
    if problem := name_problem(name):
        return problem
    if flags & _ENCRYPTED:
        return "it is encrypted; unpack the zip with its password and give the folder"
    if method not in (STORED, DEFLATED):
        return f"it is packed by method {method}; unpack the zip with another program and give the folder"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    return ""


def _seek_data(file: BinaryIO, member: Member, what: str) -> None:
    """Move to the first byte of a member's data; its local header must agree with the directory."""
    file.seek(member.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise InputError(f"{what} is not where the zip's directory says: {_AGAIN}")
    _, _, flags, method, _, _, _, _, _, name_bytes, extra_bytes = _LOCAL.unpack(header)
    if file.read(name_bytes) != member.raw_name or method != member.method or flags & _ENCRYPTED:
        raise InputError(f"{what} is described in two ways, so the zip was tampered with: {_AGAIN}")
    data = file.seek(extra_bytes, os.SEEK_CUR)
    if data + member.packed > member.limit:
        raise InputError(f"{what} overlaps the next file, so the zip is damaged or built to explode: {_AGAIN}")


def _behind(blocks: Iterator[bytes], start: int) -> Iterator[bytes]:
    for block in blocks:
        if start < len(block):
            yield block[start:] if start > 0 else block
        start -= len(block)
