"""The plugin loader: one plugin's mistake concerns no other."""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from attrs import frozen

import muniment
from muniment import Format, PluginError, RunEvent, Sink, hookimpl, option
from muniment.offers import CORE_COMMANDS
from muniment.plugins import Registry, load_registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one plugin where `importlib.metadata` finds it."""

    def install(name: str, source: str, *, plugin: str = "", module: str = "", metadata: str = "") -> None:
        module = module or name.replace("-", "_")
        site = tmp_path / name
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
        (info / "entry_points.txt").write_text(f"[muniment.plugins.v1]\n{plugin or name} = {module}\n")
        (site / f"{module}.py").write_text("from muniment import hookimpl\n" + dedent(source))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


ADDS_A_SINK = """
    @hookimpl
    def muniment_sinks():
        return {"nowhere": "muniment.components:Sink"}
"""


@frozen(kw_only=True)
class Memory(Sink):
    size: int = option("S.", default=1)


class Adds:
    """A plugin object with one hook."""

    def __init__(self, sinks: Mapping[str, Any]) -> None:
        self.sinks = sinks

    @hookimpl
    def muniment_sinks(self) -> Mapping[str, Any]:
        return self.sinks


class TestLoadRegistry:
    def test_finds_our_own_plugin_as_it_finds_a_strangers(self) -> None:
        """The first-party components come through the entry point."""
        registry = load_registry()

        assert registry.owner("sinks", "sqlite") == ("muniment", muniment.__version__)
        assert "muniment" in [p.name for p in registry.plugins]

    def test_imports_no_component(self, install: Install) -> None:
        """Names are known before any SDK is imported."""
        install("acme-sink", '@hookimpl\ndef muniment_sinks():\n    return {"acme": "acme_missing.sdk:Sink"}\n')
        registry = load_registry()

        assert "acme" in registry.names("sinks")

    def test_sets_a_plugin_aside_that_cannot_be_imported(self, install: Install) -> None:
        """The others work, and the listing has the reason."""
        install("acme-broken", "raise RuntimeError('no licence')")
        install("acme-sink", ADDS_A_SINK)
        registry = load_registry()

        assert [(b.name, b.distribution, b.version, b.reason) for b in registry.broken] == [
            ("acme-broken", "acme-broken", "1.0", "`acme_broken` cannot be imported: RuntimeError: no licence")
        ]
        assert registry.get("sinks", "nowhere") is Sink

    def test_survives_a_plugin_that_exits(self, install: Install) -> None:
        """`sys.exit()` at import ends nothing but that plugin."""
        install("acme-exits", "raise SystemExit(3)")

        assert [b.reason for b in load_registry().broken] == ["`acme_exits` cannot be imported: SystemExit: 3"]

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            (
                "@hookimpl\ndef muniment_sorces(): return {}",
                "unknown hook `muniment_sorces`; did you mean `muniment_sources`?",
            ),
            (
                "@hookimpl\ndef muniment_run_event(evnt): ...",
                "`muniment_run_event`: Argument(s) {'evnt'} are declared in the hookimpl but can not be found"
                " in the hookspec",
            ),
            ("x = 1", "it has no hook implementation; mark its functions with `@muniment.hookimpl`"),
            (
                "@hookimpl\ndef muniment_sinks(): return 1 / 0",
                "`muniment_sinks` failed: ZeroDivisionError: division by zero",
            ),
            ("@hookimpl\ndef muniment_sinks(): return ['a']", "`muniment_sinks` must return a mapping, not list"),
            (
                "@hookimpl\ndef muniment_sinks(): return {'A b': 'x:Y'}",
                "`muniment_sinks`: the name `A b` must be lower case letters, digits and `_`",
            ),
            (
                "@hookimpl\ndef muniment_sinks(): return {'a': int}",
                '`muniment_sinks`: `a` must be "package.module:Class" or a class that derives from `muniment.Sink`',
            ),
            (
                "@hookimpl\ndef muniment_commands(): return {'run': 'x:y'}",
                "`muniment_commands`: `run` is one of muniment's own commands; choose another name",
            ),
            (
                "@hookimpl\ndef muniment_secrets(): return {'env': 'x:y'}",
                "`muniment_secrets`: `env` is one of muniment's own schemes; choose another name",
            ),
            (
                "@hookimpl\ndef muniment_secrets(): return {'vault': print}",
                '`muniment_secrets`: `vault` must be "package.module:function"',
            ),
            (
                "@hookimpl\ndef muniment_commands(): return {'go': 'nowhere'}",
                '`muniment_commands`: `go` must be "package.module:command"',
            ),
        ],
    )  # fmt: skip
    def test_sets_an_unsound_plugin_aside(self, install: Install, source: str, reason: str) -> None:
        """Each is checked alone, and the reason says what its author must change."""
        install("acme-odd", source)

        assert [b.reason for b in load_registry().broken] == [reason]

    def test_allows_and_denies_by_plugin_name(self, install: Install) -> None:
        """A denied plugin is not even imported."""
        install("acme-broken", "raise RuntimeError")

        assert load_registry(deny=["acme-broken"]).broken == ()
        assert [p.name for p in load_registry(allow=["muniment"]).plugins] == ["muniment"]


class TestConflicts:
    def test_names_both_owners_of_a_component(self, install: Install) -> None:
        """Nothing is chosen by chance; what nobody uses disturbs nobody."""
        install("acme-one", ADDS_A_SINK)
        install("acme-two", ADDS_A_SINK)
        registry = load_registry()
        said = "sink `nowhere` is added by acme-one 1.0 and acme-two 1.0; uninstall or deny one of them"

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "nowhere")

        assert str(caught.value) == said
        assert registry.conflicts == (said,)
        assert registry.broken == ()

    def test_names_both_owners_of_a_plugin_name(self, install: Install) -> None:
        """What either of them adds cannot be used."""
        other = "@hookimpl\ndef muniment_sinks(): return {'other': 'muniment.components:Sink'}"
        install("acme-one", ADDS_A_SINK, plugin="acme")
        install("acme-two", other, plugin="acme")
        registry = load_registry()

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "other")

        said = "plugin `acme` is installed by acme-one 1.0 and acme-two 1.0; uninstall one of them"
        assert str(caught.value) == said
        assert registry.conflicts == (said,)

    def test_leaves_a_command_out_that_two_plugins_add(self, install: Install) -> None:
        """It would run one of them by chance."""
        install("acme-one", "@hookimpl\ndef muniment_commands(): return {'go': 'a:b', 'fly': 'a:c'}")
        install("acme-two", "@hookimpl\ndef muniment_commands(): return {'go': 'c:d'}")
        registry = load_registry()

        commands = registry.commands()

        assert commands.get("fly") == "a:c"
        assert "go" not in commands
        assert registry.conflicts == (
            "command `go` is added by acme-one 1.0 and acme-two 1.0; uninstall or deny one of them",
        )


class TestGet:
    def test_suggests_the_closest_name(self) -> None:
        """A slip is corrected by the message."""
        registry = Registry()
        registry.register(Adds({"memory": Memory}), "test")

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "memroy")

        assert str(caught.value) == "unknown sink `memroy`; did you mean `memory`?"

    def test_mentions_the_plugins_that_were_set_aside(self, install: Install) -> None:
        """The component may be one of theirs."""
        install("acme-broken", "raise RuntimeError('no licence')")
        registry = load_registry(allow=["acme-broken"])

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert str(caught.value) == (
            "unknown sink `acme`; plugin `acme-broken` (acme-broken 1.0) was set aside: `acme_broken` cannot be"
            " imported: RuntimeError: no licence"
        )

    @pytest.mark.parametrize("name", ["local", "pool"])
    def test_has_the_engines_of_the_core(self, name: str) -> None:
        """They need no plugin."""
        registry = Registry()
        cls = registry.get("engines", name)

        assert issubclass(cls, muniment.Engine)
        assert registry.find_name("engines", cls) == name

    def test_says_which_extra_brings_a_module(self, install: Install) -> None:
        """The remedy can be pasted."""
        metadata = (
            "Provides-Extra: all\nProvides-Extra: cloud\n"
            'Requires-Dist: acme-sdk>=1; extra == "all"\nRequires-Dist: acme-sdk>=1; extra == "cloud"\n'
        )
        source = "@hookimpl\ndef muniment_sinks(): return {'acme': 'acme_impl:Sink'}"
        install("acme-sink", source, metadata=metadata)
        install("acme-impl", "import acme_sdk", plugin="unused")
        registry = load_registry(allow=["acme-sink"])

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert str(caught.value) == (
            'sink `acme` needs the module `acme_sdk`, which is not installed: pip install "acme-sink[cloud]"'
        )

    def test_names_the_module_where_no_extra_brings_it(self, install: Install) -> None:
        """The message is honest about what is not known."""
        install("acme-sink", "@hookimpl\ndef muniment_sinks(): return {'acme': 'acme_impl:Sink'}")
        install("acme-impl", "import acme_sdk", plugin="unused")
        registry = load_registry(allow=["acme-sink"])

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert str(caught.value) == (
            "sink `acme` needs the module `acme_sdk`, which is not installed: install the distribution that"
            " holds `acme_sdk`"
        )

    def test_blames_the_author_for_a_wrong_place(self) -> None:
        """A module that the plugin itself should have is no missing extra."""
        registry = Registry()
        registry.register(Adds({"acme": "muniment.nowhere:Sink"}), "test")

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert str(caught.value) == ("sink `acme` of this program is not at `muniment.nowhere:Sink`; tell its author")

    def test_reports_what_an_import_raised(self) -> None:
        """Whatever it was."""
        registry = Registry()
        registry.register(Adds({"acme": "muniment.components:Snik"}), "test")

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert str(caught.value) == (
            "sink `acme` of this program cannot be imported from `muniment.components:Snik`: AttributeError:"
            " module 'muniment.components' has no attribute 'Snik'"
        )

    def test_refuses_a_class_of_another_kind(self) -> None:
        """A format is no sink."""
        registry = Registry()
        registry.register(Adds({"acme": "muniment.components:Format"}), "test")

        with pytest.raises(PluginError) as caught:
            registry.get("sinks", "acme")

        assert issubclass(Format, muniment.Component)
        assert str(caught.value) == (
            "sink `acme` of this program is not an attrs class that derives from `muniment.Sink`; tell its author"
        )


class TestRegister:
    def test_adds_components_of_this_program(self) -> None:
        """A class is used as it is."""
        registry = Registry()
        registry.register(Adds({"memory": Memory}), "test")

        assert registry.get("sinks", "memory") is Memory
        assert registry.plugins[0].components["sinks"] == ("memory",)

    def test_refuses_an_unsound_plugin_at_once(self) -> None:
        """The caller is its author."""
        with pytest.raises(PluginError) as caught:
            Registry().register(object(), "test")

        assert str(caught.value) == (
            "plugin `test` cannot be used: it has no hook implementation; mark its functions with `@muniment.hookimpl`"
        )


class TestCallRunEvent:
    def test_isolates_observers(self, caplog: pytest.LogCaptureFixture) -> None:
        """What one raises is logged and reaches neither the run nor the others."""
        heard: list[RunEvent] = []

        class Fails:
            @hookimpl
            def muniment_run_event(self, event: RunEvent) -> None:
                raise RuntimeError("no network")

        class Hears:
            @hookimpl
            def muniment_run_event(self, event: RunEvent) -> None:
                heard.append(event)

        registry = Registry()
        registry.register(Fails(), "before")
        registry.register(Hears(), "hears")
        registry.register(Fails(), "after")
        event = RunEvent("started", "run-1")

        with caplog.at_level(logging.WARNING, "muniment.plugins"):
            registry.call_run_event(event)

        assert heard == [event]
        assert [r.getMessage().partition("\n")[0] for r in caplog.records] == [
            "plugin `before` (this program) failed on the event `started`",
            "plugin `after` (this program) failed on the event `started`",
        ]
        assert caplog.text.count("\nRuntimeError") == 2
        assert "no network" not in caplog.messages[0].partition("Traceback")[2].replace(
            'RuntimeError("no network")', ""
        )


class TestCoreCommands:
    def test_are_the_commands_of_the_cli(self) -> None:
        """A plugin's command can hide none of them."""
        from muniment.cli import group

        assert {name for section in group.CORE_COMMANDS.values() for name in section} == CORE_COMMANDS
