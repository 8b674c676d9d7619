"""How is what is stored kept from who holds no key, and how is every change to it noticed?

`docs/formats/encryption.md` specifies the format.  A `Keyring` says who opens what; `encrypting` and
`decrypting` go round streams, `encrypt_bytes` and `decrypt_bytes` round single values, and a `Vault`
round the many values of a table.
"""

from muniment.crypto.envelope import (
    SUFFIX,
    Vault,
    decrypt_bytes,
    decrypting,
    encrypt_bytes,
    encrypting,
)
from muniment.crypto.header import MAGIC, Fixed, Header, Slot, is_encrypted
from muniment.crypto.keyring import Holder, Keyring
from muniment.crypto.keys import Key, create_key_file, read_key_file
from muniment.crypto.options import Encryption, open_keyring
from muniment.crypto.passphrases import Cost, Passphrase
from muniment.crypto.rewrap import NewHeader, add_recipients, replace_keys
from muniment.crypto.services import KeyService, ServiceKey
from muniment.crypto.veil import Veil

__all__ = [
    "MAGIC",
    "SUFFIX",
    "Cost",
    "Encryption",
    "Fixed",
    "Header",
    "Holder",
    "Key",
    "KeyService",
    "Keyring",
    "NewHeader",
    "Passphrase",
    "ServiceKey",
    "Slot",
    "Vault",
    "Veil",
    "add_recipients",
    "create_key_file",
    "decrypt_bytes",
    "decrypting",
    "encrypt_bytes",
    "encrypting",
    "is_encrypted",
    "open_keyring",
    "read_key_file",
    "replace_keys",
]
