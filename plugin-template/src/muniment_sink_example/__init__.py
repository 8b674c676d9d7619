"""Append one JSON line per conversation to a file: the smallest sink that is worth having."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from attrs import frozen

from muniment import BatchSink, Record, RecordError, hookimpl, option, part_text


@frozen(kw_only=True)
class Example(BatchSink):
    """One line per conversation: its key, title and texts."""

    path: str = option("The file that lines are appended to.", is_path=True)
    max_texts: int = option("Conversations with more texts are refused.", default=100_000)

    @contextmanager
    def connect(self) -> Iterator[TextIO]:
        """Give the client (in a real sink a session, a queue, a log) and close it at the end."""
        with Path(self.path).open("a", encoding="utf-8") as file:
            yield file

    def send(self, client: TextIO, records: Sequence[Record]) -> None:
        """Store all records, or say by an error what became of them.

        `RecordError` refuses one record, which goes to quarantine.  `TransientError` asks for the
        call to be repeated.  Any other error ends the run.
        """
        lines = [self._line(record) for record in records]  # first refuse, then write
        client.writelines(lines)
        client.flush()

    def _line(self, record: Record) -> str:
        talk = record.conversation
        texts = [text for message in talk.messages for part in message.parts if (text := part_text(part))]
        if len(texts) > self.max_texts:
            raise RecordError(f"more than {self.max_texts} texts", record_id=record.key)
        return json.dumps({"key": record.key, "title": talk.title, "texts": texts}) + "\n"


@hookimpl
def muniment_sinks() -> dict[str, type[Example]]:
    return {"example": Example}
