"""What is in the sample export that `muniment demo` imports?  Everything here is invented.

    python tests/data/make_sample.py            # writes core/muniment/sample/chatgpt-export.zip

It has the layout of mid-2026: shards, a manifest, images as `.dat`.  Every run makes the same
members, and a test holds the shipped file to that.
"""

import json
import struct
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[2] / "core" / "muniment" / "sample" / "chatgpt-export.zip"
STAMP = (2026, 9, 1, 8, 0, 0)
NAMESPACE = uuid.UUID("6d756e69-6d65-4e74-8000-000000000000")
CONVERSATIONS_PER_SHARD = 8
SUNDIAL, MISSING = "file_00000000aaaa4bbb8ccc000000000001", "file_00000000aaaa4bbb8ccc000000000002"

JSON = Any


class Chat:
    """A conversation being written: each method adds a message behind ``at`` and moves it there."""

    def __init__(self, title: str | None, when: str, *, model: str = "gpt-5-2", **envelope: JSON) -> None:
        self.id = str(uuid.uuid5(NAMESPACE, f"{title} {when}"))
        self.at = "client-created-root"
        self._title = title
        self._model = model
        self._time = self._created = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
        self._envelope = envelope
        self._nodes: dict[str, dict[str, JSON]] = {
            self.at: {"id": self.at, "message": None, "parent": None, "children": []}
        }

    def user(self, text: str) -> str:
        return self.add("user", text_content(text), {})

    def assistant(self, text: str, **metadata: JSON) -> str:
        return self.add("assistant", text_content(text), {"model_slug": self._model, **metadata}, end=True)

    def think(self, seconds: int, *thoughts: tuple[str, str]) -> str:
        steps = [{"summary": s, "content": c, "chunks": [], "finished": True} for s, c in thoughts]
        self.add("assistant", {"content_type": "thoughts", "thoughts": steps}, {"model_slug": self._model})
        recap = {"content_type": "reasoning_recap", "content": f"Thought for {seconds}s"}
        return self.add("assistant", recap, {"model_slug": self._model, "finished_duration_sec": seconds})

    def call(self, tool: str, text: str, language: str = "unknown") -> str:
        content = {"content_type": "code", "language": language, "response_format_name": None, "text": text}
        return self.add("assistant", content, {"model_slug": self._model}, recipient=tool)

    def tool(self, name: str, content: dict[str, JSON], **metadata: JSON) -> str:
        return self.add("tool", content, metadata, name=name)

    def add(
        self,
        role: str,
        content: dict[str, JSON],
        metadata: dict[str, JSON],
        *,
        name: str | None = None,
        recipient: str = "all",
        end: bool | None = None,
    ) -> str:
        self._time += 20 + len(json.dumps(content)) % 40
        id_ = str(uuid.uuid5(NAMESPACE, f"{self.id} {len(self._nodes)}"))
        self._nodes[id_] = {
            "id": id_,
            "message": {
                "id": id_,
                "author": {"role": role, "name": name, "metadata": {}},
                "create_time": self._time,
                "update_time": None,
                "content": content,
                "status": "finished_successfully",
                "end_turn": end,
                "weight": 1.0,
                "metadata": metadata,
                "recipient": recipient,
                "channel": None,
            },
            "parent": self.at,
            "children": [],
        }
        self._nodes[self.at]["children"].append(id_)
        self.at = id_
        return id_

    def back_to(self, id_: str) -> None:
        """Go on from an earlier message: what comes next is another branch."""
        self.at = id_

    def as_json(self) -> dict[str, JSON]:
        return {
            "title": self._title,
            "create_time": self._created,
            "update_time": self._time,
            "mapping": self._nodes,
            "moderation_results": [],
            "current_node": self.at,
            "plugin_ids": None,
            "conversation_id": self.id,
            "gizmo_id": None,
            "is_archived": False,
            "default_model_slug": self._model,
            "id": self.id,
            **self._envelope,
        }


def text_content(text: str) -> dict[str, JSON]:
    return {"content_type": "text", "parts": [text]}


def image(pointer: str, size: int, width: int, height: int) -> dict[str, JSON]:
    return {
        "content_type": "image_asset_pointer",
        "asset_pointer": f"sediment://{pointer}",
        "size_bytes": size,
        "width": width,
        "height": height,
        "fovea": None,
        "metadata": None,
    }


# --- the conversations ----------------------------------------------------------------------


def keep_an_archive() -> Chat:
    """A question that was edited: two branches, the second one visible."""
    chat = Chat("How do I keep my chats?", "2026-03-02T19:04:00")
    chat.add(
        "user",
        {
            "content_type": "user_editable_context",
            "user_profile": "I keep bees and repair old radios.",
            "user_instructions": "Answer in short paragraphs.",
        },
        {"is_visually_hidden_from_conversation": True, "is_user_system_message": True},
    )
    start = chat.at
    chat.user("How do I archive my chats?")
    chat.assistant("Copy each one into a text file. It is slow, and the branches are lost.")
    chat.back_to(start)
    chat.user("How do I archive my chats so that I can still search them in ten years?")
    chat.assistant(
        "An archive that lasts needs three things:\n\n"
        "1. **Everything**, also the answers that you had regenerated.\n"
        "2. **An open format**, so that another program can read it.\n"
        "3. **A way to prove** that nothing is missing.\n\n"
        "Ask for your data in the settings, and keep the zip that you get."
    )
    chat.user("And the images?")
    chat.assistant("They are in the same zip. Keep them beside the text, named by their content.")
    return chat


def tax_return() -> Chat:
    chat = Chat("Tax return 2025: home office", "2026-02-11T08:30:00", model="gpt-5-2-thinking")
    chat.user("Can I deduct a desk that I also use for my hobby in my tax return 2025?")
    chat.think(
        7,
        ("Mixed use", "The desk is used for work and for a hobby. Rules differ between countries; ask which one."),
        ("Share", "Where mixed use is allowed, the share of working hours is the usual measure."),
    )
    chat.assistant(
        "It depends on the country. Where mixed use is allowed, you deduct the **share** that you use for work:\n\n"
        "| hours a week | share | of a desk for 400 |\n|---|---|---|\n| 30 of 40 | 75 % | 300 |\n"
        "| 10 of 40 | 25 % | 100 |\n\nKeep the receipt and a note of how you estimated the share."
    )
    return chat


def radio_code() -> Chat:
    """Code that the model wrote and ran."""
    chat = Chat("Resonant frequency of a coil", "2026-04-20T21:15:00")
    chat.user("Which frequency does a coil of 220 µH with 180 pF have?")
    source = (
        "from math import pi, sqrt\n\nL, C = 220e-6, 180e-12\nprint(round(1 / (2 * pi * sqrt(L * C)) / 1e3), 'kHz')"
    )
    chat.call("python", source, "python")
    chat.tool(
        "python",
        {"content_type": "execution_output", "text": "800 kHz\n"},
        aggregate_result={"status": "success", "code": source, "messages": [], "final_expression_output": None},
    )
    chat.assistant(
        "About **800 kHz**, in the middle of the medium wave band. The formula:\n\n"
        "```python\nfrequency = 1 / (2 * pi * sqrt(L * C))\n```"
    )
    return chat


def varroa_search() -> Chat:
    """A web search with citations."""
    chat = Chat("When to treat bees against varroa", "2026-07-05T10:00:00")
    chat.user("When should I treat against varroa after the last harvest?")
    chat.call("web.run", '{"search_query": [{"q": "varroa treatment after harvest"}]}')
    chat.tool(
        "web.run",
        {
            "content_type": "tether_browsing_display",
            "result": "[0] Treat within two weeks after the harvest.\n[1] Count mites before and after.",
            "summary": None,
            "assets": None,
            "tether_id": None,
        },
        command="search",
        status="finished",
    )
    before, between, after = "Within two weeks after the harvest ", ", and count the mites before and after ", "."
    pages = [
        ("The beekeeper's year", "https://bees.example/year"),
        ("Counting mites", "https://bees.example/mites"),
    ]
    marks = [f"\ue200cite\ue202turn0search{i}\ue201" for i in range(2)]
    text = before + marks[0] + between + marks[1] + after
    references = [
        {
            "matched_text": mark,
            "start_idx": text.index(mark),
            "end_idx": text.index(mark) + len(mark),
            "safe_urls": [url],
            "refs": [],
            "alt": f"([{title}]({url}))",
            "prompt_text": None,
            "type": "grouped_webpages",
            "items": [{"title": title, "url": url, "snippet": "", "attribution": "bees.example"}],
        }
        for mark, (title, url) in zip(marks, pages, strict=True)
    ]
    chat.assistant(text, content_references=references, citations=[])
    return chat


def sundial() -> Chat:
    """Images: one that the export holds and one that it does not."""
    chat = Chat("A sundial for the south wall", "2026-05-17T12:00:00")
    picture = {
        "content_type": "multimodal_text",
        "parts": [image(SUNDIAL, len(SUNDIAL_PNG), 96, 64), "Is this readable?"],
    }
    attached = {"id": SUNDIAL, "size": len(SUNDIAL_PNG), "name": "sundial.png", "mime_type": "image/png"}
    chat.add("user", picture, {"attachments": [attached]})
    chat.assistant("Yes. The hour lines are clear; make the one for noon a little thicker.")
    picture = {"content_type": "multimodal_text", "parts": [image(MISSING, 48213, 640, 480), "And this one?"]}
    chat.add("user", picture, {"attachments": [{"id": MISSING, "size": 48213, "name": "wall.jpg", "mime_type": ""}]})
    chat.assistant("The wall faces a little to the east: turn the dial by eight degrees.")
    return chat


def chinese() -> Chat:
    chat = Chat("归档聊天记录", "2026-06-01T03:20:00")
    chat.user("怎样归档聊天记录，以后还能搜索？")
    chat.assistant(
        "先在设置里导出数据，再把压缩包导入归档。\n\n- 每个分支都会保留\n- 图片放在旁边\n- 可以搜索任何词，如“蜜蜂”"
    )
    return chat


def japanese() -> Chat:
    chat = Chat("日時計の作り方", "2026-06-02T05:00:00", model="gpt-4o")
    chat.user("南向きの壁に日時計を作りたいです。")
    chat.assistant("針の角度は緯度と同じにします。東京なら約35.7度です。")
    return chat


def arabic() -> Chat:
    chat = Chat("كيف أصلح مذياعًا قديمًا؟", "2026-06-03T17:45:00", model="gpt-4o")
    chat.user("كيف أصلح مذياعًا قديمًا؟")
    chat.assistant("ابدأ بفحص المكثفات، ثم نظّف مفتاح الموجات. افصل الكهرباء أولًا.")
    return chat


def regenerated() -> Chat:
    """One question, three answers; the visible one is not the last."""
    chat = Chat("Name for a sailing boat", "2025-12-24T16:00:00", model="gpt-4o")
    question = chat.user("Find a name for a small wooden sailing boat.")
    chat.assistant("*Windfall*")
    chat.back_to(question)
    kept = chat.assistant("*Second Wind* 🎐")
    chat.back_to(question)
    chat.assistant("*Plank Spirit*")
    chat.back_to(kept)
    chat.user("The second one. Thank you!")
    chat.assistant("Fair winds. ⛵")
    return chat


def spoken() -> Chat:
    """A voice chat: the transcript is content of its own."""
    chat = Chat("Bread without kneading", "2026-01-18T07:30:00", model="gpt-4o", voice="cove")
    said = {
        "content_type": "audio_transcription",
        "text": "How long does dough without kneading rest?",
        "direction": "in",
    }
    chat.add("user", {"content_type": "multimodal_text", "parts": [said]}, {"voice_mode_message": True})
    said = {"content_type": "audio_transcription", "text": "Twelve to eighteen hours, covered.", "direction": "out"}
    chat.add("assistant", {"content_type": "multimodal_text", "parts": [said]}, {"voice_mode_message": True})
    return chat


def project() -> Chat:
    """A chat inside a project, shared by link."""
    chat = Chat(
        "Labels for honey jars",
        "2026-08-09T18:00:00",
        gizmo_id="g-p-68a0000000000000000000000000000f",
        gizmo_type="snorlax",
        conversation_template_id="g-p-68a0000000000000000000000000000f",
    )
    chat.user("Write the label as SQL, for fun.")
    chat.assistant(
        "```sql\nSELECT 'Linden honey' AS what, '500 g' AS net, date('2026-07-30') AS harvested;\n```\n\n"
        "A label also needs your address and the lot."
    )
    return chat


def untitled() -> Chat:
    chat = Chat(None, "2026-08-30T22:10:00")
    chat.user("Remind me what a muniment is.")
    chat.assistant("A document kept as evidence of a right or a title. A *muniment room* is where an archive lives.")
    return chat


# --- the zip --------------------------------------------------------------------------------


def _sundial_png() -> bytes:
    """Draw a dial: hour lines on a light wall, 96 by 64 pixels, RGB."""
    width, height = 96, 64
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            dx, dy = x - width / 2, y - 6
            on_line = dy > 4 and any(abs(dx - dy * slope) < 0.9 for slope in (-1.2, -0.8, -0.4, 0, 0.4, 0.8, 1.2))
            on_arc = 48 < (dx * dx + dy * dy) ** 0.5 < 50.5 and dy > 10
            rows += bytes((92, 62, 40) if on_line or on_arc else (236 - y // 3, 222 - y // 3, 190 - y // 2))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(rows), 0)),  # stored: the same bytes from every zlib
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


SUNDIAL_PNG = _sundial_png()
CHATS: Sequence[Chat] = (
    keep_an_archive(), tax_return(), radio_code(), varroa_search(), sundial(), chinese(), japanese(), arabic(),
    regenerated(), spoken(), project(), untitled(),
)  # fmt: skip


def members() -> dict[str, bytes]:
    """Return the export's members by name."""
    made: dict[str, JSON] = {}
    for number, first in enumerate(range(0, len(CHATS), CONVERSATIONS_PER_SHARD)):
        chats = CHATS[first : first + CONVERSATIONS_PER_SHARD]
        made[f"conversations-{number:03d}.json"] = [chat.as_json() for chat in chats]
    shards = list(made)
    made["conversation_asset_file_names.json"] = {f"{SUNDIAL}.dat": "sundial.png"}
    made["message_feedback.json"] = [
        {
            "id": CHATS[0].at,
            "conversation_id": CHATS[0].id,
            "user_id": "user-invented",
            "rating": "thumbs_up",
            "content": json.dumps({"tags": ["clear"]}),
            "create_time": "2026-03-02T19:10:00.000000+00:00",
            "workspace_id": None,
        }
    ]
    link = {"id": str(uuid.uuid5(NAMESPACE, "share")), "conversation_id": CHATS[10].id}
    made["shared_conversations.json"] = [{**link, "title": "Labels for honey jars", "is_anonymous": True}]
    made["user.json"] = {"id": "user-invented", "email": "keeper@bees.example", "chatgpt_plus_user": True}
    content = {name: json.dumps(value).encode() for name, value in made.items()}
    content[f"{SUNDIAL}.dat"] = SUNDIAL_PNG
    manifest = {
        "version": 1,
        "manifest_file": "export_manifest.json",
        "export_files": [{"path": name, "size_bytes": len(data)} for name, data in content.items()],
        "logical_files": {"conversations.json": {"files": shards, "sharded": True}},
    }
    return {**content, "export_manifest.json": json.dumps(manifest).encode()}


def main() -> None:
    with zipfile.ZipFile(SAMPLE, "w") as archive:
        for name, data in members().items():
            info = zipfile.ZipInfo(name, STAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    print(f"{SAMPLE}: {SAMPLE.stat().st_size} bytes, {len(CHATS)} conversations")


if __name__ == "__main__":
    main()
