"""Read secrets from the keyring of this machine's user: ``${secret:keyring:SERVICE/USER}``.

It is what the library ``keyring`` finds: Keychain, the Secret Service of a desktop, KWallet, or the back
end that its own configuration or ``PYTHON_KEYRING_BACKEND`` names.
"""

import keyring
from keyring.errors import KeyringLocked, NoKeyringError

from muniment import ConfigError


def read_secret(name: str) -> str:
    """Return the password of ``SERVICE/USER``; a service may have slashes, a user has none.

    Raises:
        ConfigError: there is none, or there is no keyring that can be read.
    """
    service, _, user = name.rpartition("/")
    if not service or not user:
        raise ConfigError(f"`keyring:{name}` must be `keyring:SERVICE/USER`, as in `keyring set SERVICE USER`")
    try:
        value = keyring.get_password(service, user)
    except NoKeyringError:
        raise ConfigError(
            f"`keyring:{name}` cannot be read: this machine has no keyring; name a back end with"
            " `PYTHON_KEYRING_BACKEND`, or use `${secret:file:PATH}`"
        ) from None
    except KeyringLocked:
        raise ConfigError(f"`keyring:{name}` cannot be read: the keyring is locked; unlock it") from None
    except Exception as error:  # noqa: BLE001 - of whatever back end, whose message may hold the value
        raise ConfigError(
            f"`keyring:{name}` cannot be read: the keyring raised {type(error).__name__}; try"
            f" `keyring get {service} {user}`"
        ) from None
    if value is None:
        raise ConfigError(f"the keyring holds nothing under `{name}`; store it: `keyring set {service} {user}`")
    return value
