"""What is refused costs at most ten seconds and 200 MB before, whatever was given."""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

COST = Path(__file__).with_name("cost.py")
MAX_SECONDS, MAX_MB = 10, 200
# A million bytes, so that a test can write a thousand of them.
MEGA = 1_000_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")


@frozen
class Cost:
    said: str
    code: int
    messages: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


@pytest.fixture
def cost(tmp_path: Path) -> Callable[[Path], Cost]:
    """Return a function that imports a file in a process of its own; `pytest -s` shows what each has cost."""

    def measure(path: Path) -> Cost:
        done = subprocess.run(
            [sys.executable, str(COST), str(path), str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = Cost(**json.loads(done.stdout))
        megabytes = path.stat().st_size / MEGA
        took = f"{found.cpu_seconds:.2f} s of a processor ({found.seconds:.2f} s), {found.peak_mb:.0f} MB of memory"
        print(f"\n{megabytes:.1f} MB: exit code {found.code}, {took}")
        return found

    return measure


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes bytes piece by piece, as a file of conversations."""

    def write(*pieces: bytes | Iterator[bytes]) -> Path:
        path = tmp_path / "conversations.json"
        with path.open("wb") as file:
            for piece in pieces:
                file.writelines([piece] if isinstance(piece, bytes) else piece)
        return path

    return write


def assert_cheap(cost: Cost, codes: Sequence[int] = (1, 3)) -> None:
    assert cost.code in codes, cost
    # What else this machine does is no fault of the reader.
    assert cost.cpu_seconds < MAX_SECONDS, cost
    assert cost.peak_mb < MAX_MB, cost


class TestZips:
    def test_a_directory_of_200_000_files(self, built: Any, entry: Any, cost: Any) -> None:
        """Just as many as are allowed, and nothing in them."""
        base = built(entry(b"x")).read_bytes()
        local = base[: base.index(b"PK\1\2")]
        one = base[len(local) : base.rindex(b"PK\5\6")]
        path = built(entry(b"x"))
        count = 200_000
        directory = bytearray(one * count)
        body = local * count
        for i in range(count):
            struct.pack_into("<L", directory, i * len(one) + 42, i * len(local))
        big = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), len(body))
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(directory), 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        path.write_bytes(body + directory + big + locator + end)

        assert_cheap(cost(path))

    def test_names_that_fill_the_directory(self, built: Any, entry: Any, cost: Any) -> None:
        """Each of 60,000 characters, one of them four times as wide in memory as the others."""
        name = "\U0001f600".encode() + b"n" * 60_000
        entries = [entry(name + b"%d" % i, flags=0x800) for i in range(390)]

        assert_cheap(cost(built(*entries)))

    def test_a_bomb_of_one_file(self, built: Any, entry: Any, cost: Any) -> None:
        """A gigabyte in a megabyte."""
        assert_cheap(cost(built(entry(b"conversations.json", b"[" + b" " * (100 * MEGA)))))

    def test_a_bomb_that_lies_about_its_size(self, built: Any, entry: Any, cost: Any) -> None:
        """The first byte beyond is the last that is inflated."""
        bomb = entry(b"conversations.json", b"[" + b" " * (100 * MEGA))
        lie = {"size": 1000}

        assert_cheap(cost(built(entry(b"conversations.json", bomb.data, local=lie, central=lie))))

    def test_files_that_are_one_file(self, built: Any, entry: Any, cost: Any) -> None:
        """A hundred thousand names for the same ten megabytes."""
        base = built(entry(b"conversations.json", b"[" + b" " * (10 * MEGA))).read_bytes()
        where = base.index(b"PK\1\2")
        one = base[where : base.rindex(b"PK\5\6")]
        count = 100_000
        directory = one * count
        big = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), where)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, where + len(directory), 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        path = built(entry())
        path.write_bytes(base[:where] + directory + big + locator + end)

        assert_cheap(cost(path))

    def test_bombs_beside_the_conversations(self, built: Any, entry: Any, cost: Any) -> None:
        """A hundred files that are read along, each just small enough for the ratio of one."""
        bomb = entry(b"x", b" " * (9 * MEGA))
        entries = [entry(b"group_chats-%d.json" % i, b"", packed=bomb.stored) for i in range(100)]
        lie = {"size": 9 * MEGA, "crc": zlib.crc32(bomb.data)}
        entries = [evolve(e, local=lie, central=lie) for e in entries]

        assert_cheap(cost(built(*entries)))

    def test_end_records_without_end(self, built: Any, entry: Any, end: Any, cost: Any) -> None:
        """The longest comment, full of them."""
        record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 50, 0, 0)

        assert_cheap(cost(built(entry(), end=end(comment=record * (0xFFFF // len(record))))))


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestJson:
    def test_brackets_alone(self, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(b"[" * (100 * MEGA))))

    def test_objects_in_objects(self, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(b"[", b'{"a":' * (20 * MEGA))))

    def test_a_string_that_never_ends(self, written: Any, cost: Any) -> None:
        """Half a gigabyte."""
        pieces = (b"x" * MEGA for _ in range(500))

        assert_cheap(cost(written(b'[{"mapping": {}, "title": "', pieces)))

    def test_a_conversation_larger_than_is_allowed(self, written: Any, cost: Any) -> None:
        pieces = (b"x" * MEGA for _ in range(300))

        assert_cheap(cost(written(b'[{"mapping": {}, "title": "', pieces, b'"}]')))

    def test_empty_values_without_end(self, written: Any, cost: Any, talk: Any) -> None:
        """In a conversation that is just small enough."""
        head, tail = json.dumps([talk(voice="@")]).encode().split(b'"@"')

        assert_cheap(cost(written(head, b"[" + b"[]," * (20 * MEGA) + b"[]]", tail)))

    @pytest.mark.parametrize(
        ("number", "code"),
        [(b"9" * (30 * MEGA), 3), (b"1e" + b"9" * (30 * MEGA), 3), (b"-0." + b"3" * (30 * MEGA), 0)],
        ids=["digits", "exponent", "decimals"],
    )
    def test_a_number_without_end(self, number: bytes, code: int, written: Any, cost: Any, talk: Any) -> None:
        """Decimals without end are rounded for whoever computes with them, and kept as they are."""
        head, tail = json.dumps([talk(voice="@")]).encode().split(b'"@"')

        assert_cheap(cost(written(head, number, tail)), (code,))

    def test_numbers_that_are_large(self, written: Any, cost: Any, talk: Any) -> None:
        """As many digits as Python takes, again and again, and a number that is none at the end."""
        head, tail = json.dumps([talk(voice="@")]).encode().split(b'"@"')
        pieces = [(b"9" * 4000 + b",") * 250 for _ in range(30)]

        assert_cheap(cost(written(head, b"[", *pieces, b"1e999]", tail)))

    @pytest.mark.parametrize("megabytes", [16, 66])
    @pytest.mark.parametrize(
        "piece",
        [b"9" * 4000 + b",", '"\U0001f600'.encode() + b"x" * 990 + b'",', b'"\\ud83d' + b"x" * 990 + b'",'],
        ids=["numbers", "wide text", "lone surrogates"],
    )
    def test_what_only_one_parser_takes(self, piece: bytes, megabytes: int, written: Any, cost: Any, talk: Any) -> None:
        """To the end, where it is refused, in a conversation that is just small enough for it, and in a large one."""
        head, tail = json.dumps([talk(voice="@")]).encode().split(b'"@"')
        pieces = (piece * (MEGA // len(piece)) for _ in range(megabytes))

        assert_cheap(cost(written(head, b'["\\udc00",', *pieces, b"1e999]", tail)))

    @pytest.mark.parametrize(
        "piece",
        [
            b"nul,", b'{"a":[0,', b'{"title":', b',{"mapping":', b'"', b"\\", b",{", b'{"mapping":{},"x":[}', b"] ",
            b"\0",
        ],
    )  # fmt: skip
    def test_broken_pieces_without_end(self, piece: bytes, written: Any, cost: Any) -> None:
        """Each could be the beginning of a conversation, and none is."""
        assert_cheap(cost(written(b"[1,", piece * (30 * MEGA // len(piece)))))

    def test_values_that_are_no_conversations(self, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(b"[", b"0," * (2 * MEGA), b"0]")))

    def test_text_that_is_blank(self, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(b" " * (200 * MEGA))))
        assert_cheap(cost(written(b"[{}", b" " * (200 * MEGA), b"]")))


def nodes(count: int, size: int) -> Iterator[bytes]:
    """Yield the nodes of a mapping, with so much text each, and line breaks between them."""
    for i in range(count):
        message = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["x" * size]}}
        node = {"id": str(i), "message": message, "parent": str(i - 1) if i else None}
        yield b'%s"%d":%s' % (b",\n" if i else b"", i, json.dumps(node).encode())


@pytest.mark.slow
class TestJustSmallEnough:
    """Conversations that the limit lets through, and that are refused when they have been taken apart."""

    HEAD = b'[\n{"title":"t","conversation_id":"c"'

    @pytest.mark.parametrize(("count", "size"), [(220, 300_000), (1, 66 * MEGA), (150_000, 200)])
    def test_a_mapping_that_stands_twice(self, count: int, size: int, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(self.HEAD, b',"mapping":{', nodes(count, size), b'},"mapping":{}}]')))
        assert_cheap(cost(written(self.HEAD, b',"mapping":{},"mapping":{', nodes(count, size), b"}}]")))

    @pytest.mark.parametrize(("count", "size"), [(220, 300_000), (150_000, 200)])
    def test_a_node_that_stands_twice(self, count: int, size: int, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(self.HEAD, b',"mapping":{', nodes(count, size), b',"0":{}}}]')))

    def test_a_mapping_that_is_none(self, written: Any, cost: Any) -> None:
        assert_cheap(cost(written(self.HEAD, b',"mapping":"', (b"x" * MEGA for _ in range(66)), b'"}]')))


def chain(messages: int) -> Iterator[bytes]:
    """Yield a conversation of so many messages, each the answer to the one before: 280 bytes for each."""
    yield b'[{"title":"chain","create_time":1.5,"conversation_id":"chain","mapping":{'
    for i in range(messages):
        node = {
            "id": f"node-{i:07d}",
            "message": {
                "id": f"node-{i:07d}",
                "author": {"role": ("user", "assistant")[i % 2]},
                "create_time": 1700000000 + i,
                "content": {"content_type": "text", "parts": [f"message {i} says something"]},
            },
            "parent": f"node-{i - 1:07d}" if i else None,
            "children": [f"node-{i + 1:07d}"],
        }
        yield b'%s"node-%07d":%s' % (b"," if i else b"", i, json.dumps(node).encode())
    yield b'},"current_node":"node-%07d"}]' % (messages - 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestChains:
    def test_a_hundred_thousand_messages_are_archived(self, written: Any, cost: Any) -> None:
        """A conversation is held whole, so it costs about four times its JSON."""
        found = cost(written(chain(100_000)))

        assert (found.code, found.messages) == (0, 100_000)
        assert found.peak_mb < 180, found

    def test_a_million_are_quarantined(self, written: Any, cost: Any) -> None:
        """Which is cheap; who trusts the file can allow it."""
        assert_cheap(cost(written(chain(1_000_000))))
