"""What must every sink do?  Tests to inherit.

A test class for a sink is a fixture and a line::

    from muniment.testing import SinkContract

    class TestMySink(SinkContract):
        @pytest.fixture
        def sink(self, tmp_path):
            return MySink(path=tmp_path / "place")

``sink`` is the component for a fresh place.  The class attributes of `SinkTests` say what the sink
does not claim, so that a check that does not apply is skipped by name.
"""

from muniment.testing._sink_again import AgainChecks
from muniment.testing._sink_faults import FaultChecks
from muniment.testing._sink_privacy import PrivacyChecks
from muniment.testing._sink_records import RecordChecks
from muniment.testing._sink_units import UnitChecks


class SinkContract(RecordChecks, AgainChecks, UnitChecks, FaultChecks, PrivacyChecks):
    """The whole contract."""
