"""Errors that nobody expected: where they were raised, and nothing of what they hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from muniment import FatalError
from muniment.tracebacks import describe_error


def raise_value(text: str) -> None:
    raise ValueError(f"cannot use {text}")


def caught(text: str) -> Exception:
    try:
        try:
            raise_value(text)
        except ValueError as error:
            raise FatalError("the sink is full") from error
    except FatalError as error:
        return error


class TestDescribeError:
    def test_says_where_and_what_but_not_why(self) -> None:
        """The text of a strange error, and every local variable, may be what people said."""
        said = describe_error(caught("hunter2"))

        assert "hunter2" not in said
        assert "in raise_value" in said
        assert said.count("Traceback (most recent call last):") == 2
        assert "\nValueError\n\nThe above exception was the direct cause" in said

    def test_says_what_our_own_errors_say(self) -> None:
        """They hold no content."""
        assert describe_error(caught("x")).endswith("muniment.errors.FatalError: the sink is full\n")

    def test_says_what_the_system_says(self) -> None:
        """Without the file, whose name may be a title."""
        with pytest.raises(OSError) as raised:
            Path("/nowhere/hunter2").read_bytes()

        assert describe_error(raised.value).endswith("\nFileNotFoundError: No such file or directory\n")

    def test_says_what_was_raised_together(self) -> None:
        """Each by its type."""
        group = ExceptionGroup("hunter2", [ValueError("hunter2"), FatalError("the disk is full")])

        assert describe_error(group) == (
            "ExceptionGroup\n  | ValueError\n  | muniment.errors.FatalError: the disk is full\n"
        )

    def test_ends_where_errors_lead_to_each_other(self) -> None:
        """However they were chained."""
        first, second = ValueError("a"), KeyError("b")
        first.__cause__, second.__cause__ = second, first

        assert describe_error(first) == (
            "KeyError\n\nThe above exception was the direct cause of the following exception:\n\nValueError\n"
        )


class TestInstallHooks:
    @pytest.mark.parametrize(
        "raising",
        [
            "fail()",
            "t = threading.Thread(target=fail); t.start(); t.join()",
            "type('T', (), {'__del__': lambda self: fail()})()",
        ],
    )
    def test_nothing_is_shown_wherever_it_is_raised(self, raising: str) -> None:
        """In the program, in a thread, in a finaliser."""
        program = (
            "import threading\n"
            "from muniment.tracebacks import install_hooks\n"
            "def fail():\n"
            "    raise ValueError(''.join(['hun', 'ter2']))\n"
            f"install_hooks()\n{raising}\n"
        )

        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert "in fail\n" in done.stderr
        assert done.stderr.endswith("ValueError\n")
        assert "hunter2" not in done.stderr
