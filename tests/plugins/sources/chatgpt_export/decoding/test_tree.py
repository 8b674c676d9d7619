import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment_plugins.sources.chatgpt_export.shapes import parse
from muniment_plugins.sources.chatgpt_export.tree import Tree, arrange


def arranged(nodes: dict[str, Any], current: Any = None) -> Tree:
    return arrange(parse(json.dumps({"mapping": nodes}).encode()).nodes, current)


def made(parents: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {k: {"id": k, "parent": p, "message": {"id": k}, **more} for k, p in parents.items()}


class TestArrange:
    def test_puts_parents_first(self):
        tree = arranged(made({"c": "b", "a": None, "b": "a", "d": "a"}))

        assert tree.order == ["a", "b", "c", "d"]
        assert tree.parents == {"a": None, "b": "a", "c": "b", "d": "a"}
        assert tree.findings == ()

    def test_skips_placeholders(self):
        """A node without a message hands its children to the nearest message above."""
        nodes = made({"a": "root", "gap": "a", "b": "gap", "c": "gap"})
        nodes = {"root": {"id": "root", "parent": None, "message": None}, **nodes}
        del nodes["gap"]["message"]

        tree = arranged(nodes, "gap")

        assert tree.parents == {"a": None, "b": "a", "c": "a"}
        assert tree.current == "a"

    def test_keeps_the_order_of_children(self):
        nodes = made({"a": None, "b": "a", "c": "a", "d": "a"})
        nodes["a"]["children"] = ["d", "b", "c"]

        assert arranged(nodes).order == ["a", "d", "b", "c"]

    def test_orders_siblings_by_time_without_children(self):
        """The order of keys differs from export to export."""
        nodes = made({"a": None, "b": "a", "c": "a"})
        nodes["b"]["message"]["create_time"] = 2
        nodes["c"]["message"]["create_time"] = 1.5

        assert arranged(nodes).order == ["a", "c", "b"]

    def test_keeps_orphans(self):
        tree = arranged(made({"a": None, "b": "gone", "c": "b"}))

        assert tree.parents == {"a": None, "b": None, "c": "b"}
        assert tree.findings == ("tree_orphan",)

    def test_keeps_several_roots(self):
        tree = arranged(made({"a": None, "b": None}))

        assert (tree.order, tree.findings) == (["a", "b"], ())

    @pytest.mark.parametrize("parent", [None, "gone", 5, ["a"]])
    def test_repairs_a_lost_parent_from_children(self, parent):
        nodes = made({"a": None, "b": parent})
        nodes["a"]["children"] = ["b"]

        tree = arranged(nodes)

        assert tree.parents == {"a": None, "b": "a"}
        assert tree.findings == ("tree_repaired",)

    def test_repairs_a_lost_parent_from_the_message(self):
        nodes = made({"a": None, "b": "gone"})
        nodes["b"]["message"]["metadata"] = {"parent_id": "a"}

        assert arranged(nodes).parents == {"a": None, "b": "a"}

    def test_takes_a_message_id_for_its_node(self):
        nodes = made({"a": None, "b": "message-a"})
        nodes["a"]["message"]["id"] = "message-a"

        tree = arranged(nodes, "message-a")

        assert (tree.parents["b"], tree.current, tree.findings) == ("a", "a", ())

    @pytest.mark.parametrize(
        ("parents", "roots"),
        [({"a": "a"}, {"a"}), ({"a": "b", "b": "a"}, {"a"}), ({"x": "b", "b": "c", "c": "b"}, {"b"})],
    )
    def test_breaks_cycles(self, parents, roots):
        """The first node of a cycle becomes a root; what hangs on the cycle stays there."""
        tree = arranged(made(parents))

        assert {k for k, p in tree.parents.items() if p is None} == roots
        assert set(tree.order) == set(parents)
        assert tree.findings == ("tree_cycle",)

    @pytest.mark.parametrize("turned", [False, True])
    def test_is_linear_and_does_not_recurse(self, turned):
        keys = [str(i) for i in range(100_000)]
        parents = dict(zip(keys, [None, *keys], strict=False))
        nodes = made(dict(reversed(parents.items())) if turned else parents)

        assert arranged(nodes).order == keys

    def test_breaks_long_cycles_in_linear_time(self):
        keys = [str(i) for i in range(100_000)]
        tree = arranged(made(dict(zip(keys, [keys[-1], *keys], strict=False))))

        assert tree.order == keys

    @settings(max_examples=200)
    @given(st.data())
    def test_holds_for_any_forest(self, data):
        """Every message once, its parent before it, whatever parents are named."""
        keys = [f"n{i}" for i in range(data.draw(st.integers(1, 12)))]
        draw_parent = st.one_of(st.none(), st.sampled_from([*keys, "gone"]))
        nodes = made({k: data.draw(draw_parent) for k in keys})
        for key in keys:
            if data.draw(st.booleans()):
                nodes[key]["children"] = data.draw(st.lists(st.sampled_from(keys), max_size=3))
            if data.draw(st.integers(0, 4)) == 0:
                nodes[key]["message"] = None
        current = data.draw(st.sampled_from([*keys, "gone", None]))

        tree = arranged(nodes, current)

        bearing = {k for k in keys if nodes[k]["message"] is not None}
        assert sorted(tree.order) == sorted(bearing)
        assert list(tree.parents) == tree.order
        seen: set[str | None] = {None}
        for key in tree.order:
            assert tree.parents[key] in seen
            seen.add(key)
        assert tree.current in seen
        assert tree == arranged(nodes, current)

    @given(st.data())
    def test_keeps_what_sound_parents_say(self, data):
        """In a sound tree every parent stays, and siblings stay in the order of the source."""
        keys = [f"n{i}" for i in range(data.draw(st.integers(1, 15)))]
        parents = {k: data.draw(st.sampled_from(keys[:i])) if i else None for i, k in enumerate(keys)}
        shuffled = data.draw(st.permutations(keys))

        tree = arranged(made({k: parents[k] for k in shuffled}))

        assert tree.parents == parents
        assert tree.findings == ()
        for parent in keys:
            below = [k for k in tree.order if parents[k] == parent]
            assert below == [k for k in shuffled if parents[k] == parent]
