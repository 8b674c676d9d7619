"""Write the golden archives of the manifests' version of today; run it once per version, and keep the files for ever.

python tests/proof/make_golden.py
"""

import io
import random
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import archives

from muniment.manifest import VERSION
from muniment_plugins.sinks.sqlite.encode import zstd

GOLDEN = Path(__file__).parents[1] / "data/archives"
KINDS = {"append": "parts, signed", "mirror": "mirror for reading", "database": "sqlite, signed"}


def main() -> None:
    for name, kind in KINDS.items():
        path = GOLDEN / f"manifest-{VERSION}-{name}.{'db' if name == 'database' else 'tar'}.zst"
        if path.exists():
            sys.exit(f"{path} is there already; a golden file is never made anew")
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / ("archive.db" if name == "database" else "archive")
            archives.make(kind, made, random.Random(VERSION), conversations=4)
            path.write_bytes(zstd.compress(made.read_bytes() if made.is_file() else _packed(made), 19))


def _packed(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "state.db"):
            entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
            entry.size, entry.mode = file.stat().st_size, 0o600
            tar.addfile(entry, io.BytesIO(file.read_bytes()))
    return out.getvalue()


if __name__ == "__main__":
    main()
