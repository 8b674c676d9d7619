"""Secrets: references everywhere, values only where they are revealed."""

import os
import pickle
import sys
from pathlib import Path

import pytest
from attrs import frozen

from muniment import ConfigError, Context, FatalError, Secret, Sink, option
from muniment.plan import Plan, SinkPath, Step
from muniment.secrets import secrets_of
from muniment.structure import anchored

CONTEXT = Context(run="r", path="sinks[0]")


@frozen(kw_only=True)
class Database(Sink):
    """Store."""

    password: Secret | None = option("P.", default=None)
    more: tuple[Secret, ...] = option("M.", default=())


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "pg.key"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    return path


def refusal(secret: Secret) -> str:
    with pytest.raises(ConfigError) as caught:
        CONTEXT.reveal(secret)
    return str(caught.value)


class TestSecret:
    def test_shows_nothing(self) -> None:
        """Not even where it stands, so that a log of options has no holes to look for."""
        secret = Secret("env:PGPASSWORD")

        assert [repr(secret), str(secret), f"{secret}"] == ["***"] * 3
        assert "PGPASSWORD" not in repr(Database(password=secret))

    def test_travels(self) -> None:
        """To workers, as a reference."""
        secret = Secret("env:PGPASSWORD", "sinks[0].password")

        again = pickle.loads(pickle.dumps(secret))

        assert (again, again.option) == (secret, secret.option)

    @pytest.mark.parametrize("text", ["hunter2", "env:", "env:a b", "file:", "Vault:a", "mongodb://me:hunter2@db", ""])
    def test_is_never_given_itself(self, text: str) -> None:
        """And the refusal does not repeat it."""
        with pytest.raises(ValueError, match="^a secret is named by `env:NAME`, .* of a plugin; it is never given"):
            Secret(text)

    def test_decides_nothing_of_what_is_stored(self) -> None:
        """Another variable for the same password is the same plan."""

        def hash_of(secret: Secret) -> str:
            path = SinkPath(step=Step("db", "sinks[0]", Database(password=secret, more=(secret,))), name="db")
            return Plan(name="p", sources=(), sinks=(path,)).hash_of(path)

        assert hash_of(Secret("env:A")) == hash_of(Secret("env:B"))

    def test_is_found_in_options(self) -> None:
        """However deep."""
        step = Step("db", "sinks[0]", Database(password=Secret("env:A"), more=(Secret("env:B"),)))

        assert [s.reference for s in secrets_of([step])] == ["env:A", "env:B"]

    def test_a_file_is_relative_to_the_pipeline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As every other path in it."""
        monkeypatch.setenv("HOME", "/home/me")
        sink = Database(password=Secret("file:a.key"), more=(Secret("env:A"), Secret("file:~/b")))

        moved = anchored(sink, Path("/base"))

        assert [s.reference for s in secrets_of(moved)] == ["file:/base/a.key", "env:A", "file:/home/me/b"]


class TestReveal:
    def test_gives_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As it is."""
        monkeypatch.setenv("PGPASSWORD", "hunter2\n")

        assert CONTEXT.reveal(Secret("env:PGPASSWORD")) == "hunter2\n"

    @pytest.mark.parametrize(
        ("data", "value"),
        [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("\u00fc", "\u00fc")],
    )
    def test_gives_a_file_without_its_last_line_break(self, secret_file: Path, data: str, value: str) -> None:
        """One line break ends the line and is no part of the secret."""
        secret_file.write_bytes(data.encode())

        assert CONTEXT.reveal(Secret(f"file:{secret_file}")) == value

    def test_reads_anew(self, secret_file: Path) -> None:
        """A secret that was changed is the new one at once; nothing keeps the old."""
        secret = Secret(f"file:{secret_file}")
        CONTEXT.reveal(secret)
        secret_file.write_text("new")

        assert CONTEXT.reveal(secret) == "new"

    def test_names_the_option(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or else the component."""
        monkeypatch.delenv("PGPASSWORD", raising=False)
        said = "the environment variable `PGPASSWORD` is not set; set it where muniment runs"

        assert refusal(Secret("env:PGPASSWORD", "sinks[2].password")) == f"sinks[2].password: {said}"
        assert refusal(Secret("env:PGPASSWORD")) == f"sinks[0]: {said}"

    def test_refuses_an_empty_secret(self, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is a mistake nearly always."""
        monkeypatch.setenv("EMPTY", "")
        secret_file.write_text("\n")
        hint = "is empty; leave the option out where there is no secret"

        assert refusal(Secret("env:EMPTY")) == f"sinks[0]: the environment variable `EMPTY` {hint}"
        assert refusal(Secret(f"file:{secret_file}")) == f"sinks[0]: the secret file `{secret_file}` {hint}"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a file away")
    def test_refuses_a_file_of_somebody_else(self, secret_file: Path) -> None:
        """Who could change it when he likes."""
        os.chown(secret_file, 12345, 12345)
        secret = Secret(f"file:{secret_file}")
        said = f"the secret file `{secret_file}` belongs to another user; take it over: `chown 0 {secret_file}`"

        assert refusal(secret) == f"sinks[0]: {said}"
        assert secret.problem() == said

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
    def test_refuses_a_file_that_others_can_replace(self, secret_file: Path, mode: int) -> None:
        """A folder that others write to can hold another key tomorrow."""
        folder = secret_file.parent / "open"
        folder.mkdir()
        moved = secret_file.rename(folder / "pg.key")
        folder.chmod(mode)
        secret = Secret(f"file:{moved}")
        said = (
            f"the secret file `{moved}` is in a folder where others can replace it; close that to them:"
            f" `chmod go-w {folder}`"
        )

        assert refusal(secret) == f"sinks[0]: {said}"
        assert secret.problem() == said

    def test_takes_a_file_of_a_folder_where_only_owners_replace_theirs(self, secret_file: Path) -> None:
        """As `/tmp` is."""
        secret_file.parent.chmod(0o1777)

        assert CONTEXT.reveal(Secret(f"file:{secret_file}")) == "hunter2"

    def test_judges_what_a_link_leads_to(self, secret_file: Path, tmp_path: Path) -> None:
        """As a mounted secret is one; the link itself has no mode."""
        link = tmp_path / "link"
        link.symlink_to(secret_file)
        assert CONTEXT.reveal(Secret(f"file:{link}")) == "hunter2"
        secret_file.chmod(0o644)

        assert refusal(Secret(f"file:{link}")) == (
            f"sinks[0]: the secret file `{link}` is open to others than its owner; make it private:"
            f" `chmod 600 {secret_file}`"
        )

    def test_waits_for_no_pipe(self, tmp_path: Path) -> None:
        """Somebody may have put one in the file's place."""
        os.mkfifo(tmp_path / "pipe", 0o600)

        assert refusal(Secret(f"file:{tmp_path}/pipe")) == f"sinks[0]: the secret file `{tmp_path}/pipe` is no file"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
    def test_refuses_a_file_that_is_open_to_others(self, secret_file: Path, mode: int) -> None:
        """And says how to close it."""
        secret_file.chmod(mode)
        secret = Secret(f"file:{secret_file}")

        said = (
            f"the secret file `{secret_file}` is open to others than its owner; make it private:"
            f" `chmod 600 {secret_file}`"
        )
        assert refusal(secret) == f"sinks[0]: {said}"
        assert secret.problem() == said

    def test_refuses_what_is_no_text_file(self, tmp_path: Path, secret_file: Path) -> None:
        """One sentence each."""
        assert refusal(Secret(f"file:{tmp_path}/none")) == (
            f"sinks[0]: the secret file `{tmp_path}/none` cannot be read: no such file or directory"
        )
        assert refusal(Secret(f"file:{tmp_path}")) == (f"sinks[0]: the secret file `{tmp_path}` is no file")
        secret_file.write_bytes(b"hunter2\xff")
        assert refusal(Secret(f"file:{secret_file}")) == (
            f"sinks[0]: the secret file `{secret_file}` is not UTF-8; store the secret as text"
        )
        secret_file.write_bytes(b"a" * (2**16 + 1))
        assert refusal(Secret(f"file:{secret_file}")) == (
            f"sinks[0]: the secret file `{secret_file}` is larger than 65536 bytes; is this the right file?"
        )

    def test_no_traceback_holds_the_value(self, secret_file: Path) -> None:
        """What is wrong is raised without what it came from."""
        secret_file.write_bytes(b"hunter2\xff")

        with pytest.raises(ConfigError) as caught:
            CONTEXT.reveal(Secret(f"file:{secret_file}"))

        assert caught.value.__suppress_context__


class TestProblem:
    def test_is_none_where_the_value_can_be_had(self, secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without reading it."""
        monkeypatch.setenv("PGPASSWORD", "x")
        secret_file.chmod(0o200 if os.geteuid() else 0o600)

        assert Secret("env:PGPASSWORD").problem() is None
        assert Secret(f"file:{secret_file}").problem() is None

    def test_says_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a sentence."""
        monkeypatch.delenv("PGPASSWORD", raising=False)

        assert Secret("env:PGPASSWORD").problem() == (
            "the environment variable `PGPASSWORD` is not set; set it where muniment runs"
        )
        assert Secret(f"file:{tmp_path}/a").problem() == (
            f"the secret file `{tmp_path}/a` cannot be read: no such file or directory"
        )
        assert Secret(f"file:{tmp_path}").problem() == f"the secret file `{tmp_path}` is no file"


SCHEMES = """
from muniment import ConfigError, hookimpl
from muniment.errors import FatalError

@hookimpl
def muniment_secrets():
    return {name: f"acme_vault:{name}" for name in ("vault", "number", "text")}

text = "no function"

def number(name):
    return 5

def vault(name):
    if name == "gone":
        raise ConfigError("the vault has no `gone`; write it")
    if name == "broken":
        raise RuntimeError("hunter2 is not what I can decode")
    if name == "down":
        raise FatalError("the vault is down")
    return f"value of {name}"
"""


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a plugin that adds the schemes `vault`, `number` and `text`."""
    info = tmp_path / "site" / "acme_vault-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-vault\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[muniment.plugins.v1]\nacme = acme_vault\n")
    (info.parent / "acme_vault.py").write_text(SCHEMES)
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.delitem(sys.modules, "acme_vault", raising=False)


@pytest.mark.usefixtures("vault")
class TestSchemeOfAPlugin:
    def test_gives_what_the_plugin_reads(self) -> None:
        """By the name behind the scheme."""
        secret = Secret("vault:a/b:c")

        assert (CONTEXT.reveal(secret), secret.problem()) == ("value of a/b:c", None)

    def test_says_what_the_plugin_says(self) -> None:
        """With the option that names the secret."""
        assert refusal(Secret("vault:gone", "sinks[0].key")) == "sinks[0].key: the vault has no `gone`; write it"

    def test_says_only_the_kind_of_an_unexpected_error(self) -> None:
        """Its text may hold the secret, and so may what it came from."""
        with pytest.raises(ConfigError) as caught:
            CONTEXT.reveal(Secret("vault:broken"))

        assert str(caught.value) == ("sinks[0]: the vault secret `broken` is out of reach: `vault` raised RuntimeError")
        assert caught.value.__suppress_context__

    def test_lets_the_plugin_say_what_happens_next(self) -> None:
        """A service that is down is no mistake in the pipeline."""
        with pytest.raises(FatalError, match="^the vault is down$"):
            CONTEXT.reveal(Secret("vault:down"))

    def test_takes_text_only(self) -> None:
        """Without showing what came instead."""
        assert refusal(Secret("number:n")) == (
            "sinks[0]: the number secret `n` is no text but int; tell the author of `number`"
        )
        assert refusal(Secret("text:n")) == (
            "sinks[0]: secret scheme `text` of acme-vault 1.0 is no function at `acme_vault:text`; tell its author"
        )

    def test_an_unknown_one_is_named_only_where_somebody_wrote_it(self) -> None:
        """Elsewhere it may be the beginning of the secret itself."""
        assert refusal(Secret("voult:hunter2", "sinks[0].key")) == (
            "sinks[0].key: unknown secret scheme `voult`, which no installed plugin brings; did you mean `vault`?"
        )
        assert refusal(Secret("voult:hunter2")) == (
            "sinks[0]: what names this secret has the scheme of no plugin that is installed"
        )

    def test_is_relative_to_nothing(self) -> None:
        """Its name is the plugin's business."""
        assert Secret("vault:a").anchored(Path("/base")) == Secret("vault:a")
