"""How does a message's Markdown stay itself and not leak out of its place?

Text is left as it is but for what would reach beyond the message: headings move two levels down
(message headings have the second level to themselves), code fences are closed and indented whole,
raw HTML other than a few inline tags becomes visible, links with a scheme that runs code are
disarmed, Obsidian's comment marks are escaped.  Every check that costs looks for a sign first.
"""

import html
import re
from collections.abc import Callable, Iterator

from attrs import define

_CONTAINERS = r"(?:[ \t]|>|[-*+][ \t]|\d{1,9}[.)][ \t])*"
_FENCE = re.compile(rf"({_CONTAINERS})(`{{3,}}(?=[^`]*$)|~{{3,}})")
_LINE_START = re.compile(_CONTAINERS)
_HEADING = re.compile(r"#{1,6}(?=[ \t]|$)", re.MULTILINE)
_UNDERLINE = re.compile(r"\n([ \t>]*)(=+|-+)[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_HARMLESS_TAG = re.compile(r"</?(?:br|b|i|u|em|strong|sub|sup|kbd|mark|s|del|ins|small) ?/?>", re.IGNORECASE)
_AUTOLINK = re.compile(r"<(?:https?://|mailto:)[^\s<>`\x00-\x20]*>", re.IGNORECASE)
_MAX_PREFIX = 200
_COMMENT = re.compile(r"%%")
_TICKS = re.compile(r"`+")
_TARGET = re.compile(r"(\](?:\(|:)\s*)(?!https?://|[#/]|mailto:)(<[^>\n]{1,200}|[^\s)]{1,200})")
_IGNORED = re.compile(r"[\s\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff<\\]+")
_RUNS_CODE = re.compile(r"(?:javascript|vbscript|file|data(?!:image/(?:png|jpeg|gif|webp)[;,])):", re.IGNORECASE)


def confined(text: str) -> str:
    """Return Markdown that renders as ``text`` does, within its message."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "```" in text or "~~~" in text:
        return "\n".join(_confined_lines(text))
    return _confined_prose(text)


def fenced(code: str, language: str = "") -> str:
    """Return a code block; its fence is longer than any run of backticks in it."""
    fence = "```"
    if fence in code:
        fence = "`" * (max(len(m[0]) for m in _TICKS.finditer(code)) + 1)
    word = language if language.replace("+", "").replace("#", "").replace("-", "").isalnum() else ""
    return f"{fence}{word}\n{code}\n{fence}"


@define
class _Block:
    """A fence that is open: its sign, how far its lines must be indented, the lines so far."""

    fence: str
    prefix: str
    lines: list[str]

    def add(self, line: str) -> bool:
        """Take a line; return whether it closes the block."""
        sign = line.strip(" \t")
        indent = len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(4))
        closes = len(sign) >= len(self.fence) and not sign.strip(self.fence[0])
        if closes and indent <= len(self.prefix) + 3:
            self.lines.append(" " * len(self.prefix) + sign)
            return True
        self.lines.append(line)
        return False

    def close(self) -> None:
        self.lines.append(" " * len(self.prefix) + self.fence)

    def whole(self) -> Iterator[str]:
        """Yield the block so that it is one code block whether or not it stands in a list item.

        No line may fall out of the item, and nothing before it may take it for its own text.
        """
        first, *rest = self.lines
        if len(self.prefix) > 3 or any(c.isdigit() for c in self.prefix):
            yield ""
        yield first
        blanks = " " * len(self.prefix)
        if any(x and not x.startswith(blanks) and not x.isspace() for x in rest):
            rest = [blanks + x for x in rest[:-1]] + rest[-1:]
        yield from rest


def _confined_lines(text: str) -> Iterator[str]:
    prose: list[str] = []
    block: _Block | None = None
    for line in text.split("\n"):
        if block is not None:
            if block.add(line):
                yield from block.whole()
                block = None
            continue
        opening = _FENCE.match(line) if "```" in line or "~~~" in line else None
        # A fence in a quotation ends with it, so it is as safe as prose, and treated as such.
        if opening is None or ">" in opening[1]:
            prose.append(line)
            continue
        if prose:
            yield _confined_prose("\n".join(prose))
            prose.clear()
        prefix = opening[1].expandtabs(4)
        block = _Block(opening[2], prefix, [prefix + line[opening.end(1) :]])
    if block is not None:
        block.close()
        yield from block.whole()
    elif prose:
        yield _confined_prose("\n".join(prose))


def _confined_prose(text: str) -> str:
    if "#" in text:
        text = _HEADING.sub(_lowered, text)
    if "\n" in text:
        text = _UNDERLINE.sub(_without_underline, text)
    if "](" in text or "]:" in text:
        text = _TARGET.sub(_disarmed, text)
    if "<" in text and _TAG.search(text):
        text = _outside_code(text, _TAG, _shown)
    if "%%" in text:
        text = _outside_code(text, _COMMENT, lambda _text, _at: r"\%\%")
    return text


def _lowered(match: re.Match[str]) -> str:
    text, at, signs = match.string, match.start(), match[0]
    start = text.rfind("\n", max(0, at - _MAX_PREFIX), at) + 1
    if at - start > _MAX_PREFIX or _line_start(text, start) != at:
        return signs
    prefix = text[start:at].expandtabs(4)
    # Indented this far without a list it is code, or a paragraph that goes on.
    if prefix.isspace() and len(prefix) > 3:
        return signs
    return (signs + "##")[:6]


def _without_underline(match: re.Match[str]) -> str:
    """Keep a line under text from making a heading of it; dashes stay a rule."""
    text, at = match.string, match.start()
    if at == 0 or text[at - 1] == "\n":
        return match[0]
    indent, signs = match.groups()
    return f"\n{indent}\\{signs}" if signs[0] == "=" else f"\n{indent}\n{indent}{signs}"


def _disarmed(match: re.Match[str]) -> str:
    target = _IGNORED.sub("", html.unescape(match[2]))
    if not _RUNS_CODE.match(target):
        return match[0]
    opening = "<" if match[2].startswith("<") else ""
    return f"{match[1]}{opening}unsafe:{match[2].removeprefix('<')}"


def _shown(text: str, at: int) -> str:
    """Return what stands for the ``<`` at this place: itself where the tag does no harm."""
    if _AUTOLINK.match(text, at):
        return "<"
    # At the start of a line even a harmless tag may begin an HTML block, in which nothing is Markdown.
    start = text.rfind("\n", max(0, at - _MAX_PREFIX), at) + 1
    if _HARMLESS_TAG.match(text, at) and _line_start(text, start) < at:
        return "<"
    return "&lt;"


def _line_start(text: str, start: int) -> int:
    """Return where the line that starts at ``start`` says something, behind indents, quotes and bullets."""
    return _LINE_START.match(text, start).end()  # type: ignore[union-attr] - it matches nothing, too


def _outside_code(text: str, sign: re.Pattern[str], change: Callable[[str, int], str]) -> str:
    """Replace each ``sign`` that does not stand in inline code."""
    pieces, position = [], 0
    spans = _code_spans(text) if "`" in text else []
    number = 0
    for match in sign.finditer(text):
        at = match.start()
        while number < len(spans) and spans[number][1] <= at:
            number += 1
        if number == len(spans) or spans[number][0] > at:
            pieces += [text[position:at], change(text, at)]
            position = match.end()
    return "".join([*pieces, text[position:]])


def _code_spans(text: str) -> list[tuple[int, int]]:
    """Return where inline code stands.

    Only in paragraphs whose every line has its backticks in pairs: there all ways to divide the text
    into blocks agree on what is code.  Elsewhere a tag is shown as text, in code or not.
    """
    spans, position = [], 0
    for paragraph in text.split("\n\n"):
        found: list[tuple[int, int]] = []
        start = position
        for line in paragraph.split("\n"):
            if "`" in line and not _pair_ticks(line, start, found):
                found = []
                break
            start += len(line) + 1
        spans += found
        position += len(paragraph) + 2
    return spans


def _pair_ticks(line: str, offset: int, found: list[tuple[int, int]]) -> bool:
    """Add the inline code of a line; return whether that settles all its backticks."""
    end = 0
    runs = [m.span() for m in _TICKS.finditer(line)]
    later: dict[int, list[int]] = {}
    for run_start, run_end in reversed(runs):
        later.setdefault(run_end - run_start, []).append(run_end)
    for run_start, run_end in runs:
        same = later[run_end - run_start]
        same.pop()
        if run_start < end:
            continue
        # A backslash frees a backtick, and a bar may end a cell of a table.
        if not same or line[run_start - 1 : run_start] == "\\" or "|" in line[run_end : same[-1]]:
            return False
        end = same[-1]
        found.append((offset + run_start, offset + end))
    return True
