"""Pipeline files: YAML in, a checked plan or all its problems out."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from muniment import ConfigError, Engine, Secret
from muniment.config import load
from muniment.engine.pool import Pool
from muniment.plan import Plan
from muniment.plugins import Registry
from muniment.units import UnitBounds

PlanOf = Callable[[str], Plan]

WHOLE = """
version: 1
name: chats
sources:
  - {type: export, path: ./in/*.zip}
  - {type: export, path: /abs/b.zip}
transforms:
  - {type: mask, pattern: "[0-9]+"}
sinks:
  - type: store
    name: first
    path: out.jsonl
    format: lines
    format_options: {indent: 2}
    on_plan_change: rewrite
    on_failure: continue
    guarantee: effectively_once
    password: "${secret:env:STORE_PASSWORD}"
    unit: {max_records: 10, max_seconds: 5}
    transforms: [{type: skip, words: [secret]}]
  - {type: store, on_plan_change: keep}
engine: {type: pool, workers: 2}
allow_incomplete: true
tests:
  - {name: hides numbers, input: {user: "call ${home} 555"}, expect: {not_contains: "555"}}
"""


def problems_of(plan_of: PlanOf, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan_of(dedent(text).strip())
    return [str(p).removeprefix("pipe.yaml:") for p in caught.value.problems]


class TestPlan:
    def test_holds_everything_the_file_says(self, plan_of: PlanOf) -> None:
        """Every key has its place in the plan."""
        plan = plan_of(WHOLE)
        first, second = plan.sinks

        assert (plan.name, plan.allow_incomplete, plan.engine) == ("chats", True, Pool(workers=2))
        assert [s.path for s in plan.sources] == ["sources[0]", "sources[1]"]
        assert [(t.type, t.path) for t in plan.transforms] == [("mask", "transforms[0]")]
        assert (first.name, first.step.type, first.step.path) == ("first", "store", "sinks[0]")
        assert [(t.type, t.path) for t in first.transforms] == [("skip", "sinks[0].transforms[0]")]
        assert (first.max_unit_records, first.max_unit_seconds, first.on_plan_change) == (10, 5.0, "rewrite")
        assert first.step.component.password == Secret("env:STORE_PASSWORD")
        assert (second.name, second.bounds) == ("store", UnitBounds(2000, 64 * 2**20, 30.0))
        assert (first.bounds.max_bytes, first.on_failure, second.on_failure) == (64 * 2**20, "continue", "stop")
        assert plan.tests[0].input == {"user": "call ${home} 555"}

    def test_takes_paths_from_the_folder_of_the_file(self, plan_of: PlanOf) -> None:
        """A pipeline means the same from wherever it is started; given or default."""
        plan = plan_of(WHOLE)

        assert [s.component.path for s in plan.sources] == ["/base/in/*.zip", "/abs/b.zip"]  # type: ignore[attr-defined]
        assert [s.step.component.path for s in plan.sinks] == ["/base/out.jsonl", "/base/out.db"]  # type: ignore[attr-defined]
        assert plan.state_dir == Path("/base/.muniment/pipe")

    def test_has_defaults(self, plan_of: PlanOf) -> None:
        """Four lines are a pipeline."""
        plan = plan_of("version: 1\nsource: {type: export, path: a}\nsinks: [{type: store}]")

        assert (plan.name, plan.allow_incomplete, plan.tests) == ("pipe", False, ())
        assert isinstance(plan.engine, Engine)
        assert plan.sources[0].path == "source"

    def test_resolves_references(self, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """Numbers where an option wants one, text elsewhere."""
        monkeypatch.setenv("LEVEL", "5")
        plan = plan_of(
            "version: 1\nsource: {type: export, path: '${env:LEVEL}'}\nsinks: [{type: store, level: '${env:LEVEL}'}]"
        )

        assert plan.sources[0].component.path == "/base/5"  # type: ignore[attr-defined]
        assert plan.sinks[0].step.component.level == 5  # type: ignore[attr-defined]

    def test_hash_does_not_depend_on_where_the_file_is(self, registry: Registry, tmp_path: Path) -> None:
        """Moving a pipeline and its archive changes nothing that is stored."""
        hashes = set()
        for folder in ("a", "b"):
            file = tmp_path / folder / "pipe.yaml"
            file.parent.mkdir()
            file.write_text(WHOLE)
            plan = load(file, registry)
            hashes.add(plan.hash_of(plan.sinks[0]))

        assert len(hashes) == 1


class TestProblems:
    def test_come_all_at_once_with_their_places(self, plan_of: PlanOf) -> None:
        """In the order of the file."""
        text = """
            version: 1
            source: {type: export, pth: a}
            transforms:
              - {type: msk, pattern: a}
              - {type: mask, pattern: "("}
            sinks:
              - type: store
                level: high
                format: line
                unit: {max_records: 0, max_byts: 4}
              - type: store
                path: ${env:MUNIMENT_NOT_SET}
                transforms: [{type: skip, words: a}]
                on_plan_change: kep
            engine: {type: pool, workers: "3"}
            sinkz: 3
            tests:
              - {name: a, input: {user: hi, assistnt: x}, expect: {contians: x}}
        """

        assert problems_of(plan_of, text) == [
            "2:9: option `path` is missing for source `export`",
            "2:24: unknown option `pth` for source `export`; did you mean `path`?",
            "4:12: unknown transform `msk`; did you mean `mask`?",
            "5:27: option `pattern` of transform `mask` is not a regular expression: missing ), unterminated"
            " subpattern at position 0",
            "8:12: option `level` of sink `store` must be a whole number, not text",
            "9:13: unknown format `line`; did you mean `lines`?",
            "10:25: option `unit.max_records` of sink `store` must be > 0: 0",
            "10:28: unknown option `unit.max_byts` for sink `store`; did you mean `unit.max_bytes`?",
            "12:11: the environment variable `MUNIMENT_NOT_SET` is not set; set it, or write"
            " `${env:MUNIMENT_NOT_SET:-default}`",
            "13:38: option `words` of transform `skip` must be a list of text, not text",
            "14:21: option `on_plan_change` of sink `store` must be one of `keep`, `new_version`, `rewrite`, not"
            " `kep`; did you mean `keep`?",
            "15:31: option `workers` of engine `pool` must be a whole number, not text",
            "16:1: unknown key `sinkz`; did you mean `sinks`?",
            "18:33: test `a`: unknown key `assistnt`; did you mean `assistant`?",
            "18:56: unknown expectation `contians` for test `a`; did you mean `contains`?",
        ]

    def test_render_with_the_line_and_a_caret(self, plan_of: PlanOf) -> None:
        """The reader sees where."""
        with pytest.raises(ConfigError) as caught:
            plan_of("version: 1\nsource: {type: export, path: a}\nsinks:\n  - {type: store, pth: x}\n")

        assert [p.render() for p in caught.value.problems] == [
            "pipe.yaml:4:19: unknown option `pth` for sink `store`; did you mean `path`?\n"
            "      - {type: store, pth: x}\n"
            "                      ^"
        ]

    def test_show_no_secret_that_was_written_out(self, plan_of: PlanOf) -> None:
        """Not on the line of its own mistake, nor on that of another, nor inside a URL."""
        text = (
            "version: 1\nsource: {type: export, path: a}\nsinks:\n"
            "  - {type: store, pth: x, password: hunter2, level: high}\n"
            "  - {type: store, name: two, level: 'postgresql://me:hunter2@db/x'}\n"
        )
        with pytest.raises(ConfigError) as caught:
            plan_of(text)

        shown = [p.render() for p in caught.value.problems]
        assert len(shown) == 4 and not any("hunter2" in one for one in shown)
        assert "      - {type: store, pth: x, password: ***\n" in shown[0]
        assert "postgresql://me:*******@db/x" in shown[3]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", ["1:1: a pipeline file is a mapping that starts with `version: 1`"]),
            ("- a", ["1:1: a pipeline file is a mapping that starts with `version: 1`"]),
            (
                "{}",
                [
                    "1:1: key `version` is missing",
                    "1:1: the pipeline has no source; add `source: {type: ...}`",
                    "1:1: the pipeline has no sink; add `sinks:` with at least one",
                ],
            ),
            (
                "version: 2\nsource: {type: export, path: a}\nsinks: [{type: store}]",
                ["1:10: key `version` must be `1`, not `2`"],
            ),
            (
                "version: 1\nsource: export\nsinks: {type: store}",
                [
                    "2:9: key `source` must be a mapping, not text",
                    "3:8: key `sinks` must be a list of mappings, not a mapping",
                ],
            ),
            (
                "version: 1\nsource: {path: a}\nsinks: [{type: 3}]",
                [
                    "2:9: a source needs `type`, one of `export`, `stream`",
                    "3:16: a sink needs `type`, one of `cloud`, `store`",
                ],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: cloud, region: x}]",
                ["3:16: sink `cloud` of this program is not at `muniment.nowhere:Cloud`; tell its author"],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, path: '${secret:env:X}'}]",
                ["3:29: option `path` of sink `store` takes no secret; write the value, or `${env:NAME}`"],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks:\n  - type: store\n    password: hunter2\n"
                "    high: a\n    more: {a: '${secret:env:X}'}",
                [
                    "5:15: option `password` of sink `store` must name a secret: write `${secret:env:NAME}` or"
                    " `${secret:file:PATH}`, not the value itself",
                    "6:11: option `high` of sink `store` must be a whole number, not text",
                    "7:15: option `more.a` of sink `store` takes no secret; write the value, or `${env:NAME}`",
                ],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, password: '${env:HOME}'}]",
                [
                    "3:33: option `password` of sink `store` must name a secret: write `${secret:env:NAME}` or"
                    " `${secret:file:PATH}`, not a reference to `env`, whose value may be shown"
                ],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, password: '${env:NOT_SET}'}]",
                [
                    "3:33: the environment variable `NOT_SET` is not set; set it, or write `${env:NOT_SET:-default}`",
                    "3:33: option `password` of sink `store` must name a secret: write `${secret:env:NAME}` or"
                    " `${secret:file:PATH}`, not a reference to `env`, whose value may be shown",
                ],
            ),
            (
                "version: 1\nname: '${secret:env:X}'\nsource: {type: export, path: a}\nsinks: [{type: store}]",
                ["2:7: key `name` takes no secret; write the value, or `${env:NAME}`"],
            ),
            (
                "version: 1\nversion: 1\nsource: {type: export, path: a, path: b}\nsinks: [{type: store}]",
                [
                    "2:1: the key `version` stands on line 1 already; remove one",
                    "3:33: the key `path` stands on line 3 already; remove one",
                ],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, low: 5, high: 3}]",
                ["3:9: sink `store`: `low` must not be above `high`"],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\n"
                "sinks: [{type: store, format: lines, format_options: {indnt: 3}}]",
                ["3:55: unknown option `indnt` for format `lines`; did you mean `indent`?"],
            ),
            (
                "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, nam: x}]",
                ["3:23: unknown option `nam` for sink `store`; did you mean `name`?"],
            ),
        ],
    )
    def test_say_what_is_wrong_and_where(self, plan_of: PlanOf, text: str, said: list[str]) -> None:
        """One sentence each, nothing twice."""
        assert problems_of(plan_of, text) == said

    def test_never_repeat_a_value_from_the_environment(self, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be private."""
        monkeypatch.setenv("MODE", "hunter2")
        text = "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, mode: '${env:MODE}'}]"

        assert problems_of(plan_of, text) == [
            "3:29: option `mode` of sink `store` must be one of `append`, `mirror`, `snapshot`; what its reference"
            " gives is not"
        ]

    @pytest.mark.parametrize(
        ("test", "said"),
        [
            (
                "{name: a, input: {}, expect: {dropped: true}}",
                "4:26: test `a`: the input is empty; write for example `user: hello`",
            ),
            (
                "{name: a, input: {user: hi}, expect: {}}",
                "4:46: test `a` expects nothing; add `contains` or another expectation",
            ),
            ("{input: {user: hi}, expect: {messages: 1}}", "4:9: key `name` is missing for a test"),
            ("{name: a, input: {user: 5}, expect: {messages: 1}}", "4:33: test `a`: `user` must be text"),
            (
                "{name: a, input: {messages: [{role: usr, text: x}]}, expect: {messages: 1}}",
                "4:45: test `a`: unknown role `usr`; did you mean `user`?",
            ),
            (
                "{name: a, input: {messages: [{role: user}]}, expect: {messages: 1}}",
                "4:38: test `a`: a message needs `text`, as text",
            ),
            (
                "{name: a, input: {conversation: {id: x, source: y, messages: [{id: m, role: 5}]}},"
                " expect: {messages: 1}}",
                "4:85: test `a`: expected `str`, got `int`",
            ),
        ],
    )  # fmt: skip
    def test_cover_the_tests_of_the_file(self, plan_of: PlanOf, test: str, said: str) -> None:
        """A test that cannot be run is a mistake of the file."""
        text = f"version: 1\nsource: {{type: export, path: a}}\nsinks: [{{type: store}}]\ntests: [{test}]"

        assert problems_of(plan_of, text) == [said]


class TestRules:
    def test_two_sinks_need_two_names(self, plan_of: PlanOf) -> None:
        """Counts and messages go by name."""
        text = """
            version: 1
            source: {type: export, path: a}
            sinks:
              - {type: store, path: a}
              - {type: store, path: b}
        """

        assert problems_of(plan_of, text) == [
            "5:12: two sinks have the name `store` (the other is sinks[0]); give one of them another `name`"
        ]

    def test_source_and_sources_exclude_each_other(self, plan_of: PlanOf) -> None:
        """One place to look."""
        text = """
            version: 1
            source: {type: export, path: a}
            sources: [{type: export, path: b}]
            sinks: [{type: store}]
        """

        assert problems_of(plan_of, text) == [
            "3:10: `source` and `sources` exclude each other; move the one source into the list"
        ]

    def test_a_snapshot_needs_an_end(self, plan_of: PlanOf) -> None:
        """It is written when the source ends."""
        text = "version: 1\nsource: {type: stream}\nsinks: [{type: store, mode: snapshot}]"

        assert problems_of(plan_of, text) == [
            "3:29: sink `store` writes a snapshot when its source ends, but source `stream` never ends; use"
            " `mode: append`"
        ]

    def test_altering_content_must_say_what_a_new_plan_does(self, plan_of: PlanOf) -> None:
        """Only a person can know whether stored conversations may be rewritten."""
        text = """
            version: 1
            source: {type: export, path: a}
            sinks:
              - {type: store, transforms: [{type: mask, pattern: a}]}
              - {type: store, name: b, transforms: [{type: skip}]}
        """

        assert problems_of(plan_of, text) == [
            "4:5: sink `store` gets conversations that transform `mask` alters: say what happens to stored ones"
            " when the transforms change, `on_plan_change: keep`, `new_version` or `rewrite`"
        ]

    def test_a_sink_promises_what_is_asked_of_it(self, plan_of: PlanOf) -> None:
        """What it computes from its options, not what it is called."""
        text = """
            version: 1
            source: {type: export, path: a}
            sinks:
              - {type: store, level: 0, guarantee: effectively_once}
              - {type: store, name: b, level: 0, guarantee: at_least_once}
              - {type: store, name: c, guarantee: effectively_once}
              - {type: store, name: d, guarantee: once}
        """

        assert problems_of(plan_of, text) == [
            "4:40: sink `store` does not promise `effectively_once` with these options, but: at least once; change"
            " them, or take `guarantee: at_least_once`",
            "7:39: option `guarantee` of sink `store` must be one of `effectively_once`, `at_least_once`, not `once`",
        ]


class TestLoad:
    def test_names_a_file_that_cannot_be_read(self, registry: Registry, tmp_path: Path) -> None:
        """With the reason."""
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "none.yaml", registry)

        assert str(caught.value) == f"`{tmp_path}/none.yaml` cannot be read: No such file or directory"

    def test_refuses_what_is_not_utf_8(self, registry: Registry, tmp_path: Path) -> None:
        """And says how to mend it."""
        file = tmp_path / "pipe.yaml"
        file.write_bytes(b"version: 1\nname: \xff")

        with pytest.raises(ConfigError) as caught:
            load(file, registry)

        assert str(caught.value) == f"{file}: not UTF-8 at byte 17; save the file as UTF-8"

    def test_takes_a_byte_order_mark(self, registry: Registry, tmp_path: Path) -> None:
        """Some editors write one."""
        file = tmp_path / "pipe.yaml"
        file.write_text("\ufeff" + WHOLE, encoding="utf-8")

        assert load(file, registry).name == "chats"


class TestQuarantine:
    """`quarantine:` says whether the content of what cannot be archived is kept."""

    PIPELINE = "version: 1\nsource: {type: export, path: a}\nsinks: [{type: store, password: '${secret:env:X}'}]\n"

    def test_keeps_content_where_encryption_says_for_whom(self, plan_of: PlanOf) -> None:
        """In the pipeline's own state, unless it is told otherwise."""
        key = "encryption: {key: '${secret:file:q.key}'}"
        plain = plan_of(self.PIPELINE + f"quarantine: {{{key}}}\n").keeping
        moved = plan_of(self.PIPELINE + f"quarantine: {{{key}, path: kept/}}\n").keeping

        assert plain is not None and moved is not None
        assert plain.path.parts[-3:] == (".muniment", "pipe", "quarantine")
        assert moved.path == plain.path.parents[2] / "kept"
        assert plain.encryption.key is not None and plain.encryption.key.problem() is not None
        assert str(plain.path.parents[2]) in (plain.encryption.key.problem() or "")

    @pytest.mark.parametrize("quarantine", ["", "quarantine: {}\n"])
    def test_keeps_nothing_without(self, plan_of: PlanOf, quarantine: str) -> None:
        assert plan_of(self.PIPELINE + quarantine).keeping is None

    def test_shows_the_place_of_every_mistake(self, plan_of: PlanOf) -> None:
        text = self.PIPELINE + "quarantine:\n  encryption: {kee: x, key: literal}\n  pth: x\n"

        assert problems_of(plan_of, text) == [
            "5:16: unknown key `quarantine.encryption.kee`; did you mean `quarantine.encryption.key`?",
            "5:29: key `quarantine.encryption.key` must name a secret: write `${secret:env:NAME}` or"
            " `${secret:file:PATH}`, not the value itself",
            "6:3: unknown key `quarantine.pth`; did you mean `quarantine.path`?",
        ]

    def test_a_folder_needs_encryption(self, plan_of: PlanOf) -> None:
        """Nothing is ever kept plain."""
        (problem,) = problems_of(plan_of, self.PIPELINE + "quarantine: {path: kept}\n")

        assert problem.endswith("`path` is where encrypted content is kept; give `encryption`, or leave it out")
