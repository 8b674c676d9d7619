"""A registry with small components, so that these tests need no first-party plugin."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from attrs import frozen

from muniment import (
    Dropped,
    Effect,
    Format,
    Record,
    Secret,
    Sink,
    Source,
    Transform,
    hookimpl,
    option,
)
from muniment.config import parse
from muniment.plan import Plan
from muniment.plugins import Registry


@frozen(kw_only=True)
class Export(Source):
    """Read exports."""

    path: str = option("Where the exports are.", is_path=True)


@frozen(kw_only=True)
class Stream(Source):
    """Never end."""

    endless: ClassVar[bool] = True


@frozen(kw_only=True)
class Mask(Transform):
    """Replace every match."""

    effect: ClassVar[Effect] = Effect.ALTERS_CONTENT
    pattern: re.Pattern[str] = option("A regular expression.")
    mark: str = option("What stands in place.", default="[masked]")

    def apply(self, record: Record) -> Record:
        return record.map_text(lambda text: self.pattern.sub(self.mark, text))


@frozen(kw_only=True)
class Skip(Transform):
    """Drop conversations."""

    effect: ClassVar[Effect] = Effect.DROPS
    words: list[str] = option("Words that leave a conversation out.", factory=list)
    fail: bool = option("Whether to raise.", default=False)

    def apply(self, record: Record) -> Record | Dropped:
        if self.fail:
            raise RuntimeError("out of order")
        text = " ".join(p.content for m in record.conversation.messages for p in m.parts)  # type: ignore[union-attr]
        return Dropped("unwanted") if any(w in text for w in self.words) else record


@frozen(kw_only=True)
class Store(Sink):
    """Store."""

    path: str = option("Where to.", default="out.db", is_path=True)
    format: str | None = option("How.", default=None, choices_from="formats")
    format_options: Mapping[str, Any] = option("Options of the format.", factory=dict)
    mode: Literal["append", "mirror", "snapshot"] = option("Which way.", default="append")
    level: int = option("How hard.", default=1)
    low: int = option("Lower bound.", default=0)
    high: int = option("Upper bound.", default=9)
    password: Secret | None = option("Password.", default=None, identity=False)
    more: Mapping[str, Any] = option("More.", factory=dict)

    @property
    def guarantee(self) -> str:
        return "effectively once" if self.level else "at least once"

    def check(self) -> Iterable[str]:
        if self.low > self.high:
            yield "`low` must not be above `high`"


@frozen(kw_only=True)
class Lines(Format):
    """One line each."""

    suffix: ClassVar[str] = ".jsonl"
    indent: int = option("Spaces.", default=0)


class Components:
    @hookimpl
    def muniment_sources(self) -> Mapping[str, Any]:
        return {"export": Export, "stream": Stream}

    @hookimpl
    def muniment_transforms(self) -> Mapping[str, Any]:
        return {"mask": Mask, "skip": Skip}

    @hookimpl
    def muniment_sinks(self) -> Mapping[str, Any]:
        return {"store": Store, "cloud": "muniment.nowhere:Cloud"}

    @hookimpl
    def muniment_formats(self) -> Mapping[str, Any]:
        return {"lines": Lines}


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.register(Components(), "test")
    return registry


@pytest.fixture
def plan_of(registry: Registry) -> Callable[[str], Plan]:
    return lambda text: parse(text, file="pipe.yaml", base=Path("/base"), registry=registry)
