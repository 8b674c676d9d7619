"""The sink `azure_blob` under the contract of all sinks, on Microsoft's emulator."""

from typing import ClassVar

import pytest

from muniment.testing import SinkContract


class TestAzureAppend(SinkContract):
    """Immutable parts."""

    locks: ClassVar[bool] = True

    @pytest.fixture
    def sink(self, container, sink_on):
        return sink_on(container, prefix="archive", mode="append", compression="zstd")


class TestAzureMirror(SinkContract):
    """One object per conversation."""

    locks: ClassVar[bool] = True

    @pytest.fixture
    def sink(self, container, sink_on):
        return sink_on(container, mode="mirror")
