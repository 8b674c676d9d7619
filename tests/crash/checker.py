"""What does an archive hold, and is that what it should?  Standard library only: shares no code with what wrote it.

An export is read with plain `json`, an archive with `sqlite3` or from its files.  What is compared are
digests of the vendor's own nodes, which an archive keeps beside each message.
"""

import bz2
import contextlib
import gzip
import hashlib
import json
import lzma
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

CONTENT = {
    "conversations": "SELECT source, id, title, created_at, updated_at, model, current, message_count, metadata,"
    " source_hash FROM conversations ORDER BY source, id",
    "messages": "SELECT c.id, m.position, m.id, m.parent_id, m.role, m.author, m.created_at, m.visible, m.metadata"
    " FROM messages m JOIN conversations c ON c.no = m.conversation ORDER BY c.id, m.position",
    "parts": "SELECT c.id, m.position, p.position, p.type, p.kind, p.text, p.file_id FROM parts p"
    " JOIN messages m ON m.no = p.message JOIN conversations c ON c.no = m.conversation"
    " ORDER BY c.id, m.position, p.position",
    "assets": "SELECT c.id, a.id, a.sha256, a.missing FROM assets a JOIN conversations c ON c.no = a.conversation"
    " ORDER BY c.id, a.id",
    "chunks": "SELECT sha256, position, data FROM asset_chunks ORDER BY sha256, position",
    "records": "SELECT c.id, r.record FROM records r JOIN conversations c ON c.no = r.conversation ORDER BY c.id",
    "versions": "SELECT c.id, v.source_hash FROM versions v JOIN conversations c ON c.no = v.conversation"
    " ORDER BY c.id, v.source_hash",
}
WORDS = ("the", "function", "error", "数", "データ", "question")
SIDE = (".muniment", "assets")
"""Folders of a target whose files are not conversations."""

Nodes = dict[str, Counter[str]]
"""Of each conversation, how often it holds a node with this digest."""


@dataclass
class Findings:
    """What an archive holds, and what is wrong with it as it stands.

    ``conversations`` are the nodes of the version that counts; ``content`` tells two archives apart
    whatever their numbers, their order and the runs that wrote them.
    """

    conversations: Nodes = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        self.problems.append(text)


# --- exports --------------------------------------------------------------------------------


def exported(*paths: Path) -> Nodes:
    """Return what the exports hold together: of each conversation every node that any of them has, once."""
    found: dict[str, set[str]] = {}
    for path in paths:
        for conversation in conversations_of(path):
            nodes = (n for n in (conversation.get("mapping") or {}).values() if n.get("message"))
            found.setdefault(key_of(conversation), set()).update(map(digest, nodes))
    return {key: Counter(nodes) for key, nodes in found.items()}


def order_of(path: Path) -> list[str]:
    """Return the conversations of an export as they stand in it."""
    return [key_of(c) for c in conversations_of(path)]


def conversations_of(path: Path) -> list[dict[str, Any]]:
    """Return the conversations of a zip, or of a JSON file."""
    if path.suffix != ".zip":
        values = [json.loads(path.read_bytes())]
    else:
        with zipfile.ZipFile(path) as z:
            names = [n for n in z.namelist() if n.rpartition("/")[2].startswith("conversations") and n[-5:] == ".json"]
            values = [json.loads(z.read(n)) for n in names]
    return [c for value in values for c in (value if isinstance(value, list) else [value])]


def key_of(conversation: dict[str, Any]) -> str:
    return str(conversation.get("conversation_id") or conversation.get("id"))


def digest(value: Any) -> str:
    """Return a digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def counts_of_export(path: Path) -> tuple[int, int, int]:
    """Return (conversations, messages, leaves) of an export, counted with plain `json`."""
    conversations = conversations_of(path)
    messages = leaves = 0
    for conversation in conversations:
        mapping = conversation.get("mapping") or {}
        with_message = {k for k, node in mapping.items() if node.get("message")}
        parents = {mapping[k].get("parent") for k in with_message}
        messages += len(with_message)
        leaves += len(with_message - parents)
    return len(conversations), messages, leaves


# --- verdicts -------------------------------------------------------------------------------


def lost(found: Findings, expected: Nodes) -> Iterator[str]:
    """Say what an archive should hold and does not."""
    for key, nodes in expected.items():
        if key not in found.conversations:
            yield f"lost: conversation {key[:12]}"
        elif missing := nodes - found.conversations[key]:
            yield f"lost: {missing.total()} messages of {key[:12]}"


def surplus(found: Findings, expected: Nodes) -> Iterator[str]:
    """Say what an archive holds twice, or should not hold."""
    for key, nodes in found.conversations.items():
        if more := nodes - expected.get(key, Counter()):
            doubled = all(digest in expected.get(key, ()) for digest in more)
            yield f"{'doubled' if doubled else 'foreign'}: {more.total()} messages of {key[:12]}"


def compared(found: Findings, content: dict[str, str]) -> Iterator[str]:
    """Say in what an archive differs from one that nobody disturbed."""
    for name in sorted({*found.content, *content}):
        if found.content.get(name) != content.get(name):
            yield f"differs: {name}"


# --- a database -----------------------------------------------------------------------------


class Values(Protocol):
    """Decrypts the values of an archive."""

    def opened(self, data: bytes, *place: str) -> bytes: ...


def read_database(path: Path, unlock: Callable[[bytes], Values] | None = None) -> Findings:
    """Read an archive in SQLite; one that is not there yet holds nothing.

    ``unlock`` returns what decrypts the values of an encrypted one, given the header of its vault.
    """
    found = Findings()
    if not path.exists():
        return found
    with tempfile.TemporaryDirectory() as name:
        # Of a copy: what was cut off is recovered by whoever opens it first, which must be the next run.
        for suffix in ("", "-wal", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                shutil.copy(beside, Path(name) / beside.name)
        _read_copy(Path(name) / path.name, found, unlock)
    return found


def _read_copy(path: Path, found: Findings, unlock: Callable[[bytes], Values] | None) -> None:
    connection = sqlite3.connect(path)
    try:
        [(sound,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if sound != "ok":
            found.problem(f"torn: {sound}")
            return
        if unlock is not None:
            _read_encrypted(connection, found, unlock)
            return
        rows = connection.execute(
            "SELECT c.id, c.message_count, (SELECT count(*) FROM messages m WHERE m.conversation = c.no), r.record"
            " FROM conversations c LEFT JOIN records r ON r.conversation = c.no"
        )
        for key, count, stored, record in rows:
            if record is None or count != stored:
                found.problem(f"torn: conversation {key[:12]} has {stored} of {count} messages")
            else:
                _take(found, key, json.loads(unpacked(bytes(record))))
        chunks: dict[str, Any] = defaultdict(hashlib.sha256)
        for name, data in connection.execute("SELECT sha256, data FROM asset_chunks ORDER BY sha256, position"):
            chunks[name].update(data)
        for name, actual in chunks.items():
            if actual.hexdigest() != name:
                found.problem(f"torn: asset {name[:12]}")
        found.content = digests(path)
    except sqlite3.DatabaseError as error:
        found.problem(f"torn: {error}")
    finally:
        connection.close()


def _read_encrypted(connection: sqlite3.Connection, found: Findings, unlock: Callable[[bytes], Values]) -> None:
    """Read an archive whose tables for people are empty: records and files are what it holds."""
    for table in ("messages", "parts", "assets"):
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            found.problem(f"plain: rows in {table}")
    [(header,)] = connection.execute("SELECT header FROM vault").fetchall()
    values = unlock(header)
    current, earlier = (
        connection.execute(
            f"SELECT c.id, r.record FROM conversations c LEFT JOIN {table} r ON r.conversation = c.no"
            f" {'' if table == 'records' else 'WHERE r.record IS NOT NULL'} ORDER BY c.id"
        ).fetchall()
        for table in ("records", "versions")
    )
    files = _encrypted_files(connection, found, values)
    lines = {"records": [], "versions": []}
    for kind, rows in (("records", current), ("versions", earlier)):
        for name, sealed in rows:
            try:
                record = json.loads(unpacked(values.opened(sealed or b"", "record", name)))
            except ValueError as error:
                found.problem(f"torn: {kind} {name[:12]} ({error})")
                continue
            lines[kind].append(digest(record))
            if kind == "records":
                _take(found, record["id"], record)
                wanted = {a.get("sha256") for a in record.get("assets", ())} - {None}
                found.problems += [f"lost: asset {sha256[:12]}" for sha256 in wanted - files]
    found.content = {kind: digest(sorted(some)) for kind, some in lines.items()} | {"files": digest(sorted(files))}


def _encrypted_files(connection: sqlite3.Connection, found: Findings, values: Values) -> set[str]:
    """Return the digests of the files that an encrypted archive holds."""
    select = "SELECT sha256, position, data, max(position) OVER (PARTITION BY sha256) FROM asset_chunks ORDER BY 1, 2"
    chunks: dict[str, Any] = defaultdict(hashlib.sha256)
    for name, position, sealed, last in connection.execute(select):
        try:
            place = ("asset", name, str(position), "last" if position == last else "more")
            chunks[name].update(values.opened(sealed, *place))
        except ValueError as error:
            found.problem(f"torn: asset {name[:12]} ({error})")
    return {actual.hexdigest() for actual in chunks.values()}


def digests(path: Path) -> dict[str, str]:
    """Return a digest of each kind of content, whatever the numbers and the order of the rows."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        [(sound,)] = connection.execute("PRAGMA integrity_check").fetchall()
        found = {"integrity": sound}
        for name, statement in CONTENT.items():
            digest = hashlib.sha256()
            for row in connection.execute(statement):
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
            found[name] = digest.hexdigest()[:16]
        for word in WORDS:
            phrase = word if word.isascii() else " ".join(word)
            statement = "SELECT count(*) FROM messages_fts WHERE messages_fts MATCH ?"
            found[f"fts {word}"] = str(connection.execute(statement, (f'"{phrase}"',)).fetchone()[0])
        return found
    finally:
        connection.close()


# --- a folder -------------------------------------------------------------------------------


def read_folder(path: Path, *, ended: bool, opened: Callable[[bytes], bytes] | None = None) -> Findings:
    """Read an archive in files.

    ``ended`` says that a run has gone to its end: then nothing may be there that no manifest names.
    After a kill such a file may be there, whole.  ``opened`` decrypts the files of an encrypted one.
    """
    found = Findings()
    manifests = _manifests(path, found)
    named: dict[str, dict[str, Any]] = {}
    for manifest in manifests:
        named.update((made["name"], made) for made in manifest.get("objects", ()))
        for name in manifest.get("removed", ()):
            named.pop(name, None)
    replaced = any(m.get("mode") == "mirror" for m in manifests)
    lines: list[str] = []
    versions: Counter[tuple[str, str]] = Counter()
    assets = _assets(path, named, found, opened)
    for file in _files(path):
        name = file.relative_to(path).as_posix()
        data = file.read_bytes()
        made = named.pop(name, None)
        if made is None and ended:
            found.problem(f"left: {name}")
        if made is not None and hashlib.sha256(data).hexdigest() != made["sha256"] and (ended or not replaced):
            found.problem(f"torn: {name} is not what its manifest says")
            continue
        try:
            records = _records(unpacked(opened(data) if opened else data))
        except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
            found.problem(f"torn: {name} ({error})")
            continue
        if made is None:
            continue
        for record in records:
            lines.append(digest(record))
            _take(found, record["id"], record)
            wanted = {a.get("sha256") for a in record.get("assets", ())} - {None}
            found.problems += [f"lost: asset {sha256[:12]}" for sha256 in wanted - assets]
        versions.update((row[0], row[1]) for row in made["records"])
    if ended or not replaced:
        found.problems += [f"lost: {name}, which a manifest names" for name in named]
    found.problems += [f"doubled: {key[:20]}" for (key, _), count in versions.items() if count > 1]
    if ended:
        staged = path / ".muniment" / "staging"
        found.problems += [f"left: {f.name}" for f in (staged.iterdir() if staged.is_dir() else ())]
    found.content = {"records": digest(sorted(lines))}
    return found


def _manifests(path: Path, found: Findings) -> list[dict[str, Any]]:
    manifests, before = [], ""
    folder = path / ".muniment" / "manifests"
    for number, file in enumerate(sorted(folder.glob("*.json")), 1):
        data = file.read_bytes()
        try:
            manifest = json.loads(data)
        except ValueError:
            found.problem(f"torn: {file.name}")
            break
        if manifest["number"] != number or manifest.get("previous", "") != before:
            found.problem(f"torn: the chain of manifests breaks at {file.name}")
        manifests.append(manifest)
        before = hashlib.sha256(data).hexdigest()
    return manifests


def _files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.relative_to(path).parts[0] not in SIDE:
            yield file


def _records(data: bytes) -> list[dict[str, Any]]:
    """Return the conversations of a document of JSON Lines, or of JSON."""
    if data[:1] == b"[" or b"\n{" not in data:
        value = json.loads(data)
        return value if isinstance(value, list) else [value]
    if not data.endswith(b"\n"):
        raise ValueError("the last line has no end")
    return [json.loads(line) for line in data.splitlines()]


def _assets(
    path: Path, named: dict[str, dict[str, Any]], found: Findings, opened: Callable[[bytes], bytes] | None
) -> set[str]:
    """Return the digests of the files that conversations name, as they are there.

    Where they are encrypted their names say nothing, and manifests name them, and the vault, like objects.
    """
    for name in [n for n in named if n.partition("/")[0] in SIDE]:
        expected = named.pop(name)["sha256"]
        if not (path / name).exists():
            found.problem(f"lost: {name}, which a manifest names")
        elif hashlib.sha256((path / name).read_bytes()).hexdigest() != expected:
            found.problem(f"torn: {name} is not what its manifest says")
    digests = set()
    for file in (path / "assets").glob("??/*"):
        data = file.read_bytes()
        try:
            digests.add(actual := hashlib.sha256(opened(data) if opened else data).hexdigest())
        except ValueError as error:
            found.problem(f"torn: asset {file.name[:12]} ({error})")
            continue
        if opened is None and not file.name.startswith(actual):
            found.problem(f"torn: asset {file.name[:12]}")
    return digests


def _take(found: Findings, key: str, record: dict[str, Any]) -> None:
    """Add a version of a conversation: what counts is the union of the nodes of all of them."""
    nodes = Counter(digest(node) for node in record["raw"]["messages"] if node is not None)
    found.conversations[key] = found.conversations.get(key, Counter()) | nodes


# --- bytes ----------------------------------------------------------------------------------


def unpacked(data: bytes) -> bytes:
    """Return bytes as they were before whatever compressed them."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\xfd7zXZ"):
        return lzma.decompress(data)
    if data.startswith(b"BZh"):
        return bz2.decompress(data)
    return _unpacked_zstd(data) if data.startswith(b"\x28\xb5\x2f\xfd") else data


def _unpacked_zstd(data: bytes) -> bytes:
    # In the standard library from 3.14 on; before, its backport, or the program.
    for module in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            zstd = __import__(module, fromlist=["decompress"])
            try:
                return bytes(zstd.decompress(data))
            except zstd.ZstdError as error:
                raise ValueError(str(error)) from None
    done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode("utf-8", "replace"))
    return done.stdout


if __name__ == "__main__":
    for key, value in digests(Path(sys.argv[1])).items():
        print(f"{key}: {value}")
