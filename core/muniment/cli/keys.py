"""``muniment key``: who can read what is encrypted."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from muniment.cli import screen
from muniment.cli.group import Subcommands
from muniment.cli.options import json_option, quiet_option
from muniment.errors import FatalError
from muniment.secrets import Secret, reveal

if TYPE_CHECKING:
    from muniment.crypto import Holder, Keyring, NewHeader

F = TypeVar("F", bound=Callable[..., Any])

_ASK = "ask"
_DATABASE = b"SQLite format 3\0"
_PATH = click.Path(path_type=Path)


class PassphraseReference(click.ParamType):  # type: ignore[type-arg]
    """Where a passphrase stands; never the passphrase, which the list of processes would show."""

    name = "reference"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != _ASK:
            try:
                known = Secret(value).has_known_scheme()
            except ValueError:
                known = False
            if not known:
                self.fail("write `ask`, `env:NAME` or `file:PATH`, never the passphrase itself", param, ctx)
        return str(value)


class ServiceReference(click.ParamType):  # type: ignore[type-arg]
    """A key of a key service."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from muniment.crypto.services import is_recipient

        if not is_recipient(value):
            self.fail(f"write `SERVICE:KEY`, not `{value}`", param, ctx)
        return str(value)


def keys_options(
    key: str, passphrase: str, service: str, what: str, *, variable: str | None = None
) -> Callable[[F], F]:
    """Return what adds the options for keys that do ``what``."""

    def add(function: F) -> F:
        for option in (
            click.option(
                f"--{service}", multiple=True, type=ServiceReference(), metavar="SERVICE:KEY",
                help=f"A key of a key service that {what}."
            ),
            click.option(
                f"--{passphrase}", multiple=True, type=PassphraseReference(), metavar="ask|env:NAME|file:PATH",
                help=f"Where the passphrase stands that {what}.",
            ),
            click.option(
                f"--{key}", multiple=True, type=_PATH, metavar="PATH", envvar=variable,
                help=f"A key file that {what}." + (f" Default: what {variable} names." if variable else ""),
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return add


files_argument = click.argument("files", nargs=-1, required=True, type=_PATH, metavar="FILE|FOLDER...")


@click.group(cls=Subcommands, short_help="Make keys, and choose which ones open encrypted files.")
def key() -> None:
    """Make keys, and choose which ones open encrypted files.

    Whoever holds one of its keys can read an encrypted file.  Without any of them nobody can, and
    nothing brings it back: keep a copy of a key in another place.

    \b
    Example:
      muniment key new archive.key
    """


@key.command(short_help="Make a key and the file that holds it.")
@click.argument("path", type=_PATH)
@click.option(
    "--signing", metavar="NAME",
    help="Make a key that signs archives, in the name of NAME, instead of one that encrypts.",
)  # fmt: skip
@json_option
def new(path: Path, signing: str | None, as_json: bool) -> int:
    """Make a key, and a file that holds it and that only you can read.

    \b
    Examples:
      muniment key new archive.key
      muniment key new sign.key --signing archive.example.org
    """
    from muniment.crypto import create_key_file
    from muniment.proof import create_signing_key

    if signing is not None:
        public = str(create_signing_key(path, signing).verifier)
        if as_json:
            screen.out_json({"path": str(path), "public_key": public})
        else:
            screen.out(f"made a signing key in {screen.line(str(path))}; whoever verifies needs its public key:")
            screen.out(public)
        return 0
    made = create_key_file(path)
    if as_json:
        screen.out_json({"path": str(path), "key": made.id})
    else:
        screen.out(f"made key {made.id} in {screen.line(str(path))}; keep a copy of this file in another place")
    return 0


@key.command(short_help="Let another key open encrypted files, too.")
@files_argument
@keys_options("recipient", "passphrase", "service", "is to open them, too")
@keys_options("key", "key-passphrase", "key-service", "opens them now", variable="MUNIMENT_KEY_FILE")
@quiet_option
@json_option
def add(
    files: tuple[Path, ...],
    key: tuple[Path, ...],
    key_passphrase: tuple[str, ...],
    key_service: tuple[str, ...],
    recipient: tuple[Path, ...],
    passphrase: tuple[str, ...],
    service: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Let another key open encrypted files, too.  Only their headers are written.

    \b
    Examples:
      muniment key add --key archive.key --recipient safe.key ./chats
      muniment key add --key archive.key --passphrase ask ./chats/part-1.jsonl.zst.enc
    """
    from muniment.crypto.rewrap import add_recipients

    opener = keyring_of(key, key_passphrase, key_service)
    added = keyring_of(recipient, passphrase, service, writes=True, options="`--recipient PATH` or `--passphrase ask`")

    def change(path: Path) -> bool:
        return _rewrap(path, lambda stream: add_recipients(stream, opener, added))

    return _rewrite(files, change, as_json=as_json, quiet=quiet)


@key.command(short_help="Replace a key of encrypted files by another.")
@files_argument
@keys_options("new", "new-passphrase", "new-service", "is to open them")
@keys_options("old", "old-passphrase", "old-service", "opens them now, and shall no longer")
@click.option("--re-encrypt", is_flag=True, help="Encrypt the contents anew, too; takes as long as copying them.")
@quiet_option
@json_option
def rotate(
    files: tuple[Path, ...],
    old: tuple[Path, ...],
    old_passphrase: tuple[str, ...],
    old_service: tuple[str, ...],
    new: tuple[Path, ...],
    new_passphrase: tuple[str, ...],
    new_service: tuple[str, ...],
    re_encrypt: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Replace a key of encrypted files by another.  Only their headers are written.

    A file opens with the old key or the new one at every moment; when it was interrupted, run it again.
    Whoever held the old key may have kept what it opens: --re-encrypt makes that useless for the files
    as they are then, not for copies made before.

    \b
    Examples:
      muniment key rotate --old archive.key --new archive-2.key ./chats
      muniment key rotate --old archive.key --new archive-2.key --re-encrypt ./chats
    """
    from muniment.crypto.files import reencrypt_file
    from muniment.crypto.rewrap import replace_keys

    before = keyring_of(old, old_passphrase, old_service, options="`--old PATH` or `--old-passphrase ask`")
    after = keyring_of(new, new_passphrase, new_service, writes=True, options="`--new PATH` or `--new-passphrase ask`")

    def change(path: Path) -> bool:
        if re_encrypt:
            refuse_archive(path, "it cannot be encrypted anew in its place; write it into a new one instead")
            reencrypt_file(path, before, after)
            return True
        return _rewrap(path, lambda stream: replace_keys(stream, before, after))

    return _rewrite(files, change, as_json=as_json, quiet=quiet)


# --- what they share ------------------------------------------------------------------------------


def keyring_of(
    keys: tuple[Path, ...],
    passphrases: tuple[str, ...],
    services: tuple[str, ...],
    *,
    writes: bool = False,
    options: str = "`--key PATH` or `--passphrase ask`",
) -> "Keyring":
    """Return the keys that options name; ``options`` says which ones would do."""
    from muniment.crypto import Keyring, Passphrase, read_key_file
    from muniment.crypto.passphrases import problem_with
    from muniment.crypto.services import service_key

    if not (keys or passphrases or services):
        raise click.UsageError(f"a key is missing; give {options}")
    texts = [_reveal(reference, new=writes) for reference in passphrases]
    for problem in filter(None, map(problem_with, texts if writes else ())):
        raise click.UsageError(problem)
    holders: list[Holder] = [read_key_file(path) for path in keys]
    holders += [Passphrase(text) for text in texts]
    holders += [service_key(name) for name in services]
    return Keyring(holders)


def _reveal(reference: str, *, new: bool) -> str:
    if reference != _ASK:
        return reveal(Secret(reference))
    text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return text


def _rewrap(path: Path, change: "Callable[[BinaryIO], NewHeader]") -> bool:
    """Replace the headers of an encrypted file, or of all that an archive holds."""
    from muniment.cli.custody import sinks_of
    from muniment.cli.ledgers import is_pipeline_file
    from muniment.crypto.files import rewrap_file
    from muniment.crypto.folders import archive_of

    if _is_archive(path):
        from muniment.cli.assemble import make
        from muniment.components import Context
        from muniment.plugins import load_registry

        sink = make(load_registry(), "sinks", "sqlite", {"path": str(path)})
        changed: bool = sink.rewrap(Context(run="", path=str(path)), change)
        return changed
    if path.is_dir() or is_pipeline_file(str(path)):
        sinks = [
            (s.step.component, ctx)
            for s, ctx in sinks_of(str(path), None)
            if path.is_dir() or getattr(s.step.component, "encryption", None) is not None
        ]
        return sum(component.rewrap(ctx, change) for component, ctx in sinks) > 0
    if (folder := archive_of(path)) is not None:
        raise FatalError(f"it belongs to the archive `{folder}`, whose manifests say what it is; name that folder")
    return rewrap_file(path, change)


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_DATABASE)) == _DATABASE
    except OSError:
        # Whoever opens it next says what is wrong with it.
        return False


def refuse_archive(path: Path, what: str) -> None:
    if path.is_dir() or _is_archive(path):
        raise FatalError(f"`{path}` is an archive: {what}")


def _rewrite(files: tuple[Path, ...], change: Callable[[Path], bool], *, as_json: bool, quiet: bool) -> int:
    """Change each file, go on behind those that cannot be, and report."""
    from muniment.crypto.files import is_encrypted_file

    counts: Counter[str] = Counter(rewritten=0, unchanged=0, skipped=0)
    failed: list[dict[str, str]] = []
    code = 0
    for path, named in _chosen(files):
        try:
            if not named and not is_encrypted_file(path):
                counts["skipped"] += 1
                continue
            counts["rewritten" if change(path) else "unchanged"] += 1
        except FatalError as error:
            failed.append({"path": str(path), "reason": str(error)})
            code = max(code, error.exit_code)
    if as_json:
        screen.out_json({**counts, "failed": failed})
        return code
    for one in failed:
        screen.error(f"{screen.line(one['path'])}: {one['reason']}")
    if not quiet:
        screen.out(
            f"rewritten {counts['rewritten']}, right already {counts['unchanged']}, not encrypted {counts['skipped']},"
            f" failed {len(failed)}"
        )
    return code


def _chosen(files: tuple[Path, ...]) -> Iterator[tuple[Path, bool]]:
    """Yield the files to change, and whether each was named; of a folder all, while no run writes to it."""
    from muniment.crypto.files import files_below
    from muniment.crypto.folders import VAULT

    for path in files:
        if not path.is_dir():
            yield path, True
            continue
        archives = [vault.parent.parent for vault in sorted(path.rglob(VAULT))]
        yield from ((folder, True) for folder in archives)
        if path in archives:
            continue
        with _locked(path):
            for inner in files_below(path):
                if not any(inner.is_relative_to(folder) for folder in archives):
                    yield inner, False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from muniment.lock import TargetLock

    lock = TargetLock(folder.absolute())
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
