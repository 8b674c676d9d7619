"""What does an archive hold?  Standard library only: shares no code with what wrote it."""

import hashlib
import json
import sqlite3
import sys
import zipfile
from pathlib import Path

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


def counts_of_export(path: Path) -> tuple[int, int, int]:
    """Return (conversations, messages, leaves) of an export, counted with plain `json`."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as z:
            names = [
                n for n in z.namelist() if n.rsplit("/", 1)[-1].startswith("conversations") and n.endswith(".json")
            ]
            values = [json.loads(z.read(n)) for n in names]
    else:
        values = [json.loads(path.read_bytes())]
    conversations = [c for value in values for c in (value if isinstance(value, list) else [value])]
    messages = leaves = 0
    for conversation in conversations:
        mapping = conversation.get("mapping") or {}
        with_message = {k for k, node in mapping.items() if node.get("message")}
        parents = {mapping[k].get("parent") for k in with_message}
        messages += len(with_message)
        leaves += len(with_message - parents)
    return len(conversations), messages, leaves


if __name__ == "__main__":
    for key, value in digests(Path(sys.argv[1])).items():
        print(f"{key}: {value}")
