"""How does a YAML file become a checked plan?  With positions, references and all errors at once."""

from muniment.config.describe import describe_plan
from muniment.config.pipeline import load, parse

__all__ = ["describe_plan", "load", "parse"]
