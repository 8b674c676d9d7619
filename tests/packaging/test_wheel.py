"""The wheel holds what the tool needs, and nothing that only works from a checkout."""

import configparser
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def run_installed(wheel, pip, tmp_path_factory):
    """Return a function that runs Python where the wheel, not the checkout, is installed."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", target, wheel)

    def run(*args: str) -> str:
        # -I leaves the checkout's folders out; -S leaves out the .pth file of an editable install.
        paths = [str(target), *[p for p in sys.path if p.endswith("site-packages")]]
        start = f"import sys; sys.path[:0] = {paths!r}; "
        command = [sys.executable, "-I", "-S", "-c", start + args[0], *args[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=target)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


class TestWheel:
    def test_holds_both_packages_typed(self, names):
        """Type checkers see the annotations of both."""
        assert {"muniment/py.typed", "muniment_plugins/py.typed"} <= names

    def test_holds_the_sample(self, names):
        """`muniment demo` works from an installed wheel."""
        assert "muniment/sample/chatgpt-export.zip" in names

    def test_holds_nothing_else(self, names):
        """No test, no source root, no cache."""
        tops = {name.split("/")[0] for name in names}

        assert {top for top in tops if not top.endswith(".dist-info")} == {"muniment", "muniment_plugins"}
        assert not [name for name in names if "__pycache__" in name or "/tests/" in name]

    def test_registers_its_plugins_as_a_stranger_would(self, wheel, names):
        """The entry points are the command and the group of plugins."""
        (where,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        parser = configparser.ConfigParser()
        with zipfile.ZipFile(wheel) as archive:
            parser.read_string(archive.read(where).decode())

        assert dict(parser["console_scripts"])["muniment"] == "muniment.cli:main"
        assert dict(parser["muniment.plugins.v1"])["muniment"] == "muniment_plugins"

    def test_carries_the_licence(self, names):
        """The licence travels with every copy."""
        assert [name for name in names if name.endswith("licenses/LICENSE")]


class TestInstalledWheel:
    def test_does_not_make_the_source_roots_importable(self, run_installed):
        """`core` and `plugins` are folders of the checkout, not packages."""
        find = "from importlib.util import find_spec; print(find_spec('core'), find_spec('plugins'))"

        assert run_installed(find) == "None None"

    def test_runs_the_demo(self, run_installed, tmp_path):
        """The main job works with nothing but the wheel and its dependencies."""
        import_where = "import muniment; print(muniment.__file__); "
        out = run_installed(
            import_where + "sys.argv[0] = 'muniment'; from muniment.cli import main; main()",
            "demo", "--dir", str(tmp_path / "demo"),
        )  # fmt: skip

        assert "installed" in out.splitlines()[0]
        assert "read 12 = stored 12" in out
