"""What is a secret before it is needed, and how does its value come to the component that needs it?

A `Secret` holds where a value stands, never the value: it can be compared, pickled, printed and sent
to another process.  The value exists only in the process that opens the component, from
`muniment.Context.reveal` on, and nothing here keeps it.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from muniment.errors import ConfigError

MASK = "***"
MAX_BYTES = 64 * 2**10
REFERENCE_PATTERN = r"^\$\{secret:(env:[A-Za-z_][A-Za-z0-9_]*|file:[^}]+)\}$"
"""What a pipeline file writes where an option takes a secret."""

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", re.DOTALL)


def _is_reference(_: "Secret", __: Any, reference: Any) -> None:
    # The text may be the secret itself, so it is not repeated.
    if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
        raise ValueError("a secret is named by `env:NAME` or `file:PATH`; it is never given itself")


@frozen(repr=False)
class Secret:
    """Where a password, key or token stands: ``env:NAME`` or ``file:PATH``.

    ``option`` is the place in the pipeline file that names it (``sinks[0].password``), for messages.

    Raises:
        ValueError: ``reference`` is something else, such as the secret itself.
    """

    reference: str = field(validator=_is_reference)
    option: str = field(default="", eq=False)

    def __repr__(self) -> str:
        return MASK

    def anchored(self, base: Path) -> "Secret":
        """Return this secret with a relative file taken from ``base``; ``~`` is the home folder."""
        if self._scheme == "env":
            return self
        return Secret(f"file:{base / Path(self._name).expanduser()}", self.option)

    def problem(self) -> str | None:
        """Return why the value cannot be had now, as a sentence, or None.  Looks at no value."""
        try:
            if self._scheme == "env":
                return None if self._name in os.environ else self._is("not set; set it where muniment runs")
            return self._bad_mode(Path(self._name).stat())
        except OSError as error:
            return self._unreadable(error)

    def _load(self) -> str:
        """Return the value.

        Raises:
            ValueError: it cannot be had; the message is a sentence without it.
        """
        try:
            value = self._of_environment() if self._scheme == "env" else self._of_file()
        except OSError as error:
            raise ValueError(self._unreadable(error)) from None
        if not value:
            raise ValueError(self._is("empty; leave the option out where there is no secret"))
        return value

    def _of_environment(self) -> str:
        if self._name not in os.environ:
            raise ValueError(self.problem())
        return os.environ[self._name]

    def _of_file(self) -> str:
        with Path(self._name).open("rb") as file:
            if problem := self._bad_mode(os.fstat(file.fileno())):
                raise ValueError(problem)
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(self._is(f"larger than {MAX_BYTES} bytes; is this the right file?"))
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ValueError(self._is("not UTF-8; store the secret as text")) from None
        # Editors and `echo` end a file with a line break that is no part of the secret.
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")

    def _bad_mode(self, found: os.stat_result) -> str | None:
        if not stat.S_ISREG(found.st_mode):
            return self._is("no file")
        if found.st_mode & 0o077:
            return self._is(f"open to others than its owner; make it private: `chmod 600 {self._name}`")
        return None

    def _unreadable(self, error: OSError) -> str:
        return f"the secret file `{self._name}` cannot be read: {(error.strerror or 'it fails').lower()}"

    def _is(self, what: str) -> str:
        noun = "environment variable" if self._scheme == "env" else "secret file"
        return f"the {noun} `{self._name}` is {what}"

    @property
    def _scheme(self) -> str:
        return self.reference.partition(":")[0]

    @property
    def _name(self) -> str:
        return self.reference.partition(":")[2]


def reveal(secret: Secret, where: str = "") -> str:
    """Return the value of a secret; the caller keeps it no longer than it must.

    Args:
        secret: what to read, anew at every call.
        where: names what needs it in the message, unless the secret knows its option.

    Raises:
        ConfigError: there is no value, or its file can be read by others.
    """
    try:
        return secret._load()
    except ValueError as error:
        place = secret.option or where
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None


def secrets_of(value: Any) -> Iterator[Secret]:
    """Yield the secrets that the options of a component name, however deep."""
    if isinstance(value, Secret):
        yield value
    elif attrs.has(type(value)):
        for a in attrs.fields(type(value)):
            yield from secrets_of(getattr(value, a.name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_of(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from secrets_of(inner)
