"""How does YAML text become data that knows where each value stands?

YAML 1.2 with its core schema: `no` and `1:30` are text, and so are dates (the option's type says
what they become).  Tags, merge keys, several documents and aliases that contain themselves are
refused.  Whatever the text is, the answer comes within a second and in little memory: that is what the
limits are for.  This is the only module that imports ruamel.yaml; it uses the parser's events, which
PyYAML has too.
"""

import re
from collections.abc import Iterator
from typing import Any

from attrs import define, field, frozen

from muniment.errors import ConfigError, Problem

MAX_CHARACTERS = 100_000
MAX_DEPTH = 50
MAX_NODES = 10_000
MAX_KEYS = 500
"""So many a mapping can have."""
MAX_KEY_CHARACTERS = 200
MAX_PROBLEMS = 100
"""So many are told; who writes more has another file in hand."""

# A password inside a URL: it is shown by no message, whatever the message is about.
_PASSWORD = re.compile(r"(://[^/\s:@\"']*:)([^@\s\"']+)(?=@)")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1."""


@frozen(kw_only=True)
class Document:
    """Parsed YAML.  ``values`` and ``keys`` give the place of every value and of every mapping's key."""

    file: str
    lines: tuple[str, ...]
    data: Any
    values: dict[Path, Place]
    keys: dict[Path, Place]
    problems: tuple[Problem, ...]

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """Return a problem at ``path``, or at the nearest thing above it that stands in the file."""
        if at_key and path in self.keys:
            return self._at(message, self.keys[path])
        while path not in self.values and path:
            path = path[:-1]
        return self._at(message, self.values.get(path, (1, 1)))

    def _at(self, message: str, place: Place) -> Problem:
        return _problem(message, self.file, self.lines, *place)


def read_document(text: str, file: str) -> Document:
    """Parse one YAML document.

    Duplicate keys, tags and bad aliases stand in ``problems``, all of them; the data is then what
    is left.

    Raises:
        ConfigError: the text is not YAML, or too large.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    if len(text) > MAX_CHARACTERS:
        raise ConfigError(Problem(f"the file has more than {MAX_CHARACTERS} characters, so it is no pipeline", file))
    lines = tuple(_LINE_BREAK.split(text))
    composer = _Composer(YAML(typ="safe", pure=True).parse(text), file, lines)
    try:
        root = composer.compose()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(x) for x in (error.context, error.problem) if x)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError(_problem(f"this is not YAML: {said}", file, lines, *place)) from error
    except ReaderError as error:
        before = _LINE_BREAK.split(text[: error.position])
        message = f"the character U+{error.character:04X} cannot stand in YAML as it is"
        raise ConfigError(_problem(message, file, lines, len(before), len(before[-1]) + 1)) from error
    except YAMLError as error:
        raise ConfigError(Problem(f"this is not YAML: {error}", file)) from error
    builder = _Builder(composer.problems)
    data = None if root is None else builder.build(root, (), composer)
    return Document(
        file=file,
        lines=lines,
        data=data,
        values=builder.values,
        keys=builder.keys,
        problems=tuple(composer.problems),
    )


def _problem(message: str, file: str, lines: tuple[str, ...], line: int, column: int) -> Problem:
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    # A tab is as wide as the terminal likes; the caret counts it as one column.
    source = _PASSWORD.sub(lambda m: f"{m[1]}{'*' * len(m[2])}", source.replace("\t", " "))
    return Problem(message, file, line, column, source)


# --- events to nodes ------------------------------------------------------------------------------


@define(eq=False)
class _Node:
    """``value`` is a scalar, a list of nodes, or a list of (key, place of the key, node)."""

    kind: str
    place: Place
    value: Any = None
    open: bool = True


@define
class _Composer:
    events: Iterator[Any]
    file: str
    lines: tuple[str, ...]
    problems: list[Problem] = field(factory=list, init=False)
    anchors: dict[str, _Node] = field(factory=dict, init=False)
    nodes: int = field(default=0, init=False)

    def compose(self) -> _Node | None:
        """Return the root node of the only document."""
        root: _Node | None = None
        documents = 0
        for event in self.events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents == 2:
                    self.refuse("a pipeline file holds one document; put the second in its own file", event)
                    return root
            elif name not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                root = self.node(event, 0)
        return root

    def refuse(self, message: str, event: Any) -> None:
        self.refuse_at(message, _place(event))

    def refuse_at(self, message: str, place: Place) -> None:
        self.problems.append(_problem(message, self.file, self.lines, *place))
        if len(self.problems) == MAX_PROBLEMS:
            rest = _problem("too much is wrong here: what follows was not looked at", self.file, self.lines, *place)
            raise ConfigError(*self.problems, rest)

    def node(self, event: Any, depth: int) -> _Node:
        name = type(event).__name__
        if depth > MAX_DEPTH:
            raise self.ended(f"nested deeper than {MAX_DEPTH} levels", _place(event))
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.ended(f"more than {MAX_NODES} values are no pipeline", _place(event))
        if name == "AliasEvent":
            return self.alias(event)
        kind = {"ScalarEvent": "scalar", "SequenceStartEvent": "list"}.get(name, "mapping")
        node = _Node(kind, _place(event))
        if event.anchor:
            self.anchors[str(event.anchor)] = node
        if event.ctag is not None:
            tag = _short(str(event.ctag))
            self.refuse(f"the tag `{tag}` is not supported; quote text and leave numbers bare", event)
        if kind == "scalar":
            node.value = _scalar(event.value, is_plain=event.style in (None, ""))
        else:
            node.value = self.items(depth) if kind == "list" else self.pairs(depth)
        node.open = False
        return node

    def alias(self, event: Any) -> _Node:
        node = self.anchors.get(str(event.anchor))
        if node is not None and not node.open:
            # A copy, so that what is wrong in it is shown where it is used.
            return _Node(node.kind, _place(event), node.value, open=False)
        name = _short(str(event.anchor))
        what = "stands for itself" if node else f"has no anchor `&{name}` before it"
        self.refuse(f"the alias `*{name}` {what}", event)
        return _Node("scalar", _place(event))

    def items(self, depth: int) -> list[_Node]:
        found = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            found.append(self.node(event, depth + 1))
        return found

    def pairs(self, depth: int) -> list[tuple[str, Place, _Node]]:
        found: dict[str, tuple[str, Place, _Node]] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            place = _place(event)
            key = self.key(event, depth)
            value = self.node(next(self.events), depth + 1)
            if key is None:
                continue
            if key in found:
                line = found[key][1][0]
                self.refuse_at(f"the key `{key}` stands on line {line} already; remove one", place)
            else:
                found[key] = (key, place, value)
            if len(found) > MAX_KEYS:
                raise self.ended(f"more than {MAX_KEYS} keys in one mapping are no pipeline", place)
        return list(found.values())

    def key(self, event: Any, depth: int) -> str | None:
        node = self.node(event, depth + 1)
        if type(event).__name__ == "ScalarEvent":
            text = str(event.value)
        elif node.kind == "scalar" and isinstance(node.value, str):
            text = node.value
        else:
            self.refuse("a key must be text", event)
            return None
        if len(text) > MAX_KEY_CHARACTERS:
            self.refuse(f"a key has at most {MAX_KEY_CHARACTERS} characters", event)
            return None
        if text == "<<":
            self.refuse("merge keys are not supported; write the options out", event)
            return None
        return text

    def ended(self, message: str, place: Place) -> ConfigError:
        """Return the error that ends the reading here."""
        return ConfigError(*self.problems, _problem(message, self.file, self.lines, *place))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


_NULL = {"", "~", "null", "Null", "NULL"}
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_MAX_DIGITS = 300


def _scalar(text: str, *, is_plain: bool) -> Any:
    """Resolve a scalar by the core schema of YAML 1.2.2, section 10.3.2."""
    if not is_plain or len(text) > _MAX_DIGITS:
        return text
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _NOT_FINITE.fullmatch(text):
        return float(special[1] + special[2])
    return text


# --- nodes to data --------------------------------------------------------------------------------


@define
class _Builder:
    """Walk the nodes, every alias as often as it is used."""

    problems: list[Problem]
    values: dict[Path, Place] = field(factory=dict, init=False)
    keys: dict[Path, Place] = field(factory=dict, init=False)

    def build(self, node: _Node, path: Path, composer: _Composer) -> Any:
        self.values[path] = node.place
        if len(self.values) > MAX_NODES or len(path) > 2 * MAX_DEPTH:
            raise composer.ended(f"the aliases make more than {MAX_NODES} values", node.place)
        if node.kind == "list":
            return [self.build(item, (*path, i), composer) for i, item in enumerate(node.value)]
        if node.kind == "mapping":
            for key, place, _ in node.value:
                self.keys[(*path, key)] = place
            return {key: self.build(item, (*path, key), composer) for key, _, item in node.value}
        return node.value
