"""What `muniment plan` tells."""

from collections.abc import Callable

from muniment.config import describe_plan
from muniment.plan import Plan
from muniment.plugins import Registry


class TestDescribePlan:
    def test_tells_what_the_plan_does_and_promises(self, plan_of: Callable[[str], Plan], registry: Registry) -> None:
        """Per sink: protocol, guarantee, transforms and the plan hash."""
        plan = plan_of(
            "version: 1\nsource: {type: export, path: a}\ntransforms: [{type: mask, pattern: a}]\n"
            "sinks: [{type: store, on_plan_change: keep, transforms: [{type: skip}]}]"
        )
        described = describe_plan(plan, registry)
        ours = {"distribution": "this program", "version": ""}

        assert described["sources"] == [
            {"path": "source", "type": "export", "plugin": ours, "replay": "exact", "endless": False}
        ]
        assert described["sinks"] == [
            {
                "path": "sinks[0]",
                "name": "store",
                "type": "store",
                "plugin": ours,
                "protocol": "staged",
                "guarantee": "effectively once",
                "encrypted": False,
                "on_plan_change": "keep",
                "on_failure": "stop",
                "plan_hash": plan.hash_of(plan.sinks[0]),
                "transforms": [
                    {
                        "path": "transforms[0]",
                        "type": "mask",
                        "plugin": ours,
                        "effects": ["alters_content"],
                    },
                    {
                        "path": "sinks[0].transforms[0]",
                        "type": "skip",
                        "plugin": ours,
                        "effects": ["drops"],
                    },
                ],
                "unit": {"max_records": 2000, "max_bytes": 67108864, "max_seconds": 30.0},
            }
        ]
        assert described["engine"] == {"type": "local", "workers": 1}

    def test_holds_no_option_values(self, plan_of: Callable[[str], Plan], registry: Registry) -> None:
        """They may be private."""
        plan = plan_of(
            "version: 1\nsource: {type: export, path: hunter2}\n"
            "sinks: [{type: store, path: hunter2, password: '${secret:env:hunter2}'}]"
        )

        assert "hunter2" not in str(describe_plan(plan, registry))
