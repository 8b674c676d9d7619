"""Which tables does an archive have?  Documented in ``docs/formats/sqlite.md``.

``records`` holds each conversation whole and exact (canonical JSON with the raw JSON, zstd); the
other tables say the same in columns, for people and SQL.  In an encrypted archive those stay empty.
"""

from muniment.state import LEDGER_SCHEMA

VERSION = 3
APPLICATION_ID = 0x6D756E69  # "muni"

# Also what brings an older archive to them.
PROOF_TABLES = """
CREATE TABLE IF NOT EXISTS manifests(
    number INTEGER PRIMARY KEY, run TEXT NOT NULL, manifest TEXT NOT NULL, checkpoint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS receipts(
    no INTEGER PRIMARY KEY, manifest INTEGER NOT NULL, conversation INTEGER NOT NULL, key TEXT NOT NULL,
    stored_hash BLOB NOT NULL, gone INTEGER NOT NULL);
"""

# A row in it says that the archive is encrypted, and who can open it.
VAULT_TABLE = "CREATE TABLE IF NOT EXISTS vault(header BLOB NOT NULL);"

TABLES = f"""
CREATE TABLE IF NOT EXISTS conversations(
    no INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, account TEXT, title TEXT,
    created_at TEXT, updated_at TEXT, model TEXT, current TEXT, message_count INTEGER NOT NULL,
    metadata TEXT, source_hash TEXT NOT NULL, plan_hash TEXT NOT NULL, run TEXT NOT NULL,
    seen TEXT, absent_since TEXT, head BLOB);
CREATE TABLE IF NOT EXISTS messages(
    no INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL,
    parent_id TEXT, role TEXT NOT NULL, author TEXT, recipient TEXT, created_at TEXT, model TEXT,
    hidden INTEGER NOT NULL, visible INTEGER NOT NULL, status TEXT, metadata TEXT);
CREATE TABLE IF NOT EXISTS parts(
    no INTEGER PRIMARY KEY, message INTEGER NOT NULL, position INTEGER NOT NULL, type TEXT NOT NULL,
    kind TEXT NOT NULL, text TEXT NOT NULL, file_id TEXT);
CREATE TABLE IF NOT EXISTS assets(
    conversation INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, mime_type TEXT NOT NULL,
    size INTEGER, sha256 TEXT, missing TEXT, PRIMARY KEY(conversation, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asset_chunks(
    no INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records(conversation INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS versions(
    no INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, source_hash TEXT NOT NULL, run TEXT NOT NULL,
    superseded_at TEXT NOT NULL, record BLOB NOT NULL, head BLOB);
CREATE VIEW IF NOT EXISTS transcript AS
    SELECT c.no AS conversation, c.title, m.position, m.role, m.author, m.created_at, m.model, m.visible,
           (SELECT group_concat(p.text, char(10) || char(10)) FROM parts p WHERE p.message = m.no) AS text
    FROM conversations c JOIN messages m ON m.conversation = c.no;
CREATE UNIQUE INDEX IF NOT EXISTS conversations_key ON conversations(source, id);
CREATE UNIQUE INDEX IF NOT EXISTS asset_chunks_key ON asset_chunks(sha256, position);
{PROOF_TABLES}
{VAULT_TABLE}
{LEDGER_SCHEMA}
"""  # noqa: S608 - every name is ours

# Made at the end of a first load, when that is cheaper.
INDEXES = """
CREATE INDEX IF NOT EXISTS messages_conversation ON messages(conversation, position);
CREATE INDEX IF NOT EXISTS parts_message ON parts(message, position);
CREATE INDEX IF NOT EXISTS versions_conversation ON versions(conversation);
"""

# Contentless: the words are kept, not the text again.  `unicode61` knows the words of every script that
# parts them; Chinese, Japanese and Korean text is given to it one character at a time (see text.py).
FTS = {
    "words": """CREATE VIRTUAL TABLE IF NOT EXISTS messages_fts USING fts5(
        title, text, content='', tokenize="unicode61 remove_diacritics 2");""",
    "trigram": """CREATE VIRTUAL TABLE IF NOT EXISTS messages_fts USING fts5(
        title, text, content='', tokenize="unicode61 remove_diacritics 2");
        CREATE VIRTUAL TABLE IF NOT EXISTS messages_trigram USING fts5(
        title, text, content='', tokenize='trigram');""",
    "none": "",
}

INSERT_CONVERSATION = "INSERT INTO conversations VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL,?)"
SEE = "UPDATE conversations SET seen=?, absent_since=NULL WHERE source=? AND id=?"
MARK_ABSENT = """UPDATE conversations SET absent_since=:now
    WHERE absent_since IS NULL AND coalesce(seen, '') NOT IN (SELECT value FROM json_each(:all)) AND EXISTS (
        SELECT 1 FROM (
            SELECT source, account, max(coalesce(updated_at, created_at)) AS newest FROM conversations
            WHERE seen=:seen GROUP BY source, account
        ) read
        WHERE read.source=conversations.source AND read.account IS conversations.account
            AND coalesce(conversations.created_at, '') <= read.newest)"""
INSERT_MESSAGE = "INSERT INTO messages VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
INSERT_PART = "INSERT INTO parts(message, position, type, kind, text, file_id) VALUES(?,?,?,?,?,?)"
INSERT_ASSET = "INSERT INTO assets VALUES(?,?,?,?,?,?,?)"
INSERT_RECORD = "INSERT INTO records VALUES(?,?)"
INSERT_FTS = "INSERT INTO messages_fts(rowid, title, text) VALUES(?,?,?)"
DELETE_FTS = "INSERT INTO messages_fts(messages_fts, rowid, title, text) VALUES('delete',?,?,?)"
INSERT_TRIGRAM = "INSERT INTO messages_trigram(rowid, title, text) VALUES(?,?,?)"
DELETE_TRIGRAM = "INSERT INTO messages_trigram(messages_trigram, rowid, title, text) VALUES('delete',?,?,?)"

# Where entries wait for one call that puts them all into the index.
UNINDEXED = "CREATE TEMP TABLE unindexed(no INTEGER PRIMARY KEY, title TEXT NOT NULL, text TEXT NOT NULL)"
INSERT_UNINDEXED = "INSERT INTO unindexed VALUES(?,?,?)"
INDEX_UNINDEXED = (
    "INSERT INTO messages_fts(rowid, title, text) SELECT no, title, text FROM unindexed",
    "INSERT INTO messages_trigram(rowid, title, text) SELECT no, title, text FROM unindexed",
)
FORGET_UNINDEXED = "DELETE FROM unindexed"
