"""How does parsed YAML become an attrs class?  Strictly, with all problems at once.

Nothing is coerced: a number is no text, text is no list; only an int where a float is wanted is
taken.
"""

import copy
import difflib
import operator
import typing
from collections.abc import Collection, Mapping, Sequence, Set
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import frozen

from muniment._scalars import (
    SCALARS,
    Issue,
    Misfit,
    OptionPath,
    Reference,
    choice,
    is_choice,
    is_pattern,
    mismatch,
    pattern,
    scalar,
    wrong,
)
from muniment.errors import ConfigError, PluginError, Problem
from muniment.options import is_list, is_mapping, is_union, option_fields
from muniment.secrets import Secret

if TYPE_CHECKING:
    from cattrs import Converter

    from muniment.plugins import Registry

T = TypeVar("T")

__all__ = ["OptionProblem", "OptionsError", "Reference", "anchored", "closest", "structure"]


@frozen
class OptionProblem:
    """What is wrong with one option.

    ``at_key``: with its name, rather than with its value.  ``always``: said even where a reference in
    the value failed.  ``hides``: the value may be a secret; nobody may show it.
    """

    path: OptionPath
    message: str
    at_key: bool = False
    always: bool = False
    hides: bool = False


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
    except Misfit as misfit:
        problems = [_explain(issue, owner, noun, also) for issue in misfit.issues]
    if registry is not None:
        problems += _wrong_names(cls, data, registry)
    if problems or value is None:
        raise OptionsError(problems)
    return value


def anchored(value: T, base: Path) -> T:
    """Return ``value`` (an attrs instance) with its relative paths and globs taken from ``base``; ``~``
    is the home folder."""
    moved = value
    for a in attrs.fields(type(value)):  # type: ignore[arg-type]
        old = getattr(value, a.name)
        new = _anchor(old, base, is_path=bool(a.metadata.get("is_path")))
        if new != old:
            # Not attrs.evolve: it would give converters what they have converted already.
            moved = copy.copy(value) if moved is value else moved
            object.__setattr__(moved, a.name, new)
    return moved


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
    if isinstance(value, Secret):
        return value.anchored(base)
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


def _explain(issue: Issue, owner: str, noun: str, also: Collection[str]) -> OptionProblem:
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
    text = f"{noun} `{dotted}`{of} {issue.text}" if dotted else f"{owner} {issue.text}"
    return OptionProblem(issue.path, text, always=issue.always, hides=issue.hides)


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
    converter.register_structure_hook_func(is_choice, choice)
    converter.register_structure_hook_func(is_pattern, pattern)
    for kind, hook in SCALARS.items():
        # cattrs asks by class before it asks by predicate, and has hooks of its own for these.
        if isinstance(kind, type) and kind is not object:
            converter.register_structure_hook(kind, scalar)
        else:
            converter.register_structure_hook_func(partial(operator.is_, kind), hook)
    return converter


def _gather(items: Collection[tuple[Any, Any, Any]], converter: "Converter") -> list[Any]:
    """Structure (key, value, type) triples; raise the problems of all of them together."""
    values, issues = [], []
    for key, value, kind in items:
        try:
            values.append(converter.structure(value, kind))
        except Misfit as misfit:
            issues += [i.below(key) for i in misfit.issues]
    if issues:
        raise Misfit(*issues)
    return values


def _list(value: Any, kind: Any, converter: "Converter") -> Any:
    if not isinstance(value, list):
        raise mismatch(value, kind)
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    fixed = origin is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(value):
        raise wrong(f"must be a list of {len(args)} values, not {len(value)}")
    kinds = args if fixed else [args[0] if args else Any] * len(value)
    values = _gather([(i, v, k) for i, (v, k) in enumerate(zip(value, kinds, strict=True))], converter)
    if issubclass(origin, Set):
        return set(values) if issubclass(origin, set) else frozenset(values)
    return values if issubclass(origin, list) else tuple(values)


def _mapping(value: Any, kind: Any, converter: "Converter") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise mismatch(value, kind)
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
        except Misfit as misfit:
            misfits.append(misfit)
    if len(misfits) == 1:
        raise misfits[0]
    # The member whose problem lies inside the value is the one that was meant.
    raise next((m for m in misfits if any(i.path for i in m.issues)), mismatch(value, kind))


_NO_REFERENCE = "does not take what its reference gives"
"""In place of a message that may quote the value."""


def _attrs(value: Any, cls: type[Any], converter: "Converter") -> Any:
    if not isinstance(value, Mapping):
        raise mismatch(value, cls)
    fields = {a.alias or a.name: (a, kind) for a, kind in option_fields(cls)}
    issues = [Issue("unknown", path=(k,), names=tuple(fields)) for k in value if k not in fields]
    # Validators may look at the object; this one holds what is right so far.
    draft = object.__new__(cls)
    given: dict[str, Any] = {}
    for name, (a, kind) in fields.items():
        try:
            if name in value:
                given[name] = _structure_field(value[name], a, kind, converter)
                object.__setattr__(draft, a.name, _convert(given[name], a, value[name]))
            elif a.default is attrs.NOTHING:
                issues.append(Issue("missing", path=(name,)))
        except Misfit as misfit:
            issues += [i.below(name) for i in misfit.issues]
    issues += _invalid(draft, {n: fields[n][0] for n in given}, value)
    if not issues:
        try:
            return cls(**given)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            issues.append(Issue("wrong", f"cannot be used: {error}"))
    raise Misfit(*issues)


def _structure_field(value: Any, field: "attrs.Attribute[Any]", kind: Any, converter: "Converter") -> Any:
    from cattrs.errors import StructureHandlerNotFoundError

    try:
        return converter.structure(value, kind)
    except StructureHandlerNotFoundError as error:
        raise PluginError(
            f"option `{field.name}` is declared as {kind}, which cannot be written in YAML;"
            " use text and a converter whose parameter is annotated"
        ) from error


def _convert(value: Any, field: "attrs.Attribute[Any]", raw: Any) -> Any:
    convert = field.converter
    if convert is None or isinstance(convert, attrs.Converter):
        return value
    try:
        return convert(value)
    except Exception as error:  # noqa: BLE001 - a stranger's code
        raise wrong(_NO_REFERENCE if isinstance(raw, Reference) else f"cannot be used: {error}") from None


def _invalid(draft: Any, fields: Mapping[str, "attrs.Attribute[Any]"], raw: Mapping[str, Any]) -> list[Issue]:
    issues = []
    for name, field in fields.items():
        if field.validator is None or not hasattr(draft, field.name):
            continue
        try:
            field.validator(draft, field, getattr(draft, field.name))
        except AttributeError:
            continue  # It looks at another option, which is wrong itself.
        except Exception as error:  # noqa: BLE001 - a stranger's code
            text = str(error.args[0]) if error.args else "is not valid"
            if isinstance(raw[name], Reference):
                text = _NO_REFERENCE
            elif (said := text.removeprefix(f"'{field.name}' ")) != text:
                text = said
            else:
                text = f"cannot be used: {text}"
            issues.append(Issue("wrong", text, (name,)))
    return issues
