"""How does a message's Markdown stay itself and not leak out of its place?

Text is left as it is but for what would reach beyond the message: headings move two levels down
(message headings have the second level to themselves), code fences are closed and indented whole,
raw HTML other than a few inline tags becomes visible, links with a scheme that runs code are
disarmed, Obsidian's comment marks are escaped.  Every check that costs looks for a sign first.
"""

import html
import re
from collections.abc import Callable, Iterator

_CONTAINERS = r"(?:[ \t]|>|[-*+][ \t]|\d{1,9}[.)][ \t])*"
_FENCE_SIGN = re.compile(r"`{3}|~{3}")
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
        return "\n".join(_confined_blocks(text))
    return _confined_prose(text)


def fenced(code: str, language: str = "") -> str:
    """Return a code block; its fence is longer than any run of backticks in it."""
    fence = "```"
    if fence in code:
        fence = "`" * (max(len(m[0]) for m in _TICKS.finditer(code)) + 1)
    word = language if language.replace("+", "").replace("#", "").replace("-", "").isalnum() else ""
    return f"{fence}{word}\n{code}\n{fence}"


def _confined_blocks(text: str) -> Iterator[str]:
    position = end = 0
    while end < len(text) and (sign := _FENCE_SIGN.search(text, end)):
        at = sign.start()
        start = text.rfind("\n", 0, at) + 1
        end = _line_end(text, at)
        opening = _FENCE.match(text, start, end)
        # A fence in a quotation ends with it, so it is as safe as prose, and treated as such.
        if opening is None or ">" in opening[1]:
            continue
        if start > position:
            yield _confined_prose(text[position : start - 1])
        prefix = opening[1].expandtabs(4)
        opened = end
        close, end = _closing(text, opened, opening[2], len(prefix) + 3)
        first = text[opening.end(1) : opened].replace("|", " ")  # some readers take a bar for a table
        yield _whole_block(prefix, opening[2], first + text[opened:close].removesuffix("\n"))
        position = end + 1
    if position < len(text):
        yield _confined_prose(text[position:])


def _closing(text: str, start: int, fence: str, indent: int) -> tuple[int, int]:
    """Return where the line that closes a fence starts and ends; the end of the text if none does."""
    end = start
    while (at := text.find(fence, end)) >= 0:
        start, end = text.rfind("\n", 0, at) + 1, _line_end(text, at)
        before = text[start:at]
        closes = not before.strip(" \t") and not text[at:end].rstrip(" \t").strip(fence[0])
        if closes and len(before.expandtabs(4)) <= indent:
            return start, end
    return len(text), len(text)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _whole_block(prefix: str, fence: str, lines: str) -> str:
    """Return a closed code block that is one, whether or not it stands in a list item.

    No line may fall out of the item, and no paragraph before it may take it for its own text.
    """
    if not prefix:
        return f"{lines}\n{fence}"
    first, *rest = lines.split("\n")
    blanks = " " * len(prefix)
    if any(x and not x.startswith(blanks) and not x.isspace() for x in rest):
        rest = [blanks + x for x in rest]
    apart = len(prefix) > 3 or any(c.isdigit() for c in prefix)
    return "\n".join([*([""] if apart else []), prefix + first, *rest, blanks + fence])


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
    match = _LINE_START.match(text, start)
    return match.end() if match else start


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
