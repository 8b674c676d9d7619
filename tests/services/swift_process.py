"""One process of OpenStack Swift, run by the distribution's Python without anything in /etc: `rings` or `serve`."""

import sys
from typing import Any

from swift.common import utils
from swift.common.ring import RingBuilder
from swift.common.wsgi import run_wsgi

utils.HASH_PATH_SUFFIX = b"tests"


class Cache:
    """What Swift asks of memcached, in the memory of its only proxy; nothing expires within a test session."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, *_: Any, **__: Any) -> Any:
        return self._values.get(key)

    def set(self, key: str, value: Any, *_: Any, **__: Any) -> None:
        # What may change is not remembered: an answer from the stores is quick enough.
        if not key.startswith(("account", "container", "shard")):
            self._values[key] = value

    def delete(self, key: str, *_: Any, **__: Any) -> None:
        self._values.pop(key, None)

    def incr(self, key: str, delta: int = 1, *_: Any, **__: Any) -> int:
        self._values[key] = self._values.get(key, 0) + delta
        return int(self._values[key])


def cache_factory(*_: Any, **__: Any) -> Any:
    """Return a filter, as PasteDeploy wants it, that offers the cache."""
    cache = Cache()

    def wrap(application: Any) -> Any:
        def answer(env: dict[str, Any], start_response: Any) -> Any:
            env["swift.cache"] = cache
            return application(env, start_response)

        return answer

    return wrap


def rings(folder: str, *ports: str) -> None:
    """Write the files that say where the three stores are."""
    for name, port in zip(("account", "container", "object"), ports, strict=True):
        builder = RingBuilder(4, 1, 0)
        device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d", "weight": 1, "meta": ""}
        builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": int(port)})
        builder.rebalance()
        builder.get_ring().save(f"{folder}/{name}.ring.gz")


if __name__ == "__main__":
    if sys.argv[1] == "rings":
        rings(*sys.argv[2:])
    else:
        sys.exit(run_wsgi(sys.argv[2], sys.argv[3], verbose=True))
