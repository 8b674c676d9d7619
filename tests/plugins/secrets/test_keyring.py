"""Secrets from a keyring: a back end that keeps them in a file, chosen by the library's own variable."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring.core
import pytest

from muniment import ConfigError, Context, Secret, config
from muniment.plugins import load_registry

BACK_END = """
import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Filed(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        text = Path(os.environ["FILED_KEYRING"]).read_text()
        if text == "locked":
            raise KeyringLocked("hunter2 is behind a lock")
        return json.loads(text).get(f"{service} {username}")

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError
"""

CONTEXT = Context(run="r", path="sinks[0]")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that chooses a back end by its name, as the environment of a run does."""

    def use(name: str) -> None:
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)
        keyring.core.init_backend()

    yield use
    keyring.core.set_keyring(keyring.core.fail.Keyring())  # type: ignore[no-untyped-call]


@pytest.fixture
def filed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[str], None]) -> Path:
    """Return the file of a keyring that holds one password."""
    (tmp_path / "filed_keyring.py").write_text(BACK_END)
    path = tmp_path / "keyring.json"
    path.write_text(json.dumps({"https://db.example/a archiver": "hunter2"}))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FILED_KEYRING", str(path))
    use("filed_keyring.Filed")
    return path


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        CONTEXT.reveal(Secret(f"keyring:{name}", "sinks[0].password"))
    return str(caught.value)


class TestReadSecret:
    @pytest.mark.usefixtures("filed")
    def test_gives_a_password(self) -> None:
        """Of a service, which may be a URL, and a user."""
        assert CONTEXT.reveal(Secret("keyring:https://db.example/a/archiver")) == "hunter2"

    @pytest.mark.usefixtures("filed")
    def test_says_how_to_store_what_is_missing(self) -> None:
        """With the library's own command."""
        assert refusal("db/archiver") == (
            "sinks[0].password: the keyring holds nothing under `db/archiver`; store it: `keyring set db archiver`"
        )

    @pytest.mark.parametrize("name", ["archiver", "/archiver", "db/"])
    def test_wants_a_service_and_a_user(self, name: str) -> None:
        """Behind the last slash."""
        assert refusal(name) == (
            f"sinks[0].password: `keyring:{name}` must be `keyring:SERVICE/USER`, as in `keyring set SERVICE USER`"
        )

    def test_says_that_there_is_no_keyring(self, use: Callable[[str], None]) -> None:
        """As on a server without a desktop."""
        use("keyring.backends.fail.Keyring")

        assert refusal("db/me") == (
            "sinks[0].password: `keyring:db/me` cannot be read: this machine has no keyring; name a back end with"
            " `PYTHON_KEYRING_BACKEND`, or use `${secret:file:PATH}`"
        )

    def test_says_that_it_is_locked(self, filed: Path) -> None:
        """And nothing of what the back end says."""
        filed.write_text("locked")

        assert refusal("db/me") == (
            "sinks[0].password: `keyring:db/me` cannot be read: the keyring is locked; unlock it"
        )

    def test_says_the_kind_of_any_other_failure(self, filed: Path) -> None:
        """Whose text may hold the password."""
        filed.write_text("hunter2")

        assert refusal("db/me") == (
            "sinks[0].password: `keyring:db/me` cannot be read: the keyring raised JSONDecodeError; try"
            " `keyring get db me`"
        )


class TestPipeline:
    TEXT = """
version: 1
source: {type: chatgpt_export, path: export.zip}
sinks:
  - {type: sql, url: "postgresql://archiver@db.example/archive", password: "${secret:SCHEME:db/archiver}"}
"""

    def test_takes_a_keyring(self, tmp_path: Path) -> None:
        """Where an option takes a secret."""
        text = self.TEXT.replace("SCHEME", "keyring")

        plan = config.parse(text, file="p.yaml", base=tmp_path, registry=load_registry())

        assert plan.sinks[0].step.component.password == Secret("keyring:db/archiver")  # type: ignore[attr-defined]

    def test_refuses_an_unknown_scheme(self, tmp_path: Path) -> None:
        """And names what was probably meant."""
        text = self.TEXT.replace("SCHEME", "keyrin")

        with pytest.raises(ConfigError) as caught:
            config.parse(text, file="p.yaml", base=tmp_path, registry=load_registry())

        assert [p.message for p in caught.value.problems] == [
            "unknown secret scheme `keyrin`, which no installed plugin brings; did you mean `keyring`?"
        ]
