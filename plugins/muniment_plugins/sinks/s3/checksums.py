"""Which checksums go with an object, and does what came back match?

SHA-256 of an object in parts is composite (the digest of its parts' digests); the two CRCs are of the
whole object.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from attrs import frozen

from muniment.errors import ConfigError, FatalError

ChecksumName = Literal["sha256", "crc32c", "crc64nvme"]

PART_BYTES = "muniment-part-bytes"
"""The metadata that says how an object was cut, without which a composite checksum says nothing."""


class Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


@frozen
class Checksum:
    """A kind of checksum; ``field`` is its name in S3's parameters and answers."""

    field: str
    new: Callable[[], Hasher]
    composite: bool

    @property
    def algorithm(self) -> str:
        return self.field.removeprefix("Checksum")

    @property
    def begin(self) -> dict[str, Any]:
        """What a multipart upload begins with."""
        return {"ChecksumAlgorithm": self.algorithm, "ChecksumType": "COMPOSITE" if self.composite else "FULL_OBJECT"}

    def given(self, value: str) -> dict[str, Any]:
        """Return the parameter that says the checksum of the bytes of a call."""
        return {self.field: value}

    def end(self, value: str) -> dict[str, Any]:
        """Return what a multipart upload ends with, given the checksum of the whole object."""
        return {} if self.composite else {self.field: value, "ChecksumType": "FULL_OBJECT"}

    def of(self, data: bytes) -> str:
        """Return the checksum of ``data`` as S3 writes it: base64."""
        hasher = self.new()
        hasher.update(data)
        return encoded(hasher)

    def of_parts(self, checksums: list[str]) -> str:
        """Return the composite checksum over those of parts."""
        digest = hashlib.sha256(b"".join(map(base64.b64decode, checksums))).digest()
        return f"{base64.b64encode(digest).decode()}-{len(checksums)}"


def encoded(hasher: Hasher) -> str:
    return base64.b64encode(hasher.digest()).decode()


def checksum(name: str) -> Checksum:
    """Return the checksum of that name.

    Raises:
        ConfigError: nothing that is installed can compute it.
    """
    if name == "sha256":
        return Checksum("ChecksumSHA256", hashlib.sha256, composite=True)
    new = _crc32c() if name == "crc32c" else _crc64nvme()
    if new is None:
        raise ConfigError(
            f"`checksum: {name}` needs the package awscrt; run `pip install 'boto3[crt]'` or use `checksum: sha256`"
        )
    return Checksum(f"Checksum{name.upper()}", new, composite=False)


def verify(place: str, name: str, said: Mapping[str, Any], field: str, expected: str) -> None:
    """Compare what a store says that it has stored; one that says nothing has computed nothing.

    Raises:
        FatalError: it has stored something else.
    """
    found = said.get(field)
    if found and found != expected:
        raise FatalError(f"{place} has stored `{name}` damaged: its {field} is not that of what was sent")


class Check:
    """Compares a stream with the checksum that came with it; compares nothing where none fits."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._hasher: Hasher | None = None
        self._expected = ""
        self._part_bytes = 0
        self._parts: list[str] = []
        self._room = 0
        self._kind: Checksum | None = None
        for name in ("sha256", "crc64nvme", "crc32c"):
            expected = str(answer.get(f"Checksum{name.upper()}") or "")
            if expected and self._begin(name, expected, answer.get("Metadata", {}).get(PART_BYTES, "")):
                return

    def update(self, data: bytes) -> None:
        if self._hasher is None or self._kind is None:
            return
        if not self._part_bytes:
            self._hasher.update(data)
            return
        view = memoryview(data)
        while view:
            if not self._room:
                self._end_part()
            some = view[: self._room]
            self._hasher.update(some)  # type: ignore[arg-type]
            self._room -= len(some)
            view = view[len(some) :]

    def matches(self) -> bool:
        """Say whether all that came is what was stored."""
        if self._hasher is None or self._kind is None:
            return True
        if not self._part_bytes:
            return encoded(self._hasher) == self._expected
        return self._kind.of_parts([*self._parts, encoded(self._hasher)]) == self._expected

    def _begin(self, name: str, expected: str, part_bytes: str) -> bool:
        composite = "-" in expected
        if composite and not (name == "sha256" and part_bytes.isdigit() and int(part_bytes)):
            return False
        try:
            self._kind = checksum(name)
        except ConfigError:
            return False
        self._hasher, self._expected = self._kind.new(), expected
        self._part_bytes = self._room = int(part_bytes) if composite else 0
        return True

    def _end_part(self) -> None:
        assert self._hasher is not None and self._kind is not None
        self._parts.append(encoded(self._hasher))
        self._hasher, self._room = self._kind.new(), self._part_bytes


class _Crt:
    """A CRC of awscrt, which are functions over a running value of ``size`` bytes."""

    def __init__(self, function: Callable[[bytes, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _crc32c() -> Callable[[], Hasher] | None:
    try:
        import google_crc32c
    except ImportError:
        pass
    else:
        if google_crc32c.implementation == "c":
            made: Callable[[], Hasher] = google_crc32c.Checksum
            return made
    try:
        from awscrt import checksums  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return lambda: _Crt(checksums.crc32c, 4)


def _crc64nvme() -> Callable[[], Hasher] | None:
    try:
        from awscrt import checksums  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return lambda: _Crt(checksums.crc64nvme, 8)
