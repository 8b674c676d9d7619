"""What a local state says is stored, for workers."""

from collections.abc import Callable, Mapping, Sequence

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


class VeiledKnown(StateKnown):
    """What a local state says that holds pseudonyms of keys and hashes, as ``key`` and ``source_hash`` make them."""

    hides = True

    def __init__(self, state: State, key: Callable[[str], str], source_hash: Callable[[str], str]) -> None:
        super().__init__(state)
        self._key = key
        self._source_hash = source_hash

    def find(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        asked = {self._key(key): key for key in keys}
        return {asked[k]: found for k, found in super().find(list(asked)).items()}

    def noted(self, source_hash: str) -> str:
        return self._source_hash(source_hash)
