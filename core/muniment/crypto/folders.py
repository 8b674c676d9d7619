"""How does a folder of encrypted files become one of plain ones, with the names that they would have had?"""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

from muniment.crypto import header as headers
from muniment.crypto.envelope import SUFFIX, Vault
from muniment.crypto.files import Decrypted, decrypt_file, files_below, is_encrypted_file
from muniment.crypto.keyring import Keyring
from muniment.errors import DamagedError, FatalError
from muniment.local_storage import explain
from muniment.names import MAX_BYTES
from muniment.storage import check_name

VAULT = ".muniment/vault"
"""Where an archive in a folder or a bucket has the key of its names."""

_OWN = ".muniment"
_NAME = b"name"
_EARLIER = re.compile(r"\.earlier-[0-9a-f]{8}(?=\.)")


def decrypt_folder(folder: Path, to: Path, keyring: Keyring) -> Iterator[tuple[Path, Decrypted | FatalError]]:
    """Decrypt every encrypted file below ``folder`` into ``to``; yield each with what became of it.

    Without the vault, names stay as they are but for their ending.

    Raises:
        WrongKeyError: no key opens the vault.
        DamagedError: the vault is damaged.
        FatalError: ``to`` holds something already, or cannot be made.
    """
    vault = _vault(folder, keyring)
    try:
        if to.exists() and any(to.iterdir()):
            raise FatalError(f"there is something in `{to}` already; nothing is overwritten")
        to.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise explain(error, to) from error
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name.startswith(f"{_OWN}/") or not name.endswith(SUFFIX) or not is_encrypted_file(path):
            continue
        try:
            yield path, _decrypt(path, name, to, keyring, vault)
        except FatalError as error:
            yield path, error


def archive_of(path: Path) -> Path | None:
    """Return the folder of the encrypted archive that a file belongs to; None if it belongs to none."""
    return next((f for f in path.absolute().parents if (f / VAULT).is_file()), None)


def hidden_name(name: str, vault: Vault) -> str:
    """Return a name as it stands in a header, for those with the vault's key only."""
    return base64.b64encode(vault.encrypt(name.encode("utf-8", "surrogatepass"), _NAME)).decode("ascii")


def true_name(hidden: str, vault: Vault) -> str:
    """Return what `hidden_name` was given.

    Raises:
        DamagedError: it is not what was written, or leaves its folder.
    """
    try:
        return check_name(
            vault.decrypt(base64.b64decode(hidden, validate=True), _NAME).decode("utf-8", "surrogatepass")
        )
    except ValueError:
        raise DamagedError("the name in the header of the encrypted data is damaged") from None


def _decrypt(path: Path, name: str, to: Path, keyring: Keyring, vault: Vault | None) -> Decrypted:
    plain = name.removesuffix(SUFFIX)
    with path.open("rb") as file:
        about = headers.read(file).fixed.about
    if vault is not None and "name" in about:
        plain = true_name(about["name"], vault)
        if earlier := _EARLIER.search(name):
            stem, dot, ending = plain.rpartition("/")[2].partition(".")
            plain = f"{plain[: len(plain) - len(stem + dot + ending)]}{stem}{earlier[0]}{dot}{ending}"
    target = to / plain
    if plain.split("/")[0] == _OWN or any(len(os.fsencode(p)) > MAX_BYTES + 55 for p in plain.split("/")):
        raise DamagedError("the name in the header of the encrypted data is no name of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise explain(error, target) from error
    return decrypt_file(path, keyring, target)


def _vault(folder: Path, keyring: Keyring) -> Vault | None:
    try:
        return Vault.open((folder / VAULT).read_bytes(), keyring)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, folder / VAULT) from error
