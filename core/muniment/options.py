"""How does an attrs class become YAML options, documentation and a JSON Schema?

`describe` and `json_schema` document a class, `structure` makes an instance from parsed YAML.
Nothing is coerced: a number is no text, text is no list; only an int where a float is wanted is
taken.
"""

import difflib
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
from attrs import frozen

from muniment.errors import ConfigError, PluginError, Problem
from muniment.schema import json_schema

if TYPE_CHECKING:
    from cattrs import Converter

    from muniment.plugins import Registry

__all__ = [
    "OptionInfo", "OptionProblem", "OptionsError", "Reference", "anchored", "closest", "describe",
    "json_schema", "option", "option_names", "structure",
]  # fmt: skip

T = TypeVar("T")
OptionPath = tuple[str | int, ...]


def option(
    help: str,  # noqa: A002 - the name that click and argparse use
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    validator: Any = None,
    identity: bool | None = None,
    choices_from: str = "",
    is_path: bool = False,
    example: Any = None,
) -> Any:
    """Declare an option of a component: an attrs field that carries its documentation.

    Args:
        help: one sentence for the reference page, ``--help`` and the JSON Schema.
        default: the value without the option; without one the option is required.
        factory: makes the default where it is mutable.
        converter: applied to the structured value; the type of its parameter, where it has one,
            is the type that YAML must hold.
        validator: an attrs validator; its ValueError becomes a configuration problem.
        identity: whether the option changes *what* is stored (part of the plan hash) or only
            where and how fast (False).  By default all but paths are.
        choices_from: a kind of component (``formats``) whose names are the valid values.
        is_path: a path or glob (or a list of them); in a pipeline file it is relative to the
            file's folder.
        example: a value for the documentation.
    """
    metadata = {
        "help": help,
        "identity": not is_path if identity is None else identity,
        "choices_from": choices_from,
        "is_path": is_path,
        "example": example,
    }
    if factory is not None:
        return attrs.field(factory=factory, converter=converter, validator=validator, metadata=metadata)
    return attrs.field(default=default, converter=converter, validator=validator, metadata=metadata)


@frozen
class OptionInfo:
    """What the documentation says about an option.

    ``type`` is a phrase (``whole number``); ``default`` is JSON, empty where there is none or the
    default is null; ``choices`` are the valid values where they can be listed.
    """

    name: str
    type: str
    default: str
    required: bool
    help: str
    choices: tuple[str, ...] = ()
    choices_from: str = ""
    example: str = ""


def describe(cls: type[Any]) -> tuple[OptionInfo, ...]:
    """Return the options of an attrs class, in the order of its fields."""
    return tuple(
        OptionInfo(
            name=a.alias or a.name,
            type=_phrase(kind).removeprefix("a "),
            default=_default_text(a),
            required=a.default is attrs.NOTHING,
            help=a.metadata.get("help", ""),
            choices=_choices(kind),
            choices_from=a.metadata.get("choices_from", ""),
            example=_as_text(a.metadata.get("example")),
        )
        for a, kind in _fields(cls)
    )


def option_names(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the options of an attrs class."""
    return tuple(a.alias or a.name for a, _ in _fields(cls))


class Reference(str):
    """Text that a reference (``${env:PORT}``) stood for.

    It may become a number or a truth value where an option wants one, if the reference was the
    ``whole`` scalar; and no message repeats it.
    """

    __slots__ = ("whole",)
    whole: bool

    def __new__(cls, text: str, whole: bool) -> "Reference":
        self = super().__new__(cls, text)
        self.whole = whole
        return self


@frozen
class OptionProblem:
    """What is wrong with one option.  ``at_key``: with its name, rather than with its value."""

    path: OptionPath
    message: str
    at_key: bool = False


class OptionsError(ConfigError):
    """Options do not fit their class; ``options`` holds every problem with the path of its option."""

    def __init__(self, options: Sequence[OptionProblem]) -> None:
        self.options = tuple(options)
        super().__init__(*(Problem(p.message) for p in options))


def structure(
    cls: type[T],
    data: Mapping[str, Any],
    *,
    owner: str = "",
    noun: str = "option",
    registry: "Registry | None" = None,
    also: Collection[str] = (),
) -> T:
    """Make a ``cls`` from parsed YAML, strictly.

    Args:
        cls: an attrs class; nested attrs classes are mappings.
        data: option names and values; text from references as `Reference`.
        owner: what the options belong to, for the messages (``sink `files```).
        noun: what the messages call an option.
        registry: checks the options that name a component.
        also: names beside ``data`` that a misspelt one may have meant.

    Raises:
        OptionsError: something does not fit; it holds all problems.
        PluginError: an option is declared with a type that YAML cannot express.
    """
    problems: list[OptionProblem] = []
    value = None
    try:
        value = _converter().structure(data, cls)
    except _Misfit as misfit:
        problems = [_explain(issue, owner, noun, also) for issue in misfit.issues]
    if registry is not None:
        problems += _wrong_names(cls, data, registry)
    if problems or value is None:
        raise OptionsError(problems)
    return value


def anchored(value: T, base: Path) -> T:
    """Return ``value`` (an attrs instance) with its relative paths and globs taken from ``base``; ``~``
    is the home folder."""
    changes: dict[str, Any] = {}
    for a in attrs.fields(type(value)):  # type: ignore[arg-type]
        old = getattr(value, a.name)
        new = _anchor(old, base, is_path=bool(a.metadata.get("is_path")))
        if new != old and a.init:
            changes[a.alias] = new
    return attrs.evolve(value, **changes) if changes else value  # type: ignore[type-var]


def closest(name: str, names: Collection[str]) -> str:
    """Return what ``name`` was probably meant to be, as the end of a message; else the valid names."""
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if match:
        return f"; did you mean `{match[0]}`?"
    return f"; there is {', '.join(f'`{n}`' for n in names)}" if names else ""


# --- paths ----------------------------------------------------------------------------------


def _anchor(value: Any, base: Path, *, is_path: bool) -> Any:
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, str):
        return _anchor_text(value, base) if is_path else value
    if isinstance(value, list | tuple):
        return type(value)(_anchor(v, base, is_path=is_path) for v in value)
    if attrs.has(type(value)):
        return anchored(value, base)
    return value


def _anchor_text(text: str, base: Path) -> str:
    import glob

    path = Path(text).expanduser()
    if path.is_absolute():
        return str(path)
    # A folder called `[2024]` must not become a pattern because a glob stands behind it.
    folder = glob.escape(str(base)) if glob.has_magic(text) else str(base)
    return str(Path(folder) / path)


# --- what a type is called --------------------------------------------------------------------


def _fields(cls: type[Any]) -> list[tuple["attrs.Attribute[Any]", Any]]:
    """Return the fields that YAML can set, each with the type that YAML must hold."""
    try:
        hints = typing.get_type_hints(cls)
    except (NameError, TypeError) as error:
        raise PluginError(f"the annotations of `{cls.__module__}.{cls.__qualname__}` fail: {error}") from error
    return [(a, _input_type(a, hints.get(a.name, Any))) for a in attrs.fields(cls) if a.init]


def _input_type(field: "attrs.Attribute[Any]", hint: Any) -> Any:
    if field.converter is None or isinstance(field.converter, attrs.Converter | type):
        return hint
    try:
        taken = next(iter(inspect.signature(field.converter, eval_str=True).parameters.values()))
    except (TypeError, ValueError, NameError, StopIteration):
        return hint
    return hint if taken.annotation is inspect.Parameter.empty else taken.annotation


_PHRASES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    datetime: "a date and time",
    date: "a date",
    type(None): "null",
    Any: "anything",
    object: "anything",
}


def _phrase(kind: Any) -> str:
    if kind in _PHRASES:
        return _PHRASES[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if choices := _choices(kind):
        listed = ", ".join(f"`{c}`" for c in choices)
        return f"one of {listed}" if len(choices) > 1 else listed
    if _is_union(kind):
        return " or ".join(_phrase(k) for k in args if k is not type(None))
    if origin is re.Pattern or kind is re.Pattern:
        return "a regular expression"
    if _is_list(kind):
        inner = _phrase(args[0]) if args and args[0] is not Any else ""
        if not inner:
            return "a list"
        return f"a list of {inner}" if not inner.startswith("a ") else f"a list of {inner[2:]}s"
    return "a mapping"


def _choices(kind: Any) -> tuple[str, ...]:
    if typing.get_origin(kind) is Literal:
        return tuple(str(a) for a in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(member.value) for member in kind)
    if _is_union(kind):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        return _choices(kinds[0]) if len(kinds) == 1 else ()
    return ()


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _is_list(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence | Set) and not issubclass(origin, str | bytes)


def _is_mapping(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _default_text(field: "attrs.Attribute[Any]") -> str:
    if field.default is attrs.NOTHING:
        return ""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        factory: Any = field.default
        # What a factory makes may differ from machine to machine (the number of cores).
        return _as_text(factory.factory()) if factory.factory in (list, dict, tuple, set) else ""
    return _as_text(field.default)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, enum.Enum):
        value = value.value
    return json.dumps(value, ensure_ascii=False, default=lambda v: getattr(v, "pattern", None) or str(v))


# --- structuring --------------------------------------------------------------------------------


@frozen
class _Issue:
    kind: Literal["unknown", "missing", "wrong"]
    text: str = ""
    path: OptionPath = ()
    names: tuple[str, ...] = ()

    def below(self, key: str | int) -> "_Issue":
        return attrs.evolve(self, path=(key, *self.path))


class _Misfit(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, *issues: _Issue) -> None:
        self.issues = issues


def _wrong(text: str) -> _Misfit:
    return _Misfit(_Issue("wrong", text))


def _explain(issue: _Issue, owner: str, noun: str, also: Collection[str]) -> OptionProblem:
    dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in issue.path).removeprefix(".")
    if issue.kind == "unknown":
        parent = dotted[: -len(str(issue.path[-1]))]
        names = [f"{parent}{n}" for n in issue.names] + ([] if parent else list(also))
        to = f" for {owner}" if owner else ""
        return OptionProblem(issue.path, f"unknown {noun} `{dotted}`{to}{closest(dotted, names)}", at_key=True)
    if issue.kind == "missing":
        to = f" for {owner}" if owner else ""
        return OptionProblem(issue.path, f"{noun} `{dotted}` is missing{to}")
    of = f" of {owner}" if owner else ""
    return OptionProblem(issue.path, f"{noun} `{dotted}`{of} {issue.text}" if dotted else f"{owner} {issue.text}")


def _wrong_names(cls: type[Any], data: Any, registry: "Registry") -> list[OptionProblem]:
    problems = []
    for a, _ in _fields(cls):
        kind, name = a.metadata.get("choices_from"), a.alias or a.name
        given = data.get(name) if kind and isinstance(data, Mapping) else None
        for path, value in (
            [((name, i), v) for i, v in enumerate(given)] if isinstance(given, list) else [((name,), given)]
        ):
            if isinstance(value, str):
                try:
                    registry.get(kind, value)
                except PluginError as error:
                    problems.append(OptionProblem(path, str(error)))
    return problems


@cache
def _converter() -> "Converter":
    from cattrs import Converter

    converter = Converter(detailed_validation=False)
    hooks: dict[Any, Callable[[Any, Any], Any]] = {
        str: _text, int: _whole_number, float: _number, bool: _truth, Path: _path,
        datetime: _datetime, date: _date, Any: _anything, object: _anything,
    }  # fmt: skip
    for kind, hook in hooks.items():
        converter.register_structure_hook_func(lambda k, kind=kind: k is kind, hook)
    converter.register_structure_hook_func(
        lambda k: k is re.Pattern or typing.get_origin(k) is re.Pattern, _pattern
    )
    converter.register_structure_hook_func(
        lambda k: bool(_choices(k)) and not _is_union(k), _choice
    )
    # The ones that look inside need the converter again.
    nested: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = [
        (_is_list, _list), (_is_mapping, _mapping), (_is_union, _union), (attrs.has, _attrs),
    ]  # fmt: skip
    for fits, inner in nested:
        converter.register_structure_hook_func(
            fits, lambda value, kind, inner=inner: inner(value, kind, converter)
        )
    return converter


def _found(value: Any) -> str:
    """Return what ``value`` is, for "must be ..., not ..."."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a mapping")


def _mismatch(value: Any, kind: Any, more: str = "") -> _Misfit:
    if isinstance(value, Reference):
        return _wrong(f"must be {_phrase(kind)}; what its reference gives is not")
    return _wrong(f"must be {_phrase(kind)}, not {_found(value)}{more}")


def _text(value: Any, kind: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise _mismatch(value, kind, "; put it in quotes" if isinstance(value, int | float) else "")


_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def _is_number_text(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, Reference) and value.whole and form.fullmatch(value) is not None


def _whole_number(value: Any, kind: Any) -> int:
    if type(value) is int:
        return value
    if _is_number_text(value, _WHOLE_NUMBER):
        return int(value)
    raise _mismatch(value, kind)


def _number(value: Any, kind: Any) -> float:
    if type(value) in (int, float) or _is_number_text(value, _NUMBER):
        return float(value)
    raise _mismatch(value, kind)


def _truth(value: Any, kind: Any) -> bool:
    if type(value) is bool:
        return value
    if isinstance(value, Reference) and value.whole and value in _TRUTH:
        return _TRUTH[value]
    raise _mismatch(value, kind)


def _path(value: Any, kind: Any) -> Path:
    if isinstance(value, str):
        return Path(value)
    raise _mismatch(value, kind)


def _datetime(value: Any, kind: Any) -> datetime:
    """Read ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _mismatch(value, kind, " such as `2025-01-31T18:00:00Z`") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(value: Any, kind: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _mismatch(value, kind, " such as `2025-01-31`") from None


def _pattern(value: Any, kind: Any) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise _mismatch(value, kind)
    try:
        return re.compile(str(value))
    except re.error as error:
        raise _wrong(f"is not a regular expression: {error}") from None


def _choice(value: Any, kind: Any) -> Any:
    values = typing.get_args(kind) or tuple(kind)
    for candidate in values:
        plain = candidate.value if isinstance(candidate, enum.Enum) else candidate
        if plain == value and (type(plain) is type(value) or isinstance(value, str)):
            return candidate
    if isinstance(value, Reference) or not isinstance(value, str | int | float):
        raise _mismatch(value, kind)
    match = difflib.get_close_matches(str(value), _choices(kind), n=1)
    hint = f"; did you mean `{match[0]}`?" if match else ""
    raise _wrong(f"must be {_phrase(kind)}, not `{json.dumps(value).strip(chr(34))}`{hint}")


def _anything(value: Any, _kind: Any) -> Any:
    """Copy parsed YAML; references become plain text."""
    if isinstance(value, Mapping):
        return {str(k): _anything(v, None) for k, v in value.items()}
    if isinstance(value, list):
        return [_anything(v, None) for v in value]
    return str(value) if isinstance(value, str) else value


def _gather(items: Collection[tuple[Any, Any, Any]], converter: "Converter") -> list[Any]:
    """Structure (key, value, type) triples; raise the problems of all of them together."""
    values, issues = [], []
    for key, value, kind in items:
        try:
            values.append(converter.structure(value, kind))
        except _Misfit as misfit:
            issues += [i.below(key) for i in misfit.issues]
    if issues:
        raise _Misfit(*issues)
    return values


def _list(value: Any, kind: Any, converter: "Converter") -> Any:
    if not isinstance(value, list):
        raise _mismatch(value, kind)
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    fixed = origin is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(value):
        raise _wrong(f"must be a list of {len(args)} values, not {len(value)}")
    kinds = args if fixed else [args[0] if args else Any] * len(value)
    values = _gather([(i, v, k) for i, (v, k) in enumerate(zip(value, kinds, strict=True))], converter)
    if issubclass(origin, Set):
        return set(values) if issubclass(origin, set) else frozenset(values)
    return values if issubclass(origin, list) else tuple(values)


def _mapping(value: Any, kind: Any, converter: "Converter") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind)
    inner = (*typing.get_args(kind), Any, Any)[1]
    return dict(zip(value, _gather([(k, v, inner) for k, v in value.items()], converter), strict=True))


def _union(value: Any, kind: Any, converter: "Converter") -> Any:
    kinds = [k for k in typing.get_args(kind) if k is not type(None)]
    if value is None and len(kinds) < len(typing.get_args(kind)):
        return None
    misfits = []
    for candidate in kinds:
        try:
            return converter.structure(value, candidate)
        except _Misfit as misfit:
            misfits.append(misfit)
    if len(misfits) == 1:
        raise misfits[0]
    # The member whose problem lies inside the value is the one that was meant.
    raise next((m for m in misfits if any(i.path for i in m.issues)), _mismatch(value, kind))


def _attrs(value: Any, cls: type[Any], converter: "Converter") -> Any:
    if not isinstance(value, Mapping):
        raise _mismatch(value, cls)
    fields = {a.alias or a.name: (a, kind) for a, kind in _fields(cls)}
    issues = [_Issue("unknown", path=(k,), names=tuple(fields)) for k in value if k not in fields]
    # Validators may look at the object; this one holds what is right so far.
    draft = object.__new__(cls)
    given: dict[str, Any] = {}
    for name, (a, kind) in fields.items():
        try:
            if name in value:
                given[name] = _structure_field(value[name], a, kind, converter)
                object.__setattr__(draft, a.name, _convert(given[name], a))
            elif a.default is attrs.NOTHING:
                issues.append(_Issue("missing", path=(name,)))
        except _Misfit as misfit:
            issues += [i.below(name) for i in misfit.issues]
    issues += _invalid(draft, {n: fields[n][0] for n in given}, value)
    if not issues:
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            issues.append(_Issue("wrong", f"cannot be used: {error}"))
    raise _Misfit(*issues)


def _structure_field(value: Any, field: "attrs.Attribute[Any]", kind: Any, converter: "Converter") -> Any:
    from cattrs.errors import StructureHandlerNotFoundError

    try:
        return converter.structure(value, kind)
    except StructureHandlerNotFoundError as error:
        raise PluginError(
            f"option `{field.name}` is declared as {kind}, which cannot be written in YAML;"
            " use text and a converter whose parameter is annotated"
        ) from error


def _convert(value: Any, field: "attrs.Attribute[Any]") -> Any:
    convert = field.converter
    if convert is None or isinstance(convert, attrs.Converter):
        return value
    try:
        return convert(value)
    except (TypeError, ValueError) as error:
        raise _wrong(f"cannot be used: {error}") from None


def _invalid(draft: Any, fields: Mapping[str, "attrs.Attribute[Any]"], raw: Mapping[str, Any]) -> list[_Issue]:
    issues = []
    for name, field in fields.items():
        if field.validator is None or not hasattr(draft, field.name):
            continue
        try:
            field.validator(draft, field, getattr(draft, field.name))
        except AttributeError:
            continue  # It looks at another option, which is wrong itself.
        except (TypeError, ValueError) as error:
            text = str(error.args[0]) if error.args else "is not valid"
            if isinstance(raw[name], Reference):
                text = "does not take what its reference gives"
            elif (said := text.removeprefix(f"'{field.name}' ")) != text:
                text = said
            else:
                text = f"cannot be used: {text}"
            issues.append(_Issue("wrong", text, (name,)))
    return issues
