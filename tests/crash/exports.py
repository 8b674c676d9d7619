"""What does the next export of the same person look like?"""

import copy
import json
import random
import zipfile
from pathlib import Path


def newer_export(base: Path, path: Path, rng: random.Random) -> None:
    """Write an export that continues every fifth conversation of ``base``, drops some, adds some."""
    with zipfile.ZipFile(base) as z, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        conversations = json.loads(z.read("conversations.json"))
        kept = [c for i, c in enumerate(conversations) if i % 17]
        for conversation in kept[::5]:
            leaf = conversation["current_node"]
            node = copy.deepcopy(conversation["mapping"][leaf])
            node["id"] = node["message"]["id"] = f"{rng.getrandbits(128):032x}"
            node["parent"], node["children"] = leaf, []
            conversation["mapping"][node["id"]] = node
            conversation["current_node"] = node["id"]
            conversation["update_time"] += 60
        for conversation in kept[1::7]:
            new = copy.deepcopy(conversation)
            new["id"] = new["conversation_id"] = f"{rng.getrandbits(128):032x}"
            kept.append(new)
        out.writestr("conversations.json", json.dumps(kept))
        for name in z.namelist():
            if not name.startswith("conversations"):
                out.writestr(name, z.read(name))
