"""How commands are found, and how they end."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from muniment import offers
from muniment.cli import cli
from muniment.cli.group import CORE_COMMANDS, Muniment
from muniment.errors import ConfigError, InputError, Problem, TargetBusyError

COMMAND = Path(sys.executable).with_name("muniment")


def group_with(error):
    """Return a group whose command ``fail`` raises ``error``."""

    class Failing(Muniment):
        def get_command(self, ctx, cmd_name):
            @click.command()
            def fail():
                raise error

            return fail

    return Failing("muniment")


@pytest.fixture
def fail(folder):
    from click.testing import CliRunner

    def invoke(error, **environment):
        return CliRunner().invoke(group_with(error), ["fail"], env=environment, prog_name="muniment")

    return invoke


class TestHelp:
    """The first page lists every command, those of plugins too, and says what each is for."""

    def test_lists_every_command_with_a_sentence(self, muniment):
        result = muniment("--help")

        assert result.exit_code == 0
        for name in [*offers.CORE_COMMANDS, "search"]:
            (line,) = [x for x in result.output.splitlines() if x.startswith(f"  {name} ")]
            assert line.rstrip().endswith(".")

    def test_the_loader_protects_the_names_of_the_core(self):
        names = {name for section in CORE_COMMANDS.values() for name in section}

        assert names == offers.CORE_COMMANDS

    @pytest.mark.parametrize("name", sorted({*offers.CORE_COMMANDS, "search"} - {"quarantine", "plugins"}))
    def test_every_command_explains_itself_with_an_example(self, muniment, name):
        result = muniment(name, "--help")

        assert result.exit_code == 0
        assert f"  muniment {name}" in result.output.partition("Usage:")[2].partition("\n")[2]

    def test_the_short_help_is_that_of_the_command(self):
        context = click.Context(cli)
        for section in CORE_COMMANDS.values():
            for name, (_, text) in section.items():
                assert cli.get_command(context, name).short_help == text

    def test_imports_nothing_heavy(self):
        code = (
            "import sys; from muniment.cli import cli\n"
            "try: cli.main(['--help'])\n"
            "except SystemExit: pass\n"
            "print(sorted({'rich', 'cattrs', 'ruamel', 'httpx', 'sqlite3', 'tenacity', 'cryptography'}"
            " & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stderr.strip() == "[]"

    def test_shows_the_version(self, muniment):
        assert muniment("--version").output.startswith("muniment 0.")


class TestPluginCommands:
    """A plugin's command is imported when it is called, and harms no other."""

    def test_is_called(self, muniment, install):
        install(
            "greeter",
            "import click\nfrom muniment import hookimpl\n"
            "@hookimpl\ndef muniment_commands(): return {'greet': 'greeter:greet'}\n"
            "@click.command(short_help='Say hello.')\ndef greet(): click.echo('hello')\n",
        )

        assert muniment("greet").output == "hello\n"
        assert "greet       Say hello." in muniment("--help").output

    def test_that_cannot_be_imported_is_named_and_leaves_the_help_alone(self, muniment, install):
        install(
            "sick",
            "from muniment import hookimpl\n@hookimpl\n"
            "def muniment_commands(): return {'cough': 'nowhere_to_be_found:cough'}\n",
        )
        result = muniment("cough")

        assert result.exit_code == 78
        assert result.stderr == (
            "error: command `cough` of a plugin cannot be loaded from `nowhere_to_be_found:cough`:"
            " ModuleNotFoundError: No module named 'nowhere_to_be_found'\n"
        )
        assert "cough       (cannot be loaded: see `muniment plugins list`)" in muniment("--help").output


class TestErrors:
    """Whatever happens ends in a sentence and the documented exit code."""

    def test_an_unknown_command_gets_the_closest_name(self, muniment):
        result = muniment("serch")

        assert result.exit_code == 2
        assert result.stderr == "error: unknown command `serch`; did you mean `search`?\nsee `muniment --help`\n"

    def test_a_usage_error_names_the_help(self, muniment):
        result = muniment("import")

        assert result.exit_code == 2
        assert result.stderr == "error: missing argument 'PATH...'\nsee `muniment import --help`\n"

    def test_an_error_is_one_sentence(self, fail):
        result = fail(InputError("`x.zip` is no zip"))

        assert (result.exit_code, result.stderr) == (1, "error: `x.zip` is no zip\n")

    def test_an_error_brings_its_exit_code(self, fail):
        assert fail(TargetBusyError("another run writes")).exit_code == 11

    def test_configuration_problems_come_together_with_carets(self, fail):
        one = Problem("unknown option `pth`", "p.yaml", 2, 5, "    pth: x")
        result = fail(ConfigError(one, "no sinks"))

        assert result.exit_code == 78
        assert result.stderr == (
            "error: p.yaml:2:5: unknown option `pth`\n        pth: x\n        ^\n"
            "error: no sinks\n2 problems; nothing ran\n"
        )

    def test_an_interrupt_is_130(self, fail):
        assert fail(KeyboardInterrupt()).exit_code == 130

    def test_what_the_system_refuses_names_the_file(self, fail):
        result = fail(PermissionError(13, "Permission denied", "x.db"))

        assert (result.exit_code, result.stderr) == (1, "error: `x.db`: permission denied\n")

    def test_a_defect_shows_no_text_and_no_traceback(self, fail):
        result = fail(KeyError("what I told my doctor"))

        assert result.exit_code == 1
        assert result.stderr == (
            "error: `KeyError` was raised where nothing should: this is a defect, please report it"
            " (MUNIMENT_DEBUG=1 shows where)\n"
        )

    def test_debugging_shows_the_traceback(self, fail):
        assert "Traceback" in fail(InputError("bad"), MUNIMENT_DEBUG="1").stderr

    def test_terminal_codes_do_not_reach_the_terminal(self, fail):
        result = fail(InputError("`\x1b[2J\u202ename` is no zip"))

        assert result.stderr == "error: `[2Jname` is no zip\n"


class TestPipes:
    """A reader that has seen enough is no error."""

    def test_a_closed_pipe_is_silent(self, folder):
        read, write = os.pipe()
        os.close(read)
        try:
            done = subprocess.run([COMMAND, "schema"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
        finally:
            os.close(write)

        assert (done.returncode, done.stderr) == (0, "")
