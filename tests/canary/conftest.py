"""The modules of this folder are imported as `canary.*`."""

import sys
import types
from pathlib import Path

if "canary" not in sys.modules:
    sys.modules["canary"] = types.ModuleType("canary")
    sys.modules["canary"].__path__ = [str(Path(__file__).parent)]
