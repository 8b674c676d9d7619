"""Import one file in this process and print what it cost, as JSON: ``python cost.py FILE FOLDER``."""

import json
import re
import resource
import sys
import time
from pathlib import Path

LIMIT_BYTES = 4 * 2**30


def main(export: str, folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    from muniment import MunimentError
    from muniment.pipeline import run
    from muniment.plan import Plan, SinkPath, Step
    from muniment_plugins.sinks.sqlite import SQLite
    from muniment_plugins.sources.chatgpt_export import ChatGPTExport

    class Quiet:
        def call_run_event(self, event: object) -> None:
            pass

    sink = Step("sink", "sinks[0]", SQLite(path=str(Path(folder, "archive.db"))))
    source = Step("source", "source", ChatGPTExport(path=export))
    plan = Plan(name="cost", sources=(source,), sinks=(SinkPath(step=sink, name="out"),))
    started, before = time.monotonic(), time.process_time()
    said, code, messages = "", 0, 0
    try:
        report = run(plan, Quiet())  # type: ignore[arg-type]
        code, messages = report.exit_code, report.messages
    except MunimentError as error:
        said, code = str(error), error.exit_code
    except MemoryError:
        said, code = "MemoryError", -1
    # Of this process alone: what `getrusage` says may be of the one that started it.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    cost = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - before, "peak_mb": peak}
    print(json.dumps({"said": said, "code": code, "messages": messages, **cost}))


if __name__ == "__main__":
    main(*sys.argv[1:])
