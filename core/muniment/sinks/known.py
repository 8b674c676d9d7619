"""What a local state says is stored, for workers."""

from collections.abc import Mapping, Sequence

from muniment.components import Known
from muniment.state import State


class StateKnown(Known):
    """What a local state says is stored."""

    def __init__(self, state: State) -> None:
        self._state = state

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        return {k: (r.source_hash, r.plan_hash) for k, r in self._state.find(keys).items()}

    def close(self) -> None:
        self._state.close()
