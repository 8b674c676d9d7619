"""Merging two versions of a conversation loses nothing and obeys its laws."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from muniment import Asset, Citation, Conversation, Message, Origin, Raw, Record, TextPart, UnknownPart
from muniment.canonical import source_hash
from muniment.merge import merge, merge_records

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
TIMES = st.none() | st.integers(0, 3).map(lambda h: NOON + timedelta(hours=h))
IDS = [f"m{n}" for n in range(8)]


def message(id_, parent=None, text="hello", **fields):
    return Message(id=id_, role="user", parent_id=parent, parts=(TextPart(text),) if text else (), **fields)


def conversation(*messages, **fields):
    return Conversation(id="c", source="test", messages=messages, **fields)


def ids(conversation):
    return [m.id for m in conversation.messages]


@st.composite
def conversations(draw):
    chosen = draw(st.lists(st.sampled_from(IDS), unique=True, max_size=8))
    messages = []
    for number, id_ in enumerate(chosen):
        parent = draw(st.sampled_from([None, *chosen[:number]]))
        messages.append(
            Message(
                id=id_,
                role="user",
                parent_id=parent,
                parts=tuple(draw(st.lists(st.sampled_from([TextPart("a"), TextPart("bb")]), max_size=2))),
                model=draw(st.none() | st.just("gpt")),
                hidden=draw(st.booleans()),
                updated_at=draw(TIMES),
                metadata=draw(st.none() | st.dictionaries(st.sampled_from("xyz"), st.integers(0, 1))),
            )
        )
    return Conversation(
        id="c",
        source="test",
        title=draw(st.none() | st.sampled_from(["one", "two"])),
        updated_at=draw(TIMES),
        messages=tuple(messages),
        assets=tuple(
            Asset(id=i, sha256=draw(st.none() | st.just("0" * 64)))
            for i in draw(st.lists(st.sampled_from("pq"), unique=True))
        ),
    )


@st.composite
def thinned(draw):
    """A conversation and a version of it from which something was taken, but no time."""
    whole = draw(conversations())
    kept = []
    for m in whole.messages:
        if draw(st.booleans()):
            taken = {"parts": m.parts[: draw(st.integers(0, 2))]} if draw(st.booleans()) else {}
            if draw(st.booleans()):
                taken |= {"metadata": None, "model": None, "hidden": False, "parent_id": None}
            kept.append(replace(m, **taken))
    title = whole.title if draw(st.booleans()) else None
    return whole, replace(whole, messages=tuple(kept), title=title, assets=whole.assets[:1])


def in_order(conversation):
    seen = set()
    everyone = set(ids(conversation))
    for m in conversation.messages:
        if m.parent_id in everyone and m.parent_id not in seen:
            return False
        seen.add(m.id)
    return len(seen) == len(conversation.messages)


class TestLaws:
    @given(conversations())
    def test_is_idempotent(self, one):
        """Merging a conversation with itself gives it back."""
        assert merge(one, replace(one, id="c")) is one

    @given(conversations(), conversations())
    def test_a_second_merge_changes_nothing(self, one, two):
        """What was merged in is in."""
        both = merge(one, two)

        assert merge(both, two) == both

    @given(thinned())
    def test_a_thinner_version_takes_nothing_away(self, pair):
        """A version that holds less, and is not newer, changes nothing."""
        whole, thin = pair

        assert merge(whole, thin) is whole

    @given(conversations(), conversations())
    def test_keeps_every_message_in_order(self, one, two):
        """The ids are the union, each once, parents before children, whatever the parents are."""
        both = merge(one, two)

        assert set(ids(both)) == set(ids(one)) | set(ids(two))
        assert in_order(both)

    @settings(max_examples=60)
    @given(conversations(), conversations(), conversations())
    def test_message_sets_are_associative(self, one, two, three):
        """In whatever order versions meet, the same messages come out."""
        left = merge(merge(one, two), three)
        right = merge(one, merge(two, three))

        assert set(ids(left)) == set(ids(right))

    @given(thinned())
    def test_a_richer_version_is_taken_whole(self, pair):
        """A thin first import does not spoil the order of the full one."""
        whole, thin = pair

        assert set(ids(merge(thin, whole))) == set(ids(whole))
        assert {m.id: m.parts for m in merge(thin, whole).messages} == {m.id: m.parts for m in whole.messages}


class TestMessages:
    def test_the_newer_update_wins(self):
        """An edit replaces the text, whichever side it comes from."""
        early = conversation(message("a", text="long first text", updated_at=NOON))
        late = conversation(message("a", text="edit", updated_at=NOON + timedelta(hours=1)))

        assert merge(early, late).messages == late.messages
        assert merge(late, early).messages == late.messages

    def test_new_wins_a_tie_of_equal_weight(self):
        assert merge(conversation(message("a", text="one")), conversation(message("a", text="two"))) == (
            conversation(message("a", text="two"))
        )

    def test_unknown_content_gives_way_to_known(self):
        """A normaliser that learnt a content type replaces what it did not understand before."""
        unknown = conversation(Message(id="a", role="tool", parts=(UnknownPart({"text": "a" * 99}),)))
        known = conversation(Message(id="a", role="tool", parts=(TextPart("a"),)))

        assert merge(unknown, known) == known
        assert merge(known, unknown) is known

    def test_citations_stay_with_their_text(self):
        """Marks are places in a text; they do not move to another version of it."""
        rich = conversation(message("a", text="longer text [1]", citations=(Citation(marker="[1]"),)))
        poor = conversation(message("a", text="text", citations=(Citation(marker="?"),)))

        assert merge(rich, poor).messages[0].citations == rich.messages[0].citations

    def test_what_is_new_stands_behind_what_it_follows(self):
        """A branch that a later export shows is put where that export has it."""
        old = conversation(message("a"), message("b", "a"), message("c", "b"))
        new = conversation(message("a"), message("b", "a"), message("b2", "a"), message("c", "b"), message("d", "c"))

        assert ids(merge(old, new)) == ["a", "b", "b2", "c", "d"]

    def test_a_circle_of_parents_is_cut(self):
        """Two trees that contradict each other still give an order."""
        one = conversation(message("a", updated_at=NOON), message("b", "a"))
        two = conversation(message("b"), message("a", "b"))

        merged = merge(one, two)

        assert ids(merged) == ["a", "b"]
        assert in_order(merged)

    def test_deep_trees_do_not_recurse(self):
        chain = [message(f"m{n}", f"m{n - 1}" if n else None) for n in range(20_000)]

        merged = merge(conversation(*chain[::2]), conversation(*chain))

        assert ids(merged) == [m.id for m in chain]


class TestConversations:
    def test_fields_come_from_the_newer_and_are_filled(self):
        old = conversation(title="old", account="me", updated_at=NOON, metadata={"a": 1, "b": 1})
        new = conversation(title="new", updated_at=NOON + timedelta(days=1), metadata={"b": 2, "c": 2})

        merged = merge(old, new)

        assert (merged.title, merged.account, merged.metadata) == ("new", "me", {"a": 1, "b": 2, "c": 2})

    def test_a_found_asset_beats_a_missing_one(self):
        """An export without its files does not make us forget the ones that we have."""
        found = Asset(id="f", size=3, sha256="ab" * 32)
        missing = Asset(id="f", name="cat.png", missing="not in the export")

        for one, two in [(found, missing), (missing, found)]:
            assert merge(conversation(assets=(one,)), conversation(assets=(two,))).assets == (
                replace(found, name="cat.png"),
            )


class TestRecords:
    def record(self, conversation, raw=None):
        return Record(
            conversation=conversation,
            origin=Origin("test", "p"),
            source_hash=source_hash(conversation),
            raw=raw,
        )

    def test_raw_follows_its_message(self):
        """Each message keeps the JSON that it was decoded from, and the hash is of the result."""
        old, new = (
            self.record(
                conversation(message("a"), message(other, "a")),
                Raw(b"{}", (b'{"n":"a"}', b'{"n":"%s"}' % other.encode())),
            )
            for other in "bc"
        )

        merged = merge_records(old, new)

        by_id = dict(zip(ids(merged.conversation), merged.raw.messages, strict=True))
        assert by_id == {"a": b'{"n":"a"}', "b": b'{"n":"b"}', "c": b'{"n":"c"}'}
        assert merged.source_hash == source_hash(merged.conversation)

    def test_raw_of_a_changed_message_does_not_come_back(self):
        """A transform altered the text, so its raw JSON was dropped; an older version's must not return."""
        old = self.record(conversation(message("a", text="secret")), Raw(b"{}", (b'{"text":"secret"}',)))
        new = self.record(conversation(message("a", text="masked", updated_at=NOON), updated_at=NOON))

        assert merge_records(old, new).raw is None

    def test_the_same_twice_is_the_first(self):
        record = self.record(conversation(message("a")), Raw(b"{}", (b"{}",)))

        assert merge_records(record, replace(record, origin=Origin("again", "q"))) is record

    @pytest.mark.parametrize("swap", [False, True])
    def test_the_longer_raw_of_equal_messages_is_kept(self, swap):
        """A slim export normalises to the same message, from less."""
        full = self.record(conversation(message("a")), Raw(b'{"x":1}', (b'{"y":1}',)))
        slim = self.record(conversation(message("a")), Raw(b"{}", (b"{}",)))

        assert merge_records(*((slim, full) if swap else (full, slim))).raw == full.raw
