"""What is the JSON Schema (draft 2020-12) of a component, and of a whole pipeline file?"""

import enum
import re
import types
import typing
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from muniment.errors import PluginError
from muniment.secrets import REFERENCE_PATTERN, Secret

if TYPE_CHECKING:
    from muniment.plugins import Registry

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"

REFERENCE: Schema = {"type": "string", "pattern": r"^\$\{env:[^}]+\}$"}
"""What may stand in a pipeline file in place of a number, a truth value or a choice."""


def json_schema(cls: type[Any], registry: "Registry | None" = None, *, references: bool = False) -> Schema:
    """Return the schema of an attrs class.

    With ``registry``, an option that names a component lists the names.  With ``references``,
    ``${env:NAME}`` is taken wherever a pipeline file takes it.
    """
    hints = typing.get_type_hints(cls)
    properties: Schema = {}
    required = []
    for a in attrs.fields(cls):
        if not a.init:
            continue
        name = a.alias or a.name
        schema = _schema_of(hints.get(a.name, Any), registry, references)
        if registry is not None and (kind := a.metadata.get("choices_from")):
            schema = _naming(schema, registry.names(kind), references)
        properties[name] = {**_described(a), **schema}
        if a.default is attrs.NOTHING:
            required.append(name)
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": required} if required else schema


def pipeline_schema(registry: "Registry") -> Schema:
    """Return the schema of pipeline files with the components that are installed."""
    from muniment.config.shape import OwnSinkKeys, PipelineKeys, TestKeys
    from muniment.plan_tests import Expectation

    definitions: Schema = {}
    own = json_schema(OwnSinkKeys, references=True)["properties"]
    own["transforms"] |= _list_of("transform")
    for kind in ("sources", "transforms", "sinks", "engines"):
        for name in registry.names(kind):
            definitions[f"{kind}.{name}"] = _component(kind, name, registry, own if kind == "sinks" else {})
        definitions[kind[:-1]] = _one_of(kind, registry)
    definitions["test"] = json_schema(TestKeys)
    definitions["test"]["properties"]["expect"] |= json_schema(Expectation)
    schema = json_schema(PipelineKeys, references=True)
    properties = schema["properties"]
    for key in ("source", "engine"):
        properties[key] = {"description": properties[key]["description"], "$ref": f"#/$defs/{key}"}
    for key in ("sources", "transforms", "sinks", "tests"):
        properties[key] |= _list_of(key[:-1])
    schema["required"] = [*schema["required"], "sinks"]
    schema["oneOf"] = [{"required": ["source"]}, {"required": ["sources"]}]
    return {"$schema": DRAFT, "title": "muniment pipeline", **schema, "$defs": definitions}


def _list_of(definition: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/$defs/{definition}"}}


def _component(kind: str, name: str, registry: "Registry", own: Schema) -> Schema:
    try:
        cls = registry.get(kind, name)
    except PluginError as error:
        # A component whose extra is missing is no mistake of the file: nothing is said of its options.
        return {"type": "object", "description": str(error), "required": ["type"]}
    schema = json_schema(cls, registry, references=True)
    schema["description"] = (cls.__doc__ or "").strip().split("\n\n")[0]
    schema["properties"] = {"type": {"const": name}, **own, **schema["properties"]}
    schema["required"] = ["type", *schema.get("required", ())]
    return schema


def _one_of(kind: str, registry: "Registry") -> Schema:
    """Choose by ``type``, so that an editor reports what is wrong with the one that was meant."""
    names = list(registry.names(kind))
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": names}},
        "allOf": [
            {
                "if": {"required": ["type"], "properties": {"type": {"const": name}}},
                "then": {"$ref": f"#/$defs/{kind}.{name}"},
            }
            for name in names
        ],
    }


def _naming(schema: Schema, names: Sequence[str], references: bool) -> Schema:
    """Return ``schema`` with ``names`` in place of any text."""
    if schema == {"type": "string"}:
        return _or_reference({"enum": list(names)}, references)
    if "anyOf" in schema:
        return {"anyOf": [_naming(s, names, references) for s in schema["anyOf"]]}
    return {**schema, "items": _naming(schema["items"], names, references)} if "items" in schema else schema


def _described(field: "attrs.Attribute[Any]") -> Schema:
    said: Schema = {}
    if field.metadata.get("help"):
        said["description"] = field.metadata["help"]
    if field.metadata.get("example") is not None:
        said["examples"] = [field.metadata["example"]]
    # `attrs.NOTHING` is an enum's member too.
    default = None if field.default is attrs.NOTHING else field.default
    default = default.value if isinstance(default, enum.Enum) else default
    if isinstance(default, str | int | float | bool):
        said["default"] = default
    return said


_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
    type(None): {"type": "null"},
    Secret: {"type": "string", "pattern": REFERENCE_PATTERN},
}


def _or_reference(schema: Schema, references: bool) -> Schema:
    return {"anyOf": [schema, REFERENCE]} if references else schema


def _schema_of(kind: Any, registry: "Registry | None", references: bool) -> Schema:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        plain = dict(_PLAIN[kind])
        return _or_reference(plain, references and kind in (int, float, bool))
    if origin is Literal:
        return _or_reference({"enum": list(args)}, references and any(isinstance(a, str) for a in args))
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(k, registry, references) for k in args]}
    if origin is re.Pattern or kind is re.Pattern:
        return {"type": "string", "format": "regex"}
    return _schema_of_class(kind, origin or kind, args, registry, references)


def _schema_of_class(
    kind: Any, origin: Any, args: Sequence[Any], registry: "Registry | None", references: bool
) -> Schema:
    if not isinstance(origin, type) or origin is object:
        return {}
    if issubclass(origin, enum.Enum):
        return _or_reference({"enum": [member.value for member in origin]}, references)
    if attrs.has(origin):
        return json_schema(origin, registry, references=references)
    if issubclass(origin, Mapping):
        inner = _schema_of(args[1], registry, references) if len(args) > 1 else {}
        return {"type": "object", "additionalProperties": inner} if inner else {"type": "object"}
    if origin is tuple and args and args[-1] is not Ellipsis:
        items = [_schema_of(a, registry, references) for a in args]
        return {"type": "array", "prefixItems": items, "minItems": len(args), "maxItems": len(args)}
    if issubclass(origin, Sequence | Set):
        inner = _schema_of(args[0], registry, references) if args else {}
        unique = {"uniqueItems": True} if issubclass(origin, Set) else {}
        return {"type": "array", **({"items": inner} if inner else {}), **unique}
    return {}
