"""Which message follows which?  The order of a conversation's nodes, from their parents alone.

Nothing here recurses: chains of 100,000 nodes are ordinary.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from muniment_plugins.sources.chatgpt_export.shapes import Message, Metadata, Node, Other

Nodes = Mapping[str, Node | Other]
Key = str | None


class Tree(NamedTuple):
    """The nodes that hold a message, parents before children.

    ``parents`` names for each of them the nearest node above that holds a message; ``current`` is the
    visible leaf, or the nearest node above it that holds a message.
    """

    order: list[str]
    parents: dict[str, Key]
    current: Key
    findings: tuple[str, ...]


def arrange(nodes: Nodes, current: object = None) -> Tree:
    """Return each node that holds a message exactly once.

    Siblings stand in the order of their parent's ``children``, else by time, else as in ``nodes``.  A node
    whose parent is lost becomes a root (``tree_orphan``) unless the children of another node or its
    message tell the parent (``tree_repaired``); the first node of a cycle does, too (``tree_cycle``).
    """
    findings: set[str] = set()
    keys = list(nodes)
    parents: dict[str, Key] = {k: n.parent if type(n) is Node else None for k, n in nodes.items()}
    chain: list[Key] = [None, *keys[:-1]]
    if list(parents.values()) == chain:
        # The names in the nodes are copies of the keys.
        parents = dict(zip(keys, chain, strict=False))
        order = keys
    else:
        parents = _resolved(nodes, parents, findings)
        order = _ordered(nodes, parents, findings)

    bearing: dict[Key, Key] = {None: None}
    found: dict[str, Key] = {}
    for key in order:
        above = bearing[parents[key]]
        node = nodes[key]
        if node is None or (type(node) is Node and node.message is None):
            bearing[key] = above
        else:
            bearing[key] = key
            found[key] = above
    return Tree(list(found), found, _current(nodes, bearing, current), tuple(sorted(findings)))


def _current(nodes: Nodes, bearing: Mapping[Key, Key], current: object) -> Key:
    if not isinstance(current, str):
        return None
    return bearing[current] if current in nodes else bearing[_aliases(nodes).get(current)]


def _resolved(nodes: Nodes, named: Mapping[str, object], findings: set[str]) -> dict[str, Key]:
    """Return for each node a parent that exists, or None."""
    keys = dict(zip(nodes, nodes, strict=True))
    parents: dict[str, Key] = {k: keys.get(p) if isinstance(p, str) else None for k, p in named.items()}
    lost = [k for k, p in parents.items() if p is None]
    if len(lost) == 1 and named[lost[0]] is None:
        return parents
    aliases = _aliases(nodes)
    listed = {c: k for k, n in nodes.items() for c in _children(n)}
    for key in lost:
        name = named[key]
        parent = aliases.get(name) if isinstance(name, str) else None
        if parent is None:
            parent = next((p for p in (listed.get(key), _told(nodes[key])) if p in nodes and p != key), None)
            if parent is not None:
                findings.add("tree_repaired")
            elif name is not None:
                findings.add("tree_orphan")
        parents[key] = parent
    return parents


def _aliases(nodes: Nodes) -> dict[str, str]:
    """Return the other names that nodes go by: their own ids and their messages'."""
    aliases: dict[str, str] = {}
    for key, node in nodes.items():
        if type(node) is Node:
            for name in (node.id, node.message.id if type(node.message) is Message else None):
                if isinstance(name, str) and name != key and name not in nodes:
                    aliases.setdefault(name, key)
    return aliases


def _children(node: Node | Other) -> list[str]:
    children = node.children if type(node) is Node else None
    return [c for c in children if isinstance(c, str)] if isinstance(children, list) else []


def _told(node: Node | Other) -> Key:
    message = node.message if type(node) is Node else None
    metadata = message.metadata if type(message) is Message else None
    parent = metadata.parent_id if type(metadata) is Metadata else None
    return parent if isinstance(parent, str) else None


def _ordered(nodes: Nodes, parents: dict[str, Key], findings: set[str]) -> list[str]:
    """Return all nodes in preorder; breaks cycles in ``parents``."""
    below: dict[Key, list[str]] = {}
    for key, parent in parents.items():
        below.setdefault(parent, []).append(key)
    for parent, keys in below.items():
        if len(keys) > 1 and parent is not None:
            _sort_siblings(nodes, nodes[parent], keys)
    order: list[str] = []
    _descend(below.get(None, ()), below, order)
    if len(order) < len(nodes):
        findings.add("tree_cycle")
        seen = set(order)
        places = {k: i for i, k in enumerate(nodes)}
        for key in nodes:
            if key not in seen:
                first = min(_cycle_above(key, parents), key=places.__getitem__)
                below[parents[first]].remove(first)
                parents[first] = None
                start = len(order)
                _descend((first,), below, order)
                seen.update(order[start:])
    return order


def _descend(roots: Iterable[str], below: Mapping[Key, list[str]], order: list[str]) -> None:
    stack = list(roots)[::-1]
    while stack:
        key = stack.pop()
        order.append(key)
        stack.extend(reversed(below.get(key, ())))


def _cycle_above(key: str, parents: Mapping[str, Key]) -> list[str]:
    """Return the cycle that the way up from ``key`` ends in."""
    way: dict[str, int] = {}
    at: Key = key
    while at is not None and at not in way:
        way[at] = len(way)
        at = parents[at]
    return list(way)[way[at] if at is not None else 0 :]


def _sort_siblings(nodes: Nodes, parent: Node | Other, keys: list[str]) -> None:
    places = {c: i for i, c in enumerate(_children(parent))}
    if all(k in places for k in keys):
        keys.sort(key=places.__getitem__)
        return
    times: dict[str, float] = {k: t for k in keys if (t := _time(nodes[k])) is not None}
    if len(times) == len(keys):
        keys.sort(key=times.__getitem__)


def _time(node: Node | Other) -> float | None:
    message = node.message if type(node) is Node else None
    time = message.create_time if type(message) is Message else None
    return time if isinstance(time, int | float) else None
