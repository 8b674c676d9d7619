"""JSON Schema of options and of pipeline files."""

import enum
import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import frozen

from muniment import Secret, option
from muniment.plugins import Registry, load_registry
from muniment.schema import REFERENCE, json_schema, pipeline_schema

Schema = Mapping[str, Any]


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@frozen(kw_only=True)
class Inner:
    key: str = option("K.")


@frozen(kw_only=True)
class Thing:
    path: str = option("Where.", example="a.db")
    count: int = option("How many.", default=3)
    ratio: float | None = option("R.", default=None)
    on: bool = option("O.", default=False)
    mode: Literal["a", "b"] = option("M.", default="a")
    level: Level = option("L.", default=Level.LOW)
    names: list[str] = option("N.", factory=list)
    pair: tuple[str, int] = option("P.", default=("a", 1))
    some: frozenset[int] = option("S.", default=frozenset())
    more: Mapping[str, int] = option("D.", factory=dict)
    pattern: re.Pattern[str] | None = option("X.", default=None)
    since: datetime | None = option("T.", default=None)
    day: date | None = option("Y.", default=None)
    folder: Path | None = option("F.", default=None)
    inner: Inner | None = option("I.", default=None)
    any: Any = option("A.", default=None)
    key: Secret | None = option("S.", default=None)


class TestJsonSchema:
    def test_requires_what_has_no_default_and_takes_nothing_else(self) -> None:
        """The schema refuses what loading refuses."""
        schema = json_schema(Thing)

        assert (schema["type"], schema["additionalProperties"], schema["required"]) == ("object", False, ["path"])

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("path", {"description": "Where.", "examples": ["a.db"], "type": "string"}),
            ("count", {"description": "How many.", "default": 3, "type": "integer"}),
            ("ratio", {"description": "R.", "anyOf": [{"type": "number"}, {"type": "null"}]}),
            ("on", {"description": "O.", "default": False, "type": "boolean"}),
            ("mode", {"description": "M.", "default": "a", "enum": ["a", "b"]}),
            ("level", {"description": "L.", "default": "low", "enum": ["low", "high"]}),
            ("names", {"description": "N.", "type": "array", "items": {"type": "string"}}),
            (
                "pair",
                {
                    "description": "P.",
                    "type": "array",
                    "prefixItems": [{"type": "string"}, {"type": "integer"}],
                    "minItems": 2,
                    "maxItems": 2,
                },
            ),
            ("some", {"description": "S.", "type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
            ("more", {"description": "D.", "type": "object", "additionalProperties": {"type": "integer"}}),
            ("pattern", {"description": "X.", "anyOf": [{"type": "string", "format": "regex"}, {"type": "null"}]}),
            (
                "since",
                {"description": "T.", "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            ),
            ("day", {"description": "Y.", "anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
            ("folder", {"description": "F.", "anyOf": [{"type": "string"}, {"type": "null"}]}),
            (
                "inner",
                {
                    "description": "I.",
                    "anyOf": [
                        {
                            "type": "object",
                            "properties": {"key": {"description": "K.", "type": "string"}},
                            "additionalProperties": False,
                            "required": ["key"],
                        },
                        {"type": "null"},
                    ],
                },
            ),
            ("any", {"description": "A."}),
        ],
    )
    def test_knows_every_type_of_option(self, name: str, expected: Schema) -> None:
        """With description, default and example."""
        assert json_schema(Thing)["properties"][name] == expected

    def test_takes_references_in_place_of_what_is_no_text(self) -> None:
        """In a pipeline file `${env:N}` may stand for a number."""
        properties = json_schema(Thing, references=True)["properties"]

        assert properties["count"]["anyOf"] == [{"type": "integer"}, REFERENCE]
        assert properties["mode"]["anyOf"] == [{"enum": ["a", "b"]}, REFERENCE]
        assert properties["path"]["type"] == "string"

    def test_lists_the_names_of_components(self) -> None:
        """An option that names a format offers the formats."""

        @frozen
        class Uses:
            format: str = option("F.", choices_from="engines")
            maybe: str | None = option("G.", choices_from="engines", default=None)

        properties = json_schema(Uses, Registry())["properties"]

        assert properties["format"] == {"description": "F.", "enum": ["local", "pool"]}
        assert properties["maybe"] == {
            "description": "G.",
            "anyOf": [{"enum": ["local", "pool"]}, {"type": "null"}],
        }


def _is(value: Any, kind: str) -> bool:
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
        "integer": int, "number": (int, float),
    }  # fmt: skip
    return isinstance(value, kinds[kind]) and not (kind in ("integer", "number") and isinstance(value, bool))


_KNOWN = {
    "$schema", "$ref", "$defs", "title", "description", "default", "examples", "format", "type", "enum", "const",
    "pattern", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
    "uniqueItems", "anyOf", "oneOf", "allOf", "if", "then",
}  # fmt: skip


def is_valid(value: Any, schema: Schema, root: Schema) -> bool:
    """Apply the keywords that our schemas use, by the rules of draft 2020-12."""
    assert not schema.keys() - _KNOWN
    if "$ref" in schema and not is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root):
        return False
    if "type" in schema and not _is(value, schema["type"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return False
    if isinstance(value, list) and not all(is_valid(v, schema.get("items", {}), root) for v in value):
        return False
    if isinstance(value, dict) and not _is_valid_object(value, schema, root):
        return False
    if "anyOf" in schema and not any(is_valid(value, s, root) for s in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(is_valid(value, s, root) for s in schema["oneOf"]) != 1:
        return False
    if "if" in schema and is_valid(value, schema["if"], root) and not is_valid(value, schema["then"], root):
        return False
    return all(is_valid(value, s, root) for s in schema.get("allOf", ()))


def _is_valid_object(value: dict[str, Any], schema: Schema, root: Schema) -> bool:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    return all(name in value for name in schema.get("required", ())) and all(
        is_valid(item, properties[key], root)
        if key in properties
        else others is not False and is_valid(item, others, root)
        for key, item in value.items()
    )


@pytest.fixture(scope="module")
def schema() -> Schema:
    return pipeline_schema(load_registry())


SOURCE = {"type": "chatgpt_export", "path": "a.zip"}


class TestPipelineSchema:
    def test_names_its_draft(self, schema: Schema) -> None:
        """Editors and checkers go by it."""
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_resolves_all_its_references(self, schema: Schema) -> None:
        """Every $ref leads to a definition."""
        found = re.findall(r"'\$ref': '#/\$defs/([^']+)'", str(schema))

        assert set(found) <= set(schema["$defs"])
        assert "sinks.sqlite" in found

    @pytest.mark.parametrize(
        "data",
        [
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite"}]},
            {"version": 1, "sources": [SOURCE, SOURCE], "sinks": [{"type": "sqlite"}], "engine": {"type": "local"}},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite", "name": "a", "unit": {"max_records": 5}}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite", "unit": {"max_records": "${env:N}"}}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "files", "path": "out", "format": "jsonl"}]},
            {
                "version": 1,
                "source": SOURCE,
                "sinks": [{"type": "sqlite", "on_plan_change": "keep"}],
                "engine": {"type": "pool", "workers": "${env:WORKERS:-2}"},
                "tests": [{"name": "t", "input": {"user": "a"}, "expect": {"contains": ["a"]}}],
            },
        ],
    )
    def test_takes_a_good_pipeline(self, schema: Schema, data: dict[str, Any]) -> None:
        """What loads is valid."""
        assert is_valid(data, schema, schema)

    @pytest.mark.parametrize(
        "data",
        [
            {"source": SOURCE, "sinks": [{"type": "sqlite"}]},
            {"version": 2, "source": SOURCE, "sinks": [{"type": "sqlite"}]},
            {"version": 1, "source": SOURCE},
            {"version": 1, "sinks": [{"type": "sqlite"}]},
            {"version": 1, "source": SOURCE, "sources": [SOURCE], "sinks": [{"type": "sqlite"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlit"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"path": "a"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite", "pth": "a"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite", "path": 5}]},
            {"version": 1, "source": {"type": "chatgpt_export"}, "sinks": [{"type": "sqlite"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "files", "path": "out", "format": "jsnl"}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite", "transforms": [{"type": "nope"}]}]},
            {"version": 1, "source": SOURCE, "sinks": [{"type": "sqlite"}], "sinkz": []},
            {
                "version": 1,
                "source": SOURCE,
                "sinks": [{"type": "sqlite"}],
                "tests": [{"name": "t", "input": {"user": "a"}, "expect": {"contians": ["a"]}}],
            },
        ],
    )
    def test_refuses_a_bad_pipeline(self, schema: Schema, data: dict[str, Any]) -> None:
        """What does not load is not valid."""
        assert not is_valid(data, schema, schema)

    def test_says_nothing_of_a_component_that_cannot_be_imported(self) -> None:
        """A missing extra is no mistake of the file."""
        from muniment import hookimpl

        class Adds:
            @hookimpl
            def muniment_sinks(self) -> dict[str, str]:
                return {"cloud": "muniment.nowhere:Cloud"}

        registry = Registry()
        registry.register(Adds(), "test")
        schema = pipeline_schema(registry)

        assert is_valid({"type": "cloud", "anything": 1}, schema["$defs"]["sink"], schema)
        assert schema["$defs"]["sinks.cloud"]["description"] == (
            "sink `cloud` of this program is not at `muniment.nowhere:Cloud`; tell its author"
        )
