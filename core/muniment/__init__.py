"""Archive conversations with language models: the only import that a plugin author needs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from muniment.components import (
    AssetLinks,
    Component,
    Context,
    Effect,
    Engine,
    Format,
    History,
    Known,
    Reader,
    Replay,
    Sink,
    Source,
    Target,
    Transform,
    Writer,
)
from muniment.errors import (
    ConfigError,
    DamagedError,
    FatalError,
    InputError,
    MunimentError,
    PluginError,
    RecordError,
    TargetBusyError,
    TransientError,
    WrongKeyError,
)
from muniment.events import RunEvent
from muniment.hookspecs import hookimpl
from muniment.model import (
    Asset,
    BlobPart,
    Citation,
    Conversation,
    Dropped,
    FilePart,
    Link,
    Message,
    Origin,
    Part,
    Raw,
    ReasoningPart,
    Record,
    Rejected,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UnknownPart,
    UriPart,
    part_text,
    visible_path,
)
from muniment.options import option
from muniment.secrets import Secret
from muniment.units import (
    Batch,
    Checkpoint,
    Chunk,
    Counts,
    Fence,
    Idle,
    Orphan,
    Partition,
    Position,
    Prepared,
    Receipt,
    Unit,
)

if TYPE_CHECKING:
    from muniment.sinks.batch import BatchSink
    from muniment.sinks.objects import ObjectSink
    from muniment.sinks.upsert import UpsertSink
    from muniment.tables import TableFormat, TablePart

__version__ = "0.1.0"

__all__ = [
    "Asset", "AssetLinks", "Batch", "BatchSink", "BlobPart", "Checkpoint", "Chunk", "Citation", "Component",
    "ConfigError", "Context", "Conversation", "Counts", "DamagedError", "Dropped", "Effect", "Engine", "FatalError",
    "Fence", "FilePart", "Format", "History", "Idle", "InputError", "Known", "Link", "Message", "MunimentError",
    "ObjectSink", "Origin", "Orphan", "Part", "Partition", "PluginError", "Position", "Prepared", "Raw", "Reader",
    "ReasoningPart", "Receipt", "Record", "RecordError", "Rejected", "Replay", "RunEvent",
    "Secret", "Sink", "Source", "TableFormat", "TablePart", "Target", "TargetBusyError", "TextPart", "ToolCallPart",
    "ToolCallResponsePart",
    "Transform", "TransientError", "Unit", "UnknownPart", "UpsertSink", "UriPart", "Writer", "WrongKeyError",
    "hookimpl", "option", "part_text", "visible_path",
]  # fmt: skip

_SINK_BASES = {
    "BatchSink": "muniment.sinks.batch",
    "ObjectSink": "muniment.sinks.objects",
    "TableFormat": "muniment.tables",
    "TablePart": "muniment.tables",
    "UpsertSink": "muniment.sinks.upsert",
}


def __getattr__(name: str) -> Any:
    # These bring SQLite and file handling, which `muniment --help` does not need.
    if name in _SINK_BASES:
        return getattr(import_module(_SINK_BASES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
