import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import Chunk, Conversation, InputError, Partition, RecordError, TextPart
from muniment.canonical import record_from_json, record_to_json
from muniment_plugins.sources.chatgpt_export.decode import decode_chunk
from muniment_plugins.sources.chatgpt_export.shapes import parse
from muniment_plugins.sources.chatgpt_export.times import read_time

TIME = datetime(2023, 11, 14, 22, 13, 20, 500000, tzinfo=UTC)


class TestConversation:
    def test_has_what_the_export_says(self, decode, node, talk):
        """The fields of a full conversation stand where the model has a place for them."""
        record = decode(
            talk(
                node("m1", "Hello"),
                create_time=1700000000.5,
                update_time=1700000000.5,
                current_node="m1",
                default_model_slug="gpt-5",
                gizmo_id="g-p-123",
                gizmo_type="snorlax",
                is_archived=True,
                is_starred=None,
                memory_scope="project_enabled",
                voice="cove",
                plugin_ids=[],
            ),
            {"user.json": {"id": "user-1", "email": "a@b.example"}},
        )

        assert record.conversation == Conversation(
            id="c1",
            source="chatgpt",
            account="user-1",
            title="A talk",
            created_at=TIME,
            updated_at=TIME,
            model="gpt-5",
            current="m1",
            messages=record.conversation.messages,
            metadata={
                "project_id": "g-p-123",
                "is_archived": True,
                "memory_scope": "project_enabled",
                "voice": "cove",
            },
        )
        assert record.findings == ()
        assert (record.origin.start, record.origin.end, record.origin.digest) == (7, 99, "")

    def test_tells_custom_gpts_from_projects(self, decode, talk):
        record = decode(talk(gizmo_id="g-abc", gizmo_type="gpt"))

        assert record.conversation.metadata == {"gpt_id": "g-abc"}

    @pytest.mark.parametrize(
        ("ids", "expected"),
        [
            ({"id": "a", "conversation_id": "b"}, "b"),
            ({"id": "a", "conversation_id": None}, "a"),
            ({"id": 12}, "12"),
        ],
    )
    def test_finds_its_id(self, decode, ids, expected):
        assert decode({"mapping": {}, **ids}).conversation.id == expected

    def test_without_an_id_gets_one_from_its_bytes(self, decode):
        first, again, other = (decode({"mapping": {}, "title": t}).conversation.id for t in "aab")

        assert first == again != other
        assert first.startswith("sha256-")
        assert len(first) == len("sha256-") + 32

    @pytest.mark.parametrize("mapping", [{"mapping": None}, {"mapping": {}}, {"mapping": []}, {}])
    def test_without_messages_is_kept_and_counted(self, decode, mapping):
        record = decode({"id": "c1", "title": None, "create_time": None, **mapping})

        assert record.conversation.messages == ()
        assert record.conversation.title is None
        assert record.findings == ("empty_conversation",)

    def test_keeps_times_that_cannot_be_read(self, decode, node, talk):
        record = decode(talk(node("m1", "x", create_time="soon"), create_time="long ago"))

        assert record.conversation.created_at is None
        assert record.conversation.metadata == {"unread_times": {"create_time": "long ago"}}
        assert record.conversation.messages[0].metadata == {"unread_times": {"create_time": "soon"}}

    @pytest.mark.parametrize("current", ["gone", None, 5, ["m1"]])
    def test_without_a_usable_leaf_has_none(self, decode, node, talk, current):
        assert decode(talk(node("m1", "x"), current_node=current)).conversation.current is None

    def test_names_its_shared_links(self, decode, talk):
        links = [
            {"id": "s1", "conversation_id": "c1", "title": "T", "is_anonymous": True},
            {"id": "s2", "conversation_id": "c2"},
        ]
        record = decode(talk(), {"shared_conversations.json": links})

        assert record.conversation.metadata == {"shared_links": [{"id": "s1", "title": "T", "is_anonymous": True}]}

    def test_survives_damaged_sidecars(self, decode, node, talk):
        record = decode(talk(node("m1", "x")), {"user.json": InputError("damaged"), "message_feedback.json": {"a": 1}})

        assert record.findings == ("unreadable_sidecar:user.json",)


class TestMessage:
    def test_has_what_the_node_says(self, message):
        found = message(
            "Hello",
            role="tool",
            author={"role": "tool", "name": "python", "metadata": {"real_author": "tool:web"}},
            create_time=1700000000.5,
            update_time=1700000000.5,
            status="finished_successfully",
            weight=1.0,
            recipient="assistant",
            channel="final",
            metadata={
                "model_slug": "gpt-5",
                "finish_details": {"type": "stop"},
                "canvas": {"textdoc_id": "t"},
                "selected_sources": [],
                "request_id": "r",
            },
        )

        assert found.role == "tool"
        assert found.author == "python"
        assert found.recipient == "assistant"
        assert found.channel == "final"
        assert found.status == "finished_successfully"
        assert found.model == "gpt-5"
        assert found.created_at == found.updated_at == TIME
        assert found.parts == (TextPart("Hello"),)
        assert found.metadata == {
            "canvas": {"textdoc_id": "t"},
            "finish_reason": "stop",
            "real_author": "tool:web",
        }

    def test_needs_nothing_but_itself(self, decode):
        record = decode({"id": "c1", "mapping": {"m1": {"message": {}}}})

        message = record.conversation.messages[0]
        assert (message.id, message.role, message.parts, message.metadata) == ("m1", "unknown", (), None)

    @pytest.mark.parametrize(
        "broken",
        [
            {"author": "user"},
            {"author": ["user"]},
            {"content": 5},
            {"content": {"content_type": 5}},
            {"content": {"content_type": "text", "parts": 5}},
            {"metadata": []},
            {"metadata": "x"},
            {"metadata": {"attachments": "x", "content_references": 5, "citations": {}, "aggregate_result": "x"}},
            {"metadata": {"content_references": [5, {"type": 5, "items": 5, "start_idx": "a"}]}},
            {"metadata": {"model_slug": 5, "finish_details": "stop", "search_result_groups": 5}},
            {"create_time": {}, "update_time": []},
            {"status": 5, "recipient": {}, "channel": [], "weight": "a"},
            {"id": {"a": 1}},
        ],
    )
    def test_survives_wrong_types(self, decode, node, talk, broken):
        """A wrong type costs its field, never the message."""
        record = decode(talk(node("m1", "x") | {"message": {"id": "m1", **broken}}))

        assert [m.id for m in record.conversation.messages] == ["m1"]

    @pytest.mark.parametrize("value", ["text", 5, ["x"], True])
    def test_that_is_no_object_is_unknown(self, decode, value):
        record = decode({"id": "c1", "mapping": {"m1": {"message": value}, "m2": value}})

        assert [m.parts[0].value for m in record.conversation.messages] == [value, value]
        assert record.findings == ("unknown_content:message",)

    @pytest.mark.parametrize(
        ("fields", "hidden"),
        [
            ({"metadata": {"is_visually_hidden_from_conversation": True}}, True),
            ({"role": "system", "content": "", "weight": 0.0}, True),
            ({"role": "system", "content": "Be kind", "weight": 0.0}, False),
            ({"role": "assistant", "content": "x"}, False),
        ],
    )
    def test_knows_whether_it_is_hidden(self, message, fields, hidden):
        assert message(**{"content": "x"} | fields).hidden is hidden

    def test_keeps_another_id_of_its_own(self, decode, node, talk):
        record = decode(talk(node("m1", "x", id="other")))

        assert record.conversation.messages[0].id == "m1"
        assert record.conversation.messages[0].metadata == {"message_id": "other"}

    def test_gets_the_feedback_on_it(self, decode, node, talk):
        feedback = [
            {"id": "m1", "conversation_id": "c2", "rating": "thumbs_up"},
            {
                "id": "m1",
                "conversation_id": "c1",
                "rating": "thumbs_down",
                "content": '{"tags": ["wrong"]}',
                "create_time": "2026-01-02T03:04:05Z",
                "workspace_id": None,
            },
        ]
        record = decode(talk(node("m1", "x"), node("m2", "y")), {"message_feedback.json": feedback})

        assert [m.feedback for m in record.conversation.messages] == [
            {"rating": "thumbs_down", "content": {"tags": ["wrong"]}, "created_at": "2026-01-02T03:04:05Z"},
            None,
        ]


class TestRaw:
    @given(indent=st.sampled_from([None, 0, 1, 2]), ascii_only=st.booleans(), compact=st.booleans())
    def test_is_the_source_without_line_breaks(self, indent, ascii_only, compact):
        """Whatever the layout, the pieces are the JSON that was there, on one line each."""
        value = {
            "a": [{"mapping": {"m1": 1}}, '"mapping": {'],
            "title": 'é\n"mapping": {"m1": {\U0001f600',
            "mapping": {"m1": {"id": "m1", "x": [1.50, "a\tb"]}, 'k"': {"message": None}},
            "z": {"mapping": {"m1": {}}},
        }
        separators = (",", ":") if compact else None
        data = json.dumps(value, indent=indent, ensure_ascii=ascii_only, separators=separators).encode()

        _, nodes, raw = parse(data)

        assert json.loads(raw.envelope) == value | {"mapping": None}
        assert [json.loads(m) for m in raw.messages] == list(value["mapping"].values())
        assert list(nodes) == list(value["mapping"])
        assert not any(b in piece for piece in (raw.envelope, *raw.messages) for b in (b"\n", b"\r"))

    @pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
    def test_is_verbatim(self, separators):
        node = '{"id": "m1", "n": 1.50e3, "s": "\\u00e9\\/"}'
        comma, colon = separators
        data = f'{{"id"{colon}"c"{comma}"mapping"{colon}{{"m1"{colon}{node}}}{comma}"x"{colon}1.0}}'

        raw = parse(data.encode()).raw

        assert raw.messages == (node.encode(),)
        assert raw.envelope == f'{{"id"{colon}"c"{comma}"mapping"{colon}null{comma}"x"{colon}1.0}}'.encode()

    def test_runs_parallel_to_the_messages(self, decode, node, talk):
        """Placeholders have no message, and order is the tree's."""
        record = decode(talk(node("b", "2", parent="a"), {"id": "root"}, node("a", "1", parent="root")))

        assert [m.id for m in record.conversation.messages] == ["a", "b"]
        assert [json.loads(r)["id"] for r in record.raw.messages] == ["a", "b"]

    def test_round_trips_through_our_own_json(self, decode, node, talk):
        record = decode(talk(node("m1", "x"), node("m2", "\ud83d \x00 \ue200", parent="m1")))

        again = record_from_json(record_to_json(record), record.origin)

        assert again.conversation == record.conversation
        assert again.source_hash == record.source_hash
        assert again.raw == record.raw


class TestOddText:
    @pytest.mark.parametrize(
        "text", ["\ud83d", "a\ude00b", "\x00", "\ue200cite\ue202x\ue201", "\u202e\u2028", "\U0001f600"]
    )
    @pytest.mark.parametrize("skipped", [False, True])
    def test_survives_as_it_is(self, decode, node, talk, text, skipped):
        """Lone surrogates, NUL, private-use marks: in what is read and in what is skipped."""
        more = {"request_id": text} if skipped else {}
        record = decode(talk(node("m1", text, metadata={"model_slug": "gpt", **more}), title=text))

        assert record.conversation.title == text
        assert record.conversation.messages[0].parts == (TextPart(text),)
        assert record.conversation.messages[0].model == "gpt"
        assert json.loads(record.raw.messages[0])["message"]["content"]["parts"] == [text]

    def test_gives_the_same_record_either_way(self, decode, node, talk):
        """A lone surrogate somewhere changes nothing elsewhere."""
        plain = talk(node("m1", "x", create_time=1.5, metadata={"citations": [], "canvas": {"a": 1}}))

        assert decode(plain | {"blocked_urls": ["\ud800"]}).conversation == decode(plain).conversation


class TestRefusal:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"[1]", "not a conversation: it is not an object"),
            (b"5", "not a conversation: it is not an object"),
            (b'{"id": "a", "secret', "not JSON: Unterminated string starting at at character 12"),
            (b'{"mapping": {}, "x": NaN}', "not JSON: `NaN` is not JSON"),
            (b'{"mapping": {"secret": Infinity}}', "not JSON: `Infinity` is not JSON"),
            (b'{"mapping": {}, "x": "\xff"}', "not JSON: not UTF-8 at byte 22"),
            (b'{"mapping": {}, "x": "a\nb"}', "not JSON: Invalid control character at at character 23"),
            (b'{"mapping": "secret"}', "not a conversation: its `mapping` is not an object"),
            (b'{"x": 1}', "not a conversation: it has no `mapping`, nor the other keys of one"),
            (b'{"uuid": "a", "chat_messages": []}', "not a ChatGPT conversation: it looks like a Claude export"),
            (
                b'{"mapping": {"m": {"message": {"create_time": 1e999}}}, "title": "\\ud800"}',
                "not JSON: a number is too large",
            ),
            (b'{"mapping": {"m": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
            (b"[" * 100_000, "nested too deeply"),
        ],
    )
    def test_has_a_reason_without_content(self, decode, data, reason):
        with pytest.raises(RecordError) as caught:
            decode(data)

        assert caught.value.reason.removeprefix("not JSON: nested") in (reason, " too deeply")


class TestChunk:
    def test_goes_on_behind_a_bad_conversation(self, tmp_path: Path):
        """Each slice becomes a record or a rejection with its place and digest."""
        (tmp_path / "conversations.json").write_text("[]")
        partition = Partition("p1", "f1", "export", locator={"path": str(tmp_path), "member": "conversations.json"})
        data = ((0, 2, b'{"id": "a", "mapping": {}}'), (3, 5, b'{"id": }'), (6, 8, b'{"id": "b", "mapping": {}}'))

        first, second, third = decode_chunk(Chunk(partition, 1, 8, data))

        assert (first.conversation.id, third.conversation.id) == ("a", "b")
        assert (third.origin.start, third.origin.end) == (6, 8)
        assert (second.stage, second.reason) == ("decode", "not JSON: Expecting value at character 7")
        assert (second.origin.start, second.origin.end) == (3, 5)
        assert len(second.origin.digest) == 64


class TestTimes:
    @pytest.mark.parametrize(
        "value",
        [
            1700000000.5,
            1700000000500,
            1700000000500000,
            1700000000500000000,
            "1700000000.5",
            " 1700000000500 ",
            "2023-11-14T22:13:20.5Z",
            "2023-11-14T22:13:20.500000",
            "2023-11-15 00:13:20.5+02:00",
        ],
    )
    def test_come_in_many_forms(self, value):
        assert read_time(value) == TIME

    @pytest.mark.parametrize("value", [None, True, "", "soon", 1e300, -1e300, 10**400, "nan", "inf", "1e999", [], {}])
    def test_are_none_when_nobody_can_read_them(self, value):
        assert read_time(value) is None

    @given(st.integers(0, 4_000_000_000_000_000))
    def test_keep_microseconds(self, micros):
        found = read_time(micros / 1e6)

        assert abs(round(found.timestamp() * 1e6) - micros) <= 1
