"""Does a secret, or what people said, ever leave by a log, a repr, an error or a plan?"""

import logging

import pytest

from muniment.components import Context, Sink
from muniment.errors import FatalError
from muniment.plan import Plan
from muniment.secrets import secrets_of
from muniment.testing._sink_base import SinkTests
from muniment.testing.faults import Faults, FaultySink, Point
from muniment.testing.records import make_record
from muniment.testing.runs import Quiet, plan_of, run_plan

CANARY = "canary-of-content-6f1d"


class PrivacyChecks(SinkTests):
    """Secrets and content stay where they belong."""

    def test_secrets_appear_nowhere(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        """Not in a repr, the plan, its identity, a log, an event or an error."""
        values = (*self.secret_values, *(Context(run="canary").reveal(s) for s in secrets_of(sink)))
        self.require(values, "the sink has no secrets (no `Secret` options, no `secret_values`)")

        seen = self._all_that_is_said(sink, caplog)

        for place, text in seen.items():
            for value in values:
                assert value not in text, (
                    f"a secret of the sink appears in {place}; take it as a `muniment.Secret` and call `ctx.reveal`"
                    " only where the connection is opened"
                )

    def test_content_appears_in_no_log(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        """Titles, texts and raw JSON stand in no log, error or event."""
        for place, text in self._all_that_is_said(sink, caplog).items():
            assert CANARY not in text, f"text of a conversation appears in {place}"

    def _all_that_is_said(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> dict[str, str]:
        records = [make_record(f"c{i}", [CANARY, CANARY], title=f"{CANARY} {i}") for i in range(3)]
        quiet = Quiet()
        plan = plan_of(sink, records, state_dir=self.state_dir)
        with caplog.at_level(logging.DEBUG):
            error = self._fail(sink, plan)
            run_plan(plan)
        step = plan.sinks[0].step
        with sink.open_target(self.context(sink, "reader")) as target:
            session = f"{target!r} {dict(target.committed())!r} {list(target.quarantined())!r}"
        return {
            "`repr` of the sink": f"{sink!r} {sink}",
            "the plan": repr(step) + repr(step.identity()) + str(list(sink.check())),
            "`repr` of a session or the ledger": session,
            "the log": caplog.text,
            "an event": repr(quiet.heard),
            "an error": error,
        }

    def _fail(self, sink: Sink, plan: Plan) -> str:
        def strike(point: Point) -> None:
            if point == Point("seal", 1, before=False):
                raise FatalError("injected")

        records = plan.sources[0].component.records  # type: ignore[attr-defined]
        with pytest.raises(FatalError) as caught:
            self.archive(FaultySink(sink=sink, faults=Faults(strike)), records)
        return f"{caught.value!r} {caught.value}"
