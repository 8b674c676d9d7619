"""``muniment verify``: everything is read again and compared with what was written down."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from muniment.cli import screen
from muniment.cli.keys import keys_options
from muniment.cli.options import json_option, quiet_option
from muniment.errors import ConfigError, FatalError, InputError, WrongKeyError

if TYPE_CHECKING:
    from muniment.components import Context
    from muniment.plan import SinkPath
    from muniment.proof import TreeHead, VerifierKey
    from muniment.verification import Inspection, Sample

_MOST_NAMED = 200


class SampleSize(click.ParamType):  # type: ignore[type-arg]
    """A number of things, or a share of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Sample":
        from muniment.verification import Sample

        if isinstance(value, Sample):
            return value
        text = str(value)
        try:
            sample = Sample(percent=float(text[:-1])) if text.endswith("%") else Sample(count=int(text))
        except ValueError:
            sample = Sample()
        if not (sample.count > 0 or 0 < sample.percent <= 100):
            self.fail(f"`{text}` is neither a number from 1 on nor a share such as `5%`", param, ctx)
        return sample


@click.command(short_help="Read everything again and prove that nothing was changed.")
@click.argument("target", default="archive.db", type=click.Path(), metavar="[ARCHIVE|FOLDER|PIPELINE.YAML]")
@click.option("--sink", "sink_name", metavar="NAME", help="Of a pipeline, only this sink.")
@click.option(
    "--sample", type=SampleSize(), metavar="N|P%",
    help="Read only so many objects, chosen by chance; all manifests are checked.",
)  # fmt: skip
@click.option(
    "--public-key", metavar="KEY|PATH",
    help="Who must have signed: a public key, or a file that holds it. Default: who the manifests say.",
)  # fmt: skip
@click.option(
    "--since", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PATH",
    help="A checkpoint that was kept elsewhere: is this archive still that one, and not an older copy?",
)  # fmt: skip
@click.option(
    "--save-checkpoint", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
    help="If all is sound, write the checkpoint to this file, for a later --since.",
)  # fmt: skip
@keys_options("key", "passphrase", "service", "opens what is encrypted", variable="MUNIMENT_KEY_FILE")
@quiet_option
@json_option
def verify(
    target: str,
    sink_name: str | None,
    sample: "Sample | None",
    public_key: str | None,
    since: Path | None,
    save_checkpoint: Path | None,
    key: tuple[Path, ...],
    passphrase: tuple[str, ...],
    service: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Read an archive again and compare all of it with its manifests, their chain and the signature.

    Every object and record that is missing, changed, extra, swapped with another or older than it
    should be is named.  Nothing is written.  The exit code is 0 if all is sound and 1 if not.

    An older copy of a whole archive is sound in itself: keep a checkpoint in another place
    (--save-checkpoint) and give it again (--since) to find out.

    \b
    Examples:
      muniment verify archive.db
      muniment verify ./chats --sample 5%
      muniment verify pipeline.yaml --public-key archive.pub --since safe/checkpoint
    """
    from muniment.cli.keys import keyring_of
    from muniment.plugins import load_registry
    from muniment.verification import Inspection

    registry = load_registry()
    paths = list(_paths(target, sink_name, registry))
    if len(paths) > 1 and (since or save_checkpoint):
        raise click.UsageError("a checkpoint is of one archive; name the sink with --sink")
    keyring = keyring_of(key, passphrase, service) if key or passphrase or service else None
    signer = _public_key(public_key) if public_key else None
    kept = _head(since) if since else None
    results: list[dict[str, Any]] = []
    for path, ctx in paths:
        with _progress(path.name, silent=quiet or as_json) as seen:
            inspection = Inspection(sample, keyring, signer, kept, seen)
            try:
                result = _verified(path, ctx, inspection)
            except WrongKeyError as error:
                if len(paths) > 1:
                    error.args = (f"sink `{path.name}`: {error}",)
                raise
        results.append(result)
        if not as_json:
            _print(result, quiet=quiet)
        if save_checkpoint and result["sound"]:
            _save(save_checkpoint, inspection)
    if as_json:
        screen.out_json(results if len(paths) > 1 else results[0])
    return 0 if all(r["sound"] for r in results) else 1


def _verified(path: "SinkPath", ctx: "Context", inspection: "Inspection") -> dict[str, Any]:
    """Return what a verification came to, as JSON."""
    try:
        found = list(path.step.component.verify(ctx, inspection))
    except NotImplementedError as error:
        raise ConfigError(str(error)) from error
    head, signer = inspection.head, inspection.signer
    return {
        "sink": path.name,
        "sound": not any(f.is_problem for f in found),
        "findings": [attrs.asdict(f) for f in found],
        "manifests": inspection.manifests,
        "objects": inspection.objects,
        "records": inspection.records,
        "skipped": inspection.skipped,
        "not_decoded": inspection.undecoded,
        "checkpoint": inspection.note.decode("utf-8", "replace") or None,
        "log": head.origin if head else None,
        "root": head.root.hex() if head else None,
        "signed_by": str(signer) if signer and inspection.is_signed else None,
        "signer_was_given": inspection.public_key is not None,
    }


def _print(result: dict[str, Any], *, quiet: bool) -> None:
    found = result["findings"]
    for finding in [f for f in found if f["is_problem"]][:_MOST_NAMED]:
        kind = click.style(finding["kind"], fg="red")
        screen.out(f"{kind} {screen.line(finding['where'])}: {screen.line(finding['reason'])}")
    problems = sum(f["is_problem"] for f in found)
    if problems > _MOST_NAMED:
        screen.out(f"and {problems - _MOST_NAMED:,} more (--json has all)")
    if quiet:
        return
    for finding in found:
        if not finding["is_problem"]:
            screen.out(f"note: {screen.line(finding['where'])}: {screen.line(finding['reason'])}")
    name = click.style(screen.line(result["sink"]), bold=True)
    sound = "sound" if result["sound"] else f"not sound, {problems:,} problems"
    read = f"{result['objects']:,} objects and {result['records']:,} records against {result['manifests']:,} manifests"
    screen.out(f"{name}: {read}: {sound}")
    if result["skipped"]:
        screen.out(f"  a sample: {result['skipped']:,} objects were not read")
    if result["not_decoded"]:
        screen.out(
            f"  {result['not_decoded']:,} objects were compared by their digest only: their format cannot be read back,"
            " or no key was given"
        )
    if result["signed_by"]:
        known = result["signer_was_given"]
        whose = "" if known else ", as the archive itself says: compare it with the key that you know"
        screen.out(f"  signed by {screen.line(result['signed_by'])}{whose}")
    elif result["manifests"]:
        screen.out("  not signed: who can write to the archive could have made all of it anew")


# --- what is asked --------------------------------------------------------------------------


def _paths(target: str, sink_name: str | None, registry: Any) -> "Iterator[tuple[SinkPath, Context]]":
    from muniment.cli.assemble import sink_for
    from muniment.cli.ledgers import is_pipeline_file
    from muniment.components import Context
    from muniment.structure import closest

    if not is_pipeline_file(target):
        if sink_name:
            raise click.UsageError("--sink goes with a pipeline file")
        if not Path(target).exists():
            raise InputError(f"there is no archive `{target}`; make one with `muniment import EXPORT --to {target}`")
        path = sink_for(registry, target)
        yield path, Context(run="", path=path.step.path)
        return
    from muniment import config

    plan = config.load(Path(target), registry)
    names = [s.name for s in plan.sinks]
    if sink_name and sink_name not in names:
        raise ConfigError(f"there is no sink `{sink_name}` in `{target}`{closest(sink_name, names)}")
    for path in plan.sinks:
        if sink_name in (None, path.name):
            yield path, Context(run="", path=path.step.path, pipeline=plan.name, state_dir=plan.state_dir)


def _public_key(text: str) -> "VerifierKey":
    from muniment.proof import VerifierKey

    path = Path(text)
    try:
        return VerifierKey.parse(path.read_text(encoding="utf-8") if path.is_file() else text)
    except (ValueError, OSError) as error:
        raise click.UsageError(f"`{text}` is neither a public key nor a file that holds one: {error}") from error


def _head(path: Path) -> "TreeHead":
    from muniment.proof import MAX_BYTES, SignedHead

    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        return SignedHead.parse(data).head
    except ValueError as error:
        raise InputError(f"`{path}` holds no checkpoint: {error}") from error


def _save(path: Path, inspection: "Inspection") -> None:
    if not inspection.note:
        raise FatalError("there is no checkpoint to save: this archive was written by a version without them")
    from muniment.private_files import write_private_file

    try:
        write_private_file(path, inspection.note)
    except OSError as error:
        raise FatalError(f"`{path}` cannot be written: {(error.strerror or 'it fails').lower()}") from error


@contextlib.contextmanager
def _progress(label: str, *, silent: bool) -> Iterator[Callable[[], object]]:
    """Show on a terminal how much was read; give a function to call after each object."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=silent or not console.is_terminal) as bar:
        task = bar.add_task(f"verifying {screen.line(label)}", total=None)
        yield lambda: bar.advance(task)
