from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muniment import FilePart, ReasoningPart, TextPart, ToolCallPart, ToolCallResponsePart, UnknownPart
from muniment.canonical import to_json

GOLDEN = [
    ({"content_type": "text", "parts": ["Hello"]}, [TextPart("Hello")]),
    ({"content_type": "text", "parts": [""]}, []),
    ({"content_type": "text", "parts": []}, []),
    ({"content_type": "text", "parts": ["a", "", "b"]}, [TextPart("a"), TextPart("b")]),
    ({"content_type": "text", "parts": "a"}, [TextPart("a")]),
    ({"content_type": "text", "text": "a"}, [TextPart("a")]),
    ({"content_type": "text", "parts": [{"content_type": "text", "text": "a"}]}, [TextPart("a")]),
    ({"parts": ["a"]}, [TextPart("a")]),
    ("a", [TextPart("a")]),
    (["a", "b"], [TextPart("a"), TextPart("b")]),
    (
        {"content_type": "code", "language": "python", "response_format_name": None, "text": "1 + 1"},
        [TextPart("1 + 1", kind="code", language="python")],
    ),
    (
        {"content_type": "tether_browsing_code", "language": "unknown", "text": "search()"},
        [TextPart("search()", kind="code")],
    ),
    (
        {"content_type": "execution_output", "text": "2"},
        [ToolCallResponsePart("2", name="python", kind="execution")],
    ),
    (
        {"content_type": "tether_quote", "url": "https://a.example", "domain": "a.example", "title": "A", "text": "q",
         "tether_id": None},
        [TextPart("q", kind="quote", title="A", url="https://a.example", metadata={"domain": "a.example"})],
    ),
    (
        {"content_type": "tether_browsing_display", "result": "page", "summary": "s", "assets": [], "tether_id": 5},
        [ToolCallResponsePart("page", name="python", kind="browse", metadata={"summary": "s", "tether_id": 5})],
    ),
    ({"content_type": "system_error", "name": "E", "text": "t"}, [TextPart("t", kind="error", title="E")]),
    (
        {"content_type": "user_editable_context", "user_profile": "I", "user_instructions": "be"},
        [TextPart("I", kind="context", title="user_profile"),
         TextPart("be", kind="context", title="user_instructions")],
    ),
    (
        {"content_type": "model_editable_context", "model_set_context": "m", "repository": None, "repo_summary": "r"},
        [TextPart("m", kind="context", title="model_set_context"), TextPart("r", kind="context", title="repo_summary")],
    ),
    (
        {
            "content_type": "thoughts",
            "thoughts": [
                {"summary": "S", "content": "C d", "chunks": ["C", "d"], "finished": True},
                {"summary_text": "T", "content": ""},
                {"summary": "", "content": ""},
            ],
            "source_analysis_msg_id": None,
        },
        [ReasoningPart("C d", summary="S"), ReasoningPart("", summary="T")],
    ),
    ({"content_type": "thoughts", "parts": ["C"]}, [ReasoningPart("C")]),
    ({"content_type": "reasoning_recap", "content": "7s"}, [ReasoningPart("7s", kind="recap")]),
    ({"content_type": "reasoning_recap", "text": "7s"}, [ReasoningPart("7s", kind="recap")]),
    ({"content_type": "reasoning_recap", "parts": ["7s"]}, [ReasoningPart("7s", kind="recap")]),
    (
        {"content_type": "sonic_webpage", "url": "u", "domain": "d", "title": "T", "text": "t", "snippet": "s",
         "pub_date": None, "crawl_date": None, "pub_timestamp": 1.5, "ref_id": "r"},
        [TextPart("t", kind="web_page", title="T", url="u",
                  metadata={"domain": "d", "snippet": "s", "pub_timestamp": 1.5, "ref_id": "r"})],
    ),
    (
        {"content_type": "citable_code_output", "output_str": "o",
         "metadata": {"display_title": "T", "display_url": "u", "connector_id": "c", "connector_source": None}},
        [ToolCallResponsePart("o", name="python", kind="connector", title="T", url="u",
                              metadata={"connector_id": "c"})],
    ),
    (
        {"content_type": "app_pairing_content", "custom_instructions": "be", "workspaces": None,
         "context_parts": [{"workspace_id": "w", "text": "file", "path": "a.py", "annotations": []}]},
        [TextPart("be", kind="context", title="custom_instructions"),
         TextPart("file", kind="context", title="a.py", metadata={"workspace_id": "w"})],
    ),
]  # fmt: skip


class TestKnownContent:
    @pytest.mark.parametrize(("content", "parts"), GOLDEN, ids=str)
    def test_becomes_typed_parts(self, message, content, parts):
        assert list(message(content, author={"role": "tool", "name": "python"}).parts) == parts

    def test_code_to_a_tool_is_a_call(self, message):
        content = {"content_type": "code", "language": "json", "text": '{"q": 1}', "response_format_name": "f"}

        found = message(content, role="assistant", recipient="web.run")

        assert found.parts == (ToolCallPart("web.run", '{"q": 1}', language="json"),)
        assert found.metadata == {"response_format_name": "f"}

    def test_agent_screens_have_their_screenshot(self, message):
        content = {
            "content_type": "computer_output",
            "computer_id": "c",
            "screenshot": {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1", "width": 9},
            "state": {"type": "browser_state", "title": "T", "url": "u", "dom": None},
            "is_ephemeral": None,
            "tether_id": None,
        }

        response, shot = message(content, author={"role": "tool", "name": "computer.do"}).parts

        assert response == ToolCallResponsePart(
            {"type": "browser_state", "title": "T", "url": "u"},
            name="computer.do",
            kind="computer",
            title="T",
            url="u",
            metadata={"computer_id": "c"},
        )
        assert shot == FilePart("file_1", modality="image", metadata={"width": 9})

    @pytest.mark.parametrize("pointer", ["sediment://file_1", {"asset_pointer": "sediment://file_1"}])
    def test_screenshots_may_be_nested(self, message, pointer):
        screenshot = {"image_asset_pointer": pointer}
        found = message({"content_type": "computer_output", "screenshot": screenshot, "state": {}})

        assert found.parts[1] == FilePart("file_1", modality="image")


class TestRuns:
    def test_hand_on_images_and_what_the_output_lacks(self, decode, node, talk):
        """What the call or the output says already is not said again."""
        result = {
            "status": "failed_with_in_kernel_exception",
            "run_id": "r",
            "code": "plot()",
            "in_kernel_exception": {"name": "E"},
            "final_expression_output": "out",
            "messages": [
                {"message_type": "image", "image_url": "file-service://file-1", "width": 5},
                {"message_type": "stream", "text": "out"},
                {"message_type": "stream", "text": "else"},
            ],
        }
        call = node("m1", {"content_type": "code", "text": "plot()"}, recipient="python")
        run = {"content_type": "execution_output", "text": "out"}
        record = decode(talk(call, node("m2", run, parent="m1", metadata={"aggregate_result": result})))

        found = record.conversation.messages[1]
        assert found.parts == (
            ToolCallResponsePart("out", kind="execution"),
            FilePart("file-1", modality="image", metadata={"width": 5}),
        )
        assert found.metadata == {
            "run": {
                "status": "failed_with_in_kernel_exception",
                "in_kernel_exception": {"name": "E"},
                "messages": [{"message_type": "stream", "text": "else"}],
            }
        }


class TestUnknownContent:
    def test_is_kept_whole_and_counted(self, decode, node, talk):
        content = {"content_type": "super_widget", "widget": {"a": [1]}}

        record = decode(talk(node("m1", content)))

        assert record.conversation.messages[0].parts == (UnknownPart(content, "super_widget"),)
        assert record.findings == ("unknown_content:super_widget",)

    def test_keys_of_known_content_are_kept(self, decode, node, talk):
        record = decode(talk(node("m1", {"content_type": "text", "parts": ["a"], "new": {"b": 1}, "void": []})))

        assert record.conversation.messages[0].parts == (TextPart("a"), UnknownPart({"new": {"b": 1}}, "text"))
        assert record.findings == ("unknown_content:text",)

    def test_names_cannot_carry_content(self, decode, node, talk):
        record = decode(talk(node("m1", {"content_type": "my secret\n" + "x" * 100})))

        assert record.findings == ("unknown_content:other",)

    @pytest.mark.parametrize("part", [5, {"content_type": "hologram", "a": 1}, {"a": 1}, ["a"]])
    def test_parts_are_kept_whole(self, message, part):
        found = message({"content_type": "multimodal_text", "parts": ["a", part, None]})

        assert [p.value for p in found.parts if isinstance(p, UnknownPart)] == [part]


OBJECTS = [c for c, _ in GOLDEN if isinstance(c, dict)]
KINDS = sorted({c["content_type"] for c in OBJECTS if "content_type" in c} | {"computer_output"})
KEYS = sorted({k for c in OBJECTS for k in c if k != "content_type"} | {"state", "screenshot", "zz"})
INNER_KEYS = [*KEYS, "content", "summary", "asset_pointer", "url", "path"]
LEAVES = st.text("abcdefgh", min_size=4, max_size=9) | st.integers(1000, 9999)
VALUES = st.recursive(
    LEAVES | st.none() | st.just(""),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER_KEYS), inner, max_size=3),
    max_leaves=6,
)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for v in value.values() for x in leaves(v)]
    if isinstance(value, list):
        return [x for v in value for x in leaves(v)]
    return [value] if value not in (None, "") else []


class TestLossless:
    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(kind=st.sampled_from(KINDS), fields=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
    def test_holds_for_any_content(self, message, kind, fields):
        """Whatever stands under whatever key, its text is in the canonical message."""
        found = to_json(message({"content_type": kind, **fields})).decode()

        missing = [x for x in leaves(fields) if str(x).split("#")[0] not in found]
        assert missing == []
