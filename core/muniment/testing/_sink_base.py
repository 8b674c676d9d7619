"""What does a sink's test class say, and how do the checks read what the sink has stored?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pytest

from muniment.components import Context, Sink, Target, no_assets
from muniment.merge import merge_records
from muniment.model import Asset, Record, Rejected
from muniment.pipeline import RunReport
from muniment.testing.compare import difference
from muniment.testing.records import ListSource, make_record
from muniment.testing.runs import NAME, PATH, archive, plan_of
from muniment.units import Batch, Checkpoint, Counts, Fence, Prepared, Unit

PARTITION = "list:contract"


class SinkTests:
    """What all checks share.  The class attributes say what the sink promises not to do."""

    reads_back: ClassVar[bool | None] = None
    """Whether records come back; by default what the sink says.  Without, give `read_stored` if you can."""
    keeps_raw: ClassVar[bool] = True
    keeps_assets: ClassVar[bool] = True
    """Whether the bytes of assets are stored."""
    merges: ClassVar[bool] = True
    """Whether versions of a conversation become one; never asked of a sink that delivers at least once."""
    fills_gaps: ClassVar[bool | None] = None
    """Whether an older or thinner version still gives what the stored one lacks; by default all but an `ObjectSink`,
    which passes it over."""
    accumulates: ClassVar[bool] = True
    """Whether a run adds to what the runs before it have stored; False where each run writes the target anew."""
    locks: ClassVar[bool] = False
    """Whether a second run on the target is refused with `TargetBusyError`, or waits."""
    outlives_process: ClassVar[bool] = True
    """Whether the place is outside this process; False turns SIGKILL into an exception."""
    loses: ClassVar[frozenset[str]] = frozenset()
    """What the store cannot hold, as documented: see `muniment.testing.hard_records.NEEDS`."""
    secret_values: ClassVar[tuple[str, ...]] = ()
    """Values that must appear nowhere, beside those of the sink's own `Secret` options."""

    state_dir: Path

    @pytest.fixture(autouse=True)
    def _own_state_dir(self, tmp_path: Path) -> None:
        self.state_dir = tmp_path / "contract-state"

    # --- what a test class can say in its own way --------------------------------------------

    def read_stored(self, sink: Sink) -> Iterable[Record]:
        """Return every stored record, while no run is going on.  Override it where `read_back` cannot."""
        with sink.open_target(self.context(sink, "reader")) as target:
            return list(target.read_back())

    def read_asset(self, sink: Sink, asset: Asset) -> bytes | None:
        """Return the stored bytes of an asset, or None where there are none."""
        from muniment.sinks.objects import ObjectSink

        if isinstance(sink, ObjectSink):
            return _asset_of_objects(sink, asset, self.context(sink, "reader"))
        with sink.open_target(self.context(sink, "reader")) as target:
            open_asset = getattr(target, "open_asset", None)
            if open_asset is None:
                pytest.fail(
                    f"say how the bytes of an asset are read: override `read_asset` in `{type(self).__name__}`,"
                    " or set `keeps_assets = False` there if the sink does not store them"
                )
            try:
                with open_asset(asset) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def refused_record(self) -> Record | None:
        """Return a record that this store refuses (too large, say), if there is one."""
        return None

    # --- what the checks use ------------------------------------------------------------------

    def archive(self, sink: Sink, records: Sequence[Any], **more: Any) -> RunReport:
        """Run ``records`` into ``sink`` through the engine."""
        return archive(sink, records, state_dir=self.state_dir, **more)

    def counts(self, sink: Sink, records: Sequence[Any], **more: Any) -> Counts:
        return self.archive(sink, records, **more).sinks[NAME]

    def context(
        self,
        sink: Sink,
        run: str = "20260102T030405-00000001",
        *,
        open_asset: Callable[[Asset], BinaryIO] = no_assets,
        first_unit: int = 1,
    ) -> Context:
        """Return what the engine would open ``sink`` with."""
        plan = plan_of(sink, (), state_dir=self.state_dir)
        return Context(
            run=run,
            path=PATH,
            pipeline=plan.name,
            plan_hash=plan.hash_of(plan.sinks[0]),
            state_dir=self.state_dir,
            open_asset=open_asset,
            first_unit=first_unit,
        )

    def once(self, sink: Sink) -> bool:
        """Say whether the sink promises to store everything exactly once.

        Also with a condition (one machine writes, no fail-over): the contract's runs keep it.
        """
        return sink.guarantee.startswith("effectively once")

    def can_read(self, sink: Sink) -> bool:
        if type(self).read_stored is not SinkTests.read_stored:
            return True
        return sink.reads_back if self.reads_back is None else self.reads_back

    def can_fill_gaps(self, sink: Sink) -> bool:
        from muniment.sinks.objects import ObjectSink

        return not isinstance(sink, ObjectSink) if self.fills_gaps is None else self.fills_gaps

    def require(self, condition: object, reason: str) -> None:
        """Skip this check, by name, where it does not apply."""
        if not condition:
            pytest.skip(f"does not apply: {reason}")

    def require_reading(self, sink: Sink) -> None:
        self.require(self.can_read(sink), "what is stored cannot be read (`read_stored` is not given)")

    def require_memory(self) -> None:
        self.require(self.accumulates, "each run writes the target anew (`accumulates = False`)")

    def require_once(self, sink: Sink) -> None:
        self.require(self.once(sink), f"the sink delivers {sink.guarantee}")

    def rejections(self, sink: Sink) -> str:
        """Return the stages and reasons of what is in quarantine."""
        with sink.open_target(self.context(sink, "reader")) as target:
            reasons = [
                f"{e.get('record') or e.get('key') or '?'} at {e['stage']}: {e['reason']}" for e in target.quarantined()
            ]
        return "; ".join(reasons[:5])

    def stored(self, sink: Sink, target: Target | None = None) -> dict[str, Record]:
        """Return what is stored, by key; ``target`` is an open one, which may hold a lock."""
        return self.by_key(sink, self._read(sink, target))

    def by_key(self, sink: Sink, records: Iterable[Record]) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for record in records:
            if record.key in found and self.once(sink):
                pytest.fail(
                    f"conversation `{record.key!a}` is stored twice; a record that comes again must replace or be"
                    " merged with the one that is there, also when a killed or repeated attempt has stored it"
                )
            found[record.key] = record
        return found

    def _read(self, sink: Sink, target: Target | None) -> Iterable[Record]:
        try:
            if target is None or type(self).read_stored is not SinkTests.read_stored:
                return list(self.read_stored(sink))
            return list(target.read_back())
        except NotImplementedError:
            pytest.fail(
                f"`{type(sink).__name__}` says that it can be read back, but `Target.read_back` is not implemented;"
                f" implement it, or set `reads_back = False` in `{type(self).__name__}` and override `read_stored`"
            )

    def check_stored(
        self, sink: Sink, expected: Mapping[str, Record], target: Target | None = None, *, others: bool = False
    ) -> None:
        """Fail unless exactly ``expected`` is stored; ``others`` may stand beside it.

        Where nothing can be read, nothing is checked: the counts are checked by the caller.
        """
        if not self.can_read(sink):
            return
        found = self.stored(sink, target)
        problems = [f"`{k!a}` is not stored" for k in expected if k not in found]
        if not others:
            problems += [f"`{k!a}` is stored and should not be" for k in found if k not in expected]
        for key in expected.keys() & found.keys():
            if differs := difference(expected[key], found[key], raw=self.keeps_raw):
                problems.append(f"`{key!a}` came back changed: {differs}")
        if problems:
            pytest.fail("\n".join([f"{len(problems)} problem(s) with what is stored:", *problems[:8]]))

    def merged(self, sink: Sink, *records: Record) -> dict[str, Record]:
        """Return what a sink holds after ``records`` came in this order."""
        found: dict[str, Record] = {}
        for record in records:
            before = found.get(record.key) if self.merges and self.once(sink) else None
            found[record.key] = record if before is None else merge_records(before, record)
        return found

    def fence(self, sink: Sink) -> Fence:
        return Fence(self.context(sink).run)

    # --- the protocol, without the engine ------------------------------------------------------

    def unit(
        self, number: int, records: int, *, run: str, partition: str = PARTITION, finished: bool = False,
        plan_hash: str = "", quarantined: tuple[Rejected, ...] = (),
    ) -> Unit:  # fmt: skip
        """Return a unit that ends at position ``number`` of a partition."""
        checkpoint = Checkpoint(partition, f"f-{partition}", number, number, finished, records, plan_hash, run)
        bad = len(quarantined)
        return Unit(
            run, number, checkpoint, Counts(records + bad, records, quarantined=bad), quarantined, read_whole=finished
        )

    def seal(self, sink: Sink, ctx: Context, records: Sequence[Record], number: int = 1, **more: Any) -> Prepared:
        """Write ``records`` as one attempt at a unit and seal it."""
        with sink.open(ctx) as writer:
            if records:
                payload = sink.encode(Batch(PARTITION, number, tuple(records)))
                receipt = writer.write(payload)
                accounted = receipt.stored + receipt.unchanged + len(receipt.rejected)
                if accounted != len(records):
                    pytest.fail(
                        f"`Writer.write` was given {len(records)} records and its receipt accounts for {accounted};"
                        " return a `Receipt` whose numbers add up"
                    )
            return writer.seal(self.unit(number, len(records), run=ctx.run, plan_hash=ctx.plan_hash, **more))


def opener(assets: Mapping[str, bytes]) -> Callable[[Asset], BinaryIO]:
    """Return the `open_asset` of a source that has these bytes."""
    reader = ListSource(assets=assets).open(Context(run="assets"))
    return reader.open_asset


def _asset_of_objects(sink: Any, asset: Asset, ctx: Context) -> bytes | None:
    from muniment.sinks._object_vault import open_cover

    with sink.storage() as storage:
        try:
            cover = open_cover(sink, ctx, storage)
            with cover.opened(storage.open(sink.layout.assets + cover.asset_name(asset))) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None


def some_records(count: int = 4, start: int = 0, **fields: Any) -> list[Record]:
    """Return records ``c<start>`` and so on."""
    return [
        make_record(f"c{i}", ["Hello", f"Hi, {i}"], title=f"Talk {i}", **fields) for i in range(start, start + count)
    ]
