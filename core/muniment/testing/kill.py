"""How is a run killed at a point, without a new interpreter for every kill?

A child is spawned once and imports everything; for each run it forks a grandchild that makes the run
and sends itself SIGKILL.  The component travels pickled, and the child itself never opens it.
"""

import atexit
import functools
import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
import types
from typing import Any

from attrs import frozen

from muniment.errors import FatalError
from muniment.plan import Plan

_SIZE_BYTES = 8


@frozen
class Death:
    """How a grandchild ended: by ``signal_number``, or with an error's text; neither if the run ended well."""

    signal_number: int = 0
    error: str = ""


class Killer:
    """The child, from the first run on.  A context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, plan: Plan, *classes: type) -> Death:
        """Run a plan in a process of its own and return how that ended.

        The modules of ``classes`` are loaded there from their files where they cannot be imported.

        Raises:
            FatalError: the child could not read the plan: the component cannot be pickled.
        """
        if self._process is None:
            # The path of this process, so that classes of test modules can be imported there too.
            code = f"import sys; sys.path[:] = {sys.path!r}; from muniment.testing.kill import serve; serve()"
            command = [sys.executable, "-c", code]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        assert self._process.stdin is not None and self._process.stdout is not None
        modules = {c.__module__: str(getattr(sys.modules[c.__module__], "__file__", "")) for c in classes}
        # The modules come first: what is in the plan can be read only when they are loaded.
        # The environment may hold secrets that the plan names, and another test may have set others.
        data = pickle.dumps((modules, dict(os.environ), pickle.dumps(plan)))
        self._process.stdin.write(len(data).to_bytes(_SIZE_BYTES, "big") + data)
        self._process.stdin.flush()
        size = self._process.stdout.read(_SIZE_BYTES)
        answer = pickle.loads(self._process.stdout.read(int.from_bytes(size, "big"))) if size else None  # noqa: S301
        if not isinstance(answer, Death):
            raise FatalError(f"a plan with this sink cannot be sent to another process: {answer or 'the child died'}")
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> "Killer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def shared_killer() -> Killer:
    """Return the killer that all tests of this process share; it ends with the process."""
    killer = Killer()
    atexit.register(killer.close)
    return killer


def serve() -> None:
    """Answer runs until standard input ends: what the child does."""
    source, answers = os.fdopen(0, "rb", closefd=False), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a sink prints must not stand between the answers
    while size := source.read(_SIZE_BYTES):
        data = source.read(int.from_bytes(size, "big"))
        answer: Any
        try:
            modules, environ, packed_plan = pickle.loads(data)  # noqa: S301 - from the test that started this
            os.environ.clear()
            os.environ.update(environ)
            for name, file in modules.items():
                _load(name, file)
            answer = _fork(pickle.loads(packed_plan))  # noqa: S301
        except Exception as error:  # noqa: BLE001 - told to the test
            answer = f"{type(error).__name__}: {error}"
        packed = pickle.dumps(answer)
        answers.write(len(packed).to_bytes(_SIZE_BYTES, "big") + packed)
        answers.flush()


def _load(name: str, file: str) -> None:
    if name in sys.modules:
        return
    try:
        importlib.import_module(name)
    except ImportError:
        # A module of tests, which pytest imports by its file; pickle asks for its packages too.
        parts = name.split(".")
        for end in range(1, len(parts)):
            sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])


def _fork(plan: Plan) -> Death:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os._exit(_run(plan, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        error = stream.read().decode("utf-8", "replace")
    status = os.waitpid(pid, 0)[1]
    return Death(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, error)


def _run(plan: Plan, writing: int) -> int:
    from muniment.testing.runs import run_plan

    try:
        run_plan(plan)
    except BaseException as error:  # noqa: BLE001 - told to the test
        os.write(writing, f"{type(error).__name__}: {error}"[:4000].encode("utf-8", "replace"))
        return 1
    return 0
