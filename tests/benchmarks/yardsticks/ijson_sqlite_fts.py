"""The careful script: ijson streams, executemany inserts, one FTS rebuild at the end.

    python ijson_sqlite_fts.py export.zip archive.db

It gives FTS the text that muniment gives it: every Chinese, Japanese and Korean character stands
alone, so that any substring is found.
"""

import re
import sqlite3
import sys
import zipfile

import ijson

CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u312f"
    "\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U000323af]+"
)


def split_cjk(text):
    return text if text.isascii() else CJK.sub(lambda run: " " + " ".join(run[0]) + " ", text)


def text_of(content):
    parts = "\n".join(p for p in content.get("parts", ()) if isinstance(p, str))
    return parts or content.get("text") or content.get("result") or ""


source, target = sys.argv[1:3]
connection = sqlite3.connect(target)
connection.create_function("split_cjk", 1, split_cjk, deterministic=True)
connection.execute(
    "CREATE TABLE messages(id TEXT PRIMARY KEY, conversation_id TEXT, role TEXT, content TEXT, created REAL)"
)
connection.execute("CREATE VIEW split AS SELECT rowid, split_cjk(content) AS content FROM messages")
connection.execute(
    "CREATE VIRTUAL TABLE messages_fts USING fts5(content, content='split', content_rowid='rowid',"
    " tokenize='unicode61 remove_diacritics 2')"
)
count = 0
with zipfile.ZipFile(source) as archive:
    members = sorted(n for n in archive.namelist() if re.fullmatch(r"conversations(-\d+)?\.json", n))
    for member in members:
        with archive.open(member) as stream:
            for conversation in ijson.items(stream, "item", use_float=True):
                rows = []
                for node in (conversation.get("mapping") or {}).values():
                    message = node.get("message")
                    if message:
                        text = text_of(message["content"])
                        role = message["author"]["role"]
                        rows.append((message["id"], conversation["id"], role, text, message["create_time"]))
                connection.executemany("INSERT INTO messages VALUES (?,?,?,?,?)", rows)
                count += len(rows)
connection.execute("INSERT INTO messages_fts(messages_fts) VALUES('rebuild')")
connection.commit()
print(count)
