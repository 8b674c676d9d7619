"""Avro: any tool reads the typed fields, and the record comes back whole."""

import io

import fastavro
import pytest

from muniment import Message, Origin, RecordError, TextPart
from muniment_plugins.formats.avro import SCHEMA, Avro


def written(*records, links=lambda _asset: "", **options):
    form = Avro(**options)
    return form.header() + b"".join(form.encode(r, links) for r in records) + form.footer()


def read(data):
    return list(Avro().decode(io.BytesIO(data), Origin("export.zip", "p")))


class TestAvro:
    @pytest.mark.parametrize("codec", ["null", "deflate"])
    def test_every_record_comes_back(self, full, make_record, naughty, codec):
        """Strings that break naive writers, in titles and texts, with their raw JSON."""
        records = [full, *(make_record(Message(id="m", role="user", parts=(TextPart(x),)), title=x) for x in naughty)]

        assert [(r.conversation, r.raw) for r in read(written(*records, codec=codec))] == [
            (r.conversation, r.raw) for r in records
        ]

    def test_lone_surrogates_come_back(self, make_record):
        """The typed fields say U+FFFD, the record keeps what was there."""
        record = make_record(Message(id="\ud800", role="user", parts=(TextPart("\udfff!"),)))

        data = written(record)

        (values,) = fastavro.reader(io.BytesIO(data))
        assert values["messages"][0]["parts"][0]["text"] == "\ufffd!"
        assert read(data)[0].conversation == record.conversation

    def test_other_tools_read_the_typed_fields(self, full, links):
        """The schema travels in the file; times are times."""
        data = written(full, links=links)

        reader = fastavro.reader(io.BytesIO(data))
        (values,) = reader

        assert reader.writer_schema["name"] == "muniment.v1.Conversation"
        assert values["title"] == "Cats"
        assert values["created_at"] == full.conversation.created_at
        assert [m["role"] for m in values["messages"]] == [m.role for m in full.conversation.messages]
        assert "assets/abababab.png" in [a["path"] for a in values["assets"]]

    def test_its_schema_is_valid(self):
        fastavro.parse_schema(SCHEMA)

    def test_a_damaged_file_is_refused(self, full):
        """A cut or changed file is an error with a reason, not fewer records."""
        data = written(full)

        for damaged in (data[:-30], data[:40], b"Obj\x01" + b"\xff" * 60, data[:-16] + b"\0" * 16):
            with pytest.raises(RecordError, match="damaged"):
                read(damaged)

    def test_a_file_of_another_program_is_refused(self):
        stream = io.BytesIO()
        fastavro.writer(stream, {"type": "record", "name": "X", "fields": [{"name": "a", "type": "int"}]}, [{"a": 1}])

        with pytest.raises(RecordError, match="another program"):
            read(stream.getvalue())
