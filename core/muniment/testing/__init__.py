"""What tests of components need: contracts to inherit, records, a source of records, sinks in memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from muniment.testing.hard_records import HardRecord, hard_records, maximal_record, records
from muniment.testing.memory import MemoryBatch, MemoryStore, MemoryUpsert
from muniment.testing.records import ListSource, make_asset, make_record

if TYPE_CHECKING:
    from muniment.testing.sink_contract import SinkContract
    from muniment.testing.storage_contract import StorageContract

__all__ = [
    "HardRecord", "ListSource", "MemoryBatch", "MemoryStore", "MemoryUpsert", "SinkContract", "StorageContract",
    "hard_records", "make_asset", "make_record", "maximal_record", "records",
]  # fmt: skip

_CONTRACTS = {"SinkContract": "muniment.testing.sink_contract", "StorageContract": "muniment.testing.storage_contract"}


def __getattr__(name: str) -> Any:
    # The contracts need pytest, which the records and the memory sinks do not.
    if name in _CONTRACTS:
        return getattr(import_module(_CONTRACTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
