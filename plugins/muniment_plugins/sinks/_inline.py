"""How does a small object wait for its publication?  In its token, so that it costs one request.

The order that makes a commit safe does not need it to be in the store before: until it is published
no manifest names it, and a run that is killed in between writes it again.
"""

import base64
import sys
from collections.abc import Callable, Iterable

MAX_BYTES = 256 * 2**10
"""Up to this size an object travels in its token."""


def to_text(pieces: Iterable[bytes]) -> str:
    """Return bytes as ASCII text; conversations become about a quarter as long."""
    compress, _ = _zstd()
    return base64.b64encode(compress(b"".join(pieces))).decode("ascii")


def from_text(text: str) -> bytes:
    """Return the bytes that `to_text` was given."""
    _, decompress = _zstd()
    return decompress(base64.b64decode(text))


def _zstd() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return (lambda data: zstd.compress(data, 1)), zstd.decompress
