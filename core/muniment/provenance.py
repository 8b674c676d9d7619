"""Which software made something?  Noted in every manifest."""

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from muniment.model import JSON
from muniment.plan import Plan, SinkPath, Step


def made_with(plan: Plan, path: SinkPath) -> dict[str, JSON]:
    """Return the versions of what brings records to a sink: muniment, Python, and each component with its origin."""
    from muniment import __version__

    steps: tuple[Step[Any], ...] = (*plan.sources, *plan.transforms, *path.transforms, path.step)
    return {
        "muniment": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "components": [_described(step) for step in steps],
    }


def _described(step: Step[Any]) -> dict[str, JSON]:
    package = type(step.component).__module__.partition(".")[0]
    said: dict[str, JSON] = {"path": step.path, "type": step.type, "from": _origin(package)}
    normaliser = getattr(step.component, "normaliser", None)
    return said if normaliser is None else {**said, "normaliser": normaliser}


@cache
def _origin(package: str) -> str:
    """Return the distribution that a package came with, and its version; empty where there is none."""
    if package in ("muniment", "muniment_plugins"):
        from muniment import __version__

        return f"muniment {__version__}"
    for name in packages_distributions().get(package, ()):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return ""
