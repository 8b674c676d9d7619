"""Which encrypted files must open for ever?  Those of the first version, made once.

    python tests/data/encrypted/make_golden.py FOLDER        # never into golden/: its files stay as they are

The keys are no secrets: they open nothing but these files.
"""

import hashlib
import json
import sys
import unicodedata
from pathlib import Path

from muniment.crypto import Cost, Key, Keyring, Passphrase, Vault, encrypt_bytes

FIRST, SECOND = Key(bytes(range(32))), Key(bytes(range(32, 64)))
PASSPHRASE = "sechs zufällige Wörter sind besser"
CHEAP = Cost(19 * 1024, 2, 1)


def message(size: int) -> bytes:
    """Return text of ``size`` bytes that every language can make."""
    block = b"".join(hashlib.sha256(str(i).encode()).hexdigest().encode() for i in range(size // 64 + 1))
    return block[:size]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    phrase = Passphrase(unicodedata.normalize("NFD", PASSPHRASE), CHEAP)
    about = {"archive": "7f3a", "compression": "none"}
    cases = {
        "empty.enc": (0, Keyring([FIRST]), {}),
        "raw.enc": (1000, Keyring([FIRST]), {"content_type": "application/x-ndjson", "about": about}),
        "whole-chunks.enc": (32768, Keyring([FIRST]), {}),
        "three-chunks.enc": (40000, Keyring([FIRST, SECOND]), {"content_type": "text/plain"}),
        "passphrase.enc": (100, Keyring([phrase]), {}),
        "both.enc": (100, Keyring([SECOND, phrase]), {}),
        "context.enc": (100, Keyring([FIRST]), {"context": b"quarantine/17"}),
    }
    listed = []
    for name, (size, keyring, extra) in cases.items():
        (folder / name).write_bytes(encrypt_bytes(message(size), keyring, **extra))
        listed.append(
            {
                "file": name,
                "sha256": hashlib.sha256(message(size)).hexdigest(),
                "size": size,
                "context": extra.get("context", b"").decode(),
                "keys": [h.text() for h in keyring._recipients if isinstance(h, Key)],
                "passphrases": [PASSPHRASE for h in keyring._recipients if isinstance(h, Passphrase)],
            }
        )
    vault = Vault.new(Keyring([FIRST]), content_type="application/x-muniment-payload")
    (folder / "vault.enc").write_bytes(vault.header)
    value = {"header": "vault.enc", "key": FIRST.text(), "context": "records/5", "plain": message(50).decode()}
    value["hex"] = vault.encrypt(message(50), b"records/5").hex()
    (folder / "golden.json").write_text(json.dumps({"files": listed, "value": value}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
