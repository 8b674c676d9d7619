"""How does an attrs class become options and their documentation?"""

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import frozen

from muniment.errors import PluginError
from muniment.secrets import Secret


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
            type=type_phrase(kind).removeprefix("a "),
            default=_default_text(a),
            required=a.default is attrs.NOTHING,
            help=a.metadata.get("help", ""),
            choices=type_choices(kind),
            choices_from=a.metadata.get("choices_from", ""),
            example=_as_text(a.metadata.get("example")),
        )
        for a, kind in option_fields(cls)
    )


def option_names(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the options of an attrs class."""
    return tuple(a.alias or a.name for a, _ in option_fields(cls))


def option_fields(cls: type[Any]) -> list[tuple["attrs.Attribute[Any]", Any]]:
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
    Secret: "a secret",
    type(None): "null",
    Any: "anything",
    object: "anything",
}


def type_phrase(kind: Any) -> str:
    if kind in _PHRASES:
        return _PHRASES[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if choices := type_choices(kind):
        listed = ", ".join(f"`{c}`" for c in choices)
        return f"one of {listed}" if len(choices) > 1 else listed
    if is_union(kind):
        return " or ".join(type_phrase(k) for k in args if k is not type(None))
    if origin is re.Pattern or kind is re.Pattern:
        return "a regular expression"
    if is_list(kind):
        inner = type_phrase(args[0]) if args and args[0] is not Any else ""
        if not inner:
            return "a list"
        return f"a list of {inner}" if not inner.startswith("a ") else f"a list of {inner[2:]}s"
    return "a mapping"


def type_choices(kind: Any) -> tuple[str, ...]:
    if typing.get_origin(kind) is Literal:
        return tuple(str(a) for a in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(member.value) for member in kind)
    if is_union(kind):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        return type_choices(kinds[0]) if len(kinds) == 1 else ()
    return ()


def is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def is_list(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence | Set) and not issubclass(origin, str | bytes)


def is_mapping(kind: Any) -> bool:
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
