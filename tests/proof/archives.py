"""Small archives of every kind that has manifests, made by chance."""

import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from muniment.components import Context, Sink
from muniment.crypto import Encryption, Key
from muniment.engine.local import Local
from muniment.model import Record
from muniment.pipeline import run
from muniment.plan import Plan, SinkPath, Step
from muniment.proof import Proof, SigningKey
from muniment.secrets import Secret
from muniment.testing import ListSource, make_record
from muniment.testing.records import TIME, make_asset
from muniment.verification import Finding, Inspection
from muniment_plugins.sinks.files import Files
from muniment_plugins.sinks.sqlite import SQLite

WORDS = ("alpha", "beta", "数据", "gamma", "naïve", "delta", "🙂", "epsilon", "=1+1", "zeta\n", "<b>", "eta")
KEY = SigningKey("example.org/archive", b"\x07" * 32)


class Silent:
    """A registry that nobody observes."""

    def call_run_event(self, event: Any) -> None:
        pass


def _secret(folder: Path) -> Proof:
    path = folder / "sign.key"
    path.touch(0o600)
    path.write_text(KEY.text())
    return Proof(key=Secret(f"file:{path}"))


def _encryption(folder: Path) -> Encryption:
    path = folder / "archive.key"
    if not path.exists():
        path.touch(0o600)
        path.write_text(Key.new().text())
    return Encryption(key=Secret(f"file:{path}"))


KINDS: dict[str, Callable[[Path, Path], Sink]] = {
    "parts": lambda path, _: Files(path=path, format="jsonl"),
    "parts, signed": lambda path, keys: Files(path=path, format="jsonl", compression="zstd", proof=_secret(keys)),
    "parts by month": lambda path, _: Files(path=path, key="{source}/{year_month}/{part}.jsonl.gz"),
    "mirror": lambda path, _: Files(path=path, format="json", mode="mirror"),
    "mirror for reading": lambda path, keys: Files(path=path, format="markdown", proof=_secret(keys)),
    "parts, encrypted": lambda path, keys: Files(path=path, compression="zstd", encryption=_encryption(keys)),
    "mirror, encrypted": lambda path, keys: Files(
        path=path, format="json", mode="mirror", encryption=_encryption(keys), proof=_secret(keys)
    ),
    "mirror for reading, encrypted": lambda path, keys: Files(
        path=path, format="markdown", encryption=_encryption(keys)
    ),
    "sqlite": lambda path, _: SQLite(path=str(path), fts="none"),
    "sqlite, signed": lambda path, keys: SQLite(path=str(path), proof=_secret(keys)),
    "sqlite, encrypted": lambda path, keys: SQLite(path=str(path), encryption=_encryption(keys)),
}


def make(kind: str, path: Path, chance: random.Random, conversations: int = 20) -> Sink:
    """Archive ``conversations`` in two to four runs, some of them in several versions; return the sink."""
    sink = KINDS[kind](path, path.parent)
    assets: dict[str, bytes] = {}
    records = [_record(f"c{i}", chance, assets) for i in range(conversations)]
    cut = chance.randrange(1, conversations)
    newer = [_newer(r, chance) for r in chance.sample(records, min(3, len(records)))]
    archive(sink, records[:cut], assets, max_unit_records=chance.choice((3, 7, 100)))
    archive(sink, records, assets, max_unit_records=chance.choice((5, 100)))
    for some in (newer[:1], newer[1:]):
        archive(sink, some, assets)
    return sink


def archive(sink: Sink, records: list[Record], assets: dict[str, bytes], max_unit_records: int = 100) -> None:
    path = SinkPath(step=Step("test", "sinks[0]", sink), name="sink", max_unit_records=max_unit_records)
    source = ListSource(records=tuple(records), assets=assets)
    run(Plan(name="test", sources=(Step("list", "source", source),), sinks=(path,), engine=Local()), Silent())


def verify(sink: Sink, **asked: Any) -> list[Finding]:
    """Return what `muniment verify` would say is wrong."""
    found = sink.verify(Context(run="", path="sinks[0]"), Inspection(**asked))
    return [f for f in found if f.is_problem]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _record(name: str, chance: random.Random, assets: dict[str, bytes]) -> Record:
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 12))) for _ in range(chance.randrange(1, 6))]
    fields: dict[str, Any] = {}
    if chance.random() < 0.3:
        data = chance.randbytes(chance.randrange(1, 400))
        asset = make_asset(data, id=f"file-{name}", name="a.png", mime_type="image/png")
        assets[asset.sha256 or ""] = data
        fields["assets"] = (asset,)
    if chance.random() < 0.5:
        fields["metadata"] = {"folder": chance.choice(WORDS), "pinned": True}
    created = TIME + timedelta(days=chance.randrange(90))
    return make_record(
        name, texts, title=chance.choice((*WORDS, None)), created_at=created, updated_at=created,
        raw=chance.random() < 0.8, **fields,
    )  # fmt: skip


def _newer(record: Record, chance: random.Random) -> Record:
    c = record.conversation
    texts = [p.content for m in c.messages for p in m.parts] + [" ".join(chance.choices(WORDS, k=5))]
    later = c.created_at + timedelta(days=100, hours=chance.randrange(24))
    return make_record(c.id, texts, title=c.title, created_at=c.created_at, updated_at=later, assets=c.assets)
