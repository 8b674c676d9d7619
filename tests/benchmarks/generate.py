"""What does a ChatGPT export of any size look like?  Made up, streamed, the same for the same seed.

    python tests/benchmarks/generate.py export.zip --json-mb 1000
    python tests/benchmarks/generate.py small.zip --conversations 50 --layout c --slim

Only the standard library is used and only one conversation is held at a time.  The statistics
follow exports that people have described in public: about 15 messages and 38 KB of JSON per
conversation, a sixth of the conversations branched, a tenth with web citations, a quarter of the
text in other languages than English.  Every word is made from syllables; nobody wrote it.
"""

import argparse
import itertools
import json
import math
import random
import string
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

Layout = Literal["a", "b", "c"]
JSON = Any

STAMP = (2026, 10, 1, 12, 0, 0)  # of every member, so that the same seed gives the same bytes
FLUSH_CHARS = 1 << 20
DEFAULT_SHARD = 100


@dataclass
class Statistics:
    """What an export holds, counted while it is written."""

    conversations: int = 0
    messages: int = 0
    branched: int = 0
    json_bytes: int = 0
    zip_bytes: int = 0
    assets: int = 0
    missing_assets: int = 0
    content_types: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    seconds: float = 0.0


def generate(
    path: str | Path,
    *,
    conversations: int | None = None,
    json_bytes: int | None = None,
    seed: int = 1,
    layout: Layout = "a",
    shard: int | None = None,
    slim: bool = False,
    indent: int | None = None,
    compact: bool = False,
    ascii_only: bool = True,
    chat_html: bool = False,
    asset_bytes: int | None = None,
    personal_data: float = 0.0,
) -> Statistics:
    """Write an export zip to ``path`` and return what it holds.

    Args:
        conversations: stop after so many.
        json_bytes: stop when the conversations take so many bytes; the first limit reached counts.
        layout: ``a`` one `conversations.json`, assets under their names; ``b`` shards and a
            manifest; ``c`` as ``b`` with assets as ``<id>.dat`` and a member that holds their names.
        shard: conversations per file; the default is none for ``a`` and 100 for ``b`` and ``c``.
        slim: leave out what the exports of mid-2026 left out: `children`, `status`, `weight`,
            often `metadata`, and here and there the whole `mapping`.
        ascii_only: escape everything outside ASCII, as the vendor does.
        chat_html: add `chat.html`, which holds every conversation a second time.
        asset_bytes: cap on the bytes of images, 8 % of the JSON by default; images beyond it are
            named by messages and missing.
        personal_data: share of user messages that hold an invented address, number or key.
    """
    if conversations is None and json_bytes is None:
        raise ValueError("give `conversations` or `json_bytes`")
    started = time.perf_counter()
    make = Conversations(
        seed, pool_chars=_pool_chars(conversations, json_bytes), slim=slim, personal_data=personal_data
    )
    separators = (",", ":") if compact else (",", ": ") if indent else (", ", ": ")
    encode = json.JSONEncoder(ensure_ascii=ascii_only, separators=separators, indent=indent).encode
    texts = _texts(make, encode, conversations, json_bytes)
    between = ",\n" if indent else separators[0]
    if shard is None:
        shard = 0 if layout == "a" else DEFAULT_SHARD
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        sizes = _write_conversations(archive, texts, shard, between)
        make.statistics.json_bytes = sum(sizes.values())
        make.statistics.files = list(sizes)
        cap = asset_bytes if asset_bytes is not None else make.statistics.json_bytes * 8 // 100
        _write_assets(archive, make, layout, cap)
        if chat_html:
            again = Conversations(
                seed, pool_chars=_pool_chars(conversations, json_bytes), slim=slim, personal_data=personal_data
            )
            _write_chat_html(archive, _texts(again, encode, conversations, json_bytes))
        _write_sidecars(archive, make, layout, sizes)
    make.statistics.zip_bytes = Path(path).stat().st_size
    make.statistics.seconds = round(time.perf_counter() - started, 1)
    return make.statistics


# --- text -----------------------------------------------------------------------------------

ONSETS = str.split("b br c ch cl cr d dr f fl fr g gr h j k l m n p pl pr qu r s sc sh sp st str t th tr v w")
VOWELS = str.split("a a a e e e i i o o u ai ea ee ou io")
CODAS = ["", "", "", "n", "r", "s", "t", "l", "m", "nd", "ct", "st", "ng", "ck", "x"]
ENDINGS = ["", "", "e", "s", "ed", "ing", "er", "ion", "ly", "al", "ment", "able", "ity", "ive", "ous"]
COMMON = str.split(
    "the of and to a in is that for it you with this as be on are or can an will from not your by if use "
    "which have when all but one so more we they each then also may like into would only how should need "
    "make example first two value what using other new set no has name number want here get just work way "
    "because between different result same where than after some must about any add step could through "
    "while know run many without most think see where even well good part start try find look give help"
)
SENTENCE_SCRIPTS = {  # common words of the language; sentences are drawn from them
    "ru": "и в не на что это как по но они мы из у который за свой весь год от так для данные запрос "
    "пример значение таблица сервер файл строка ошибка проверить создать использовать система функция",
    "de": "der die und in den von zu das mit sich auf für ist im nicht ein eine als auch werden aus hat "
    "größe übersicht prüfen möglich schlüssel häufig Änderung Lösung Beispiel Datei Funktion können über",
    "fr": "le la les de des et à un une en est que pour dans qui sur par avec plus ce pas au sont être "
    "données système français créer requête clé vérifier où déjà très même après fonction erreur méthode",
    "ar": "في من على أن إلى هذا التي كان مع عن ما هو لا بعد كل ذلك قد أو عند قبل البيانات النظام الملف "
    "المستخدم الدالة قيمة مثال جدول خطأ استخدام تشغيل تحديث",
    "he": "של את על לא זה עם הוא היא כי אם או גם יש כל אבל רק עוד נתונים קובץ משתמש מערכת פונקציה ערך טבלה",
}
CHARACTER_SCRIPTS = {  # characters of the language and its comma and full stop
    "zh": (
        "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过"
        "发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前"
        "开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重"
        "数据文件函数查询错误测试服务器用户税务申报翻译结果配置缓存索引",
        "，",
        "。",
    ),
    "ja": (
        "これはそのときにをがでともしますことできるためよりからですまたは日本語変換関数実行結果例外処理"
        "設定方法確認使用可能必要場合検索更新削除追加データベースファイルサーバー",
        "、",
        "。",
    ),
    "ko": (
        "이그저의을를은는에서로와과도가하고다음입니다데이터파일함수검색결과오류설정서버사용자확인방법예제",
        ",",
        ".",
    ),
}
LANGUAGES = {
    "en": 74, "zh": 7, "ja": 2.5, "ko": 1.5, "ru": 4, "de": 4, "fr": 4, "ar": 2, "he": 1,
}  # fmt: skip
CODE_LINES = (
    "def {a}({b}, {c}=None):\n    return {a}.{b}({c})",
    "for {a} in range({n}):\n    {b}[{a}] = {c}({n})",
    "from {a} import {b}",
    "class {a}({b}):\n    {c}: int = {n}",
    'if {a} is not None and {b} > {n}:\n    raise ValueError(f"{a}: {{{b}!r}}")',
    "const {a} = await fetch(`/api/{b}/${{{c}}}`);",
    "SELECT {a}, {b}, COUNT(*) FROM {c} WHERE {a}_id = {n} GROUP BY {a}, {b};",
    'print("{a}", {b}, sep="\\t")',
    "try:\n    {a}({b})\nexcept {c}Error as error:\n    log.warning('%s', error)",
    "$ {a} --{b} {n} | sort -u > {c}.txt",
    '{{"{a}": {{"{b}": {n}, "{c}": null}}}}',
    "fn {a}(&self, {b}: u32) -> Result<{c}, Error> {{ todo({n}) }}",
    "while ({a} < {n}) {{ {b} += {c}[{a}++]; }}",
)
FENCES = ("python", "js", "sql", "bash", "", "rust")
EMOJI = str.split("😀 🚀 ✅ ❌ 🔥 💡 📌 🎯 🧠 ⚠️ 👍 🙏 📊 👩‍💻 🇫🇷")


class Text:
    """Paragraphs per language, drawn once; messages are made of runs of them."""

    def __init__(self, seed: int, chars: int) -> None:
        self._random = random.Random(f"text-{seed}")
        self.words = self._vocabulary(12000)
        weights = _zipf(len(self.words), 1.0)
        total = sum(LANGUAGES.values())
        self.prose = {"en": self._prose(self.words, weights, chars * 62 // 100)}
        for name, line in SENTENCE_SCRIPTS.items():
            words = line.split()
            if name in ("de", "fr"):
                words += self.words[400:1000]
            self.prose[name] = self._prose(words, _zipf(len(words), 0.9), int(chars * LANGUAGES[name] / total))
        for name, (characters, comma, stop) in CHARACTER_SCRIPTS.items():
            size = int(chars * LANGUAGES[name] / total / 2)
            self.prose[name] = self._characters(characters, comma, stop, size)
        self.code = self._code(weights, chars * 14 // 100)

    def _vocabulary(self, size: int) -> list[str]:
        choice = self._random.choice
        words = dict.fromkeys(COMMON)
        while len(words) < size:
            stem = "".join(
                choice(ONSETS) + choice(VOWELS) + choice(CODAS) for _ in range(self._random.choice((1, 2, 2, 3)))
            )
            for ending in self._random.sample(ENDINGS, 3):
                words[stem + ending] = None
        return list(words)

    def _prose(self, words: list[str], weights: list[float], size: int) -> list[str]:
        paragraphs: list[str] = []
        while size > 0:
            drawn = iter(self._random.choices(words, cum_weights=weights, k=4000))
            while sentences := self._sentences(drawn):
                paragraphs.append(" ".join(sentences))
                size -= len(paragraphs[-1])
        return paragraphs

    def _sentences(self, words: Iterator[str]) -> list[str]:
        found: list[str] = []
        for _ in range(1 + int(self._random.random() * 5)):
            drawn = list(itertools.islice(words, 5 + int(self._random.random() * 18)))
            if not drawn:
                break
            if self._random.random() < 0.35:
                drawn[len(drawn) // 2] += ","
            if self._random.random() < 0.12:
                drawn.append(str(int(10 ** (self._random.random() * 6))))
            text = " ".join(drawn)
            found.append(text[:1].upper() + text[1:] + ("." if self._random.random() < 0.9 else "?"))
        return found

    def _characters(self, characters: str, comma: str, stop: str, size: int) -> list[str]:
        weights = _zipf(len(characters), 0.8)
        paragraphs: list[str] = []
        while size > 0:
            drawn = self._random.choices(characters, cum_weights=weights, k=90)
            cuts = range(0, 90, 6 + int(self._random.random() * 12))
            clauses = ["".join(drawn[i : i + cuts.step]) for i in cuts]
            paragraphs.append("".join(c + (comma if self._random.random() < 0.55 else stop) for c in clauses))
            size -= len(paragraphs[-1])
        return paragraphs

    def _code(self, weights: list[float], size: int) -> list[str]:
        names = self._random.choices(self.words, cum_weights=weights, k=4000)
        blocks: list[str] = []
        while size > 0:
            a, b, c = self._random.choice(names), self._random.choice(names), self._random.choice(names)
            lines = [
                line.format(a=a, b=b, c=c, n=int(10 ** (self._random.random() * 5)))
                for line in self._random.choices(CODE_LINES, k=3 + int(self._random.random() * 14))
            ]
            blocks.append("\n".join(lines))
            size -= len(blocks[-1])
        return blocks


def _zipf(size: int, exponent: float) -> list[float]:
    return list(itertools.accumulate((rank + 2.0) ** -exponent for rank in range(size)))


def _pool_chars(conversations: int | None, json_bytes: int | None) -> int:
    """Return how much text to draw from: enough that compressors find no long repeats."""
    expected = min((conversations or 1 << 40) * 38_000, json_bytes or 1 << 60)
    return max(300_000, min(20_000_000, expected // 8))


# --- conversations --------------------------------------------------------------------------

MODELS = str.split("gpt-3.5 gpt-4 gpt-4o gpt-4o-mini o1 o3-mini gpt-5 gpt-5-thinking gpt-5-2 gpt-5-2-thinking")
LETTERS = string.ascii_letters + string.digits
SLIM_CONVERSATION = ("safe_urls", "blocked_urls", "moderation_results", "plugin_ids", "disabled_tool_ids")
IMAGE_METADATA = dict.fromkeys(("dalle", "gizmo", "generation", "container_pixel_height", "asset_pointer_link"))
PERSONAL: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"Write to {_letters(r, 6)}.{_letters(r, 7)}@{_letters(r, 5)}.example today.",
    lambda r: f"Call +1 202 555 {r.randrange(10000):04d} tomorrow.",
    lambda r: f"Card: 4111 1111 1111 {r.randrange(10000):04d}",
    lambda r: "api_key = sk-proj-" + "".join(r.choices(LETTERS, k=48)),
    lambda r: f"The host {r.randrange(1, 255)}.{r.randrange(255)}.{r.randrange(255)}.7 is down.",
)


@dataclass
class _Image:
    id: str
    name: str
    size: int


@dataclass
class _Draft:
    """A conversation being made."""

    id: str
    language: str
    model: str
    time: float
    coding: bool
    web: bool
    nodes: dict[str, dict[str, JSON]] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)

    @property
    def thinks(self) -> bool:
        return "thinking" in self.model or self.model.startswith("o")


class Conversations:
    """Makes one conversation after the other, as the vendor would write it."""

    def __init__(self, seed: int, *, pool_chars: int, slim: bool = False, personal_data: float = 0.0) -> None:
        self.statistics = Statistics()
        self.images: list[_Image] = []
        self.feedback: list[dict[str, JSON]] = []
        self._random = random.Random(seed)
        self._text = Text(seed, pool_chars)
        self._slim = slim
        self._personal_data = personal_data
        self._languages = list(LANGUAGES)
        self._language_weights = list(itertools.accumulate(LANGUAGES.values()))

    def make(self) -> dict[str, JSON]:
        """Return the next conversation."""
        r = self._random
        draft = _Draft(
            id=self._uuid(),
            language=r.choices(self._languages, cum_weights=self._language_weights)[0],
            model=r.choice(MODELS),
            time=round(1.6725e9 + r.random() * 1.22e8, 6),
            coding=r.random() < 0.38,
            web=r.random() < 0.12,
        )
        created = draft.time
        self.statistics.conversations += 1
        current = self._turns(draft, self._opening(draft))
        return self._envelope(draft, created, current)

    def _opening(self, draft: _Draft) -> str:
        root = "client-created-root" if self._random.random() < 0.5 else self._uuid()
        draft.nodes[root] = {"id": root, "message": None, "parent": None, "children": []}
        hidden = {"is_visually_hidden_from_conversation": True}
        current = self._add(draft, root, "system", _text(""), hidden, time=None, end=True, weight=0.0)
        if self._random.random() < 0.4:
            context = {
                "content_type": "user_editable_context",
                "user_profile": self._clip("en", 120),
                "user_instructions": self._clip("en", 160),
            }
            metadata = {**hidden, "is_user_system_message": True}
            current = self._add(draft, current, "user", context, metadata, time=None)
        return current

    def _turns(self, draft: _Draft, current: str) -> str:
        """Add user and assistant turns until the conversation is long enough; return the visible leaf."""
        r = self._random
        wanted = max(2, min(500, int(7.4 * math.exp(r.gauss(0, 1.05)))))
        branched = r.random() < 0.15
        self.statistics.branched += branched
        pace = 5 + r.random() * 60
        first = True
        while first or len(draft.nodes) - 1 < wanted:
            parent, asked, edited = current, "", r.random() < 0.5
            times = 2 + (r.random() < 0.25) if branched and (first or r.random() < 0.18) else 1
            for attempt in range(times):
                if attempt == 0 or edited:
                    asked = self._user_turn(draft, parent)
                draft.time = round(draft.time + pace * (0.3 + r.random()), 6)
                current = self._assistant_turn(draft, asked)
                draft.time = round(draft.time + pace * (0.5 + r.random() * 3), 6)
            first = False
        return current

    def _user_turn(self, draft: _Draft, parent: str) -> str:
        r = self._random
        text = "\n\n".join(self._paragraphs(draft, self._length(210, 1.25), fence=0.25))
        if r.random() < self._personal_data:
            text += "\n\n" + r.choice(PERSONAL)(r)
        metadata: dict[str, JSON] = {
            "selected_sources": [],
            "selected_github_repos": [],
            "serialization_metadata": {"custom_symbol_offsets": []},
            "request_id": self._uuid(),
            "timestamp_": "absolute",
            "turn_exchange_id": self._uuid(),
        }
        if r.random() >= 0.035:
            return self._add(draft, parent, "user", _text(text), metadata)
        part, attachment = self._image()
        metadata["attachments"] = [attachment]
        content = {"content_type": "multimodal_text", "parts": [part, text]}
        return self._add(draft, parent, "user", content, metadata)

    def _image(self) -> tuple[dict[str, JSON], dict[str, JSON]]:
        r = self._random
        image = _Image(
            "file-" + "".join(r.choices(LETTERS, k=22)),
            f"{_letters(r, 8)}.png",
            min(900_000, int(60_000 * math.exp(r.gauss(0, 0.8)))),
        )
        self.images.append(image)
        scheme = "file-service://" if r.random() < 0.4 else "sediment://"
        shape = {"width": 256 + r.randrange(1800), "height": 256 + r.randrange(1800)}
        part = {
            "content_type": "image_asset_pointer",
            "asset_pointer": scheme + image.id,
            "size_bytes": image.size,
            **shape,
            "fovea": None,
            "metadata": {**IMAGE_METADATA, "sanitized": False},
        }
        attachment = {"id": image.id, "size": image.size, "name": image.name, "mime_type": "image/png", **shape}
        return part, attachment

    def _assistant_turn(self, draft: _Draft, current: str) -> str:
        r = self._random
        if draft.thinks and r.random() < 0.8:
            current = self._thoughts(draft, current)
        if draft.coding and r.random() < 0.12:
            current = self._interpreter(draft, current)
        references: list[dict[str, JSON]] = []
        if draft.web and r.random() < 0.6:
            current, references = self._web_search(draft, current)
        text = "\n\n".join(self._marked_up(self._paragraphs(draft, self._length(1290, 0.85), fence=0.55)))
        metadata = self._metadata(draft, current)
        if references:
            text, metadata = self._cite(text, metadata, references)
        answer = self._add(draft, current, "assistant", _text(text), metadata, end=True)
        if r.random() < 0.004:
            self.feedback.append({
                "id": answer, "conversation_id": draft.id, "user_id": "user-invented", "rating": "thumbs_up",
                "content": "{}", "create_time": "2025-03-01T10:00:00.000000+00:00", "workspace_id": None,
            })  # fmt: skip
        return answer

    def _thoughts(self, draft: _Draft, current: str) -> str:
        thoughts = [
            {"summary": p[:40], "content": p, "chunks": [], "finished": True}
            for p in self._run("en", self._length(500, 0.8, 9000))
        ]
        content = {"content_type": "thoughts", "thoughts": thoughts, "source_analysis_msg_id": self._uuid()}
        metadata = {**self._metadata(draft, current), "reasoning_status": "is_reasoning"}
        current = self._add(draft, current, "assistant", content, metadata)
        seconds = self._random.randrange(2, 90)
        metadata = {
            **self._metadata(draft, current),
            "reasoning_status": "reasoning_ended",
            "finished_duration_sec": seconds,
        }
        recap = {"content_type": "reasoning_recap", "content": f"Thought for {seconds}s"}
        return self._add(draft, current, "assistant", recap, metadata)

    def _interpreter(self, draft: _Draft, current: str) -> str:
        code = self._random.choice(self._text.code)
        current = self._call(draft, current, "python", code)
        output = "\n".join(self._random.choices(self._text.code, k=1 + int(self._random.random() * 3)))
        metadata = {
            "aggregate_result": {
                "status": "success", "run_id": self._uuid(), "start_time": draft.time, "code": code,
                "messages": [], "jupyter_messages": [], "final_expression_output": output[:200],
            },
            "parent_id": current,
        }  # fmt: skip
        content = {"content_type": "execution_output", "text": output}
        return self._add(draft, current, "tool", content, metadata, name="python")

    def _web_search(self, draft: _Draft, current: str) -> tuple[str, list[dict[str, JSON]]]:
        query = json.dumps({"search_query": [{"q": self._clip("en", 50)}]})
        current = self._call(draft, current, "web.run", query)
        result = "\n\n".join(f"[{i}] {p}" for i, p in enumerate(self._run("en", self._length(1800, 0.6, 20000))))
        content = {
            "content_type": "tether_browsing_display",
            "result": result,
            "summary": None,
            "assets": None,
            "tether_id": None,
        }
        metadata = {"command": "search", "status": "finished", "parent_id": current}
        current = self._add(draft, current, "tool", content, metadata, name="web.run")
        return current, [self._reference(draft, i) for i in range(2 + int(self._random.random() * 12))]

    def _reference(self, draft: _Draft, index: int) -> dict[str, JSON]:
        host = f"www.{self._random.choice(self._text.words)}.example"
        url = f"https://{host}/{_letters(self._random, 24)}?utm_source=chatgpt.com"
        draft.urls.append(url)
        snippet = self._random.choice(self._text.prose["en"])
        item = {
            "title": snippet[:60], "url": url, "pub_date": None, "snippet": snippet[:300],
            "attribution_segments": None, "supporting_websites": [], "hue": None, "attribution": host,
            "refs": [{"turn_index": 0, "ref_type": "search", "ref_index": index}],
        }  # fmt: skip
        return {
            "matched_text": f"\ue200cite\ue202turn0search{index}\ue201", "start_idx": 0, "end_idx": 0,
            "safe_urls": [url], "refs": [], "alt": f"([{snippet[:12]}]({url}))", "prompt_text": None,
            "type": "grouped_webpages", "items": [item], "fallback_items": None, "status": "done",
        }  # fmt: skip

    def _cite(
        self, text: str, metadata: dict[str, JSON], references: list[dict[str, JSON]]
    ) -> tuple[str, dict[str, JSON]]:
        """Put the marks into the text, with offsets in code points, and the lists into the metadata."""
        for reference in references:
            reference["start_idx"] = len(text)
            text += reference["matched_text"]
            reference["end_idx"] = len(text)
        items = [reference["items"][0] for reference in references]
        # Objects that start with a title, as conversations do, catch splitters that look for `{"title": `.
        footnote = {
            "matched_text": " ", "start_idx": len(text) - 1, "end_idx": len(text), "safe_urls": [], "refs": [],
            "type": "sources_footnote", "has_images": False,
            "sources": [{"title": i["title"], "url": i["url"], "attribution": i["attribution"]} for i in items],
        }  # fmt: skip
        citations = [
            {
                "start_ix": reference["start_idx"],
                "end_ix": reference["end_idx"],
                "citation_format_type": "tether_v4",
                "metadata": {"type": "webpage", "title": item["title"], "url": item["url"], "text": ""},
            }
            for reference, item in zip(references[:4], items[:4], strict=True)
        ]
        return text, {**metadata, "content_references": [*references, footnote], "citations": citations}

    def _call(self, draft: _Draft, parent: str, tool: str, text: str) -> str:
        content = {"content_type": "code", "language": "unknown", "response_format_name": None, "text": text}
        metadata = self._metadata(draft, parent)
        return self._add(draft, parent, "assistant", content, metadata, recipient=tool)

    def _metadata(self, draft: _Draft, parent: str) -> dict[str, JSON]:
        return {
            "citations": [], "content_references": [], "search_result_groups": [], "image_results": [],
            "message_type": "next", "model_slug": draft.model, "default_model_slug": draft.model,
            "parent_id": parent, "request_id": self._uuid(), "timestamp_": "absolute",
            "turn_exchange_id": self._uuid(), "is_complete": True, "model_adjustments": [],
            "finish_details": {"type": "stop", "stop_tokens": [200002]}, "sonic_classification_result": None,
        }  # fmt: skip

    def _add(
        self,
        draft: _Draft,
        parent: str,
        role: str,
        content: dict[str, JSON],
        metadata: dict[str, JSON],
        *,
        time: float | None = -1.0,
        name: str | None = None,
        recipient: str = "all",
        end: bool | None = None,
        weight: float = 1.0,
    ) -> str:
        id_ = self._uuid()
        message: dict[str, JSON] = {
            "id": id_, "author": {"role": role, "name": name, "metadata": {}},
            "create_time": draft.time if time == -1.0 else time, "update_time": None, "content": content,
            "status": "finished_successfully", "end_turn": end, "weight": weight, "metadata": metadata,
            "recipient": recipient, "channel": None,
        }  # fmt: skip
        draft.nodes[id_] = {"id": id_, "message": message, "parent": parent, "children": []}
        draft.nodes[parent]["children"].append(id_)
        self.statistics.messages += 1
        kind = content["content_type"]
        self.statistics.content_types[kind] = self.statistics.content_types.get(kind, 0) + 1
        return id_

    def _envelope(self, draft: _Draft, created: float, current: str) -> dict[str, JSON]:
        r = self._random
        made: dict[str, JSON] = {
            "title": self._clip(draft.language, r.randrange(12, 48)), "create_time": round(created, 6),
            "update_time": draft.time, "mapping": draft.nodes, "moderation_results": [], "current_node": current,
            "plugin_ids": None, "conversation_id": draft.id, "conversation_template_id": None,
            "gizmo_id": f"g-p-{r.getrandbits(128):032x}" if r.random() < 0.05 else None, "gizmo_type": None,
            "is_archived": r.random() < 0.05, "is_starred": None, "safe_urls": draft.urls[:40], "blocked_urls": [],
            "default_model_slug": draft.model, "conversation_origin": None, "is_read_only": None, "voice": None,
            "async_status": None, "disabled_tool_ids": [], "is_do_not_remember": False,
            "memory_scope": "global_enabled", "context_scopes": None, "sugar_item_id": None,
            "sugar_item_visible": False, "pinned_time": None, "is_study_mode": False, "owner": None, "id": draft.id,
        }  # fmt: skip
        return self._thin(made) if self._slim else made

    def _thin(self, conversation: dict[str, JSON]) -> dict[str, JSON]:
        for name in SLIM_CONVERSATION:
            del conversation[name]
        if self._random.random() < 0.02:
            self.statistics.messages -= len(conversation["mapping"]) - 1
            for node in conversation.pop("mapping").values():
                if node["message"]:
                    self.statistics.content_types[node["message"]["content"]["content_type"]] -= 1
            conversation["current_node"] = None
            return conversation
        without_metadata = self._random.random() < 0.5
        for node in conversation["mapping"].values():
            del node["children"]
            if message := node["message"]:
                del message["status"], message["weight"], message["author"]["metadata"]
                if without_metadata:
                    del message["metadata"]
        return conversation

    def _paragraphs(self, draft: _Draft, size: int, *, fence: float) -> list[str]:
        r = self._random
        if draft.language in CHARACTER_SCRIPTS:
            size = max(1, size // 3)
        paragraphs = self._run(draft.language, size)
        if draft.coding and r.random() < fence:
            block = f"```{r.choice(FENCES)}\n{r.choice(self._text.code)}\n```"
            paragraphs.insert(r.randrange(len(paragraphs) + 1), block)
        elif r.random() < 0.04:
            paragraphs.append(r.choice(EMOJI) * r.randrange(1, 5))
        return paragraphs

    def _marked_up(self, paragraphs: list[str]) -> list[str]:
        for i, text in enumerate(paragraphs):
            draw = self._random.random()
            if draw < 0.10:
                paragraphs[i] = f"## {text[:48]}\n\n{text}"
            elif draw < 0.22:
                paragraphs[i] = "\n".join(f"- **{s[:18].strip()}**: {s.strip()}" for s in text.split(". "))
            elif draw < 0.26:
                rows = "\n".join(f"| {s[:20]} | {s[20:40]} |" for s in text.split(". "))
                paragraphs[i] = f"| a | b |\n|---|---|\n{rows}"
            elif draw < 0.32:
                paragraphs[i] = f"{self._random.choice(EMOJI)} {text}"
        return paragraphs

    def _run(self, language: str, size: int) -> list[str]:
        """Return paragraphs of ``language`` that stand one behind the other, about ``size`` characters."""
        pool = self._text.prose[language]
        start = self._random.randrange(len(pool))
        found: list[str] = []
        for i in itertools.count(start):
            found.append(pool[i % len(pool)][: size + 20])
            size -= len(found[-1]) + 2
            if size <= 0:
                return found
        return found

    def _clip(self, language: str, size: int) -> str:
        return self._random.choice(self._text.prose[language])[:size]

    def _length(self, median: int, sigma: float, most: int = 50_000) -> int:
        return max(1, min(most, int(median * math.exp(self._random.gauss(0, sigma)))))

    def _uuid(self) -> str:
        digits = f"{self._random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _text(text: str) -> dict[str, JSON]:
    return {"content_type": "text", "parts": [text]}


def _letters(source: random.Random, count: int) -> str:
    return "".join(source.choices(string.ascii_lowercase, k=count))


# --- the zip --------------------------------------------------------------------------------


def png(size: int, seed: int = 0) -> bytes:
    """Return a valid greyscale PNG of noise, about ``size`` bytes long."""
    noise = random.Random(seed)
    width = min(1024, max(8, size // 8))
    rows = max(1, size // (width + 1))
    pixels = b"".join(b"\0" + noise.randbytes(width) for _ in range(rows))
    header = struct.pack(">IIBBBBB", width, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _texts(
    make: Conversations, encode: Callable[[JSON], str], conversations: int | None, json_bytes: int | None
) -> Iterator[str]:
    size = 0
    for number in itertools.count():
        if number == conversations or (json_bytes is not None and size >= json_bytes):
            return
        text = encode(make.make())
        size += len(text) + 2
        yield text


def _write_conversations(archive: zipfile.ZipFile, texts: Iterator[str], shard: int, between: str) -> dict[str, int]:
    """Write the shards; return the size of each in bytes."""
    sizes: dict[str, int] = {}
    for number in itertools.count():
        name = f"conversations-{number:03d}.json" if shard else "conversations.json"
        first = next(texts, None)
        if first is None and number:
            return sizes
        with archive.open(_member(name), "w", force_zip64=not shard) as stream:
            rest = itertools.islice(texts, shard - 1) if shard else texts
            sizes[name] = _write_array(stream, itertools.chain([first] if first else [], rest), between)
    return sizes


def _write_array(stream: IO[bytes], texts: Iterator[str], between: str) -> int:
    size, pieces, waiting = 0, ["["], 0
    for i, text in enumerate(texts):
        pieces += (between, text) if i else (text,)
        waiting += len(text)
        if waiting > FLUSH_CHARS:
            size += stream.write("".join(pieces).encode())
            pieces, waiting = [], 0
    return size + stream.write("".join([*pieces, "]"]).encode())


def _write_chat_html(archive: zipfile.ZipFile, texts: Iterator[str]) -> None:
    with archive.open(_member("chat.html"), "w", force_zip64=True) as stream:
        stream.write(b"<html><head><title>ChatGPT Data Export</title></head><body><script>\nvar jsonData = ")
        _write_array(stream, texts, ", ")
        stream.write(b";\n</script></body></html>\n")


def _write_assets(archive: zipfile.ZipFile, make: Conversations, layout: Layout, cap: int) -> None:
    names: dict[str, str] = {}
    for number, image in enumerate(make.images):
        if cap < image.size:
            make.statistics.missing_assets = len(make.images) - number
            break
        cap -= image.size
        name = f"{image.id}.dat" if layout == "c" else f"{image.id}-{image.name}"
        names[f"{image.id}.dat"] = image.name
        archive.writestr(_member(name, zipfile.ZIP_STORED), png(image.size, number))
        make.statistics.assets += 1
    if layout == "c":
        archive.writestr(_member("conversation_asset_file_names.json"), json.dumps(names))


def _write_sidecars(archive: zipfile.ZipFile, make: Conversations, layout: Layout, sizes: dict[str, int]) -> None:
    user = {"id": "user-invented", "email": "owner@example.com", "chatgpt_plus_user": True, "phone_number": None}
    archive.writestr(_member("user.json"), json.dumps(user))
    archive.writestr(_member("message_feedback.json"), json.dumps(make.feedback))
    archive.writestr(_member("shared_conversations.json"), "[]")
    if layout != "a":
        manifest = {
            "version": 1,
            "manifest_file": "export_manifest.json",
            "export_files": [{"path": name, "size_bytes": size} for name, size in sizes.items()],
            "logical_files": {"conversations.json": {"files": list(sizes), "sharded": len(sizes) > 1}},
        }
        archive.writestr(_member("export_manifest.json"), json.dumps(manifest))


def _member(name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, STAMP)
    info.compress_type = method
    info.external_attr = 0o644 << 16
    return info


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a made-up ChatGPT export.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--json-mb", type=float, help="stop at so many 10^6 bytes of conversations")
    parser.add_argument("--conversations", type=int, help="stop after so many conversations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layout", choices=("a", "b", "c"), default="a")
    parser.add_argument("--shard", type=int, help="conversations per file")
    parser.add_argument("--slim", action="store_true", help="leave out what exports of mid-2026 left out")
    parser.add_argument("--indent", type=int)
    parser.add_argument("--compact", action="store_true", help="no blanks between tokens")
    parser.add_argument("--no-ascii", action="store_true", help="UTF-8 instead of \\uXXXX")
    parser.add_argument("--chat-html", action="store_true", help="add chat.html with every conversation again")
    parser.add_argument("--assets-mb", type=float, help="cap on images; 8 %% of the JSON by default")
    parser.add_argument("--personal-data", type=float, default=0.0, metavar="SHARE")
    given = parser.parse_args()
    if given.json_mb is None and given.conversations is None:
        parser.error("give --json-mb or --conversations")
    statistics = generate(
        given.path,
        conversations=given.conversations,
        json_bytes=int(given.json_mb * 1e6) if given.json_mb else None,
        seed=given.seed,
        layout=given.layout,
        shard=given.shard,
        slim=given.slim,
        indent=given.indent,
        compact=given.compact,
        ascii_only=not given.no_ascii,
        chat_html=given.chat_html,
        asset_bytes=int(given.assets_mb * 1e6) if given.assets_mb is not None else None,
        personal_data=given.personal_data,
    )
    json.dump(asdict(statistics), sys.stdout)
    print()


if __name__ == "__main__":
    main()
