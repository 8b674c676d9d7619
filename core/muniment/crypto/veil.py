"""How is something named where nobody may learn what it is?"""

import hashlib
import hmac

from attrs import field, frozen


@frozen(repr=False)
class Veil:
    """Gives names that are the same for the same text in one archive, and tell nothing without its key.

    Keys of conversations, digests of content and names of objects stand in manifests and in local
    state, outside of what is encrypted.  A plain digest there could be compared with that of a guessed
    text; HMAC-SHA-256 under a key of the archive cannot.
    """

    _key: bytes = field(alias="key")

    def name(self, kind: str, text: str) -> str:
        """Return 64 hex digits for ``text``; the same text of another ``kind`` has others."""
        return self.name_of_bytes(kind, text.encode("utf-8", "surrogatepass"))

    def name_of_bytes(self, kind: str, data: bytes) -> str:
        return hmac.digest(self._key, kind.encode() + b"\0" + data, hashlib.sha256).hex()
