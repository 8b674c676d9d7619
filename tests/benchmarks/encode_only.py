"""Read an export and write the encoded rows or bytes of a pipeline's first sink into a local file: no store.

    python encode_only.py PIPELINE.yaml FILE

Half of a yardstick: what a sink costs beyond this and a plain loader is its own doing.
"""

import pickle
import sys
from contextlib import ExitStack
from pathlib import Path

from muniment import Context
from muniment.config import load
from muniment.plugins import load_registry
from muniment.process import Job, Route, patient_gc
from muniment.units import Idle


def main(pipeline: Path, out: Path) -> None:
    plan = load(pipeline, load_registry())
    source, sink = plan.sources[0].component, plan.sinks[0].step.component
    context = Context(run="benchmark", state_dir=out.parent / "no-state")
    with ExitStack() as stack:
        stack.enter_context(patient_gc())
        reader = stack.enter_context(source.open(context))
        job = Job(source, (), (Route(_Stateless(sink), context),))
        workers = stack.enter_context(plan.engine.open(job, reader))
        file = stack.enter_context(out.open("wb"))
        for partition in reader.partitions():
            for item in workers.process(partition, None, 0):
                if not isinstance(item, Idle):
                    pickle.dump(item.routes[0].payload, file, pickle.HIGHEST_PROTOCOL)


class _Stateless:
    """A sink's encoding alone: nothing is known of what a store holds."""

    def __init__(self, sink):
        self.encode = sink.encode

    def open_known(self, ctx):
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
