"""How does a sink fail on demand?  A wrapper that counts the calls of the protocol and disturbs some.

Every call of `open_target`, `open`, `write`, `seal`, `commit` and `end_run` is two fault points, one
before it and one behind it: what happens behind a call is what a caller sees that lost the answer.
"""

import os
import random
import signal
from collections.abc import Callable
from typing import Any

from attrs import Factory, define, field, frozen

from muniment.components import Context, Session, Sink, Target, Writer
from muniment.errors import FatalError, RecordError, TransientError
from muniment.plan import Step
from muniment.units import Batch

STEPS = ("open_target", "open", "write", "seal", "commit", "end_run")
RETRIED = ("write", "commit")
"""What the engine tries again after a `TransientError`."""


class KilledError(BaseException):
    """What a SIGKILL is to a place that lives in the process: no handler of `Exception` sees it."""


@frozen
class Point:
    """A fault point: the ``number``-th call of ``step``, from 1, ``before`` it or behind it."""

    step: str
    number: int = 1
    before: bool = True

    def __str__(self) -> str:
        return f"{'before' if self.before else 'behind'} {self.step} {self.number}"


@define(eq=False)
class Faults:
    """What goes wrong, and a note of every point that was passed.

    ``strike`` is called at each point; what it raises is the fault.  After a `KilledError` the
    ``sessions``, which stay open, do nothing any more, as those of a dead process.
    """

    strike: Callable[[Point], None]
    passed: list[Point] = Factory(list)
    sessions: list[Session] = Factory(list)
    dead: bool = False
    _counts: dict[str, int] = Factory(dict)

    def call(self, step: str, call: Callable[[], Any]) -> Any:
        """Return what ``call`` returns, with the points of ``step`` round it."""
        if self.dead:
            raise KilledError
        number = self._counts[step] = self._counts.get(step, 0) + 1
        self._pass(Point(step, number))
        result = call()
        try:
            self._pass(Point(step, number, before=False))
        except Exception:
            if isinstance(result, Session):
                # Nobody got it, so nobody else can close it.
                result.close()
            raise
        except KilledError:
            if isinstance(result, Session):
                # Held, so that its locks are found and dropped, which a dead process does not hold.
                self.sessions.append(result)
            raise
        return result

    def _pass(self, point: Point) -> None:
        self.passed.append(point)
        try:
            self.strike(point)
        except KilledError:
            self.dead = True
            raise


@frozen
class Kill:
    """Kill this process at ``point``; in a place that lives in the process, `KilledError` stands for it."""

    point: Point
    really: bool = True

    def __call__(self, point: Point) -> None:
        if point == self.point:
            if self.really:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KilledError


@define
class RandomFaults:
    """Disturb each point with a probability; equal seeds give equal faults.

    A transient fault asks for no wait, and never comes as often as the engine gives up.
    """

    seed: int
    probability: float = 0.15
    fired: list[tuple[Point, str]] = Factory(list)
    _random: random.Random = field(init=False)
    _in_a_row: int = 0

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable on purpose

    def __call__(self, point: Point) -> None:
        if self._random.random() >= self.probability:
            if not point.before:
                self._in_a_row = 0
            return
        transient = point.step in RETRIED and self._in_a_row < 3 and self._random.random() < 0.7
        self._in_a_row = self._in_a_row + 1 if transient else 0
        self.fired.append((point, "transient" if transient else "fatal"))
        if transient:
            raise TransientError(f"injected {point}; try again", retry_after_seconds=0)
        raise FatalError(f"injected {point}")


def _no_strike(point: Point) -> None:
    return None


@frozen(kw_only=True)
class FaultySink(Sink):
    """A sink that is another one, disturbed.  ``refused`` are keys of records that cannot be encoded."""

    sink: Sink
    faults: Faults = field(factory=lambda: Faults(_no_strike))
    refused: frozenset[str] = frozenset()

    def encode(self, batch: Batch) -> Any:
        for record in batch.records:
            if record.key in self.refused:
                raise RecordError("the test refuses it", record.key)
        return self.sink.encode(batch)

    def open(self, ctx: Context) -> Writer:
        writer = self.faults.call("open", lambda: self.sink.open(ctx))
        return _Session(writer, self.faults)  # type: ignore[return-value]

    def open_target(self, ctx: Context) -> Target:
        target = self.faults.call("open_target", lambda: self.sink.open_target(ctx))
        return _Session(target, self.faults)  # type: ignore[return-value]


def _delegate(name: str) -> Any:
    return property(lambda self: getattr(self.sink, name))


# Whatever else a sink says, the wrapper says too, what a later version adds included.
for _name in dir(Sink):
    if not _name.startswith("_") and _name not in ("encode", "open", "open_target"):
        setattr(FaultySink, _name, _delegate(_name))


class _Session:
    """A writer or a target with fault points; everything else goes through."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        faults.sessions.append(inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in STEPS:
            return value
        return lambda *args, **more: self._faults.call(name, lambda: value(*args, **more))

    def abort(self, *args: Any) -> None:
        if not self._faults.dead:
            self._inner.abort(*args)

    def close(self) -> None:
        if not self._faults.dead:
            self._inner.close()

    def __enter__(self) -> "_Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FaultyStep(Step[Sink]):
    """The step of a faulty sink: what it stores is what the sink inside stores, so its identity is that one's."""

    def identity(self) -> list[Any]:
        inner = self.component.sink if isinstance(self.component, FaultySink) else self.component
        return Step(self.type, self.path, inner).identity()
