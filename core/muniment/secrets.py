"""What is a secret before it is needed, and how does its value come to the component that needs it?

A `Secret` holds where a value stands, never the value: it can be compared, pickled, printed and sent
to another process.  The value exists only in the process that opens the component, from
`muniment.Context.reveal` on, and nothing here keeps it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from muniment.errors import ConfigError, MunimentError, PluginError
from muniment.private_files import privacy_problem, read_private_file

MASK = "***"
MAX_BYTES = 64 * 2**10
CORE_SCHEMES = ("env", "file")
"""Where a secret can stand without a plugin: in a variable of the environment, in a text file."""

_ENV = r"env:[A-Za-z_][A-Za-z0-9_]*"
# Behind `://` there would be a URL with its password: the secret itself.
_OTHER = r"(?!env:)[a-z][a-z0-9_]*:(?!//)"
REFERENCE_PATTERN = rf"^\$\{{secret:({_ENV}|{_OTHER}[^}}]+)\}}$"
"""What a pipeline file writes where an option takes a secret."""

_REFERENCE = re.compile(rf"{_ENV}|{_OTHER}.+", re.DOTALL)


def is_reference(text: str) -> bool:
    """Whether ``text`` has the form of ``env:NAME``, ``file:PATH`` or ``SCHEME:NAME``."""
    return _REFERENCE.fullmatch(text) is not None


def _check_reference(_: "Secret", __: Any, reference: Any) -> None:
    # The text may be the secret itself, so it is not repeated.
    if not isinstance(reference, str) or not is_reference(reference):
        raise ValueError(
            "a secret is named by `env:NAME`, `file:PATH` or the scheme of a plugin; it is never given itself"
        )


@frozen(repr=False)
class Secret:
    """Where a password, key or token stands: ``env:NAME``, ``file:PATH``, or ``SCHEME:NAME`` of a plugin.

    ``option`` is the place in the pipeline file that names it (``sinks[0].password``), for messages.

    Raises:
        ValueError: ``reference`` is something else, such as the secret itself.
    """

    reference: str = field(validator=_check_reference)
    option: str = field(default="", eq=False)

    def __repr__(self) -> str:
        return MASK

    @property
    def scheme(self) -> str:
        return self.reference.partition(":")[0]

    def has_known_scheme(self) -> bool:
        """Whether there is, here and now, something that can read secrets of this scheme."""
        if self.scheme in CORE_SCHEMES:
            return True
        from muniment.plugins import load_registry

        return self.scheme in load_registry().names("secrets")

    def anchored(self, base: Path) -> "Secret":
        """Return this secret with a relative file taken from ``base``; ``~`` is the home folder."""
        if self.scheme != "file":
            return self
        return Secret(f"file:{base / Path(self._name).expanduser()}", self.option)

    def problem(self) -> str | None:
        """Return why the value cannot be had now, as a sentence, or None.  Looks at no value."""
        try:
            if self.scheme == "env":
                return None if self._name in os.environ else self._is("not set; set it where muniment runs")
            if self.scheme == "file":
                said = privacy_problem(Path(self._name))
                return f"the secret file `{self._name}` {said}" if said else None
            self._reader()
        except OSError as error:
            return self._unreadable(error)
        except ValueError as error:
            return str(error)
        return None

    def _load(self) -> str:
        """Return the value.

        Raises:
            ValueError: it cannot be had; the message is a sentence without it.
        """
        readers = {"env": self._of_environment, "file": self._of_file}
        value = readers.get(self.scheme, self._of_plugin)()
        if not value:
            raise ValueError(self._is("empty; leave the option out where there is no secret"))
        return value

    def _of_environment(self) -> str:
        if self._name not in os.environ:
            raise ValueError(self.problem())
        return os.environ[self._name]

    def _of_file(self) -> str:
        try:
            data = read_private_file(Path(self._name), MAX_BYTES + 1)
        except OSError as error:
            if error.errno is None:
                raise ValueError(f"the secret file `{self._name}` {error}") from None
            raise ValueError(self._unreadable(error)) from None
        if len(data) > MAX_BYTES:
            raise ValueError(self._is(f"larger than {MAX_BYTES} bytes; is this the right file?"))
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ValueError(self._is("not UTF-8; store the secret as text")) from None
        # Editors and `echo` end a file with a line break that is no part of the secret.
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")

    def _of_plugin(self) -> str:
        read = self._reader()
        try:
            value = read(self._name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        except MunimentError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code, whose message may hold the value
            raise ValueError(self._is(f"out of reach: `{self.scheme}` raised {type(error).__name__}")) from None
        if not isinstance(value, str):
            raise ValueError(self._is(f"no text but {type(value).__name__}; tell the author of `{self.scheme}`"))
        return value

    def _reader(self) -> Callable[[str], str]:
        # Plugins import this module, so that it can know them only when it is asked.
        from muniment.plugins import load_registry

        if not self.option and not self.has_known_scheme():
            # Nobody wrote `${secret:...}`: what stands for the scheme may be the beginning of the secret.
            raise ValueError("what names this secret has the scheme of no plugin that is installed")
        try:
            return load_registry().secret_reader(self.scheme)
        except PluginError as error:
            raise ValueError(str(error)) from None

    def _unreadable(self, error: OSError) -> str:
        return f"the secret file `{self._name}` cannot be read: {(error.strerror or 'it fails').lower()}"

    def _is(self, what: str) -> str:
        nouns = {"env": "environment variable", "file": "secret file"}
        return f"the {nouns.get(self.scheme, f'{self.scheme} secret')} `{self._name}` is {what}"

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
