"""What could not be archived: what is kept of it, and in which form?

Where it stands, at which stage it failed and why is in every target, with the checkpoint (see
`muniment.units.Unit`).  The content is kept only where a pipeline says for whom it is encrypted: one
encrypted file for each entry, in a folder of this machine.  Inside, the first line is JSON that says what
the rest is: the bytes as the source had them, or, of a source that has none, the record as JSON.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
from attrs import frozen
from msgspec import DecodeError
from msgspec.structs import replace

from muniment.canonical import record_from_json, record_to_json
from muniment.components import Context, Reader, Replay, Source
from muniment.crypto import Encryption, Keyring, decrypt_bytes, encrypt_bytes, open_keyring
from muniment.errors import DamagedError
from muniment.model import Origin, Record, Rejected
from muniment.options import option
from muniment.state import quarantine_id
from muniment.units import Chunk, Partition

CONTENT_TYPE = "application/vnd.muniment.quarantine"
_VERSION = 1

Place = tuple[str, int, int]
"""Label, start and end of an origin: where a record stands in its partition."""


@frozen(kw_only=True)
class Quarantine:
    """What is kept of what could not be archived."""

    encryption: Encryption | None = option(
        "Keep the content of what could not be archived, encrypted for these keys.  Without it only where it"
        " stands is kept.",
        default=None,
        example={"key": "${secret:file:quarantine.key}"},
    )
    path: str | None = option(
        "The folder of the content.  Default: `quarantine` in the pipeline's own state.",
        default=None,
        is_path=True,
        example="quarantine/",
    )

    def check(self) -> Iterable[str]:
        """Return what is wrong with these options together, one sentence each."""
        if self.encryption is not None:
            yield from self.encryption.check()
            if self.encryption.per != "object":
                yield "`encryption.per` does not go with a quarantine, where each entry has a key of its own anyway"
        elif self.path is not None:
            yield "`path` is where encrypted content is kept; give `encryption`, or leave it out"


@frozen(kw_only=True)
class Keeping:
    """That content is kept, for whom and where.  Small and picklable; holds no key."""

    encryption: Encryption
    path: Path
    pipeline: str = ""


@frozen
class Content:
    """What was kept of an entry.

    ``source`` is the type and the place of its source in the pipeline file.  ``data`` are bytes of the
    source, or with ``is_record`` the record as JSON, as it was before any transform.
    """

    id: str
    source: tuple[str, str]
    partition: Partition
    origin: Origin
    data: bytes
    is_record: bool = False


class Keeper:
    """Encrypts and decrypts content in one process."""

    def __init__(self, keyring: Keyring, pipeline: str = "") -> None:
        self._keyring = keyring
        self._about = {"pipeline": pipeline}

    @classmethod
    def of(cls, keeping: Keeping, ctx: Context) -> Self:
        """Return who encrypts what a plan keeps.

        Raises:
            ConfigError: a key cannot be had.
        """
        keyring = open_keyring(keeping.encryption, attrs.evolve(ctx, path="quarantine"))
        keyring.check_recipients()
        return cls(keyring, keeping.pipeline)

    def seal(self, content: Content) -> bytes:
        """Return the bytes of the file."""
        partition, origin = content.partition, content.origin
        said = {
            "version": _VERSION,
            "id": content.id,
            "source": content.source,
            "is_record": content.is_record,
            "partition": [partition.id, partition.fingerprint, partition.label, partition.locator],
            "origin": [origin.label, origin.start, origin.end, origin.digest],
        }
        # ASCII, so that a lone surrogate in a label survives.
        head = json.dumps(said).encode("ascii")
        return encrypt_bytes(head + b"\n" + content.data, self._keyring, content_type=CONTENT_TYPE, about=self._about)

    def open(self, id: str, sealed: bytes) -> Content:  # noqa: A002 - the name of the field
        """Return what a file holds.

        Raises:
            WrongKeyError: it was encrypted for other keys.
            DamagedError: it is not what was written, or belongs to another entry.
        """
        head, _, data = decrypt_bytes(sealed, self._keyring).partition(b"\n")
        try:
            said = json.loads(head)
            if said["version"] != _VERSION or said["id"] != id:
                raise DamagedError(f"the content of entry `{id}` is another one's; restore it from a copy")
            label, start, end, digest = said["origin"]
            name, fingerprint, shown, locator = said["partition"]
            partition = Partition(name, fingerprint, shown, locator=locator)
            kind, path = said["source"]
            return Content(
                id, (kind, path), partition, Origin(label, name, start, end, digest), data, bool(said["is_record"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"the content of entry `{id}` is not what was written; restore it from a copy"
            ) from error


@frozen(kw_only=True)
class KeptSource(Source):
    """Gives records back from what was kept of them, one in each chunk, without the input."""

    replay = Replay.NONE
    inner: Source

    def open(self, ctx: Context) -> Reader:
        return self.inner.open(ctx)

    def decode(self, chunk: Chunk) -> Iterator[Record | Rejected]:
        content: Content = chunk.data
        if content.is_record:
            try:
                yield record_from_json(content.data, content.origin)
            except DecodeError as error:
                yield Rejected(content.origin, "decode", f"the record that was kept cannot be read: {error}")
        else:
            yield from self.inner.decode(self.inner.restore(content.partition, content.origin, content.data))

    def slices(self, chunk: Chunk) -> Iterator[tuple[Origin, bytes]]:
        content: Content = chunk.data
        if not content.is_record:
            yield content.origin, content.data


def place_of(origin: Origin) -> Place:
    return origin.label, origin.start, origin.end


def in_partition(rejected: Rejected, partition: str) -> Rejected:
    """Return ``rejected`` as a target notes it: in the partition that it was read from."""
    return replace(rejected, origin=replace(rejected.origin, partition=partition))


def with_digest(rejected: Rejected, data: bytes | None) -> Rejected:
    """Return ``rejected`` with the digest of its bytes, where they are known and it has none."""
    if data is None or rejected.origin.digest:
        return rejected
    return replace(rejected, origin=replace(rejected.origin, digest=hashlib.sha256(data).hexdigest()))


def slices_of(source: Source, chunk: Chunk) -> dict[Place, bytes]:
    """Return the original bytes of what stands in a chunk, by place."""
    return {place_of(origin): data for origin, data in source.slices(chunk)}


@frozen
class Evidence:
    """The content of what is in a chunk, by place; ``are_records`` says that it is the records as JSON."""

    slices: Mapping[Place, bytes]
    are_records: bool = False

    @classmethod
    def of(cls, slices: Mapping[Place, bytes], records: Sequence[Record]) -> "Evidence":
        """Return the bytes, or of a source that has none the records."""
        if slices or not records:
            return cls(slices)
        found = {place_of(r.origin): record_to_json(r) for r in records}
        # Where two stand in one place nobody can tell whose content it is.
        shared = [place for place, n in Counter(place_of(r.origin) for r in records).items() if n > 1]
        for place in shared:
            del found[place]
        return cls(found, are_records=True)

    def content(self, rejected: Rejected, source: tuple[str, str], partition: Partition) -> Content | None:
        """Return what is to be kept of a rejected record; None where there is nothing."""
        data = self.slices.get(place_of(rejected.origin))
        if data is None:
            return None
        origin = self.described(rejected).origin
        return Content(
            quarantine_id(in_partition(rejected, partition.id)),
            source,
            partition,
            origin,
            bytes(data),
            self.are_records,
        )

    def described(self, rejected: Rejected) -> Rejected:
        """Return ``rejected`` with the digest of its bytes; that of a record's JSON would tell nobody anything."""
        return rejected if self.are_records else with_digest(rejected, self.slices.get(place_of(rejected.origin)))


def as_rejected(entry: Mapping[str, Any]) -> Rejected:
    """Return what a target's entry was made of."""
    origin = Origin(
        str(entry.get("label", "")), str(entry["partition"]), int(entry.get("start") or 0),
        int(entry.get("end") or 0), str(entry.get("digest", "")),
    )  # fmt: skip
    return Rejected(origin, str(entry["stage"]), str(entry["reason"]), str(entry.get("record", "")))


def id_of(entry: Mapping[str, Any]) -> str:
    """Return the id of a target's entry; empty where it has none, so that nobody knows its content."""
    return str(entry.get("id") or "")
