"""What message does a node hold?"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import astuple, replace

from muniment import Citation, Link, Message, Part, TextPart
from muniment.model import JSON
from muniment_plugins.sources.chatgpt_export import citations, shapes
from muniment_plugins.sources.chatgpt_export.content import parts_of
from muniment_plugins.sources.chatgpt_export.parts import (
    Gathered,
    Values,
    attached,
    attachment_id,
    file_id_of,
    file_part,
    kept,
)
from muniment_plugins.sources.chatgpt_export.shapes import (
    KEPT_FROM,
    KEPT_NAMES,
    Author,
    FinishDetails,
    Metadata,
    Node,
)
from muniment_plugins.sources.chatgpt_export.sidecars import Sidecars
from muniment_plugins.sources.chatgpt_export.times import read_time, unread_times
from muniment_plugins.sources.chatgpt_export.tree import Nodes

_WORDS = ("role", "author", "recipient", "channel", "model", "status")
_NO_METADATA = Metadata()
_NO_AUTHOR = Author()
_NO_FEEDBACK: Mapping[str, dict[str, JSON]] = {}


class Messages:
    """Makes the messages of one conversation."""

    def __init__(self, conversation_id: str, nodes: Nodes, sidecars: Sidecars, gathered: Gathered) -> None:
        self._nodes = nodes
        self._gathered = gathered
        self._conversation_id = conversation_id
        self._origins = sidecars.library_origins
        feedback = sidecars.feedback
        self._feedback: Mapping[str, dict[str, JSON]] = _NO_FEEDBACK
        if feedback:
            self._feedback = {**feedback.get("", {}), **feedback.get(conversation_id, {})}
        self._all_results: Mapping[citations.ResultId, Link] | None = None

    def make(self, key: str, parent_id: str | None) -> Message:
        """Return the message of the node ``key``; its id is the node's."""
        # One long function, because it runs half a million times for a large export.
        node = self._nodes[key]
        gathered = self._gathered
        if type(node) is not Node or type(node.message) is not shapes.Message:
            value = node.message if type(node) is Node else node
            return Message(id=key, role="unknown", parent_id=parent_id, parts=(gathered.unknown(value, "message"),))
        m = node.message
        author = m.author if type(m.author) is Author else _NO_AUTHOR
        meta = m.metadata if type(m.metadata) is Metadata else _NO_METADATA
        extras: Values = {}
        gathered.extras = extras

        content = m.content
        parts: tuple[Part, ...] | list[Part]
        if meta.attachments:
            self._collect_attachments(meta.attachments)
        if (
            type(content) is dict
            and len(content) == 2
            and content.get("content_type") == "text"
            and type(texts := content.get("parts")) is list
            and len(texts) == 1
            and type(texts[0]) is str
        ):
            # Nine messages in ten: worth a way of its own.
            parts = (TextPart(texts[0]),) if texts[0] else ()
        else:
            parts = parts_of(m, gathered)
        if gathered.attachments:
            parts = [*parts, *attached(gathered)]
            gathered.attachments = {}
        if meta.aggregate_result:
            parts = [*parts, *self._run(meta.aggregate_result, node, parts)]

        kept_values = astuple(meta)[KEPT_FROM:]
        if any(kept_values):
            extras |= _kept_metadata(kept_values)
        if type(meta.finish_details) is FinishDetails and meta.finish_details.type:
            extras["finish_reason"] = meta.finish_details.type
        if author.metadata and type(author.metadata) is dict:
            extras |= {k: v for k, v in author.metadata.items() if k in ("real_author", "source") and v}
        time = m.create_time
        created = None if time is None else read_time(time)
        time = m.update_time
        updated = None if time is None else read_time(time)
        if (created is None and m.create_time is not None) or (updated is None and time is not None):
            extras |= _unread(m)
        if m.id != key and m.id is not None:
            extras["message_id"] = m.id
        if meta is _NO_METADATA and m.metadata:
            extras["metadata"] = m.metadata
        if author is _NO_AUTHOR and m.author is not None and type(m.author) is not str:
            extras["author"] = m.author

        role = author.role if author is not _NO_AUTHOR else m.author
        name, recipient, channel, status, model = (
            author.name,
            m.recipient,
            m.channel,
            m.status,
            meta.model_slug,
        )
        return Message(
            id=key,
            role=role if type(role) is str and role else "unknown",
            parent_id=parent_id,
            parts=tuple(parts),
            author=name if type(name) is str and name else None,
            recipient=recipient if type(recipient) is str and recipient != "all" and recipient else None,
            channel=channel if type(channel) is str and channel else None,
            created_at=created,
            updated_at=updated,
            model=model if type(model) is str and model else None,
            hidden=meta.hidden is True or (m.weight == 0 and role == "system" and not parts),
            status=status if type(status) is str and status else None,
            citations=self._citations(key, m.id, meta, parts),
            feedback=self._feedback.get(key) or self._feedback.get(str(m.id)) if self._feedback else None,
            metadata=extras or None,
        )

    def _collect_attachments(self, attachments: JSON) -> None:
        gathered = self._gathered
        for value in attachments if isinstance(attachments, list) else [attachments]:
            file_id = attachment_id(value) if isinstance(value, dict) else ""
            if file_id:
                gathered.attachments[file_id] = value
            else:
                gathered.findings.add("unknown_content:attachment")
                gathered.extras.setdefault("attachments", []).append(value)

    def _run(self, result: JSON, node: Node, parts: Any) -> list[Part]:
        """Return the images of a run of Python; what else it tells goes to ``extras``."""
        gathered = self._gathered
        if not isinstance(result, dict):
            gathered.extras["run"] = result
            return []
        images: list[Part] = []
        messages = result.get("messages")
        rest: list[JSON] = []
        shown = "".join(p.response for p in parts if isinstance(getattr(p, "response", None), str))
        for message in messages if isinstance(messages, list) else []:
            url = message.get("image_url") if isinstance(message, dict) else None
            if isinstance(url, str) and url and (file_id := file_id_of(url)):
                facts = kept({k: message.get(k) for k in ("width", "height", "image_payload")})
                images.append(file_part(file_id, "image", facts, gathered, {}))
            elif not _is_shown(message, shown):
                rest.append(message)
        facts = {k: result.get(k) for k in ("in_kernel_exception", "system_exception", "timeout_triggered")}
        if result.get("status") != "success":
            facts["status"] = result.get("status")
        if not _is_shown({"text": result.get("final_expression_output")}, shown):
            facts["final_expression_output"] = result["final_expression_output"]
        if result.get("code") != self._code_above(node):
            facts["code"] = result.get("code")
        facts["messages"] = rest
        if facts := kept(facts):
            gathered.extras["run"] = facts
        return images

    def _code_above(self, node: Node) -> JSON:
        above = self._nodes.get(node.parent) if isinstance(node.parent, str) else None
        message = above.message if type(above) is Node else None
        content = message.content if type(message) is shapes.Message else None
        return content.get("text") if isinstance(content, dict) else None

    def _citations(self, key: str, message_id: JSON, meta: Metadata, parts: Any) -> tuple[Citation, ...]:
        references = meta.content_references or meta.citations
        text = parts[0].content if parts and type(parts[0]) is TextPart else ""
        if not references and "\ue200" not in text and not self._origins:
            return ()
        gathered = self._gathered
        found: list[Citation] = []
        if isinstance(references, list):
            read = citations.of_references if meta.content_references else citations.of_citations
            found = read(references, text, gathered)
        if "\ue200" in text:
            found += citations.of_marks(text, found, self._results(meta))
        if self._origins and "sandbox:/mnt/data/" in text:
            ids = [i for i in (key, message_id, self._conversation_id) if isinstance(i, str)]
            for citation in citations.of_sandbox(text, self._origins, ids):
                gathered.asset(citation.file_id, (citation.metadata or {}).get("name", ""))
                found.append(citation)
        return tuple(found)

    def _results(self, own: Metadata) -> Mapping[citations.ResultId, Link]:
        if self._all_results is None:
            found: dict[citations.ResultId, Link] = {}
            for node in self._nodes.values():
                message = node.message if type(node) is Node else None
                if type(message) is not shapes.Message:
                    continue
                if type(message.metadata) is Metadata and message.metadata.search_result_groups:
                    found.update(citations.results_of(message.metadata.search_result_groups))
                if type(message.content) is dict and "ref_id" in message.content:
                    found.update(filter(None, [citations.result_of(message.content)]))
            self._all_results = found
        if not own.search_result_groups:
            return self._all_results
        return {**self._all_results, **dict(citations.results_of(own.search_result_groups))}


class LargeMessages(Messages):
    """Makes the messages of a large conversation: words that many of them have are there once."""

    def __init__(self, conversation_id: str, nodes: Nodes, sidecars: Sidecars, gathered: Gathered) -> None:
        super().__init__(conversation_id, nodes, sidecars, gathered)
        self._words: dict[str | None, str | None] = {}

    def make(self, key: str, parent_id: str | None) -> Message:
        made = super().make(key, parent_id)
        words = {name: self._words.setdefault(word, word) for name in _WORDS if (word := getattr(made, name))}
        return replace(made, **words)


def _unread(message: shapes.Message) -> Values:
    unread = unread_times(create_time=message.create_time, update_time=message.update_time)
    return {"unread_times": unread} if unread else {}


def _kept_metadata(values: tuple[JSON, ...]) -> Values:
    return {name.removeprefix("_"): v for name, v in zip(KEPT_NAMES, values, strict=True) if v}


def _is_shown(message: JSON, shown: str) -> bool:
    """Tell whether a run's message is in its output already (or says nothing)."""
    text = message.get("text") if isinstance(message, dict) else message
    return not text or (isinstance(text, str) and text.strip() in shown)
