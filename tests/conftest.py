"""What all tests share."""

import os
import sys
import types
from pathlib import Path

from hypothesis import settings

# The modules in tests/services are imported as `services.*`; nothing else below tests/ becomes importable.
if "services" not in sys.modules:
    sys.modules["services"] = types.ModuleType("services")
    sys.modules["services"].__path__ = [str(Path(__file__).with_name("services"))]

pytest_plugins = ["services.fixtures"]

# CI tries the same examples every time, so that a failure belongs to the change; elsewhere they are new.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
