"""How does a staged unit become part of the archive?  Objects, then their manifest, then the state."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs

from muniment.components import Context, Target
from muniment.crypto.frames import KEYS
from muniment.errors import ConfigError, FatalError, TargetBusyError
from muniment.local_storage import make_folder
from muniment.lock import TargetLock
from muniment.manifest import Log, Manifest, now
from muniment.model import JSON, Asset, Record
from muniment.objects import digest_of
from muniment.proof import SignedHead, open_signer
from muniment.retry import retry
from muniment.sinks import _object_manifest as manifests
from muniment.sinks._object_fate import is_newer
from muniment.sinks._object_latest import refresh
from muniment.sinks._object_payload import EARLIER, bare_entry
from muniment.sinks._object_read import read_back
from muniment.sinks._object_repair import damages
from muniment.sinks._object_sealing import keys_of_part
from muniment.sinks._object_state import add, open_state, storing
from muniment.sinks._object_vault import begin_cover, vault_object
from muniment.sinks.cover import Cover
from muniment.state import State
from muniment.units import Checkpoint, Counts, Damage, Fence, Orphan, Prepared

if TYPE_CHECKING:
    from muniment.sinks.objects import ObjectSink


class ObjectTarget(Target):
    """A storage with manifests.  The manifest is the commit: put if absent, so one run wins.

    Killed before the manifest, a unit is an orphan that nothing names; killed behind it, the next
    opening finishes it.  Where one run at a time is sure (a lock), opening also removes orphans.
    """

    def __init__(self, sink: "ObjectSink", ctx: Context) -> None:
        self.sink = sink
        self.ctx = ctx
        self.layout = sink.layout
        self._state: State | None = None
        self._log = Log()
        self._rebuilt = self._head_is_due = False
        self._writing: Manifest | None = None
        self._report: Mapping[str, JSON] = {}
        self._signer = open_signer(sink.proof, ctx)
        self._run = ""
        self._last_unit = 0
        self._tokens: set[str] = set()
        self.cover = Cover()
        self._owed: dict[str, dict[str, Any]] = {}
        self._replaced: tuple[str, ...] = ()
        path = sink.lock_path(ctx)
        self._lock = lock(path)
        self.storage = sink.storage()
        try:
            self._check_capabilities()
            self.cover = begin_cover(sink, ctx, self.storage)
            self._state_path = sink.state_path(ctx)
            with storing(self._state_path):
                self._state, self._log, self._rebuilt = open_state(self._state_path, self.storage)
            self._head_is_due = not self._head_is_current()
            if self._lock:
                self._remove_orphans()
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> State:
        assert self._state is not None
        return self._state

    def committed(self) -> Mapping[str, Checkpoint]:
        return self.state.checkpoints()

    def commit(self, prepared: Sequence[Prepared], fence: Fence) -> None:
        for one in prepared:
            if one.unit.run != self._run or one.unit.number > self._last_unit:
                self._commit(one)
                self._run, self._last_unit = one.unit.run, one.unit.number
                self._tokens = {made["token"] for made in one.objects if "token" in made}
            else:
                # The unit is stored already; what another attempt at it has staged is not needed.
                self._drop([made for made in one.objects if made.get("token") not in self._tokens])
        if self.storage.capabilities.replaces:
            self._store_head()

    def abort(self, prepared: Sequence[Prepared]) -> None:
        for one in prepared:
            self._drop(one.objects)

    def orphans(self) -> Iterator[Orphan]:
        for stored in self.storage.staged():
            yield Orphan(stored.name, stored.size)
        named = {o["name"] for m in manifests.load_all(self.storage) for o in m.objects}
        for prefix in self.sink.part_prefixes():
            for stored in self.storage.list(prefix):
                if "part-" in stored.name and stored.name not in named:
                    yield Orphan(stored.name, stored.size)

    def collect(self, orphan: Orphan) -> None:
        self.storage.delete(orphan.where)

    def read_back(self) -> Iterator[Record]:
        return read_back(self.sink, self.storage, self.state, self.cover)

    def survey(self, damaged: Callable[[Damage], None]) -> Iterator[Record]:
        found = list(damages(self.storage))
        for damage in found:
            damaged(damage)
        yield from read_back(self.sink, self.storage, self.state, self.cover, {d.where for d in found})

    def open_asset(self, asset: Asset) -> BinaryIO:
        return self.cover.opened(self.storage.open(self.layout.assets + self.cover.asset_name(asset)))

    def holds_newer(self, record: Record) -> bool:
        entry = self.cover.entries([bare_entry(record)])[0]
        stored = self.state.find([entry.key]).get(entry.key)
        return stored is not None and is_newer(stored, entry)

    def noted(self, key: str) -> str:
        return self.cover.key(key)

    def forget(self, missing: Iterable[str], short: Iterable[str], replaced: Sequence[Damage]) -> None:
        with storing(self._state_path), self.state.transaction():
            self.state.forget(map(self.cover.key, missing), missing=True)
            self.state.forget(map(self.cover.key, short), missing=False)
        if self.layout.mode == "append":
            # In a mirror the new object takes the name of the old one.
            gone = [d.where for d in replaced]
            standing = manifests.Standing(self.storage) if gone else ()
            self._replaced = (*gone, *(name for name in map(keys_of_part, gone) if name in standing))

    def append_event(
        self, event: Mapping[str, JSON], made: Sequence[dict[str, Any]] = (), removed: Sequence[str] = (),
        announced: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        """Commit what was done to the archive, with objects that it made anew or ``announced``, and sign."""
        if made:
            with storing(self._state_path):
                # Begun and never ended is how the next opening knows that there may be orphans.
                self.state.begin_run(self.ctx.run, self.ctx.pipeline, self.ctx.path)
        self._owed.update((o["token"], o) for o in made)
        kept = ("name", "size", "sha256", "records", "of")
        manifest = attrs.evolve(
            self._manifest(
                run=self.ctx.run,
                event=event,
                objects=(*({k: o[k] for k in kept} for o in made), *announced),
                removed=tuple(removed),
            ),
            plan_hash="",
            mode="",
            format="",
            format_options={},
        )
        self._writing = None
        retry(lambda: self._append(manifest, made))
        retry(self._store_head)

    def note_report(self, report: Mapping[str, JSON]) -> None:
        self._report = report

    def end_run(self, run: str, exit_code: int, counts: Counts) -> None:
        if self._run == run:
            # A run that found nothing new leaves the archive as it was, byte for byte.
            report = {**self._report, "exit_code": exit_code, "counts": attrs.asdict(counts)}
            retry(lambda: self._append(self._manifest(run=run, report=report)))
        retry(self._store_head)
        if self.sink.latest:
            retry(lambda: refresh(self.sink, self.storage, self.state, self._log.number, self.cover))
        with storing(self._state_path), self.state.transaction():
            self.state.begin_run(run, self.ctx.pipeline, self.ctx.path)
            self.state.end_run(run, exit_code, counts)

    def quarantined(self) -> Iterator[Mapping[str, JSON]]:
        return self.state.quarantined()

    def close(self) -> None:
        try:
            # What made the commit fail (a full disk, say) is told by its own error.
            with suppress(FatalError):
                self._undo()
        finally:
            if self._state is not None:
                self._state.close()
            self.storage.close()
            if self._lock:
                self._lock.release()

    # --- a commit ---------------------------------------------------------------------------

    def _commit(self, prepared: Prepared) -> None:
        with storing(self._state_path):
            # Begun and never ended is how the next opening knows that there may be orphans.
            self.state.begin_run(prepared.unit.run, self.ctx.pipeline, self.ctx.path)
        made = [o for o in prepared.objects if "token" in o]
        self._owed.update((o["token"], o) for o in made if o["token"] not in self._owed)
        self._append(self._manifest_of(prepared), made)

    def _append(self, manifest: Manifest, made: Sequence[dict[str, Any]] = ()) -> None:
        """Publish objects, then their manifest: that is the commit."""
        data = manifest.to_json()
        staged = self.storage.stage(manifests.name_of(manifest.number))
        try:
            staged.write(data)
            staged.close()
            if keys := [one for one in made if one["name"].startswith(KEYS)]:
                # An object of a mirror is never there without its key: the next version is merged into it.
                for one in keys:
                    self._publish(one)
                self.storage.sync()
            for one in made:
                self._publish(one)
            # Everything that the manifest names is there for good before the manifest is.
            self.storage.sync()
            self._publish_manifest(manifest.number, staged.token, data)
        except BaseException:
            staged.discard()
            raise
        self.storage.sync()
        self._owed.clear()
        self._replaced = ()
        self._writing = None
        self._log.append(data)
        self._head_is_due = True
        for name in manifest.removed:
            self.storage.delete(name)
        if manifest.removed:
            # What the state has seen is never looked at again.
            self.storage.sync()
        with storing(self._state_path), self.state.transaction():
            add(self.state, manifest, data)

    def _store_head(self) -> None:
        """Sign the log as it is now; killed before, the next run does."""
        if self._head_is_due:
            manifests.store_head(self.storage, self._log, self._log.note(self._signer))
            self._head_is_due = False

    def _head_is_current(self) -> bool:
        _, note = manifests.load_head(self.storage)
        if not note or not self._log.number:
            return not self._log.number
        try:
            found = SignedHead.parse(note)
        except ValueError:
            return False
        signed = self._signer is None or found.is_signed_by(self._signer.verifier)
        return signed and found.head == self._log.head()

    def _publish(self, made: dict[str, Any]) -> None:
        if self._owed[made["token"]].get("published"):
            return
        try:
            self.storage.publish(made["token"], made["name"], if_absent=made["if_absent"])
        except FileExistsError:
            # A copy of an earlier version that a killed attempt has kept already: the first is the true one.
            # A part is ours if an earlier call has published it and its answer was lost.
            if EARLIER not in made["name"] and not self._is_ours(made):
                raise TargetBusyError(self._taken(made["name"])) from None
            self.storage.delete(made["token"])
        self._owed[made["token"]] = {**made, "published": True}

    def _drop(self, objects: Iterable[dict[str, Any]]) -> None:
        for made in objects:
            if "token" in made:
                self.storage.delete(made["token"])

    def _is_ours(self, made: dict[str, Any]) -> bool:
        with self.storage.open(made["name"]) as stream:
            return digest_of(stream) == (made["size"], made["sha256"])

    def _publish_manifest(self, number: int, token: str, data: bytes) -> None:
        name = manifests.name_of(number)
        try:
            self.storage.publish(token, name, if_absent=True)
        except FileExistsError:
            with self.storage.open(name) as stream:
                ours = stream.read() == data
            if not ours:
                raise TargetBusyError(self._taken(name)) from None
            # An attempt whose answer was lost.
            self.storage.delete(token)

    def _manifest_of(self, prepared: Prepared) -> Manifest:
        objects = prepared.objects
        kept = ("name", "size", "sha256", "records")
        return self._manifest(
            run=prepared.unit.run,
            unit=prepared.unit,
            objects=(
                *({k: o[k] for k in kept} for o in objects if "token" in o),
                *(copy for o in objects for copy in o.get("copies", ())),
                *self._vault_object(),
            ),
            assets=tuple(n for o in objects for n in o.get("assets", ())),
            removed=(*(n for o in objects for n in o.get("removed", ())), *self._replaced),
            missing_assets=tuple(n for o in objects for n in o.get("missing_assets", ())),
        )

    def _vault_object(self) -> Sequence[dict[str, Any]]:
        """Return what the first manifest says of the vault, which no archive can do without."""
        return [vault_object(self.cover.vault)] if self.cover.hides and not self._log.number else []

    def _manifest(self, **what: Any) -> Manifest:
        manifest = Manifest(
            **what,
            **self._log.chained(),
            at=now(),
            plan_hash=self.ctx.plan_hash,
            mode=self.layout.mode,
            format=self.layout.format,
            pipeline=self.ctx.pipeline,
            sink=self.ctx.path,
            made_with=self.ctx.made_with,
            format_options=self.sink.format_options,
            signer=str(self._signer.verifier) if self._signer else "",
        )
        before, self._writing = self._writing, manifest
        if before is not None and attrs.evolve(manifest, at=before.at) == before:
            # A second attempt: if the first came through and only its answer was lost, the bytes must be the same.
            self._writing = before
        return self._writing

    def _check_capabilities(self) -> None:
        can = self.storage.capabilities
        if not can.if_absent or (self.layout.mode == "mirror" and not can.replaces):
            lack = "publish a name only if it is absent" if not can.if_absent else "replace an object"
            raise ConfigError(
                f"{self.ctx.path}: this storage cannot {lack}, which `mode: {self.layout.mode}` needs;"
                " use `mode: snapshot`"
            )
        if self.sink.seals_records and (reason := self.storage.keeps_replaced()):
            raise ConfigError(
                f"{self.ctx.path}: `encryption.per: conversation` needs a storage where a key can be destroyed, and"
                f" here it cannot: {reason}; leave `per` out"
            )
        if self.sink.latest and not can.replaces:
            raise ConfigError(
                f"{self.ctx.path}: this storage cannot replace an object, which `latest: true` needs; leave it out"
            )

    def _taken(self, name: str) -> str:
        return f"`{name}` is there already: another run has written to this target; run the same command again"

    # --- what was left ----------------------------------------------------------------------

    def _undo(self) -> None:
        """Remove what a commit that failed has staged, and parts that it has published unnamed."""
        owed, self._owed = self._owed, {}
        if not owed:
            return
        named = self.storage.exists(manifests.name_of(self._log.number + 1))
        for token, made in owed.items():
            if not made.get("published"):
                self.storage.delete(token)
            elif made["if_absent"] and not named:
                self.storage.delete(made["name"])

    def _remove_orphans(self) -> None:
        """Remove what is staged, and the parts that a killed run published behind its last manifest.

        A part is archived data until the opposite is sure: nothing is removed on the word of a state
        that was just made anew, and no part of a run that it does not know.
        """
        for stored in list(self.storage.staged()):
            self.storage.delete(stored.name)
        runs = self.state.runs()
        if self._rebuilt or not runs or runs[-1]["exit_code"] is not None:
            return
        last = {runs[-1]["run"]: 0}
        for manifest in manifests.load_all(self.storage):
            if manifest.unit is not None:
                last[manifest.run] = manifest.unit.number
        for orphan in list(self.orphans()):
            if manifests.unit_of_part(orphan.where, runs[-1]["run"]) > last[runs[-1]["run"]]:
                self.storage.delete(orphan.where)


def lock(path: Path | None) -> TargetLock | None:
    """Return a held lock on ``path``, whose folder is made first; None without one.

    Raises:
        TargetBusyError: another run holds it.
    """
    if path is None:
        return None
    make_folder(path.parent)
    held = TargetLock(path)
    held.acquire()
    return held
