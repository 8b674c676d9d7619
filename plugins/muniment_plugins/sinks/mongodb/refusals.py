"""What does an error of the driver mean to a person, and what happens next?

No message holds what a document holds: the server repeats documents and keys in its own messages, so
of those only the code is told.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from muniment import FatalError, MunimentError, TransientError

DUPLICATE_KEY = 11000
# Of a member that stops, starts or steps down, of a transaction that lost, of a write that waited in vain.
_FOR_THE_MOMENT = {
    6, 7, 11, 24, 43, 46, 50, 64, 89, 91, 112, 133, 134, 189, 202, 225, 234, 237, 251, 262, 290, 317, 358, 384,
    9001, 10107, 11600, 11602, 13388, 13435, 13436,
}  # fmt: skip
_NOT_PRIMARY = {10107, 13435, 10058}
_DISK_FULL = {14031}
_TOO_LARGE_FOR_CACHE = 388
# Of a document, not of the server: its values, its size, an index or validator that it does not suit.
_OF_THE_DOCUMENT = {
    2, 9, 14, 15, 52, 55, 56, 57, 121, 171, 10334, 11000, 16755, 16756, 17261, 17262, 17280, 17419, 17420,
}  # fmt: skip
_NOT_AUTHORISED = 13
_WRONG_PASSWORD = {18, 8000}
_CANNOT_SATISFY = {79, 100}
_BAD_CERTIFICATE = re.compile(r"certificate|SSL|TLS", re.IGNORECASE)
_COMMAND = re.compile(r"execute command \{ (\w+): \"([^\"]*)\"")
_LATER = "run again: what was committed stands"


class DocumentRefusedError(Exception):
    """The server refuses some documents of a batch.

    ``reasons`` has each with why; ``raced`` are those whose ``_id`` another attempt has stored since.
    """

    def __init__(self, reasons: Sequence[tuple[Any, str]], raced: Sequence[Any]) -> None:
        self.reasons = reasons
        self.raced = raced
        super().__init__("documents were refused")


@contextlib.contextmanager
def translated(place: str, database: str) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        TransientError: the same call may work later.
        FatalError: it will not; the message says why and what to do.
    """
    from pymongo.errors import PyMongoError

    try:
        yield
    except MunimentError:
        raise
    except PyMongoError as error:
        # The driver's error holds documents, so it is no part of what is shown.
        raise meaning(error, place, database) from None


def refuses_documents(error: Any) -> bool:
    """Say whether a bulk write failed because of what it wrote, and of nothing else."""
    codes = {found.get("code", 0) for found in error.details.get("writeErrors", ())}
    return bool(codes) and codes <= _OF_THE_DOCUMENT and not error.has_error_label("TransientTransactionError")


def refused_documents(error: Any, collection: str, batch: Sequence[Any]) -> DocumentRefusedError:
    """Return which of ``batch`` a bulk write did not store, and why."""
    reasons: list[tuple[Any, str]] = []
    raced: list[Any] = []
    for found in error.details["writeErrors"]:
        code = found.get("code", 0)
        if code == DUPLICATE_KEY and found.get("keyPattern") == {"_id": 1}:
            raced.append(batch[found["index"]])
        else:
            reason = f"the server refuses the document ({_code_text(code)}); see the validator and the indexes of"
            reasons.append((batch[found["index"]], f"{reason} `{collection}`"))
    return DocumentRefusedError(reasons, raced)


def meaning(error: Any, place: str, database: str) -> MunimentError:
    """Return what an error of the driver means."""
    from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, ServerSelectionTimeoutError

    if isinstance(error, OperationFailure):
        return _operation(error, place, database)
    text = str(error)
    if isinstance(error, ServerSelectionTimeoutError) and _BAD_CERTIFICATE.search(text):
        reason = _short(text)
        return FatalError(f"`{place}`: the TLS handshake fails ({reason}); check `tls_ca_file` and the server's name")
    if isinstance(error, ConfigurationError):
        return FatalError(f"`{place}`: {_short(text)}; check `uri`")
    if isinstance(error, ConnectionFailure):
        return TransientError(
            f"`{place}` does not answer ({_short(text)}); check that the server runs and can be reached, then {_LATER}"
        )
    return FatalError(f"`{place}`: the driver fails ({type(error).__name__}); {_LATER}")


def _operation(error: Any, place: str, database: str) -> MunimentError:
    code = _code(error)
    if code in _WRONG_PASSWORD:
        return FatalError(f"`{place}` refuses the user or the password; check the user in `uri`, and `password`")
    if code == _NOT_AUTHORISED:
        if "requires authentication" in str(error):
            return FatalError(
                f"`{place}` wants a user; name one in `uri`, and say `password: ${{secret:env:MONGODB_PASSWORD}}`"
            )
        command = _COMMAND.search(str(error))
        what = f"`{command[1]}` on `{command[2]}`" if command else "what the archive needs"
        return FatalError(
            f"`{place}`: the user may not do {what}; an administrator grants it with"
            f' `db.grantRolesToUser("<user>", [{{role: "readWrite", db: "{database}"}}])`'
        )
    if code in _DISK_FULL:
        return FatalError(f"the disk of `{place}` is full; free some space and {_LATER}")
    if code == _TOO_LARGE_FOR_CACHE:
        return FatalError(
            f"a unit is too large for the cache of `{place}`; say `unit: {{max_bytes: 4194304}}` at the sink, or give"
            " the server more memory (`wiredTigerCacheSizeGB`)"
        )
    if code in _CANNOT_SATISFY:
        return FatalError(f"`{place}` has too few members for this `write_concern`; lower it or add members")
    if code in _NOT_PRIMARY:
        return TransientError(
            f"`{place}` is not the primary now; name the whole set in `uri` (`replicaSet=...`, no"
            f" `directConnection`) and {_LATER}"
        )
    transient = any(error.has_error_label(x) for x in ("TransientTransactionError", "RetryableWriteError"))
    if transient or code in _FOR_THE_MOMENT or _only_concern(error):
        return TransientError(f"`{place}` cannot do it now ({_code_text(code)}); {_LATER}")
    return FatalError(f"`{place}` refuses an operation ({_code_text(code)}); {_LATER}")


def _code(error: Any) -> int:
    """Return what a bulk write really failed with: its own code says only that something did."""
    codes = [found.get("code", 0) for found in (error.details or {}).get("writeErrors", ())]
    return next((c for c in codes if c not in _OF_THE_DOCUMENT), error.code or 0)


def _only_concern(error: Any) -> bool:
    """Say whether the write was done and only its replication is unknown."""
    details = error.details or {}
    return bool(details.get("writeConcernErrors")) and not details.get("writeErrors")


def _code_text(code: int) -> str:
    name = _NAMES.get(code, "")
    return f"{name}, code {code}" if name else f"code {code}"


_NAMES = {
    15: "nested too deeply",
    121: "validation failed",
    290: "the transaction took longer than transactionLifetimeLimitSeconds",
    10334: "too large",
    11000: "a unique index holds its value already",
    17262: "a text index does not know its language",
}


def _short(text: str) -> str:
    """Return the first sentence of a driver's message: the rest is the state of every connection."""
    return re.split(r", Timeout:|, Topology Description|\. See |\n", text)[0].split(" (configured timeouts")[0][:300]
