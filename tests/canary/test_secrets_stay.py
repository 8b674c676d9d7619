"""What opens a database, a store or an archive is in nothing that is printed or left."""

import json
import secrets
import socket
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from canary.maximal import Canaries
from canary.rooms import Room
from canary.scanner import Scanner
from muniment.crypto import Key

KEYRING = """
import json, os
from pathlib import Path
from keyring.backend import KeyringBackend


class Filed(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        return json.loads(Path(os.environ["FILED_KEYRING"]).read_text()).get(f"{service} {username}")

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError
"""
PLUGIN = """
from attrs import frozen
from muniment import BatchSink, Secret, Transform, hookimpl, option


@frozen(kw_only=True)
class Careless(Transform):
    token: Secret = option("T.")
    when: str = option("W.", default="open")

    def open(self, ctx):
        token = ctx.reveal(self.token)
        request = {"headers": {"authorization": token}}
        if self.when == "open":
            raise RuntimeError(f"401 for {request}")

        def apply(record):
            raise RuntimeError(f"{token} was refused: {record}")

        return apply


@hookimpl
def muniment_transforms():
    return {"careless": Careless}


@hookimpl
def muniment_run_event(event):
    raise RuntimeError(f"401 for https://hooks.example/{TOKEN}")


TOKEN = __import__("os").environ["HOOK_TOKEN"]
"""
EXPORT = [
    {
        "id": f"c{n}", "conversation_id": f"c{n}", "title": "Soup", "create_time": 1735700000.0, "current_node": "m",
        "mapping": {
            "m": {"id": "m", "parent": None, "children": [], "message": {
                "id": "m", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["A soup?"]}}},
        },
    }
    for n in range(3)
]  # fmt: skip
SQL = 'type: sql, url: "{url}", password: "${{secret:{password}}}", connect_timeout_seconds: 2'
S3 = (
    "type: s3, bucket: archive, prefix: chats/, region: us-east-1, path_style: true,"
    ' endpoint_url: "{endpoint}", access_key_id: "${{secret:env:S3_ID}}", secret_access_key: "${{secret:env:S3_KEY}}",'
    ' session_token: "${{secret:env:S3_TOKEN}}"'
)
SQLITE = "type: sqlite, path: archive.db, encryption: {{{keys}}}"


@dataclass
class Vault:
    """Secrets that are all different, by the name of the reference that gives them."""

    folder: Path
    canaries: Canaries = field(default_factory=Canaries)
    key: str = field(default_factory=lambda: Key.new().text())

    def __post_init__(self) -> None:
        c = self.canaries
        self.folder.mkdir()
        self.files = {
            "password": c("password"),
            "no-key": c("what is no key"),
            "archive.key": self.key,
            "short": "k9#x",
        }
        self.files["cut.key"] = self.key[:-3]
        self.variables = {n: c(n) for n in ("DB_PASSWORD", "S3_ID", "S3_KEY", "S3_TOKEN", "TOKEN", "HOOK_TOKEN")}
        self.variables |= {
            "PASSPHRASE": f"{c('passphrase')} with some words", "MUNIMENT_DEBUG": "1", "PYTHONPATH": str(self.folder),
            "PYTHON_KEYRING_BACKEND": "filed_keyring.Filed", "FILED_KEYRING": str(self.folder / "keyring.json"),
        }  # fmt: skip
        for name, text in self.files.items():
            self._write(name, text)
        self._write("keyring.json", json.dumps({"db me": c("keyring"), "archive me": f"{c('keyring')} has words"}))
        self._write("filed_keyring.py", KEYRING)
        self._write("careless_plugin.py", PLUGIN)
        self._write("conversations.json", json.dumps(EXPORT))
        info = self.folder / "careless-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: careless\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[muniment.plugins.v1]\ncareless = careless_plugin\n")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o600)

    def room(self, root: Path) -> Room:
        data = urlsafe_b64decode(self.key.removeprefix("muniment-key-1:"))[:32]
        scanner = Scanner(self.canaries.marker, {"the key": data, "the key file": self.key[15:-3].encode()})
        return Room(root, scanner, variables=self.variables)

    def pipeline(self, room: Room, sink: str, *, more: str = "") -> None:
        (room.work / "p.yaml").write_text(
            "version: 1\n"
            f"source: {{type: chatgpt_export, path: {self.folder}/conversations.json}}\n"
            f"sinks:\n  - {{{sink}, on_plan_change: keep}}\n{more}"
        )
        (room.work / "p.yaml").chmod(0o600)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def room(vault: Vault, tmp_path: Path) -> Room:
    return vault.room(tmp_path / "room")


def nobody() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def ask_everything(room: Room) -> None:
    for command in (["validate"], ["plan"], ["plan", "--json"], ["status"], ["verify"], ["quarantine", "list"]):
        room.run(*command, "p.yaml")


class TestScanner:
    def test_finds_what_a_careless_plugin_would_tell(self, vault: Vault, room: Room) -> None:
        """Otherwise the silence below would say nothing."""
        (room.work / "leak").write_text(vault.key)

        assert {f.form for f in room.scanner.data(vault.variables["TOKEN"].encode(), "x")} == {"utf-8"}
        found = {str(f) for f in room.scanner.folder(room.work)}
        # One key in four has no character in which the two alphabets of base64 differ.
        assert found - {"leak: the key, base64"} == {"leak: the key, base64url", "leak: the key file, raw"}


class TestSuccess:
    @pytest.mark.parametrize(
        "keys",
        [
            'key: "${{secret:file:{folder}/archive.key}}"',
            'passphrase: "${{secret:env:PASSPHRASE}}"',
            'passphrase: "${{secret:keyring:archive/me}}", also_for: ["${{secret:file:{folder}/archive.key}}"]',
        ],
        ids=["file", "env", "keyring"],
    )
    def test_keys_stay(self, keys: str, vault: Vault, room: Room) -> None:
        """Whatever they come from."""
        vault.pipeline(room, SQLITE.format(keys=keys.format(folder=vault.folder)))
        room.run("run", "p.yaml", code=0)
        ask_everything(room)

        assert room.findings() == []


class TestFailure:
    @pytest.mark.parametrize(
        ("keys", "code"),
        [
            ('key: "${{secret:file:{folder}/no-key}}"', 78),
            ('key: "${{secret:file:{folder}/cut.key}}"', 78),
            ('passphrase: "${{secret:file:{folder}/short}}"', 78),
            ('key: "${{secret:env:TOKEN}}"', 78),
            ('key: "${{secret:keyring:db/me}}"', 78),
        ],
        ids=["no key", "cut off", "short", "env", "keyring"],
    )
    def test_what_is_no_key_stays(self, keys: str, code: int, vault: Vault, room: Room) -> None:
        """It may be one with a typing error."""
        vault.pipeline(room, SQLITE.format(keys=keys.format(folder=vault.folder)))
        room.run("run", "p.yaml", code=code)

        assert room.findings() == []

    @pytest.mark.parametrize(
        ("scheme", "password"),
        [("postgresql", "env:DB_PASSWORD"), ("postgresql", "file:../../vault/password"), ("mysql", "keyring:db/me")],
    )
    def test_passwords_stay_when_a_server_is_down(self, scheme: str, password: str, vault: Vault, room: Room) -> None:
        """A driver's message may quote what it connected with."""
        vault.pipeline(room, SQL.format(url=f"{scheme}://me@{nobody()}/archive", password=password))
        room.run("run", "p.yaml", code=1)

        assert room.findings() == []

    def test_passwords_stay_when_they_are_refused(self, vault: Vault, room: Room, mariadb) -> None:
        """By a server that is there."""
        url = f"mysql://nobody-{secrets.token_hex(4)}@{mariadb.host}:{mariadb.port}/archive"
        vault.pipeline(room, SQL.format(url=url, password="env:DB_PASSWORD"))
        room.run("run", "p.yaml", code=1)

        assert room.findings() == []

    def test_keys_of_a_store_stay(self, vault: Vault, room: Room) -> None:
        """Nor do signed requests show them."""
        vault.pipeline(room, S3.format(endpoint=f"http://{nobody()}"))
        room.run("run", "p.yaml", code=1)

        assert room.findings() == []


class TestCarelessPlugin:
    @pytest.mark.parametrize(
        ("when", "engine"),
        [("open", "local"), ("apply", "local"), ("apply", "pool, workers: 2")],
        ids=["open", "apply", "apply in another process"],
    )
    def test_what_it_raises_is_not_told(self, when: str, engine: str, vault: Vault, room: Room) -> None:
        """Neither the text of its error nor its variables; its observer's neither."""
        transform = f'{{type: careless, when: {when}, token: "${{secret:env:TOKEN}}"}}'
        more = f"transforms: [{transform}]\nengine: {{type: {engine}}}\n"
        vault.pipeline(room, "type: files, path: out", more=more)
        text = room.run("run", "p.yaml", code=1 if when == "open" else 3)

        assert room.findings() == []
        assert "RuntimeError" in text
