"""Who may import whom: the core no plugin, a plugin only what is public, and `--help` no SDK."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

import muniment
import muniment_plugins

CORE, PLUGINS = (Path(package.__file__).parent for package in (muniment, muniment_plugins))
HEAVY = ("sqlalchemy", "boto3", "httpx", "cattrs", "ruamel", "rich", "cryptography", "sqlite3", "tenacity")


def imports(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, absolute module name) for every import below ``root``, also those in functions."""
    for path in sorted(root.rglob("*.py")):
        where = path.relative_to(root.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((where, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{where} has a relative import"
                yield where, node.module or ""
                yield from ((where, f"{node.module}.{alias.name}") for alias in node.names)


def declared_packages() -> set[str]:
    """Return the import names of the distributions that muniment requires, with and without extras."""
    required = {_normal(line.split(";")[0]) for line in requires("muniment") or ()}
    owners = packages_distributions()
    return {name for name, found in owners.items() if required & {_normal(one) for one in found}}


def _normal(requirement: str) -> str:
    name = "".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()[0]
    return name.lower().replace("_", "-").replace(".", "-")


class TestTheCore:
    def test_imports_no_plugin(self):
        """The core works without the plugins; entry points name them."""
        assert [(w, m) for w, m in imports(CORE) if m.split(".")[0] == "muniment_plugins"] == []

    def test_talks_http_in_one_module(self):
        """`muniment.http` is where limits, stalls and failures are handled."""
        found = {where for root in (CORE, PLUGINS) for where, module in imports(root) if module.startswith("httpx")}

        assert found <= {"muniment/http.py"}


class TestThePlugins:
    def test_import_only_public_modules(self):
        """What a first-party plugin uses, a stranger's can use."""
        private = [
            (where, module)
            for where, module in imports(PLUGINS)
            if module.startswith("muniment.") and any(part.startswith("_") for part in module.split("."))
        ]

        assert private == []

    def test_import_only_what_is_declared(self):
        """Everything else comes from the standard library or is a requirement of the distribution."""
        # `compression` is the standard library's from 3.14 on, only imported there; `awscrt` is an extra of boto3,
        # looked for where a checksum asks for it.
        allowed = {
            "muniment",
            "muniment_plugins",
            "compression",
            "awscrt",
            *sys.stdlib_module_names,
            *declared_packages(),
        }
        tops = {(where, module.split(".")[0]) for where, module in imports(PLUGINS)}

        assert sorted((where, top) for where, top in tops if top not in allowed) == []


class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["import", "--help"]])
    def test_imports_nothing_heavy(self, arguments):
        """A command line that only helps is quick."""
        code = (
            f"import sys; sys.argv = ['muniment', *{arguments!r}]\n"
            "from muniment.cli import main\n"
            "try: main()\n"
            f"finally: print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stdout.splitlines()[-1] == "heavy: []"
