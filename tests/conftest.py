"""What all tests share."""

import os

from hypothesis import settings

# CI tries the same examples every time, so that a failure belongs to the change; elsewhere they are new.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
