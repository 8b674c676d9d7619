"""Decrypt a file of muniment with nothing of muniment: the standard library and `cryptography`.

    python reference_decoder.py FILE.enc archive.key > FILE
    python reference_decoder.py FILE.enc --passphrase > FILE          # asks for it

Written to be read beside encryption.md; it holds the file in memory.
"""

import base64
import getpass
import hashlib
import hmac
import json
import sys
import unicodedata
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

MAGIC = b"\x8fmun\r\n\x1a\x01"


def expand(key, info, length=32):
    return HKDFExpand(hashes.SHA512(), length, info).derive(key)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def open_message(key, context, data):
    """Return a Cobblestone-256 message, or None if it was made with another key or context."""
    salt, commitment, sealed = data[:24], data[24:56], data[56:]
    made = expand(key, b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context, 76)
    if not hmac.compare_digest(made[44:], commitment):
        return None
    aead, base, plain = AESGCM(made[:32]), int.from_bytes(made[32:44], "big"), []
    for index in range(len(sealed) // 16400 + 1):  # the last chunk is shorter than 16400, or the message is cut off
        chunk = sealed[index * 16400 : (index + 1) * 16400]
        plain.append(aead.decrypt((base ^ index).to_bytes(12, "big"), chunk, None))
    return b"".join(plain)


def key_of_line(line):
    """Return the key of a key file's line."""
    prefix, _, text = line.strip().partition(":")
    data = base64.urlsafe_b64decode(text)
    assert prefix == "muniment-key-1" and len(data) == 36, "no key file"
    assert hashlib.sha256(b"muniment/v1/key-file" + data[:32]).digest()[:4] == data[32:], "a typing error in the key"
    return data[:32]


def key_of_passphrase(passphrase, params):
    cost = {"iterations": params["passes"], "lanes": params["lanes"], "memory_cost": params["memory_kib"]}
    kdf = Argon2id(salt=base64.b64decode(params["salt"]), length=32, **cost)
    return kdf.derive(unicodedata.normalize("NFC", passphrase).encode())


def decode(data, key_line=None, passphrase=None, context=b""):
    """Return the plain bytes of an encrypted file."""
    assert data[:8] == MAGIC, "not encrypted by muniment, or by a newer version"
    end = 12 + int.from_bytes(data[8:12], "big")
    header, mac, body = data[12:end], data[end : end + 32], data[end + 32 :]
    value = json.loads(header)
    assert len(header) <= 65536 and canonical(value) == header, "the header is not canonical"
    fixed = hashlib.sha256(canonical(value["fixed"])).digest()
    for slot in value["slots"]:
        wrapped = base64.b64decode(slot.pop("wrapped"))
        if slot["alg"] == "raw" and key_line:
            kek = key_of_line(key_line)
        elif slot["alg"] == "argon2id" and passphrase:
            kek = key_of_passphrase(passphrase, slot["params"])
        else:
            continue
        dek = open_message(kek, b"muniment/v1/slot\0" + fixed + canonical(slot), wrapped)
        if dek is not None:
            break
    else:
        raise SystemExit("no key that was given opens this")
    expected = hmac.digest(expand(dek, b"muniment/v1/header"), data[:end], "sha256")
    assert hmac.compare_digest(expected, mac), "the header was changed"
    plain = open_message(expand(dek, b"muniment/v1/body"), MAGIC + fixed + context, body)
    assert plain is not None, "the body belongs to another header"
    return plain


if __name__ == "__main__":
    content = Path(sys.argv[1]).read_bytes()
    if sys.argv[2] == "--passphrase":
        sys.stdout.buffer.write(decode(content, passphrase=getpass.getpass()))
    else:
        sys.stdout.buffer.write(decode(content, key_line=Path(sys.argv[2]).read_text()))
