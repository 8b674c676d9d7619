"""How does an attrs class become YAML options, documentation and a JSON Schema?"""

from collections.abc import Callable
from typing import Any

import attrs


def option(
    help: str,  # noqa: A002 - the name that click and argparse use
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    validator: Any = None,
    identity: bool | None = None,
    choices_from: str = "",
    is_path: bool = False,
    example: Any = None,
) -> Any:
    """Declare an option of a component: an attrs field that carries its documentation.

    Args:
        help: one sentence for the reference page, ``--help`` and the JSON Schema.
        default: the value without the option; without one the option is required.
        factory: makes the default where it is mutable.
        converter: applied to the structured value.
        validator: an attrs validator; its ValueError becomes a configuration problem.
        identity: whether the option changes *what* is stored (part of the plan hash) or only
            where and how fast (False).  By default all but paths are.
        choices_from: a kind of component (``formats``) whose names are the valid values.
        is_path: a path or glob (or a list of them); in a pipeline file it is relative to the
            file's folder.
        example: a value for the documentation.
    """
    metadata = {
        "help": help,
        "identity": not is_path if identity is None else identity,
        "choices_from": choices_from,
        "is_path": is_path,
        "example": example,
    }
    if factory is not None:
        return attrs.field(factory=factory, converter=converter, validator=validator, metadata=metadata)
    return attrs.field(default=default, converter=converter, validator=validator, metadata=metadata)
