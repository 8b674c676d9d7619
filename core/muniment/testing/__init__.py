"""What tests of components need: records, a source of records, sinks in memory."""

from muniment.testing.memory import MemoryBatch, MemoryStore, MemoryUpsert
from muniment.testing.records import ListSource, make_record

__all__ = ["ListSource", "MemoryBatch", "MemoryStore", "MemoryUpsert", "make_record"]
