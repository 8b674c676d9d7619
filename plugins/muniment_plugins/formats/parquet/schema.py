"""Which columns do the tables have?  Documented in ``docs/formats/parquet.md``."""

from functools import cache
from typing import Any

VERSION = 1

LOW_CARDINALITY = {
    "conversations": ["source", "account", "model"],
    "messages": [
        "source", "account", "conversation_id", "source_hash", "title", "role", "author", "recipient", "channel",
        "model", "status", "part_types.list.element",
    ],
}  # fmt: skip
"""Columns whose values repeat; a dictionary of the others would only be thrown away."""

WITHOUT_STATISTICS = ("record", "metadata", "text", "parts", "citations", "usage", "feedback")
"""Columns whose smallest and largest value would help no query, and could be a megabyte long."""

_LEAVES = {
    "assets": [f"assets.list.element.{name}" for name in ("id", "name", "mime_type", "size", "sha256", "path")],
    "part_types": ["part_types.list.element"],
    "attachments": ["attachments.list.element"],
}


@cache
def codecs(table: str) -> dict[str, str]:
    """Return the codec of each column; records are compressed already, each by itself."""
    leaves = [leaf for name in schemas()[table].names for leaf in _LEAVES.get(name, [name])]
    return {leaf: "none" if leaf == "record" else "zstd" for leaf in leaves}


@cache
def schemas() -> dict[str, Any]:
    """Return the Arrow schema of each table."""
    import pyarrow as pa

    # Arrow's own allocator keeps what was freed: 40 MB more at the peak, and no time is won.
    pa.set_memory_pool(pa.system_memory_pool())
    text, time = pa.string(), pa.timestamp("us", tz="UTC")

    def schema(table: str, fields: list[tuple[str, Any] | tuple[str, Any, bool]]) -> Any:
        facts = {"muniment.schema_version": str(VERSION), "muniment.table": table}
        return pa.schema([pa.field(*f) for f in fields], metadata=facts)

    texts = pa.list_(pa.field("element", text))
    asset = pa.struct(
        [("id", text), ("name", text), ("mime_type", text), ("size", pa.int64()), ("sha256", text), ("path", text)]
    )
    assets = pa.list_(pa.field("element", asset))
    return {
        "conversations": schema(
            "conversations",
            [
                ("source", text, False), ("account", text), ("conversation_id", text, False),
                ("source_hash", text, False), ("title", text), ("created_at", time), ("updated_at", time),
                ("model", text), ("current", text), ("message_count", pa.int32(), False), ("assets", assets),
                ("metadata", text), ("record", pa.binary(), False),
            ],
        ),
        "messages": schema(
            "messages",
            [
                ("source", text, False), ("account", text), ("conversation_id", text, False),
                ("source_hash", text, False), ("title", text), ("message_id", text, False), ("parent_id", text),
                ("position", pa.int32(), False), ("role", text, False), ("author", text), ("recipient", text),
                ("channel", text), ("model", text), ("created_at", time), ("updated_at", time), ("status", text),
                ("hidden", pa.bool_(), False), ("on_visible_path", pa.bool_(), False), ("part_types", texts),
                ("text", text, False), ("attachments", texts), ("parts", text), ("citations", text),
                ("usage", text), ("feedback", text),
            ],
        ),
    }  # fmt: skip
