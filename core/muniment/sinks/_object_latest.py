"""Where does a reader find each conversation once, beside parts that hold its versions?"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from muniment.model import Record
from muniment.objects import ObjectStream, compressing
from muniment.sinks._object_parts import begin_body
from muniment.sinks._object_payload import Payload, encode
from muniment.sinks._object_read import read_back
from muniment.sinks.cover import Cover
from muniment.state import State
from muniment.storage import Storage
from muniment.tables import TableFormat

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink

NOTE = ".muniment/latest.json"
"""Says up to which manifest the view was made, and what its objects are."""

_BATCH_RECORDS = 64


def refresh(sink: "ObjectSink", storage: Storage, state: State, manifest: int, cover: Cover) -> None:
    """Write the view anew from all versions, unless it is of this manifest already.

    Each of its objects is swapped in whole; the note comes last, so a killed refresh is repeated.

    Raises:
        FatalError: a part is missing or damaged.
    """
    if noted(storage) == manifest:
        return
    form = sink.make_format()
    layout = attrs.evolve(sink.layout, key="", mode="snapshot")
    if isinstance(form, TableFormat):
        names = {table: f"latest/{table}{form.suffix}{layout.ending}" for table in form.table_names}
        layout = attrs.evolve(layout, key="latest/")
    else:
        names = {"": f"latest{form.suffix}{layout.ending}"}
    wrappers = [compressing(layout.compression, threaded=not sink.layout.key), *cover.wrappers(form.media_type)]
    streams = {table: ObjectStream(storage.stage(name), wrappers) for table, name in names.items()}
    try:
        body = begin_body(form, streams)
        count = 0
        for records in _batches(read_back(sink, storage, state, cover)):
            payload: Payload = encode(records, form, layout)
            body.add(payload.batch_of(payload.entries, form))
            count += len(records)
        body.close()
        for stream in streams.values():
            stream.close()
        storage.sync()
        for table, name in names.items():
            storage.publish(streams[table].token, name)
        storage.sync()
    except BaseException:
        for stream in streams.values():
            stream.discard()
        raise
    objects = [{"name": names[t], "size": s.size, "sha256": s.sha256} for t, s in streams.items()]
    _write_note(storage, {"version": 1, "manifest": manifest, "conversations": count, "objects": objects})


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while some := list(islice(records, _BATCH_RECORDS)):
        yield some


def noted(storage: Storage) -> int:
    """Return the number of the manifest that the view was made for; 0 where there is none."""
    try:
        with storage.open(NOTE) as stream:
            return int(json.loads(stream.read())["manifest"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def shown(storage: Storage) -> set[str] | None:
    """Return the names of the objects of the view; None where there is none."""
    try:
        with storage.open(NOTE) as stream:
            return {made["name"] for made in json.loads(stream.read())["objects"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return set()


def _write_note(storage: Storage, note: dict[str, Any]) -> None:
    staged = storage.stage(NOTE)
    try:
        staged.write(json.dumps(note, sort_keys=True, separators=(",", ":")).encode("ascii"))
        staged.close()
        storage.sync()
        storage.publish(staged.token, NOTE)
        storage.sync()
    except BaseException:
        staged.discard()
        raise
