"""The script that most people write: json.load, one INSERT per message, FTS filled by a trigger.

python json_sqlite_fts.py export.zip archive.db
"""

import json
import sqlite3
import sys
import zipfile

source, target = sys.argv[1:3]
with zipfile.ZipFile(source) as archive:
    data = json.load(archive.open("conversations.json"))
connection = sqlite3.connect(target)
cursor = connection.cursor()
cursor.execute("CREATE TABLE conversations(id TEXT PRIMARY KEY, title TEXT, created REAL)")
cursor.execute(
    "CREATE TABLE messages(id TEXT PRIMARY KEY, conversation_id TEXT, role TEXT, content TEXT, created REAL)"
)
cursor.execute("CREATE VIRTUAL TABLE messages_fts USING fts5(content, content='messages', content_rowid='rowid')")
cursor.execute(
    "CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN"
    " INSERT INTO messages_fts(rowid, content) VALUES (new.rowid, new.content); END"
)
count = 0
for conversation in data:
    row = (conversation["id"], conversation["title"], conversation["create_time"])
    cursor.execute("INSERT INTO conversations VALUES (?,?,?)", row)
    for node in conversation["mapping"].values():
        message = node.get("message")
        if not message:
            continue
        content = message["content"]
        text = "\n".join(p for p in content.get("parts", []) if isinstance(p, str))
        text = text or content.get("text") or content.get("result") or ""
        row = (message["id"], conversation["id"], message["author"]["role"], text, message["create_time"])
        cursor.execute("INSERT INTO messages VALUES (?,?,?,?,?)", row)
        count += 1
connection.commit()
print(count)
