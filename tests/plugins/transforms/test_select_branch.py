"""One branch is a chain, from the first message to the last."""

import pytest

from muniment import Asset, Context, Conversation, FilePart, Message, Origin, Record, TextPart
from muniment_plugins.transforms.select_branch import SelectBranch


def record(parents, current=None, **fields):
    messages = tuple(Message(id=i, role="user", parent_id=p, parts=(TextPart(i),)) for i, p in parents.items())
    return Record(
        conversation=Conversation(id="c", source="s", messages=messages, current=current, **fields),
        origin=Origin("x", "p"),
        source_hash="h",
    )


def select(record, branch="visible"):
    return SelectBranch(branch=branch).open(Context(run="r"))(record)


#   a - b - c        visible: a b c
#     \ d - e - f    longest: a d e f
FORKED = {"a": None, "b": "a", "c": "b", "d": "a", "e": "d", "f": "e"}


class TestSelectBranch:
    @pytest.mark.parametrize(
        ("branch", "ids", "current"),
        [("visible", "abc", "c"), ("longest", "adef", "f"), ("all", "abcdef", "c")],
    )
    def test_branches(self, branch, ids, current):
        left = select(record(FORKED, "c"), branch).conversation

        assert "".join(m.id for m in left.messages) == ids
        assert left.current == current

    @pytest.mark.parametrize("branch", ["visible", "longest", "all"])
    def test_a_chain_is_the_same_object(self, branch):
        """So its raw JSON is kept."""
        chain = record({"a": None, "b": "a"}, "b")

        assert select(chain, branch) is chain

    def test_without_a_visible_leaf_the_last_one_counts(self):
        """A dangling `current` is replaced by what was chosen."""
        left = select(record(FORKED, "gone")).conversation

        assert ("".join(m.id for m in left.messages), left.current) == ("adef", "f")

    def test_a_longest_branch_that_goes_on_behind_the_visible_leaf(self):
        left = select(record({"a": None, "b": "a", "x": None}, "a"), "longest").conversation

        assert ("".join(m.id for m in left.messages), left.current) == ("ab", "b")

    @pytest.mark.parametrize("branch", ["visible", "longest"])
    def test_an_empty_conversation_stays(self, branch):
        empty = record({})

        assert select(empty, branch) is empty

    def test_files_of_other_branches_go(self):
        one = record(FORKED, "c", assets=(Asset(id="f1"), Asset(id="f2")))
        messages = list(one.conversation.messages)
        messages[3] = Message(id="d", role="user", parent_id="a", parts=(FilePart("f1"),))

        left = select(one.evolve(messages=tuple(messages))).conversation

        assert [a.id for a in left.assets] == ["f2"]
