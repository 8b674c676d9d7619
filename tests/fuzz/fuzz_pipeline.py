"""Fuzz the pipeline file: any bytes under the name of one."""

import tempfile
from pathlib import Path

from targets import Target

from muniment import ConfigError, config
from muniment.config.document import MAX_PROBLEMS
from muniment.plugins import load_registry

SEEDS = (
    """\
version: 1
source: {type: chatgpt_export, path: ./exports/*.zip}
transforms:
  - {type: filter, where: "model starts with gpt"}
  - type: mask
sinks:
  - type: sqlite
    path: "${env:HOME:-x}/archive.db"
  - type: s3
    bucket: b
    key: "chats/{source}/{year}/{part}.jsonl.zst"
    secret_key: "${secret:env:KEY}"
    format: jsonl
    transforms: [{type: filter, where: "role = user"}]
engine: {type: pool, workers: 2}
tests:
  - {name: t, input: {user: "write to a@b.co"}, expect: {not_contains: "a@b.co"}}
""",
    "version: 1\nsource: &a {type: archive, path: a.db}\nsinks:\n- {<<: *a}\n- *a\n- {type: files, path: x, mode: no}",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n? [1]\n: 2\n--- !!python/name:os.system x\n...\n",
    'version: 1\nsinks: [{type: sql, url: "postgresql://h/d", tables: {messages: {name: m, columns: {id: i}}}}]\n',
    "text: |\n  a\n  b\nfolded: >-\n  c\n  d\n'e': \"\\u00e9\\x41\"\nn: [0x1F, 0o7, 1e3, .inf, ~, 12:30]\n",
)


def make() -> Target:
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name, "pipeline.yaml")
    registry = load_registry(allow=["muniment"])

    def check(data: bytes, _folder: object = folder) -> None:
        path.write_bytes(data)
        try:
            config.load(path, registry)
        except ConfigError as error:
            assert 0 < len(error.problems) <= MAX_PROBLEMS + 2
            assert all(len(p.render()) < 10_000 for p in error.problems), "a message is too long to read"

    words = [
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!",
        b"!x ",
        b"? ",
        b"- ",
        b": ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"|\n",
        b">\n",
        b"'",
        b'"',
    ]
    words += [b"\t", b"\n", b"\r", b"---\n", b"...\n", b"%YAML 1.1\n", b"#", b"${env:A}", b"${secret:file:/x}", b"$${"]
    words += [
        b"type: ",
        b"sqlite",
        b"where: ",
        b"version: 1\n",
        b"sinks:\n",
        b"\xff",
        b"\xe2\x80\xa8",
        b"[" * 60,
        b"9" * 400,
    ]
    return Target(check, [s.encode() for s in SEEDS], words, max_bytes=4 * 2**10)


if __name__ == "__main__":
    from engines import start

    start("pipeline")
