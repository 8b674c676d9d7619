"""Which keys of a pipeline file are the core's own?  Everything else is a component's options."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs import frozen

from muniment.options import option
from muniment.plan import OnFailure, OnPlanChange
from muniment.quarantine import Quarantine

Guarantee = Literal["effectively_once", "at_least_once"]
_POSITIVE = attrs.validators.optional(attrs.validators.gt(0))


@frozen(kw_only=True)
class PipelineKeys:
    """The top of the file."""

    version: Literal[1] = option("The version of this file's form.")
    name: str | None = option("The pipeline's name.  Default: the file's, without its ending.", default=None)
    source: Mapping[str, Any] | None = option("Where conversations come from.", default=None)
    sources: tuple[Mapping[str, Any], ...] = option("Several sources, read one after another.", default=())
    transforms: tuple[Mapping[str, Any], ...] = option("What happens to every conversation, in order.", default=())
    sinks: tuple[Mapping[str, Any], ...] = option("Where conversations go.", default=())
    engine: Mapping[str, Any] | None = option("How the pipeline runs.", default=None)
    allow_incomplete: bool = option(
        "End with exit code 0 although a shard or an asset that the source names is missing.", default=False
    )
    quarantine: Quarantine | None = option("What is kept of conversations that cannot be archived.", default=None)
    tests: tuple[Mapping[str, Any], ...] = option("What `muniment test` checks.", default=())


@frozen(kw_only=True)
class UnitKeys:
    """When a unit ends: whatever comes first.  By default what the sink prefers, as `muniment plan` prints."""

    max_records: int | None = option("Conversations.", default=None, validator=_POSITIVE)
    max_bytes: int | None = option("Bytes that were read.", default=None, validator=_POSITIVE)
    max_seconds: float | None = option("Seconds.", default=None, validator=_POSITIVE)


@frozen(kw_only=True)
class OwnSinkKeys:
    """What the core itself takes beside a sink's options."""

    name: str | None = option("The sink's name in messages and counts.  Default: its type.", default=None)
    transforms: tuple[Mapping[str, Any], ...] = option(
        "What happens to a conversation on its way to this sink only, after the pipeline's own.", default=()
    )
    on_plan_change: OnPlanChange | None = option(
        "What happens to stored conversations when only the plan changed.  Must be given where a transform"
        " alters content; otherwise keep.",
        default=None,
    )
    on_failure: OnFailure = option(
        "What the other sinks do when this one fails for good: stop with it, or continue and leave it to the next run.",
        default="stop",
    )
    guarantee: Guarantee | None = option(
        "The least that this sink must promise; a sink that promises less with its options is refused.", default=None
    )
    unit: UnitKeys = option("When what was written is committed.", factory=UnitKeys)


@frozen(kw_only=True)
class TestKeys:
    """One entry of ``tests``."""

    __test__ = False  # pytest takes what is called Test for a test.

    name: str = option("What the test shows.")
    input: Mapping[str, Any] = option("A conversation: texts by role, `messages`, or `conversation`.")
    expect: Mapping[str, Any] = option("What must hold for every sink.")
