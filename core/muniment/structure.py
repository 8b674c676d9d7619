"""How does parsed YAML become an attrs class?  Strictly, with all problems at once.

Nothing is coerced: a number is no text, text is no list; only an int where a float is wanted is
taken.
"""

import difflib
import enum
import json
import operator
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
from attrs import frozen

from muniment.errors import ConfigError, PluginError, Problem
from muniment.options import is_list, is_mapping, is_union, option_fields, type_choices, type_phrase

if TYPE_CHECKING:
    from cattrs import Converter

    from muniment.plugins import Registry

T = TypeVar("T")
OptionPath = tuple[str | int, ...]


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
    return attrs.evolve(value, **changes) if changes else value  # type: ignore[misc]


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
    for a, _ in option_fields(cls):
        kind, name = str(a.metadata.get("choices_from", "")), a.alias or a.name
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
    # Later ones are asked first.
    for fits, inner in ((is_list, _list), (is_mapping, _mapping), (is_union, _union), (attrs.has, _attrs)):
        converter.register_structure_hook_func(fits, partial(inner, converter=converter))
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(_is_pattern, _pattern)
    hooks: dict[Any, Callable[[Any, Any], Any]] = {
        str: _text, int: _whole_number, float: _number, bool: _truth, Path: _path,
        datetime: _datetime, date: _date, Any: _anything, object: _anything,
    }  # fmt: skip
    for kind, hook in hooks.items():
        converter.register_structure_hook_func(partial(operator.is_, kind), hook)
    return converter


def _is_choice(kind: Any) -> bool:
    return bool(type_choices(kind)) and not is_union(kind)


def _is_pattern(kind: Any) -> bool:
    return re.Pattern in (kind, typing.get_origin(kind))


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
        return _wrong(f"must be {type_phrase(kind)}; what its reference gives is not")
    return _wrong(f"must be {type_phrase(kind)}, not {_found(value)}{more}")


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
    match = difflib.get_close_matches(str(value), type_choices(kind), n=1)
    hint = f"; did you mean `{match[0]}`?" if match else ""
    raise _wrong(f"must be {type_phrase(kind)}, not `{json.dumps(value).strip(chr(34))}`{hint}")


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
    fields = {a.alias or a.name: (a, kind) for a, kind in option_fields(cls)}
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
