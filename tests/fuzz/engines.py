"""How are inputs made and tried?  By atheris, which looks at coverage; without it by mutation alone."""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from targets import NAMES, Target, load

FINDINGS = Path(__file__).with_name("findings")
"""Inputs that once found a defect: a folder for each target."""
MAX_SECONDS = 10
"""No input may keep a reader busy for longer."""
MAX_MEMORY_BYTES = 2 * 2**30


class TooSlowError(BaseException):
    """Not an `Exception`: no reader may catch it."""


def start(name: str) -> None:
    """Fuzz one target with this process's arguments, in a process that has imported nothing yet: atheris sees
    only what is imported while it looks."""
    os.execv(sys.executable, [sys.executable, __file__, name, *sys.argv[1:]])


def main() -> None:
    """Fuzz one target as the command line says; end the process with 1 if there was a finding."""
    parser = argparse.ArgumentParser(description="Fuzz one reader.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 takes another one each time")
    parser.add_argument("--engine", choices=("atheris", "own"), default="own")
    parser.add_argument("--keep", type=Path, default=FINDINGS, help="folder for findings")
    args = parser.parse_args()
    name = args.name
    keep = args.keep / name
    seed = args.seed or random.SystemRandom().randrange(1, 2**31)
    limit_memory()
    if args.engine == "atheris":
        fuzz_with_atheris(name, args.seconds, seed, keep)
    else:
        sys.exit(fuzz(name, args.seconds, seed, keep))


def fuzz(name: str, seconds: float, seed: int, keep: Path) -> int:
    """Try mutations for ``seconds``; stop at the first finding and return 1."""
    target = load(name)
    source = random.Random(seed)
    until = time.monotonic() + seconds
    tried = 0
    slowest = 0.0
    for data in target.seeds:
        target.check(data)
    while time.monotonic() < until:
        data = mutated(target, source)
        started = time.monotonic()
        failure = attempt(target.check, data)
        slowest = max(slowest, time.monotonic() - started)
        tried += 1
        if failure:
            print(f"{name}: {failure}\nkept as {kept(data, keep)}", flush=True)
            return 1
    print(f"{name}: {tried} inputs, none of them a finding; the slowest took {slowest:.2f} s (seed {seed})")
    return 0


def attempt(check: Callable[[bytes], None], data: bytes) -> str:
    """Return what is wrong with how a reader takes an input; empty if nothing is."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        check(data)
    except TooSlowError:
        return f"slower than {MAX_SECONDS} s"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def kept(data: bytes, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError


# --- mutation -------------------------------------------------------------------------------------


def mutated(target: Target, source: random.Random) -> bytes:
    """Return a seed with one to eight changes."""
    data = bytearray(source.choice(target.seeds))
    for _ in range(source.choice((1, 1, 2, 3, 5, 8))):
        _change(data, target.seeds, target.words, source)
    return bytes(data[: target.max_bytes])


def _change(data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes], source: random.Random) -> None:
    start = source.randrange(len(data) + 1)
    end = min(len(data), start + int(source.expovariate(1 / 16)))
    match source.randrange(9):
        case 0 if start < len(data):
            data[start] ^= 1 << source.randrange(8)
        case 1 if start < len(data):
            data[start] = source.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF, source.randrange(256)))
        case 2:
            del data[start:end]
        case 3:
            data[start:start] = data[start:end] * source.choice((1, 2, 50))
        case 4 if words:
            data[start:start] = source.choice(words)
        case 5 if words:
            word = source.choice(words)
            data[start : start + len(word)] = word
        case 6:
            other = source.choice(seeds)
            cut = source.randrange(len(other) + 1)
            data[start:] = other[cut:]
        case 7:
            place = source.randrange(len(data) + 1)
            data[place:place] = data[start:end]
        case 8 if start + 2 <= len(data):
            number = int.from_bytes(data[start : start + 2], "little") + source.randint(-3, 3)
            data[start : start + 2] = (number & 0xFFFF).to_bytes(2, "little")
        case _:
            pass


# --- atheris --------------------------------------------------------------------------------------


def fuzz_with_atheris(name: str, seconds: float, seed: int, keep: Path) -> None:
    """Let libFuzzer make the inputs; it ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["muniment", "muniment_plugins"]):
        target = load(name)
        # What is imported only when it is needed is to be seen, too.
        for data in target.seeds:
            target.check(data)
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for data in target.seeds:
            kept(data, Path(corpus, "seeds"))
        words = Path(corpus, "words.txt")
        escaped = ["".join([f"\\x{b:02x}" for b in word]) for word in target.words if len(word) < 100]
        words.write_text("".join([f'"{word}"\n' for word in escaped]))
        arguments = [
            name, f"-max_total_time={int(seconds)}", f"-max_len={target.max_bytes}", f"-timeout={MAX_SECONDS}",
            f"-rss_limit_mb={MAX_MEMORY_BYTES >> 20}", f"-dict={words}", f"-seed={seed}", f"-artifact_prefix={keep}/",
            "-print_final_stats=1", str(Path(corpus, "seeds")),
        ]  # fmt: skip
        atheris.Setup(arguments, target.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
