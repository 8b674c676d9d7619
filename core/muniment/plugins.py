"""Which plugins are installed, and are they sound?

Each plugin is loaded and checked alone, with a pluggy manager of its own: what one does wrong
concerns no other.  A broken plugin is set aside with the reason and is an error only for a
pipeline that uses it.
"""

import importlib
import logging
import re
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any, Literal, cast, overload

import pluggy
from attrs import define, field, frozen

from muniment.components import Component, Engine, Format, Sink, Source, Transform
from muniment.errors import PluginError
from muniment.events import RunEvent
from muniment.offers import KINDS, UnsoundPluginError, load_module, manager_of, offers_of, said
from muniment.secrets import CORE_SCHEMES
from muniment.tracebacks import describe_error

GROUP = "muniment.plugins.v1"

_BASES: Mapping[str, type[Component]] = {**KINDS, "engines": Engine}
_ENGINES = {"local": "muniment.engine.local:Local", "pool": "muniment.engine.pool:Pool"}

_log = logging.getLogger(__name__)


@frozen
class Plugin:
    """A sound plugin and what it adds: names by kind, sorted."""

    name: str
    distribution: str
    version: str
    components: Mapping[str, tuple[str, ...]]
    commands: Mapping[str, str]
    manager: pluggy.PluginManager = field(repr=False, eq=False)

    def __str__(self) -> str:
        return f"`{self.name}` ({_owned(self)})"


@frozen
class BrokenPlugin:
    """A plugin that was set aside."""

    name: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"`{self.name}` ({_owned(self)})"


@frozen
class _Offer:
    """A component that a plugin adds: the class, or where it is."""

    plugin: str
    distribution: str
    version: str
    target: str | type[Any]


def load_registry(*, allow: Collection[str] | None = None, deny: Collection[str] = ()) -> "Registry":
    """Load the installed plugins; ``allow`` and ``deny`` hold plugin names (those of the entry points).

    Never raises for what a plugin does wrong: see `Registry.broken` and `Registry.conflicts`.
    """
    registry = Registry()
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        if (allow is None or entry.name in allow) and entry.name not in deny:
            registry._load(entry)
    return registry


@define
class Registry:
    """The plugins of one program, and the components that they add, by kind and name.

    Kinds: ``sources``, ``transforms``, ``sinks``, ``formats`` and, from the core, ``engines``.  The schemes of
    secrets are the kind ``secrets``, of which `secret_reader` gives the functions.
    """

    _plugins: list[Plugin] = field(factory=list, init=False)
    _broken: list[BrokenPlugin] = field(factory=list, init=False)
    _offers: dict[str, dict[str, list[_Offer]]] = field(init=False)

    @_offers.default
    def _core_offers(self) -> dict[str, dict[str, list[_Offer]]]:
        from muniment import __version__

        offers: dict[str, dict[str, list[_Offer]]] = {kind: {} for kind in (*_BASES, "secrets", "commands")}
        for name, target in _ENGINES.items():
            offers["engines"][name] = [_Offer("core", "muniment", __version__, target)]
        return offers

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The sound plugins."""
        return tuple(self._plugins)

    @property
    def broken(self) -> tuple[BrokenPlugin, ...]:
        """The plugins that were set aside."""
        return tuple(self._broken)

    @property
    def conflicts(self) -> tuple[str, ...]:
        """What two plugins both claim: a sentence each."""
        return tuple(
            problem for kind, names in self._offers.items() for name in names if (problem := self._conflict(kind, name))
        ) + tuple(self._plugin_conflicts().values())

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind of component, sorted."""
        return tuple(sorted(self._offers[kind]))

    def owner(self, kind: str, name: str) -> tuple[str, str]:
        """Return the distribution that adds a component, and its version.

        Raises:
            PluginError: there is no such component, or there are two.
        """
        offer = self._find(kind, name)
        return offer.distribution, offer.version

    @overload
    def get(self, kind: Literal["sources"], name: str) -> type[Source]: ...
    @overload
    def get(self, kind: Literal["transforms"], name: str) -> type[Transform]: ...
    @overload
    def get(self, kind: Literal["sinks"], name: str) -> type[Sink]: ...
    @overload
    def get(self, kind: Literal["formats"], name: str) -> type[Format]: ...
    @overload
    def get(self, kind: Literal["engines"], name: str) -> type[Engine]: ...
    @overload
    def get(self, kind: str, name: str) -> type[Component]: ...
    def get(self, kind: str, name: str) -> type[Component]:
        """Import and return the class of a component.

        Raises:
            PluginError: there is no such component, its module cannot be imported, or two plugins
                add one of that name.  The message says what to do.
        """
        offer = self._find(kind, name)
        cls = _import(kind, name, offer) if isinstance(offer.target, str) else offer.target
        base = _BASES[kind]
        is_component = isinstance(cls, type) and issubclass(cls, base) and hasattr(cls, "__attrs_attrs__")
        if not is_component:
            raise PluginError(
                f"{_noun(kind)} `{name}` of {_owned(offer)} is not an attrs class that"
                f" derives from `muniment.{base.__name__}`; tell its author"
            )
        return cast(type[Component], cls)

    def secret_reader(self, scheme: str) -> Callable[[str], str]:
        """Import and return what reads the secrets of a scheme that a plugin adds.

        Raises:
            PluginError: there is no such scheme, its module cannot be imported, or two plugins add it.
                The message says what to do.
        """
        offer = self._find("secrets", scheme)
        reader = _import("secrets", scheme, offer)
        if not callable(reader):
            raise PluginError(
                f"{_noun('secrets')} `{scheme}` of {_owned(offer)} is no function at `{offer.target}`; tell its author"
            )
        return cast(Callable[[str], str], reader)

    def find_name(self, kind: str, cls: type[Any]) -> str:
        """Return the name of a class; its own where no plugin adds it."""
        where = f"{cls.__module__}:{cls.__qualname__}"
        for name, offers in self._offers[kind].items():
            if any(offer.target in (where, cls) for offer in offers):
                return name
        return cls.__name__

    def commands(self) -> dict[str, str]:
        """Return the commands that plugins add: name -> ``"package.module:command"``.  Those that two
        plugins add are left out (see `conflicts`)."""
        offers = self._offers["commands"]
        return {n: str(offers[n][0].target) for n in sorted(offers) if not self._conflict("commands", n)}

    def call_run_event(self, event: RunEvent) -> None:
        """Tell every observer.  What one raises is logged and reaches neither the run nor the others."""
        for plugin in self._plugins:
            try:
                plugin.manager.hook.muniment_run_event(event=event)
            except Exception as error:  # noqa: BLE001 - a stranger's code, after the fact
                # Its text may hold what a request was signed with.
                _log.warning("plugin %s failed on the event `%s`\n%s", plugin, event.kind, describe_error(error))

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin that is no installed distribution: an observer, or a component under test.

        Raises:
            PluginError: it is not sound.
        """
        try:
            self._add(plugin, name, "this program", "")
        except UnsoundPluginError as error:
            raise PluginError(f"plugin `{name}` cannot be used: {error}") from error

    def _load(self, entry: EntryPoint) -> None:
        owner = entry.dist.name if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else ""
        try:
            self._add(load_module(entry), entry.name, owner, version)
        except UnsoundPluginError as error:
            self._broken.append(BrokenPlugin(entry.name, owner, version, str(error)))

    def _add(self, module: object, name: str, owner: str, version: str) -> None:
        manager = manager_of(module, name)
        offers = {k: offers_of(manager, k) for k in (*KINDS, "secrets", "commands")}
        for kind, targets in offers.items():
            for component, target in targets.items():
                offer = _Offer(name, owner, version, target)
                self._offers[kind].setdefault(component, []).append(offer)
        names = {kind: tuple(sorted(offers[kind])) for kind in KINDS}
        commands = {n: str(target) for n, target in offers["commands"].items()}
        self._plugins.append(Plugin(name, owner, version, names, commands, manager))

    def _find(self, kind: str, name: str) -> _Offer:
        offers = self._offers[kind].get(name)
        if not offers:
            raise PluginError(f"unknown {_noun(kind)} `{name}`{self._remedy(kind, name)}")
        problem = self._conflict(kind, name) or self._plugin_conflicts().get(offers[0].plugin)
        if problem:
            raise PluginError(problem)
        return offers[0]

    def _remedy(self, kind: str, name: str) -> str:
        from muniment.structure import closest

        if kind == "secrets":
            text = f", which no installed plugin brings{closest(name, (*CORE_SCHEMES, *self.names(kind)))}"
        else:
            text = closest(name, self.names(kind))
        if self._broken:
            text += "".join(f"; plugin {b} was set aside: {b.reason}" for b in self._broken)
        return text

    def _conflict(self, kind: str, name: str) -> str:
        offers = self._offers[kind][name]
        if len(offers) < 2:
            return ""
        owners = " and ".join(_owned(o) for o in offers)
        return f"{_noun(kind)} `{name}` is added by {owners}; uninstall or deny one of them"

    def _plugin_conflicts(self) -> dict[str, str]:
        """Say which plugin names are taken twice; what these plugins add cannot be used."""
        owners: dict[str, list[Plugin | BrokenPlugin]] = {}
        every: list[Plugin | BrokenPlugin] = [*self._plugins, *self._broken]
        for plugin in every:
            owners.setdefault(plugin.name, []).append(plugin)
        return {
            name: f"plugin `{name}` is installed by "
            + " and ".join(_owned(p) for p in plugins)
            + "; uninstall one of them"
            for name, plugins in owners.items()
            if len(plugins) > 1
        }


# --- one component ------------------------------------------------------------------------------


def _import(kind: str, name: str, offer: _Offer) -> Any:
    module, _, attribute = str(offer.target).partition(":")
    whose = f"{_noun(kind)} `{name}`"
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == module or module.startswith(f"{missing}."):
            raise PluginError(f"{whose} of {_owned(offer)} is not at `{offer.target}`; tell its author") from error
        extra = _extra_for(missing, name, offer.distribution)
        remedy = f'pip install "{extra}"' if extra else f"install the distribution that holds `{missing}`"
        raise PluginError(f"{whose} needs the module `{missing}`, which is not installed: {remedy}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{whose} of {_owned(offer)} cannot be imported from `{offer.target}`: {said(error)}"
        ) from error


def _extra_for(module: str, component: str, owner: str) -> str:
    """Return the requirement (``muniment[s3]``) that brings a module, or nothing where that is unknown."""
    try:
        found = distribution(owner)
    except (PackageNotFoundError, ValueError):
        return ""
    extras = found.metadata.get_all("Provides-Extra") or []
    bringing = [e for e in extras if _is_brought(module, e, found)]
    # `all` brings everything: it is the answer only where nothing smaller is.
    bringing.sort(key=lambda e: (e != component.replace("_", "-"), e == "all", e))
    if not bringing and component.replace("_", "-") in extras:
        bringing = [component.replace("_", "-")]
    return f"{owner}[{bringing[0]}]" if bringing else ""


def _is_brought(module: str, extra: str, found: Distribution) -> bool:
    wanted = module.partition(".")[0].replace("_", "-").lower()
    marker = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    return any(
        re.split(r"[^\w.-]", line, maxsplit=1)[0].replace("_", "-").lower() == wanted
        for line in found.requires or ()
        if marker.search(line)
    )


def _owned(thing: "Plugin | BrokenPlugin | _Offer") -> str:
    return f"{thing.distribution} {thing.version}".rstrip()


def _noun(kind: str) -> str:
    return "secret scheme" if kind == "secrets" else kind.removesuffix("s")
