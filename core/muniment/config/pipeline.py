"""How does a document become a plan, with everything that is wrong in it?"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import define, field

from muniment.components import Component, Engine, Sink, Source, Transform
from muniment.config.document import MAX_CHARACTERS, MAX_PROBLEMS, Document, read_document
from muniment.config.document import Path as DataPath
from muniment.config.references import resolve, without_inner_secrets
from muniment.config.rules import broken_rules
from muniment.config.shape import OwnSinkKeys, PipelineKeys, TestKeys
from muniment.errors import ConfigError, PluginError, Problem
from muniment.options import option_names
from muniment.plan import Plan, PlanTest, SinkPath, Step
from muniment.plan_tests import Expectation, InputError, record_of
from muniment.quarantine import Keeping, Quarantine
from muniment.structure import OptionsError, anchored, structure

if TYPE_CHECKING:
    from muniment.plugins import Registry

T = TypeVar("T")


def load(path: Path, registry: "Registry") -> Plan:
    """Read a pipeline file; relative paths in it start from its folder.

    Raises:
        ConfigError: it cannot be used; ``problems`` holds everything that is wrong with it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_CHARACTERS + 1)
        if len(data) > 4 * MAX_CHARACTERS:
            said = f"the file has more than {MAX_CHARACTERS} characters, so it is no pipeline"
            raise ConfigError(Problem(said, str(path)))
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(f"not UTF-8 at byte {error.start}; save the file as UTF-8", str(path))) from error
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}") from error
    return parse(text, file=str(path), base=path.parent.absolute(), registry=registry)


def parse(text: str, *, file: str, base: Path, registry: "Registry") -> Plan:
    """Turn the text of a pipeline file into a plan.  ``file`` is its name in messages.

    Raises:
        ConfigError: it cannot be used; ``problems`` holds everything that is wrong with it.
    """
    document = read_document(text, file)
    stem = Path(file).stem
    return _Planner(document, registry, base, stem).plan()


@define
class _Planner:
    document: Document
    registry: "Registry"
    base: Path
    stem: str
    problems: list[Problem] = field(factory=list, init=False)
    unresolved: set[DataPath] = field(factory=set, init=False)
    hidden: dict[int, int] = field(factory=dict, init=False)

    def plan(self) -> Plan:
        self.problems += self.document.problems
        data = self.document.data
        if not isinstance(data, dict):
            self.report((), "a pipeline file is a mapping that starts with `version: 1`")
            raise ConfigError(*self.problems)
        # The texts of tests are conversations, which may well hold `${`.
        schemes = self.registry.names("secrets")
        data = {
            k: v if k == "tests" else resolve(v, os.environ, self.report_reference, (k,), schemes=schemes)
            for k, v in data.items()
        }
        # What other components are given is checked with them; what is kept is the core's own.
        own = without_inner_secrets(data) | {k: data[k] for k in ("quarantine",) if k in data}
        keys = self.structured(PipelineKeys, own, (), noun="key")
        name = (keys.name if keys else None) or self.stem
        plan = Plan(
            name=name,
            file=self.document.file,
            sources=tuple(self.sources(data)),
            transforms=tuple(self.transforms(data, ())),
            sinks=tuple(self.sinks(data)),
            engine=self.engine(data),
            state_dir=self.base / ".muniment" / self.stem,
            allow_incomplete=keys.allow_incomplete if keys else False,
            tests=tuple(self.tests(data)),
            keeping=self.keeping(keys.quarantine if keys else None, name),
        )
        for path, message in broken_rules(plan, data):
            self.report(path, message)
        if self.problems:
            raise ConfigError(*sorted(map(self.masked, self.problems), key=lambda p: (p.line, p.column)))
        return plan

    def masked(self, problem: Problem) -> Problem:
        """Return a problem whose line shows no value of an option that takes a secret."""
        start = self.hidden.get(problem.line)
        if start is None:
            return problem
        return attrs.evolve(problem, source_line=f"{problem.source_line[: start - 1]}***")

    def report(self, path: DataPath, message: str, at_key: bool = False, hides: bool = False) -> None:
        problem = self.document.problem(path, message, at_key=at_key)
        if hides:
            self.hidden[problem.line] = min(problem.column, self.hidden.get(problem.line, problem.column))
        if problem not in self.problems:
            self.problems.append(problem)
        if len(self.problems) > MAX_PROBLEMS:
            rest = self.document.problem((), "too much is wrong here: what follows was not looked at")
            raise ConfigError(*self.problems, rest)

    def report_reference(self, path: DataPath, message: str) -> None:
        self.unresolved.add(path)
        self.report(path, message)

    def structured(self, cls: type[T], data: Mapping[str, Any], path: DataPath, **more: Any) -> T | None:
        try:
            return structure(cls, data, **more)
        except OptionsError as error:
            for problem in error.options:
                place = (*path, *problem.path)
                if problem.always or place not in self.unresolved:
                    self.report(place, problem.message, problem.at_key, problem.hides)
        except PluginError as error:
            self.report(path, str(error))
        return None

    def sources(self, data: Mapping[str, Any]) -> Iterator[Step[Source]]:
        if isinstance(data.get("source"), dict):
            yield from self.step("sources", ("source",), data["source"], Source)
        for path, item in _mappings(data, ("sources",)):
            yield from self.step("sources", path, item, Source)

    def transforms(self, data: Mapping[str, Any], above: DataPath) -> Iterator[Step[Transform]]:
        for path, item in _mappings(data, (*above, "transforms")):
            yield from self.step("transforms", path, item, Transform)

    def sinks(self, data: Mapping[str, Any]) -> Iterator[SinkPath]:
        names = option_names(OwnSinkKeys)
        for path, item in _mappings(data, ("sinks",)):
            own = {k: v for k, v in item.items() if k in names}
            options = {k: v for k, v in item.items() if k not in names}
            keys = self.structured(OwnSinkKeys, without_inner_secrets(own), path, owner=_owner("sink", item))
            transforms = tuple(self.transforms(own, path))
            for step in self.step("sinks", path, options, Sink, also=names):
                if keys is not None:
                    yield SinkPath(
                        step=step,
                        name=keys.name or step.type,
                        transforms=transforms,
                        on_plan_change=keys.on_plan_change or "keep",
                        on_failure=keys.on_failure,
                        max_unit_records=keys.unit.max_records,
                        max_unit_bytes=keys.unit.max_bytes,
                        max_unit_seconds=keys.unit.max_seconds,
                    )

    def engine(self, data: Mapping[str, Any]) -> Engine:
        given = data.get("engine")
        given = given if isinstance(given, dict) else {"type": "local"}
        return next((s.component for s in self.step("engines", ("engine",), given, Engine)), Engine())

    def keeping(self, quarantine: Quarantine | None, name: str) -> Keeping | None:
        """Return how content is kept of what cannot be archived; None where only its place is."""
        if quarantine is None:
            return None
        for message in quarantine.check():
            self.report(("quarantine",), f"quarantine: {message}")
        found = anchored(quarantine, self.base)
        if found.encryption is None:
            return None
        path = Path(found.path) if found.path else self.base / ".muniment" / self.stem / "quarantine"
        return Keeping(encryption=found.encryption, path=path, pipeline=name)

    def step(
        self, kind: str, path: DataPath, item: Mapping[str, Any], base: type[T], also: tuple[str, ...] = ()
    ) -> Iterator[Step[T]]:
        """Yield the step that ``item`` describes, unless something is wrong with it."""
        noun, name = kind[:-1], item.get("type")
        if not isinstance(name, str):
            names = ", ".join(f"`{n}`" for n in self.registry.names(kind))
            self.report((*path, "type"), f"a {noun} needs `type`, one of {names}")
            return
        try:
            cls = self.registry.get(kind, name)
        except PluginError as error:
            self.report((*path, "type"), str(error))
            return
        options = {k: v for k, v in item.items() if k != "type"}
        owner = _owner(noun, item)
        component = self.structured(cls, options, path, owner=owner, registry=self.registry, also=("type", *also))
        if component is None or not self.fits_nested(cls, options, path):
            return
        component = anchored(component, self.base)
        said = self.said_by_check(component, owner)
        for message in said:
            self.report(path, message)
        if not said and isinstance(component, base):
            yield Step(name, _text(path), component)

    def fits_nested(self, cls: type[Any], options: Mapping[str, Any], path: DataPath) -> bool:
        """Check the options of a component that an option names: ``format_options`` go with ``format``."""
        before = len(self.problems)
        for a in attrs.fields(cls):
            kind, key = a.metadata.get("choices_from"), f"{a.alias}_options"
            name, given = options.get(a.alias), options.get(key)
            if kind and isinstance(name, str) and isinstance(given, dict):
                inner = self.registry.get(kind, name)
                owner = f"{kind.removesuffix('s')} `{name}`"
                self.structured(inner, given, (*path, key), owner=owner, registry=self.registry)
        return len(self.problems) == before

    def said_by_check(self, component: Component, owner: str) -> list[str]:
        try:
            return [f"{owner}: {message}" for message in component.check()]
        except Exception as error:  # noqa: BLE001 - a stranger's code
            return [f"{owner} failed to check its options: {type(error).__name__}: {error}; tell its author"]

    def tests(self, data: Mapping[str, Any]) -> Iterator[PlanTest]:
        for path, item in _mappings(data, ("tests",)):
            keys = self.structured(TestKeys, item, path, noun="key", owner="a test")
            owner = f"test `{item['name']}`" if isinstance(item.get("name"), str) else "a test"
            expect, given = item.get("expect"), item.get("input")
            if isinstance(expect, dict):
                place = (*path, "expect")
                self.structured(Expectation, expect, place, noun="expectation", owner=owner)
                if not expect:
                    self.report(place, f"{owner} expects nothing; add `contains` or another expectation")
            if isinstance(given, dict):
                self.check_input(given, (*path, "input"), owner)
            if keys is not None:
                yield PlanTest(name=keys.name, input=keys.input, expect=keys.expect, path=_text(path))

    def check_input(self, given: Mapping[str, Any], path: DataPath, owner: str) -> None:
        try:
            record_of(given)
        except InputError as error:
            self.report((*path, *error.path), f"{owner}: {error}", error.at_key)


def _mappings(data: Mapping[str, Any], path: DataPath) -> Iterator[tuple[DataPath, Mapping[str, Any]]]:
    """Yield the mappings of the list under the last key; what is no mapping was reported already."""
    items = data.get(str(path[-1]))
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*path, index), item


def _owner(noun: str, item: Mapping[str, Any]) -> str:
    return f"{noun} `{item['type']}`" if isinstance(item.get("type"), str) else f"a {noun}"


def _text(path: DataPath) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).removeprefix(".")
