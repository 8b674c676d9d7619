"""Apply a function of the user's own to every record."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from attrs import frozen
from msgspec.structs import replace

from muniment import Context, Conversation, Dropped, Effect, PluginError, Record, RecordError, Transform, option


def _is_reference(_map: Any, _option: Any, value: str) -> None:
    module, colon, function = value.partition(":")
    names = [*module.split("."), *function.split(".")]
    if not colon or not all(n.isidentifier() for n in names):
        raise ValueError("must be written `module:function`")


@frozen(kw_only=True)
class Map(Transform):
    """Call ``module:function`` with each `Record`.

    It returns a record or a conversation (what is stored), the record itself (unchanged), or None or
    `Dropped` (left out on purpose).  What it raises puts the record into quarantine.
    """

    effect: ClassVar[Effect] = Effect.ALTERS_CONTENT | Effect.DROPS

    function: str = option("The function to call.", validator=_is_reference, example="my_rules:shorten")
    path: str = option(
        "A folder to look for the module in, after the installed ones; by default that of the pipeline file.",
        default=".",
        is_path=True,
    )
    version: str = option("Change it with the function's code, so that the plan is seen to have changed.", default="")

    def open(self, ctx: Context) -> Callable[[Record], Record | Dropped]:
        """Return the function, wrapped.

        Raises:
            PluginError: the module or the function is not there, or fails on import.
        """
        function = self._find()

        def apply(record: Record) -> Record | Dropped:
            result = function(record)
            if result is None:
                return Dropped(f"map: {self.function}")
            if isinstance(result, Record | Dropped):
                return result
            if isinstance(result, Conversation):
                return replace(record, conversation=result)
            raise RecordError(
                f"`{self.function}` returned {type(result).__name__}; it must return a Record, a Conversation or None"
            )

        return apply

    def _find(self) -> Callable[[Record], Any]:
        module_name, _, name = self.function.partition(":")
        if self.path not in sys.path:
            # At the end, so that no file of the user's hides a module that something else imports later.
            sys.path.append(self.path)
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name.split(".")[0]:
                raise PluginError(f"`{self.function}`: module `{module_name}` needs `{error.name}`") from error
            raise PluginError(
                f"`{self.function}`: there is no module `{module_name}` in `{self.path}`, nor is one installed"
            ) from error
        except Exception as error:
            raise PluginError(
                f"`{self.function}`: importing `{module_name}` failed ({type(error).__name__}: {error})"
            ) from error
        for attribute in name.split("."):
            found = getattr(found, attribute, None)
        if not callable(found):
            raise PluginError(f"`{self.function}`: module `{module_name}` has no function `{name}`")
        return found  # type: ignore[no-any-return]
