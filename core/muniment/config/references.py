"""What do ``${env:NAME}``, ``${env:NAME:-default}`` and ``${secret:...}`` in a pipeline file stand for?

References are replaced after parsing, in text values only: what they give can add no key and
change no other value.  A secret is not read here: `muniment.Secret` keeps where it stands.  ``$${``
is a literal ``${``.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from muniment.secrets import CORE_SCHEMES, Secret, is_reference
from muniment.structure import Reference, closest

Path = tuple[str | int, ...]
Report = Callable[[Path, str], None]

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHOLE_SECRET = re.compile(r"\$\{secret:([^}]+)\}")


def resolve(
    data: Any, environ: Mapping[str, str], report: Report, path: Path = (), *, schemes: Collection[str] = ()
) -> Any:
    """Return ``data`` with its references replaced; ``report`` hears what is wrong, by path.

    ``schemes`` of secrets are those that plugins add.
    """
    if isinstance(data, dict):
        return {k: resolve(v, environ, report, (*path, k), schemes=schemes) for k, v in data.items()}
    if isinstance(data, list):
        return [resolve(v, environ, report, (*path, i), schemes=schemes) for i, v in enumerate(data)]
    if isinstance(data, str) and "${" in data:
        secret = _secret(data, path)
        if secret is None:
            return _replace(data, environ, lambda message: report(path, message))
        known = (*CORE_SCHEMES, *schemes)
        if secret.scheme not in known:
            said = f"unknown secret scheme `{secret.scheme}`, which no installed plugin brings"
            report(path, f"{said}{closest(secret.scheme, known)}")
        return secret
    return data


def without_inner_secrets(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` with an empty text for secrets in its lists and mappings, which are other components' options."""
    return {k: v if isinstance(v, Secret) else _without_secrets(v) for k, v in data.items()}


def _without_secrets(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_secrets(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_without_secrets(v) for v in data]
    return "" if isinstance(data, Secret) else data


def _secret(text: str, path: Path) -> Secret | None:
    """Return the secret that ``text`` names, if it is nothing else."""
    match = _WHOLE_SECRET.fullmatch(text)
    return Secret(match[1], _dotted(path)) if match and is_reference(match[1]) else None


def _replace(text: str, environ: Mapping[str, str], report: Callable[[str], None]) -> str:
    found = [m for m in _REFERENCE.finditer(text) if m[0] != "$${"]

    def value(match: re.Match[str]) -> str:
        return "${" if match[0] == "$${" else _value(match, environ, report)

    replaced = _REFERENCE.sub(value, text)
    return Reference(replaced, found[0][0] == text) if found else replaced


def _value(match: re.Match[str], environ: Mapping[str, str], report: Callable[[str], None]) -> str:
    if not match["end"]:
        report(f"`{match[0]}` has no `}}`; write `$${{` for a literal `${{`")
        return ""
    scheme, _, rest = match["body"].partition(":")
    if scheme == "secret":
        report(
            f"`{match[0]}` cannot be used here: a secret is all of its option's text, and is written"
            " `${secret:env:NAME}` or `${secret:file:PATH}`"
        )
        return ""
    name, has_default, default = rest.partition(":-")
    if scheme != "env" or not _NAME.fullmatch(name):
        report(
            f"unknown reference `{match[0]}`; there is `${{env:NAME}}` and `${{env:NAME:-default}}`, and"
            " `$${` for a literal `${`"
        )
        return ""
    if value := environ.get(name):
        return value
    if not has_default:
        report(f"the environment variable `{name}` is not set; set it, or write `${{env:{name}:-default}}`")
    return default


def _dotted(path: Path) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).removeprefix(".")
