"""How do pieces become one object: joined, compressed, counted and hashed on the way?"""

import hashlib
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, get_args

from muniment.components import Format
from muniment.errors import FatalError, TransientError
from muniment.storage import Staged

if TYPE_CHECKING:
    from muniment.packed import PackedBytes

Compression = Literal["none", "gzip", "zstd", "xz"]

SUFFIXES: dict[str, str] = {"none": "", "gzip": ".gz", "zstd": ".zst", "xz": ".xz"}

_ZSTD_LEVEL = 3
_XZ_PRESET = 2  # 17 MB while writing; the default, 6, takes 94 MB for a tenth less
_ZSTD_JOB_BYTES = 2 * 2**20
_GZIP = 31  # zlib's number for a gzip header; it writes no time, so equal input gives equal bytes


class ByteStream(Protocol):
    """Something that takes bytes to an end."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None:
        """Write what is held back, then close what lies below."""


Wrapper = Callable[[ByteStream], ByteStream]
"""Puts a stream in front of a stream: compression, encryption."""


MEGABYTES: dict[Compression, int] = {"none": 0, "gzip": 1, "zstd": 4, "xz": 17}
"""What an object costs in memory while it is compressed, without a thread."""


def compressing(compression: Compression, *, threaded: bool = True) -> Wrapper:
    """Return what compresses a stream.  Equal writes give equal bytes.

    ``threaded`` compression goes on beside the caller, which pays off from a megabyte on.
    """
    if compression == "none":
        return lambda stream: stream
    if compression == "gzip":
        return lambda stream: _Compressing(stream, _gzip())
    if compression == "xz":
        return lambda stream: _Compressing(stream, _xz())
    return lambda stream: _Compressing(stream, _zstd(threaded=threaded))


def decompressing(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the plain bytes of an object, by the ending of its name.

    Its reads raise EOFError, OSError, or the error of zstd or xz where the bytes are damaged.
    """
    if name.endswith(SUFFIXES["gzip"]):
        return _open_gzip(stream)
    if name.endswith(SUFFIXES["zstd"]):
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        opened: Any = zstd.open(stream, "rb")
        return opened  # type: ignore[no-any-return]
    if name.endswith(SUFFIXES["xz"]):
        import lzma

        unpacked: Any = lzma.LZMAFile(stream)  # noqa: SIM115 - the caller closes it
        return unpacked  # type: ignore[no-any-return]
    return stream


def compression_of(name: str) -> Compression:
    """Return the compression that the ending of a name says."""
    return next((c for c in get_args(Compression) if SUFFIXES[c] and name.endswith(SUFFIXES[c])), "none")


def compressed(data: bytes, compression: Compression) -> bytes:
    """Return ``data`` as a compressed object of its own."""
    if compression == "none":
        return data
    buffer = _Buffer()
    stream = compressing(compression, threaded=False)(buffer)
    stream.write(data)
    stream.close()
    return buffer.getvalue()


def document(form: Format, piece: bytes) -> bytes:
    """Return a whole document that holds one piece."""
    return form.header() + piece + form.footer()


class ObjectStream:
    """A staged object that is written through ``wrappers``, the first one innermost to the data.

    Raises:
        FatalError: the storage failed in the middle, be it for the moment.
    """

    def __init__(self, staged: Staged, wrappers: Sequence[Wrapper] = ()) -> None:
        self.staged = staged
        self._counted = _Counted(staged)
        self._stream: ByteStream = self._counted
        for wrap in reversed(wrappers):
            self._stream = wrap(self._stream)
        self._closed = self._broken = False

    @property
    def token(self) -> str:
        """What publishes the object; final after `close` and `Storage.sync`."""
        return self.staged.token

    @property
    def size(self) -> int:
        """Bytes of the finished object; before `close`, those that were written so far."""
        return self._counted.size

    @property
    def sha256(self) -> str:
        """Digest of the finished object's bytes, 64 hex digits."""
        return self._counted.hash.hexdigest()

    def write(self, data: bytes) -> None:
        with self._once():
            self._stream.write(data)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with self._once():
                self._stream.close()
            # A compressor's memory is not kept until the object is published.
            self._stream = self._counted

    def discard(self) -> None:
        self.staged.discard()

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Make an error final: what a compressor has swallowed cannot be given to it again."""
        if self._broken:
            raise FatalError("an object was not written to its end; run the same command again to resume")
        try:
            yield
        except TransientError as error:
            self._broken = True
            raise FatalError(f"{error}; run the same command again to resume") from error
        except BaseException:
            self._broken = True
            raise


class Part:
    """An object of many pieces that is written as they come: header, pieces, footer."""

    def __init__(self, stream: ObjectStream, form: Format) -> None:
        self.stream = stream
        self.pieces = 0
        self._form = form
        self._separator = form.separator()
        self._pending: list[bytes] = [form.header()]
        self._pending_bytes = 0
        self._closed = False

    @property
    def held(self) -> int:
        """Bytes that wait in memory."""
        return self._pending_bytes

    def add(self, pieces: "Iterable[bytes | PackedBytes]") -> None:
        for piece in pieces:
            if self.pieces and self._separator:
                self._pending.append(self._separator)
            self.pieces += 1
            if not isinstance(piece, bytes):
                self.flush()
                for some in piece:
                    self.stream.write(some)
                continue
            self._pending.append(piece)
            self._pending_bytes += len(piece)
        # Few large writes: each one costs a call of the compressor, the hash and the system.
        if self._pending_bytes >= 2**20:
            self.flush()

    def close(self) -> None:
        if not self._closed:
            self._pending.append(self._form.footer())
            self.flush()
            self._closed = True
            self.stream.close()

    def flush(self) -> None:
        """Write what is held back."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        if data:
            self.stream.write(data)


class _Counted:
    def __init__(self, below: Staged) -> None:
        self.size = 0
        self.hash = hashlib.sha256()
        self._below = below

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.hash.update(data)
        self._below.write(data)

    def close(self) -> None:
        self._below.close()


class _Compressing:
    def __init__(self, below: ByteStream, compressor: Any) -> None:
        self._below = below
        self._compressor = compressor

    def write(self, data: bytes) -> None:
        some = self._compressor.compress(data)
        if some:
            self._below.write(some)

    def close(self) -> None:
        self._below.write(self._compressor.flush())
        self._below.close()


class _Buffer(io.BytesIO):
    def close(self) -> None:
        """Stay readable."""


def _zstd(*, threaded: bool) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1}
    if threaded and parameter.nb_workers.bounds()[1]:
        # The bytes depend on whether there is a thread, so there is one on every machine; small jobs
        # bound its memory.
        options |= {parameter.nb_workers: 1, parameter.job_size: _ZSTD_JOB_BYTES}
    return zstd.ZstdCompressor(options=options)


def _xz() -> Any:
    import lzma

    return lzma.LZMACompressor(preset=_XZ_PRESET, check=lzma.CHECK_CRC64)


def _gzip() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return isal_zlib.compressobj(2, isal_zlib.DEFLATED, _GZIP)


def _open_gzip(stream: BinaryIO) -> BinaryIO:
    opened: Any  # not a BinaryIO to type checkers, but used as one
    try:
        from isal import igzip
    except ImportError:
        import gzip

        opened = gzip.GzipFile(fileobj=stream, mode="rb")
    else:
        opened = igzip.IGzipFile(fileobj=stream, mode="rb")  # type: ignore[no-untyped-call]
    return opened  # type: ignore[no-any-return]


def digest_of(stream: BinaryIO, copy_to: Callable[[bytes], object] | None = None) -> tuple[int, str]:
    """Return the size and SHA-256 of what is left of ``stream``, copying it on the way.

    Raises:
        FatalError: from ``copy_to``.
    """
    size, digest = 0, hashlib.sha256()
    while data := stream.read(2**20):
        size += len(data)
        digest.update(data)
        if copy_to is not None:
            copy_to(data)
    return size, digest.hexdigest()
