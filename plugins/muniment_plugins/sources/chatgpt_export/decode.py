"""How does the JSON of a conversation become a record?"""

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256

from attrs import fields

from muniment import Chunk, Conversation, InputError, Origin, Partition, Raw, Record, RecordError, Rejected
from muniment.canonical import source_hash
from muniment_plugins.sources.chatgpt_export.assets import Assets
from muniment_plugins.sources.chatgpt_export.container import Limits
from muniment_plugins.sources.chatgpt_export.layout import open_export
from muniment_plugins.sources.chatgpt_export.messages import LargeMessages, Messages
from muniment_plugins.sources.chatgpt_export.parts import Gathered, Values, kept
from muniment_plugins.sources.chatgpt_export.shapes import Envelope, LargeNodes, parse
from muniment_plugins.sources.chatgpt_export.sidecars import Gone, Sidecars, Surroundings
from muniment_plugins.sources.chatgpt_export.split import MAX_CONVERSATION_BYTES
from muniment_plugins.sources.chatgpt_export.times import read_time, unread_times
from muniment_plugins.sources.chatgpt_export.tree import arrange

SOURCE = "chatgpt"

_FLAGS = (
    "is_archived",
    "is_starred",
    "is_read_only",
    "is_do_not_remember",
    "is_study_mode",
    "atlas_mode_enabled",
)
_FACTS = (
    "pinned_time", "conversation_origin", "voice", "plugin_ids", "disabled_tool_ids", "context_scopes", "owner",
    "sugar_item_id",
)  # fmt: skip
_PROJECT = "g-p-"
_CACHED_EXPORTS = 4

KEPT = "kept"
"""In a locator it says that the conversation was kept: the export may be gone, or be another one by now."""


def decode_chunk(chunk: Chunk, max_bytes: int = MAX_CONVERSATION_BYTES) -> Iterator[Record | Rejected]:
    """Yield a record for each conversation of a chunk, in order, or why there is none.

    ``max_bytes``: as for `parse`.

    Raises:
        InputError: the export that the chunk is from cannot be opened any more.
    """
    partition = chunk.partition
    sidecars, assets = _beside(partition)
    for start, end, data in chunk.data:
        origin = Origin(partition.label, partition.id, start, end)
        try:
            yield decode_conversation(data, origin, sidecars, assets, max_bytes)
        except RecordError as error:
            digest = sha256(data).hexdigest()
            yield Rejected(Origin(partition.label, partition.id, start, end, digest), "decode", error.reason)


def decode_conversation(
    data: bytes, origin: Origin, sidecars: Sidecars, assets: Assets, max_bytes: int = MAX_CONVERSATION_BYTES
) -> Record:
    """Return the record of one conversation.

    ``max_bytes``: as for `parse`.

    Raises:
        RecordError: it is not JSON, or not a conversation; the reason holds nothing of its content.
    """
    try:
        return _decode(data, origin, sidecars, assets, max_bytes)
    except RecursionError:
        raise RecordError("nested too deeply") from None


def _decode(data: bytes, origin: Origin, sidecars: Sidecars, assets: Assets, max_bytes: int) -> Record:
    envelope, nodes, raw = parse(data, max_bytes)
    conversation_id = _id(envelope) or f"sha256-{sha256(data).hexdigest()[:32]}"
    tree = arrange(nodes, envelope.current_node)
    gathered = Gathered(assets)
    kind = LargeMessages if isinstance(nodes, LargeNodes) else Messages
    make = kind(conversation_id, nodes, sidecars, gathered).make
    messages = tuple([make(key, tree.parents[key]) for key in tree.order])
    conversation = Conversation(
        id=conversation_id,
        source=SOURCE,
        account=sidecars.account,
        title=envelope.title if isinstance(envelope.title, str) else None,
        created_at=read_time(envelope.create_time),
        updated_at=read_time(envelope.update_time),
        model=envelope.default_model_slug if isinstance(envelope.default_model_slug, str) else None,
        current=tree.current,
        messages=messages,
        assets=tuple(gathered.assets.values()),
        metadata=_metadata(envelope, conversation_id, sidecars) or None,
    )
    findings = {*tree.findings, *gathered.findings, *sidecars.findings}
    if not messages:
        findings.add("empty_conversation")
    if tree.order != list(nodes):
        if isinstance(nodes, LargeNodes):
            raw = Raw(raw.envelope, nodes.slices(tree.order))
        else:
            by_key = dict(zip(nodes, raw.messages, strict=True))
            raw = Raw(raw.envelope, tuple([by_key[key] for key in tree.order]))
    # A million names of nodes take as much memory as the messages' own text.
    del make, nodes, tree
    return Record(
        conversation=conversation,
        origin=origin,
        source_hash=source_hash(conversation),
        raw=raw,
        findings=tuple(sorted(findings)),
    )


def _id(envelope: Envelope) -> str:
    for value in (envelope.conversation_id, envelope.id):
        if isinstance(value, str) and value:
            return value
        if type(value) is int:
            return str(value)
    return ""


def _metadata(envelope: Envelope, conversation_id: str, sidecars: Sidecars) -> Values:
    values: Values = {}
    gizmo = envelope.gizmo_id or envelope.conversation_template_id
    if gizmo:
        is_project = isinstance(gizmo, str) and gizmo.startswith(_PROJECT)
        values["project_id" if is_project else "gpt_id"] = gizmo
        if envelope.gizmo_type not in (None, "snorlax" if is_project else "gpt"):
            values["gizmo_type"] = envelope.gizmo_type
    for name in _FLAGS:
        if flag := getattr(envelope, name):
            values[name] = flag
    if envelope.memory_scope not in (None, "global_enabled"):
        values["memory_scope"] = envelope.memory_scope
    values |= kept({name: v for name in _FACTS if (v := getattr(envelope, name)) is not None})
    if links := sidecars.shared_links.get(conversation_id):
        values["shared_links"] = links
    if envelope.title is not None and not isinstance(envelope.title, str):
        values["title"] = envelope.title
    if unread := unread_times(create_time=envelope.create_time, update_time=envelope.update_time):
        values["unread_times"] = unread
    return values


_opened: OrderedDict[tuple[str, bool], tuple[Sidecars, Assets]] = OrderedDict()


def _beside(partition: Partition) -> tuple[Sidecars, Assets]:
    """Return what stands beside the conversations; read once per process."""
    name = partition.fingerprint, KEPT in partition.locator
    found = _opened.get(name)
    if found is None:
        export = _surroundings(partition)
        sidecars = Sidecars(export)
        found = sidecars, Assets(export, sidecars)
        if isinstance(export, Gone):
            # It may come back.
            return found
        _opened[name] = found
        while len(_opened) > _CACHED_EXPORTS:
            _opened.popitem(last=False)
    return found


def _surroundings(partition: Partition) -> Surroundings:
    limits = {f.name: partition.locator[f.name] for f in fields(Limits) if f.name in partition.locator}
    if KEPT not in partition.locator:
        return open_export(partition.locator["path"], Limits(**limits))
    try:
        export = open_export(partition.locator["path"], Limits(**limits))
        return export if export.fingerprint == partition.fingerprint else Gone()
    except InputError:
        return Gone()
