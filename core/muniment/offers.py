"""What does the module of one plugin offer, and is it sound?

A module is registered with a pluggy manager of its own, and asked; nothing that it names is imported here.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pluggy
from attrs import frozen

from muniment import hookspecs
from muniment.components import Component, Format, Sink, Source, Transform
from muniment.secrets import CORE_SCHEMES

KINDS: Mapping[str, type[Component]] = {
    "sources": Source,
    "transforms": Transform,
    "sinks": Sink,
    "formats": Format,
}
"""What a plugin adds for pipelines: the kind, and what a class of it derives from."""

CORE_COMMANDS = frozenset(
    {
        "completion", "decrypt", "demo", "export", "gc", "hold", "import", "key", "plan", "plugins", "purge",
        "quarantine", "repair", "run", "schema", "status", "test", "validate", "verify",
    }
)  # fmt: skip
"""Commands that no plugin can add."""

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class UnsoundPluginError(Exception):
    """A plugin cannot be used; the text is the reason.  Never leaves the registry."""


@frozen
class _Rule:
    """What the names and targets of a kind must be."""

    names: re.Pattern[str] = re.compile(r"[a-z][a-z0-9_]*")
    described: str = "lower case letters, digits and `_`"
    taken: frozenset[str] = frozenset()
    what: str = ""
    target: str = '"package.module:Class"'
    base: type[Component] | None = None


_RULES: Mapping[str, _Rule] = {
    **{
        kind: _Rule(base=base, target=f'"package.module:Class" or a class that derives from `muniment.{base.__name__}`')
        for kind, base in KINDS.items()
    },
    "secrets": _Rule(taken=frozenset(CORE_SCHEMES), what="schemes", target='"package.module:function"'),
    "commands": _Rule(
        re.compile(r"[a-z][a-z0-9_-]*"),
        "lower case letters, digits, `_` and `-`",
        CORE_COMMANDS,
        "commands",
        '"package.module:command"',
    ),
}


def load_module(entry: EntryPoint) -> object:
    """Import what an entry point names.

    Raises:
        UnsoundPluginError: it cannot be imported.
    """
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise UnsoundPluginError(f"`{entry.value}` cannot be imported: {said(error)}") from error


def manager_of(module: object, name: str) -> pluggy.PluginManager:
    """Register a module with a manager of its own.

    Raises:
        UnsoundPluginError: it implements no hook, an unknown one, or one with other arguments.
    """
    manager = pluggy.PluginManager("muniment")
    manager.add_hookspecs(hookspecs)
    hooks = [n for n in vars(manager.hook) if n.startswith("muniment_")]
    try:
        manager.register(module, name)
        unknown = sorted(set(_implemented(manager, module)) - set(hooks))
        if unknown:
            from muniment.structure import closest

            raise UnsoundPluginError(f"unknown hook `{unknown[0]}`{closest(unknown[0], hooks)}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        hook = re.search(r"hook '(\w+)'", str(error))
        reason = str(error).strip().splitlines()[-1]
        raise UnsoundPluginError(f"`{hook[1]}`: {reason}" if hook else reason) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise UnsoundPluginError(f"it cannot be registered: {said(error)}") from error
    if not manager.get_hookcallers(module):
        raise UnsoundPluginError("it has no hook implementation; mark its functions with `@muniment.hookimpl`")
    return manager


def offers_of(manager: pluggy.PluginManager, kind: str) -> dict[str, str | type[Component]]:
    """Return what a plugin adds of a kind (one of `KINDS`, ``secrets`` or ``commands``): the class, or where it is.

    Raises:
        UnsoundPluginError: its hook fails, or says what the kind does not allow.
    """
    hook, rule = f"muniment_{kind}", _RULES[kind]
    offered: dict[str, str | type[Component]] = {}
    for name, target in _call(manager, hook):
        if not isinstance(name, str) or not rule.names.fullmatch(name):
            raise UnsoundPluginError(f"`{hook}`: the name `{name}` must be {rule.described}")
        if name in rule.taken:
            raise UnsoundPluginError(f"`{hook}`: `{name}` is one of muniment's own {rule.what}; choose another name")
        is_place = isinstance(target, str) and _TARGET.fullmatch(target)
        if not is_place and not (rule.base and isinstance(target, type) and issubclass(target, rule.base)):
            raise UnsoundPluginError(f"`{hook}`: `{name}` must be {rule.target}")
        offered[name] = target
    return offered


def said(error: BaseException) -> str:
    """Return the type of an error and its text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _implemented(manager: pluggy.PluginManager, module: object) -> list[str]:
    return [caller.name for caller in manager.get_hookcallers(module) or ()]


def _call(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[Any, Any]]:
    """Yield the items of the mapping that a plugin's hook returns."""
    try:
        results = getattr(manager.hook, hook)()
    except (Exception, SystemExit) as error:
        raise UnsoundPluginError(f"`{hook}` failed: {said(error)}") from error
    for result in results:
        if not isinstance(result, Mapping):
            raise UnsoundPluginError(f"`{hook}` must return a mapping, not {type(result).__name__}")
        yield from result.items()
