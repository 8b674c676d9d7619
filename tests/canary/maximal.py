"""What is a ChatGPT export of which every string is a canary of its own?

Each text, key, name and id that the format has holds the export's marker and a number: whoever finds the marker
somewhere knows which text it was.  What must be one of a few words (``user``, ``text``) stays, and stands once
more with a canary in its place.
"""

import json
import secrets
import string
import zipfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

JSON = Any
_PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000")


def new_marker() -> str:
    """Return 16 letters and digits that nothing else will hold; the first is a letter, as names begin with one."""
    letters = string.ascii_lowercase + string.digits
    return secrets.choice(string.ascii_lowercase) + "".join(secrets.choice(letters) for _ in range(15))


@dataclass
class Canaries:
    """Hands out texts that are all different.  ``places`` says for each number where it was put."""

    marker: str = field(default_factory=new_marker)
    places: list[str] = field(default_factory=list)
    wholes: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, place: str) -> str:
        self.places.append(place)
        return f"{self.marker}{len(self.places) - 1:05}"

    def fill(self, place: str, shape: JSON) -> JSON:
        """Return ``shape`` with a canary for each ``...``, and one in each key that ends in ``*``."""
        if shape is ...:
            return self(place)
        if isinstance(shape, dict):
            return {
                (self(f"{place}.{k}key") if k.endswith("*") else k): self.fill(f"{place}.{k}", v)
                for k, v in shape.items()
            }
        if isinstance(shape, list):
            return [self.fill(f"{place}[]", v) for v in shape]
        return shape

    def asset(self, place: str) -> tuple[str, str, bytes]:
        """Return the id, the name and the bytes of a file."""
        data = _PNG + f"the bytes of a file: {self(f'bytes of {place}')}".encode() + secrets.token_bytes(40)
        self.wholes[place] = data
        return f"file-{self(f'id of {place}')}", f"{self(f'name of {place}')}.png", data

    def digests(self) -> dict[str, bytes]:
        """Return the SHA-256 of files and of what cannot be archived: they would confirm a guess of what it is."""
        return {f"digest of {place}": sha256(data).digest() for place, data in self.wholes.items()}


def write_export(path: Path, canaries: Canaries, *, conversations: int = 3, broken: int = 2) -> None:
    """Write an export of so many maximal conversations, and of so many that are no conversations."""
    members: dict[str, bytes] = {}
    names: dict[str, str] = {}
    library: list[JSON] = []
    made = []
    for _ in range(conversations):
        made.append(_conversation(canaries, members, names, library))
    texts = [json.dumps(c, ensure_ascii=False) for c in made]
    for number in range(broken):
        texts.append(_broken(canaries, number))
        canaries.wholes[f"broken {len(canaries.wholes)}"] = texts[-1].encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("conversations.json", "[" + ",\n".join(texts) + "]")
        for name, value in _sidecars(canaries, made, names, library).items():
            z.writestr(name, json.dumps(value))
        for name, data in members.items():
            z.writestr(name, data)
        z.writestr(f"{canaries('name of a stray member')}.txt", canaries("bytes of a stray member"))
        z.writestr("chat.html", f"<html>{canaries('chat.html')}</html>")


def _broken(c: Canaries, number: int) -> str:
    """Return what is in the place of a conversation and is none: JSON with a key twice, or text in its place."""
    if number % 2:
        return json.dumps(c("no conversation but a text"))
    value = c.fill("broken", {"id": ..., "conversation_id": ..., "title": ..., "mapping": {"*": {"message": ...}}})
    return json.dumps(value)[:-1] + f', "mapping": {{"{c("second mapping")}": null}}}}'


def _sidecars(c: Canaries, made: list[JSON], names: dict[str, str], library: list[JSON]) -> dict[str, JSON]:
    first = made[0]
    message = next(n["message"]["id"] for n in first["mapping"].values() if n["message"])
    user = {"id": ..., "email": f"{c('user.email')}@{c('user.email host')}.example", "phone_number": ..., "name*": ...}
    return {
        "user.json": c.fill("user", user),
        "user_settings.json": c.fill("user_settings", {"settings": {"*": ...}}),
        "message_feedback.json": [
            {
                **c.fill("feedback", {"rating": ..., "content": json.dumps({"text": c("text of a feedback")})}),
                **c.fill("user of a feedback", {"user_id": ..., "evaluation_name": ...}),
                "conversation_id": first["id"], "id": message,
            }
        ],
        "shared_conversations.json": [
            {**c.fill("shared", {"id": ..., "title": ..., "is_anonymous": True}), "conversation_id": first["id"]}
        ],
        "conversation_asset_file_names.json": names,
        "library_files.json": library,
        "group_chats.json": c.fill("group_chats", {"chats": [{"name": ...}]}),
    }  # fmt: skip


def _conversation(c: Canaries, members: dict[str, bytes], names: dict[str, str], library: list[JSON]) -> JSON:
    files = []
    for place, member in (("an image", "{id}.dat"), ("a document", "{id}-{name}"), ("an output", "dalle/{id}-{name}")):
        file_id, name, data = c.asset(f"{place} {len(members)}")
        members[member.format(id=file_id, name=name)] = data
        names[member.format(id=file_id, name=name)] = name
        files.append((file_id, name))
    image, document, output = files
    library.append(c.fill("library", {"file_id": document[0], "file_name": ..., "mime_type": ..., "*": ...}))
    nodes: dict[str, JSON] = {}
    parent = None
    last = ""
    for author, content, more in _messages(c, image, document, output):
        name, fields = c("node id"), {**c.fill("message", {"status": ..., "channel": ...}), **more}
        message = {
            "id": name,
            "author": author,
            "create_time": 1735700000.5,
            "update_time": None,
            "content": content,
            "weight": 1.0,
            "end_turn": True,
            "recipient": "all",
            "metadata": _metadata(c, image, document, output),
            **fields,
        }
        nodes[name] = {"id": name, "parent": parent, "children": [], "message": message}
        if parent:
            nodes[parent]["children"].append(name)
        parent, last = name, name
    branch = c("node id of a branch")
    text = {"content_type": "text", "parts": [c("text of a branch")]}
    nodes[branch] = {
        "id": branch, "parent": next(iter(nodes)), "children": [],
        "message": {"id": branch, "author": {"role": "user"}, "content": text, "create_time": c("time that is none")},
    }  # fmt: skip
    name = c("conversation id")
    envelope = c.fill(
        "conversation",
        {
            "title": ..., "default_model_slug": ..., "gizmo_id": ..., "gizmo_type": ..., "atlas_mode_enabled": None,
            "conversation_template_id": ..., "memory_scope": ..., "conversation_origin": ..., "voice": ...,
            "plugin_ids": [...], "disabled_tool_ids": [...], "context_scopes": {"*": ...}, "owner": {"*": ...},
            "sugar_item_id": ..., "workspace_id": ..., "safe_urls": ["https://..."], "moderation_results": [{"*": ...}],
            "a key of tomorrow": ..., "*": ...,
        },
    )  # fmt: skip
    url = f"https://{c('host of a url')}.example/{c('path of a url')}?q={c('query of a url')}#{c('fragment of a url')}"
    return {
        "id": name, "conversation_id": name, **envelope, "safe_urls": [url], "create_time": 1735700000.0,
        "update_time": 1735700060.0, "current_node": last, "mapping": nodes,
    }  # fmt: skip


def _messages(c: Canaries, *files: tuple[str, str]) -> list[tuple[JSON, JSON, JSON]]:
    """Return author, content and more fields of a message for each content type and each role."""
    image, document, output = files

    def pointer(kind: str, file: tuple[str, str]) -> JSON:
        metadata = c.fill(kind, {"dalle": {"gen_id": ..., "prompt": ..., "serialization_title": ...}, "*": ...})
        pointer = f"sediment://{file[0]}#{c('fragment of a pointer')}"
        return {"content_type": kind, "asset_pointer": pointer, "size_bytes": 10, "metadata": metadata, "*": ...}

    def by(role: str) -> JSON:
        return c.fill(f"author {role}", {"role": role, "name": ..., "metadata": {"*": ..., "real_author": ...}})

    contents: list[tuple[str, JSON]] = [
        ("system", {"content_type": "text", "parts": [...]}),
        ("user", {"content_type": "user_editable_context", "user_profile": ..., "user_instructions": ...}),
        ("system", {
            "content_type": "model_editable_context", "model_set_context": ..., "repository": ..., "repo_summary": ...,
            "structured_context": {"*": ...},
        }),
        ("user", {"content_type": "text", "parts": [..., {"*": ..., "text": ...}], "*": ...}),
        ("assistant", {"content_type": "text", "parts": [...], "text": ...}),
        ("user", {"content_type": "multimodal_text", "parts": [
            ..., pointer("image_asset_pointer", image), pointer("audio_asset_pointer", output),
            {"content_type": "audio_transcription", "text": ..., "direction": ..., "decoding_id": ...},
            {"content_type": "real_time_user_audio_video_asset_pointer", "expiry_datetime": ...,
             "audio_asset_pointer": pointer("audio_asset_pointer", output), "frames_asset_pointers": []},
            pointer("an_asset_pointer_of_tomorrow", document),
        ]}),
        ("assistant", {"content_type": "code", "language": ..., "response_format_name": ..., "text": ...}),
        ("tool", {"content_type": "execution_output", "text": ...}),
        ("tool", {"content_type": "tether_quote", "url": ..., "domain": ..., "title": ..., "text": ...,
                  "tether_id": ...}),
        ("tool", {"content_type": "tether_browsing_display", "result": ..., "summary": ..., "assets": [...],
                  "tether_id": ...}),
        ("assistant", {"content_type": "tether_browsing_code", "language": ..., "text": ...}),
        ("tool", {"content_type": "system_error", "name": ..., "text": ...}),
        ("assistant", {"content_type": "thoughts", "source_analysis_msg_id": ..., "thoughts": [
            {"summary": ..., "content": ..., "chunks": [...], "finished": True, "*": ...}, ...]}),
        ("assistant", {"content_type": "reasoning_recap", "content": ...}),
        ("tool", {"content_type": "sonic_webpage", "url": ..., "domain": ..., "title": ..., "text": ...,
                  "snippet": ..., "pub_date": ..., "crawl_date": ..., "ref_id": ...}),
        ("tool", {"content_type": "computer_output", "computer_id": ..., "tether_id": ..., "is_ephemeral": None,
                  "screenshot": pointer("image_asset_pointer", image),
                  "state": {"id": ..., "type": ..., "title": ..., "url": ..., "dom": ..., "os_type": ...}}),
        ("tool", {"content_type": "citable_code_output", "output_str": ..., "metadata": {
            "display_title": ..., "display_url": ..., "connector_id": ..., "connector_source": ...}}),
        ("user", {"content_type": "app_pairing_content", "custom_instructions": ..., "workspaces": [
            {"id": ..., "app_name": ..., "title": ...}], "context_parts": [{"text": ..., "path": ..., "*": ...}]}),
        ("assistant", {"content_type": "super_widget", "*": ..., "widget": {"*": [..., {"*": ...}]}}),
        ("assistant", {"content_type": ..., "*": ..., "text": ...}),
        ("user", [...]),
        ("user", ...),
        (c("a role of tomorrow"), {"content_type": "text", "parts": [...]}),
    ]  # fmt: skip
    more = [{} for _ in contents]
    more[6] = {"recipient": c("recipient, which is a tool")}
    return [
        (by(role), c.fill(f"content {number}", content), more[number])
        for number, (role, content) in enumerate(contents)
    ]


def _metadata(c: Canaries, image: tuple[str, str], document: tuple[str, str], output: tuple[str, str]) -> JSON:
    shape = {
        "request_id": ..., "model_slug": ..., "default_model_slug": ..., "message_type": ..., "turn_exchange_id": ...,
        "finish_details": {"type": ..., "stop": ..., "reason": ...}, "requested_model_slug": ..., "gizmo_id": ...,
        "command": ..., "reasoning_title": ..., "reasoning_status": ..., "finished_text": ..., "initial_text": ...,
        "selected_github_repos": [...], "selected_sources": [...], "search_queries": [{"q": ..., "type": ...}],
        "image_results": [{"url": ..., "title": ...}], "async_task_id": ..., "async_task_type": ...,
        "async_task_title": ..., "async_task_prompt": ..., "image_gen_title": ..., "shared_conversation_id": ...,
        "invoked_plugin": {"type": ..., "namespace": ..., "plugin_id": ...}, "jit_plugin_data": {"server": {"*": ...}},
        "thinking_effort": ..., "system_hints": [...], "pending_memory_info": {"*": ...}, "dictation_language": ...,
        "user_context_message_data": {"about_user_message": ..., "about_model_message": ...},
        "paragen_variant_choice": ..., "paragen_variants_info": {"*": ...}, "app_pairing": {"*": ...},
        "_cite_metadata": {"metadata_list": [{"title": ..., "url": ..., "text": ..., "type": ...}]},
        "args": [...], "kwargs": {"*": ...}, "status": ..., "cloud_doc_urls": [...], "dalle": {"client": {"*": ...}},
        "ada_visualizations": [{"type": ..., "file_id": ..., "title": ...}], "message_locale": ..., "*": ...,
        "canvas": {"textdoc_id": ..., "textdoc_type": ..., "title": ..., "comment_ids": [...]},
        "aggregate_result": {
            "status": ..., "run_id": ..., "code": ..., "final_expression_output": ..., "system_exception": ...,
            "in_kernel_exception": {"name": ..., "traceback": [...], "args": [...]}, "jupyter_messages": [{"*": ...}],
            "messages": [
                {"message_type": "stream", "stream_name": ..., "text": ..., "sender": ...},
                {"message_type": "image", "image_url": f"file-service://{output[0]}", "sender": ...},
                {"message_type": ..., "text": ...}],
        },
        "attachments": [
            {"id": document[0], "name": ..., "size": 5, "mime_type": ..., "*": ...},
            {"id": ..., "name": ..., "mimeType": ..., "fileSizeTokens": 3}],
        "citations": [
            {"start_ix": 0, "end_ix": 2, "citation_format_type": ..., "invalid_reason": ..., "metadata": {
                "type": "webpage", "name": ..., "id": ..., "source": ..., "text": ..., "title": ..., "url": ...}},
            {"start_ix": 0, "end_ix": 2, "metadata": {"type": "file", "id": document[0], "name": ..., "text": ...}}],
        "content_references": [
            {"type": "grouped_webpages", "matched_text": ..., "start_idx": 0, "end_idx": 3, "alt": ...,
             "prompt_text": ..., "items": [{"title": ..., "url": ..., "snippet": ..., "attribution": ...}]},
            {"type": "file", "matched_text": ..., "name": ..., "id": image[0], "cloud_doc_url": ...},
            {"type": ..., "matched_text": ..., "*": ...}],
        "search_result_groups": [{"type": ..., "domain": ..., "entries": [
            {"type": ..., "url": ..., "title": ..., "snippet": ..., "attribution": ...,
             "ref_id": {"turn_index": 0, "ref_type": ..., "ref_index": 1}}]}],
    }  # fmt: skip
    return c.fill("metadata", shape)
