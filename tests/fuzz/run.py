"""Fuzz every target in turn: ``python tests/fuzz/run.py --seconds 600``.

With atheris (``pip install atheris``, Linux) inputs are led by coverage; without it seeds are mutated
blindly.  A finding is kept below ``tests/fuzz/findings`` and stays there as a test.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from targets import NAMES

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of strangers' bytes.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--only", choices=NAMES, action="append", help="this target; may be given several times")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; another one each time without")
    parser.add_argument("--engine", choices=("auto", "atheris", "own"), default="auto")
    parser.add_argument("--keep", type=Path, default=HERE / "findings", help="folder for findings")
    args = parser.parse_args()
    engine = args.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "own"
    bad = [name for name in args.only or NAMES if not fuzz(name, engine, args)]
    print(f"findings: {', '.join(bad)}" if bad else "no findings")
    return 1 if bad else 0


def fuzz(name: str, engine: str, args: argparse.Namespace) -> bool:
    command = [
        sys.executable, str(HERE / "engines.py"), name, "--engine", engine, "--seconds", str(args.seconds),
        "--seed", str(args.seed), "--keep", str(args.keep),
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
