"""What does a pipeline file say about encryption, and which keyring does that make?"""

from collections.abc import Iterable, Iterator
from typing import Literal

from attrs import frozen

from muniment.components import Context
from muniment.crypto.keyring import Holder, Keyring
from muniment.crypto.keys import Key
from muniment.crypto.passphrases import COSTS, KdfCost, Passphrase, problem_with
from muniment.crypto.services import is_recipient, service_key
from muniment.errors import ConfigError
from muniment.options import option
from muniment.secrets import Secret


@frozen(kw_only=True)
class Encryption:
    """Whom everything is encrypted for.  Each of them alone can read it."""

    key: Secret | None = option(
        "A key that `muniment key new` made; written for, and read with.",
        default=None,
        identity=False,
        example="${secret:file:archive.key}",
    )
    passphrase: Secret | None = option(
        "A passphrase; written for, and read with.",
        default=None,
        identity=False,
        example="${secret:env:ARCHIVE_PASSPHRASE}",
    )
    recipients: tuple[str, ...] = option(
        "Keys of key services, each `SERVICE:KEY`; written for, and read with.",
        default=(),
        identity=False,
        example=["vault:archive"],
    )
    also_for: tuple[Secret, ...] = option(
        "More keys that everything is written for, such as one in a safe.", default=(), identity=False
    )
    old_keys: tuple[Secret, ...] = option(
        "Keys that open what was written before they were replaced.", default=(), identity=False
    )
    kdf: KdfCost = option(
        "What a try of the passphrase costs: 64 MiB of memory, or 1 GiB.", default="interactive", identity=False
    )

    per: Literal["object", "conversation"] = option(
        "What has a key of its own: `conversation` lets a purge destroy the key of one, in folders and in S3.",
        default="object",
        identity=False,
    )

    def check(self) -> Iterable[str]:
        """Return what is wrong with these options together, one sentence each."""
        if not (self.key or self.passphrase or self.recipients or self.also_for):
            yield "`encryption` names nobody who could read it; give `key`, `passphrase` or `recipients`"
        for recipient in self.recipients:
            if not is_recipient(recipient):
                yield f"`recipients` must be `SERVICE:KEY`, not `{recipient}`"


def open_keyring(encryption: Encryption, ctx: Context) -> Keyring:
    """Return the keys that ``encryption`` names, revealed in this process.

    Raises:
        ConfigError: a secret cannot be had, is no key, or is a passphrase that is too short.
        PluginError: a key service is not installed.
    """
    return Keyring(
        list(_recipients(encryption, ctx)),
        [_key(secret, ctx) for secret in encryption.old_keys],
    )


def _recipients(encryption: Encryption, ctx: Context) -> Iterator[Holder]:
    # A passphrase and a service take longer to try, so they come behind the keys.
    for secret in ((encryption.key,) if encryption.key else ()) + encryption.also_for:
        yield _key(secret, ctx)
    if encryption.passphrase:
        text = ctx.reveal(encryption.passphrase)
        if problem := problem_with(text):
            raise ConfigError(f"{_place(encryption.passphrase, ctx)}: {problem}")
        yield Passphrase(text, COSTS[encryption.kdf])
    for recipient in encryption.recipients:
        yield service_key(recipient)


def _key(secret: Secret, ctx: Context) -> Key:
    try:
        return Key.parse(ctx.reveal(secret))
    except ValueError as error:
        raise ConfigError(f"{_place(secret, ctx)}: this secret holds no key: {error}") from None


def _place(secret: Secret, ctx: Context) -> str:
    return secret.option or ctx.path or "encryption"
