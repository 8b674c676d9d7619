"""``muniment decrypt``: reading what is encrypted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muniment.cli import screen
from muniment.cli.keys import keyring_of, keys_options, refuse_archive
from muniment.cli.options import json_option, quiet_option
from muniment.errors import FatalError

if TYPE_CHECKING:
    from muniment.crypto import Keyring


@click.command(short_help="Decrypt a file, or a folder of them.")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE|FOLDER")
@keys_options("key", "passphrase", "service", "opens it", variable="MUNIMENT_KEY_FILE")
@click.option("--to", metavar="PATH|-", help="Where to write; `-` is standard output. Default: FILE without `.enc`.")
@click.option(
    "--allow-partial-recovery", is_flag=True,
    help="Of a damaged file write what stands before the damage, under a name that ends in `.partial`.",
)  # fmt: skip
@quiet_option
@json_option
def decrypt(
    file: Path,
    key: tuple[Path, ...],
    passphrase: tuple[str, ...],
    service: tuple[str, ...],
    to: str | None,
    allow_partial_recovery: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Decrypt a file.  What comes out appears when its last byte was verified, or not at all.

    Of a folder every encrypted file is decrypted into the folder that --to names, under the name that it
    would have had without encryption, so that links between files lead where they should.

    The exit code is 12 if no key opens it, and 3 if only a part was recovered.

    \b
    Examples:
      muniment decrypt ./chats --key archive.key --to ./readable
      muniment decrypt part-1.jsonl.zst.enc --key archive.key
      muniment decrypt part-1.jsonl.zst.enc --key archive.key --to - | zstd -d
    """
    from muniment.crypto.envelope import SUFFIX
    from muniment.crypto.files import decrypt_file

    if to == "-" and (allow_partial_recovery or as_json):
        raise click.UsageError("standard output takes the text only; leave out --json and --allow-partial-recovery")
    if file.is_dir():
        if to in (None, "-") or allow_partial_recovery:
            raise click.UsageError(
                "of a folder say with --to which new folder to write to; --allow-partial-recovery is for one file"
            )
        folder_keys = keyring_of(key, passphrase, service)
        return _decrypt_folder(file, Path(str(to)), folder_keys, as_json=as_json, quiet=quiet)
    if to is None:
        if not file.name.endswith(SUFFIX) or file.name == SUFFIX:
            raise click.UsageError(f"say where to write with --to: the name does not end in `{SUFFIX}`")
        to = str(file.with_name(file.name.removesuffix(SUFFIX)))
    refuse_archive(file, "what it holds is written elsewhere by `muniment export`")
    keyring = keyring_of(key, passphrase, service)
    if to == "-":
        decrypt_file(file, keyring, sys.stdout.buffer)
        return 0
    made = decrypt_file(file, keyring, Path(to), broken="recover" if allow_partial_recovery else "refuse")
    if as_json:
        screen.out_json(
            {"file": str(file), "to": made.path, "bytes": made.size, "type": made.content_type, "whole": made.whole}
        )
    elif not made.whole:
        screen.note(f"{screen.line(str(file))} is damaged: only its beginning could be verified")
        screen.out(f"recovered {made.size:,} bytes to {screen.line(made.path)}; the rest is lost")
    elif not quiet:
        screen.out(f"decrypted {made.size:,} bytes to {screen.line(made.path)}")
    return 0 if made.whole else 3


def _decrypt_folder(folder: Path, to: Path, keyring: "Keyring", *, as_json: bool, quiet: bool) -> int:
    from muniment.crypto.folders import decrypt_folder

    made, size, failed = 0, 0, []
    code = 0
    for path, result in decrypt_folder(folder, to, keyring):
        if isinstance(result, FatalError):
            failed.append({"path": str(path), "reason": str(result)})
            code = max(code, result.exit_code)
        else:
            made += 1
            size += result.size
    if as_json:
        screen.out_json({"folder": str(folder), "to": str(to), "files": made, "bytes": size, "failed": failed})
        return code
    for one in failed:
        screen.error(f"{screen.line(one['path'])}: {one['reason']}")
    if not quiet:
        screen.out(f"decrypted {made:,} files, {size:,} bytes, to {screen.line(str(to))}; failed {len(failed)}")
    return code
