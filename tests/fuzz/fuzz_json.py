"""Fuzz what cuts and decodes conversations: any bytes as ``conversations.json``."""

import json

from fuzz_zip import CONVERSATION
from targets import Target

from muniment import Origin, RecordError
from muniment.canonical import loads, record_from_json, record_to_json, source_hash
from muniment_plugins.sinks.sqlite.encode import decompress, encode
from muniment_plugins.sources.chatgpt_export.assets import Assets
from muniment_plugins.sources.chatgpt_export.decode import decode_conversation
from muniment_plugins.sources.chatgpt_export.sidecars import Sidecars
from muniment_plugins.sources.chatgpt_export.split import NotJSONError, Piece, find_start, split

ORIGIN = Origin("conversations.json", "p")


class NoExport:
    """An export with nothing beside the conversations."""

    def open(self, name: str) -> None:
        raise FileNotFoundError(name)

    def read_json(self, name: str) -> None:
        return None

    def find_asset(self, asset_id: str) -> None:
        return None


def make() -> Target:
    sidecars = Sidecars(NoExport())  # type: ignore[arg-type]
    assets = Assets(NoExport(), sidecars)  # type: ignore[arg-type]

    def check(data: bytes) -> None:
        pieces = cut(data, len(data) or 1)
        if pieces is None:
            return
        assert cut(data, 7) == pieces, "the sizes of blocks matter"
        check_places(pieces, data)
        for piece in pieces:
            if piece.data is not None:
                check_conversation(piece.data, sidecars, assets)

    words = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\ud83d", b"\\udc00", b"\\u0000", b"\xef\xbb\xbf"]
    words += [b"\xff", b"\xed\xa0\x80", b"nul", b"NaN", b"-0", b"1e999", b"1" * 400, b"[" * 1100, b"\0", b"\r\n"]
    words += [f'"{w}"'.encode() for w in ("mapping", "current_node", "parent", "id", "message", "conversations", "m")]
    return Target(check, seeds(), words, max_bytes=16 * 2**10)


def cut(data: bytes, size: int) -> list[Piece] | None:
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    try:
        shape, start = find_start(blocks)
    except NotJSONError:
        return None
    rest = data[start:]
    return list(split([rest[i : i + size] for i in range(0, len(rest), size)], shape, start))


def check_places(pieces: list[Piece], data: bytes) -> None:
    """Pieces stand in order, do not overlap, and are what stands there."""
    end = 0
    for piece in pieces:
        assert end <= piece.start <= piece.end <= len(data)
        assert piece.data is None or piece.data == data[piece.start : piece.end]
        end = piece.end


def check_conversation(data: bytes, sidecars: Sidecars, assets: Assets) -> None:
    """A conversation is refused, or it comes back from what is stored; and it is what the JSON says."""
    try:
        record = decode_conversation(data, ORIGIN, sidecars, assets)
    except RecordError as error:
        assert len(error.reason) < 200
        return
    loads(data)
    line = record_to_json(record)
    back = record_from_json(line, ORIGIN)
    assert back.conversation == record.conversation
    assert source_hash(back.conversation) == record.source_hash
    assert decompress(encode(record, indexed=True).record) == line
    ids = [m.id for m in record.conversation.messages]
    assert len(set(ids)) == len(ids)
    seen: set[str | None] = {None}
    for message in record.conversation.messages:
        assert message.parent_id in seen
        seen.add(message.id)


def seeds() -> list[bytes]:
    rich = {
        **CONVERSATION,
        "title": "\ud83d \u2028 \x7f",
        "mapping": {
            "r": {"id": "r", "message": None, "parent": None, "children": ["a", "b"]},
            "a": {
                "id": "a",
                "parent": "r",
                "message": {
                    "id": "a",
                    "author": {"role": "assistant", "metadata": {}},
                    "create_time": 1.25,
                    "content": {"content_type": "code", "language": "python", "text": "1+1"},
                    "recipient": "python",
                    "metadata": {"model_slug": "m", "attachments": [{"id": "file-1", "name": "x.png"}], "n": [1, -1e5]},
                },
            },
            "b": {"id": "b", "parent": "a", "message": {"content": {"content_type": "multimodal_text", "parts": [
                {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}, "text"]}}},
        },
        "current_node": "b",
    }  # fmt: skip
    values = [CONVERSATION, rich, {**CONVERSATION, "conversation_id": "d"}]
    plain, wide = json.dumps(values).encode(), json.dumps(values, indent=1, ensure_ascii=True).encode()
    wrapped = json.dumps({"version": 1, "conversations": values, "more": {}}).encode()
    return [plain, wide, wrapped, json.dumps(rich).encode(), b"\xef\xbb\xbf" + plain, plain[:-40], b"[" + plain[1:40]]


if __name__ == "__main__":
    from engines import start

    start("json")
