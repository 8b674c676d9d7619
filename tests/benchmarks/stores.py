"""What does a store cost beyond a plain loader?  One command makes the table.

    python tests/benchmarks/stores.py --json-mb 1000
    python tests/benchmarks/stores.py --json-mb 1000 --only postgresql --write-docs

For each store, on a real server of this machine: a pipeline from an export into it, beside the same
encoding into a local file plus the store's plain loader on the same rows or bytes with the same
indexes.  Servers share the cores; their memory is not counted.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import run as imports  # noqa: E402 - beside this file
from measure import Cost, measure  # noqa: E402

from services.session import Session  # noqa: E402

BEGIN, END = "<!-- stores: begin -->", "<!-- stores: end -->"
MUNIMENT = str(Path(sys.executable).with_name("muniment"))


@dataclass(frozen=True)
class Store:
    """A store to load into.

    ``limit`` is of the yardstick's time; ``memory_mb`` of the peak, above what importing ``client``
    costs where there is one.  ``place`` makes an empty place on a server and returns the sink's
    options and the settings of the loader.
    """

    name: str
    limit: float
    memory_mb: float
    place: Callable[[Session, Path], tuple[dict[str, Any], dict[str, Any]]]
    client: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def postgresql(session: Session, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import psycopg

    server = session.get("postgresql")
    base = f"postgresql://{server.user}@{server.address}"
    ours, empty = (f"bench_{secrets.token_hex(4)}" for _ in range(2))
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        for name in (ours, empty):
            connection.execute(f"CREATE DATABASE {name}")
    programs = Path(
        subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
    )
    settings = {"url": f"{base}/{ours}", "empty_url": f"{base}/{empty}"}
    settings |= {p: str(programs / p) if (programs / p).exists() else p for p in ("psql", "pg_dump")}
    return {"type": "sql", "url": f"{base}/{ours}"}, settings


def mongodb(session: Session, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    server = session.get("mongodb")
    uri = f"mongodb://{server.address}/?directConnection=true"
    ours, empty = (f"bench_{secrets.token_hex(4)}" for _ in range(2))
    return {"type": "mongodb", "uri": uri, "database": ours}, {"uri": uri, "database": ours, "empty_database": empty}


def s3(session: Session, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import loaders

    server = session.get("seaweedfs")
    bucket = f"bench-{secrets.token_hex(4)}"
    settings = {"endpoint": f"http://{server.address}", "bucket": bucket, "user": server.user}
    settings["password"] = server.password
    loaders._s3(settings).create_bucket(Bucket=bucket)
    sink = {
        "type": "s3", "bucket": bucket, "endpoint_url": settings["endpoint"], "path_style": True,
        "region": "us-east-1", "format": "jsonl", "compression": "zstd",
        "access_key_id": "${secret:env:BENCH_USER}", "secret_access_key": "${secret:env:BENCH_PASSWORD}",
    }  # fmt: skip
    os.environ["BENCH_USER"], os.environ["BENCH_PASSWORD"] = server.user, server.password
    return sink, settings


def gcs(session: Session, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import loaders

    server = session.get("fake_gcs")
    bucket = f"bench-{secrets.token_hex(4)}"
    settings = {"endpoint": server.extra["endpoint"], "bucket": bucket}
    loaders._gcs(settings).create_bucket(bucket)
    sink = {
        "type": "gcs", "bucket": bucket, "endpoint_url": settings["endpoint"], "anonymous": True,
        "format": "jsonl", "compression": "zstd",
    }  # fmt: skip
    return sink, settings


def parquet(session: Session, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    out = folder / "parquet"
    return {"type": "files", "path": str(out), "format": "parquet"}, {"stored": str(out)}


STORES = (
    Store("postgresql", 2.0, 100, postgresql, "psycopg, sqlalchemy"),
    Store("mongodb", 2.0, 100, mongodb, "pymongo"),
    Store("s3", 1.3, 100, s3, "boto3"),
    Store("gcs", 1.3, 100, gcs, "google.cloud.storage"),
    Store("parquet", 1.3, 250, parquet),
)
OBJECTS = ("s3", "gcs")


@dataclass(frozen=True)
class Result:
    """``ours`` is the pipeline, ``encoded`` and ``loaded`` are the halves of the yardstick, ``imported``
    is what a process costs that has only imported the client."""

    store: Store
    ours: Cost
    encoded: Cost
    loaded: Cost
    imported: Cost | None

    @property
    def ratio(self) -> float:
        return self.ours.wall_seconds / (self.encoded.wall_seconds + self.loaded.wall_seconds)

    @property
    def memory_mb(self) -> float:
        return self.ours.peak_mb - (self.imported.peak_mb if self.imported else 0)

    @property
    def failed(self) -> str:
        costs = (self.ours, self.encoded, self.loaded)
        return next((c.error or f"exit {c.exit_code}" for c in costs if c.exit_code), "")


def main() -> None:
    given = _arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    inputs, facts = imports._inputs(given.work, given.json_mb, given.seed)
    session = Session.new()
    results = []
    try:
        for store in STORES:
            if given.only and given.only not in store.name and store.name != "six":
                continue
            with tempfile.TemporaryDirectory(prefix=f"{store.name}-", dir=given.work) as folder:
                results.append(_compare(store, session, inputs.zip, Path(folder)))
        six = None
        if not given.only or given.only == "six":
            with tempfile.TemporaryDirectory(prefix="six-", dir=given.work) as folder:
                six = _six(session, inputs.zip, Path(folder))
    finally:
        session.quit()
    page = "\n".join(_page(results, six, facts, given))
    print(page)
    if given.write_docs:
        imports._write_page(page, BEGIN, END)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare sinks with the plain loaders of their stores.")
    parser.add_argument("--json-mb", type=float, default=1000, help="size of conversations.json in 10^6 bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "muniment-bench")
    parser.add_argument("--only", default="", metavar="STORE", help="one of the stores, or `six`")
    parser.add_argument("--write-docs", action="store_true", help=f"write the table into {imports.PAGE.name}")
    return parser.parse_args()


def _compare(store: Store, session: Session, export: Path, folder: Path) -> Result:
    sink, settings = store.place(session, folder)
    files = folder / "files"
    files.mkdir()
    settings["folder"] = str(files)
    (folder / "settings.json").write_text(json.dumps(settings))
    ours = _cost(
        store, "pipeline", [MUNIMENT, "run", str(_pipeline(folder, "ours", export, [sink])), "--quiet"], folder
    )
    loader = [sys.executable, str(HERE / "loaders.py")]
    subprocess.run([*loader, "dump", store.name, str(folder / "settings.json")], check=True)
    if store.name in OBJECTS:
        local = {"type": "files", "path": str(folder / "local"), "format": "jsonl", "compression": "zstd"}
        command = [MUNIMENT, "run", str(_pipeline(folder, "local", export, [local])), "--quiet"]
    else:
        command = [sys.executable, str(HERE / "encode_only.py"), str(_pipeline(folder, "encode", export, [sink]))]
        command.append(str(folder / "encoded"))
    encoded = _cost(store, "encode into a file", command, folder)
    loaded = _cost(store, "plain loader", [*loader, "load", store.name, str(folder / "settings.json")], folder)
    imported = None
    if store.client:
        code = f"import time, muniment.pipeline, muniment.config, {store.client}; time.sleep(0.4)"
        imported = _cost(store, "import of the client", [sys.executable, "-c", code], folder)
    return Result(store, ours, encoded, loaded, imported)


def _six(session: Session, export: Path, folder: Path) -> Cost:
    """Return what a run costs that writes to six sinks at once."""
    sinks: list[dict[str, Any]] = [
        {"type": "files", "path": str(folder / "files"), "format": "jsonl", "compression": "zstd"},
        {"type": "sqlite", "path": str(folder / "archive.db")},
    ]
    sinks += [s.place(session, folder)[0] for s in STORES if s.name != "parquet"]
    command = [MUNIMENT, "run", str(_pipeline(folder, "six", export, sinks)), "--quiet"]
    return _cost(None, "six sinks at once", command, folder)


def _pipeline(folder: Path, name: str, export: Path, sinks: list[dict[str, Any]]) -> Path:
    path = folder / f"{name}.yaml"  # JSON is YAML
    source = {"type": "chatgpt_export", "path": str(export)}
    path.write_text(json.dumps({"version": 1, "source": source, "sinks": sinks, "allow_incomplete": True}))
    return path


def _cost(store: Store | None, what: str, command: list[str], folder: Path) -> Cost:
    cost = measure(command, directory=folder)
    print(f"{store.name if store else '':12} {what:22} {imports._figures([cost])}", file=sys.stderr)
    if cost.exit_code:
        print(f"     exit {cost.exit_code}: {cost.error}", file=sys.stderr)
    return cost


def _page(results: list[Result], six: Cost | None, facts: str, given: argparse.Namespace) -> Iterator[str]:
    yield facts
    yield "One round; one process each; the peak is of the summed PSS of muniment's processes, servers excluded."
    yield ""
    yield "| store | pipeline s | encode into a file s | plain loader s | × | limit | MB above the client | limit | |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for r in results:
        if r.failed:
            yield f"| {r.store.name} | failed: {r.failed} | | | | | | | |"
            continue
        kept = r.ratio <= r.store.limit and r.memory_mb <= r.store.memory_mb
        yield (
            f"| {r.store.name} | {r.ours.wall_seconds:.1f} | {r.encoded.wall_seconds:.1f} |"
            f" {r.loaded.wall_seconds:.1f} | {r.ratio:.2f} | {r.store.limit:.1f} | {r.memory_mb:.0f} |"
            f" {r.store.memory_mb:.0f} | {'kept' if kept else 'missed'} |"
        )
    if six is not None:
        kept = six.peak_mb <= 600 and not six.exit_code
        yield (
            f"| six sinks at once | {six.wall_seconds:.1f} | | | | | {six.peak_mb:.0f} in all | 600 |"
            f" {six.error or ('kept' if kept else 'missed')} |"
        )
    yield ""
    yield f"Machine: {imports._machine()}."
    yield f"Made by `python tests/benchmarks/stores.py --json-mb {given.json_mb:g}`."


if __name__ == "__main__":
    main()
