"""Options: what describes them."""

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from attrs import frozen

from muniment import PluginError
from muniment.options import OptionInfo, describe, option, option_names


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@frozen(kw_only=True)
class Everything:
    path: str = option("Where.", is_path=True, example="a.db")
    count: int = option("How many.", default=3)
    ratio: float | None = option("How much.", default=None)
    on: bool = option("Whether.", default=True)
    mode: Literal["append", "mirror"] = option("How.", default="append")
    level: Level = option("How high.", default=Level.LOW)
    keep: tuple[str, ...] = option("What stays.", default=("a",))
    sizes: list[int] = option("Sizes.", factory=list)
    extra: Mapping[str, Any] = option("More.", factory=dict)
    pattern: re.Pattern[str] | None = option("Which.", default=None)
    folder: Path = option("Folder.", factory=Path.cwd)
    either: str | list[str] = option("One or more.", default="x")


class TestOption:
    def test_a_path_is_not_part_of_the_identity(self) -> None:
        """Moving an archive changes nothing of what is stored in it."""
        metadata = {a.name: a.metadata["identity"] for a in attrs.fields(Everything)}

        assert not metadata["path"]
        assert metadata["count"]

    def test_identity_can_be_said(self) -> None:
        """What is said wins over what a path implies."""

        @frozen
        class C:
            a: str = option("A file whose content counts.", is_path=True, identity=True)
            b: int = option("A speed.", identity=False)

        assert [a.metadata["identity"] for a in attrs.fields(C)] == [True, False]


class TestDescribe:
    def test_tells_type_default_and_choices(self) -> None:
        """One declaration is the documentation."""
        infos = {i.name: i for i in describe(Everything)}

        assert infos["path"] == OptionInfo("path", "text", "", True, "Where.", example='"a.db"')
        assert infos["count"] == OptionInfo("count", "whole number", "3", False, "How many.")
        assert infos["ratio"] == OptionInfo("ratio", "number", "", False, "How much.")
        assert infos["mode"].type == "one of `append`, `mirror`"
        assert infos["mode"].choices == ("append", "mirror")
        assert infos["level"].default == '"low"'

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("on", "true or false"),
            ("keep", "list of text"),
            ("sizes", "list of whole numbers"),
            ("extra", "mapping"),
            ("pattern", "regular expression"),
            ("folder", "path"),
            ("either", "text or a list of text"),
        ],
    )
    def test_names_types_in_plain_words(self, name: str, said: str) -> None:
        """A reader of the reference need not know Python."""
        assert {i.name: i.type for i in describe(Everything)}[name] == said

    def test_does_not_run_a_factory_that_asks_the_machine(self) -> None:
        """The documentation is the same on every machine."""
        defaults = {i.name: i.default for i in describe(Everything)}

        assert defaults["folder"] == ""
        assert defaults["sizes"] == "[]"

    def test_keeps_the_order_of_the_fields(self) -> None:
        """Base classes first, then as declared."""
        assert option_names(Everything) == tuple(a.name for a in attrs.fields(Everything))

    def test_names_the_class_whose_annotations_fail(self) -> None:
        """A defect of a plugin is reported as one."""

        @frozen
        class Broken:
            a: "Nowhere" = option("?")  # type: ignore[name-defined] # noqa: F821

        with pytest.raises(PluginError) as caught:
            describe(Broken)

        where = f"{__name__}.{Broken.__qualname__}"
        assert str(caught.value) == f"the annotations of `{where}` fail: name 'Nowhere' is not defined"
