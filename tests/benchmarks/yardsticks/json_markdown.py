"""The script that most people write for Markdown: json.load, one file per conversation, the visible path.

python json_markdown.py export.zip directory
"""

import json
import re
import sys
import zipfile
from pathlib import Path

source, target = sys.argv[1], Path(sys.argv[2])
target.mkdir(exist_ok=True)
count = 0
with zipfile.ZipFile(source) as archive:
    data = json.load(archive.open("conversations.json"))
for conversation in data:
    path, current = [], conversation["current_node"]
    while current:
        path.append(conversation["mapping"][current])
        current = path[-1]["parent"]
    lines = [f"# {conversation['title']}\n"]
    for node in reversed(path):
        message = node["message"]
        if message and message["author"]["role"] in ("user", "assistant"):
            text = "\n".join(p for p in message["content"].get("parts", []) if isinstance(p, str))
            if text:
                lines.append(f"## {message['author']['role']}\n\n{text}\n")
                count += 1
    name = re.sub(r"\W+", "_", conversation["title"])[:60] + "_" + conversation["id"][:8] + ".md"
    (target / name).write_text("\n".join(lines), encoding="utf-8")
print(count)
