"""What is fuzzed?  The readers of strangers' bytes: each takes any bytes and raises nothing but its own errors."""

from collections.abc import Callable, Sequence

from attrs import frozen

# Importing these names what there is; each module can also be run alone, under atheris.
NAMES = ("zip", "json", "records", "header", "pipeline")


@frozen
class Target:
    """``check`` raises where a reader does not keep its promises; ``seeds`` are inputs that it understands;
    ``words`` are what such inputs are made of."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    max_bytes: int = 64 * 2**10


def load(name: str) -> Target:
    """Return the target that ``fuzz_<name>.py`` makes."""
    import importlib

    target: Target = importlib.import_module(f"fuzz_{name}").make()
    return target
