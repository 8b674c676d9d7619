"""What is said of an object when it is made, and what is known of one that is there?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from muniment.model import JSON
from muniment_plugins.sinks._marked import MARK

OWN = "/.muniment/"
"""Where manifests stand, below the prefix."""

_CONTENT_TYPES = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "gz": "application/gzip",
    "zst": "application/zstd",
    "xz": "application/x-xz",
    "parquet": "application/vnd.apache.parquet",
}


@frozen(kw_only=True)
class ObjectOptions:
    """What every new object is given."""

    storage_class: str | None = None
    kms_key_name: str | None = None
    retention_mode: str = "Unlocked"
    retain_until: datetime | None = None
    temporary_hold: bool = False
    event_based_hold: bool = False
    metadata: Mapping[str, str] = field(factory=dict)

    def resource(self, name: str, mark: str) -> dict[str, JSON]:
        """Return the object resource of the JSON API."""
        made: dict[str, JSON] = {
            "name": name,
            "contentType": content_type(name),
            "metadata": {**self.metadata, MARK: mark},
        }
        # Manifests are read by every run, which a cold class charges for.
        if self.storage_class and OWN not in f"/{name}":
            made["storageClass"] = self.storage_class
        if self.retain_until is not None:
            until = self.retain_until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            made["retention"] = {"mode": self.retention_mode, "retainUntilTime": until}
        if self.temporary_hold:
            made["temporaryHold"] = True
        if self.event_based_hold:
            made["eventBasedHold"] = True
        return made


@frozen
class Found:
    """An object that is in the bucket: ``version`` is its generation, ``crc32c`` in Base64."""

    version: str
    size: int
    crc32c: str
    mark: str

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> "Found":
        mark = (resource.get("metadata") or {}).get(MARK, "")
        return cls(
            str(resource.get("generation") or ""), int(resource.get("size") or 0), resource.get("crc32c", ""), mark
        )


def content_type(name: str) -> str:
    """Return the media type that the ending of a name says.

    The content encoding is never set: with it the store would decompress what it serves, and no
    checksum would fit.
    """
    return _CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
