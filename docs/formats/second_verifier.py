"""A second verifier: checks an archive by docs/formats/manifest.md alone, without muniment.

    python second_verifier.py FOLDER|ARCHIVE.DB [KEPT-CHECKPOINT [PUBLIC-KEY]]

It needs Python 3.11; with `cryptography` it also checks signatures, with `backports.zstd` (or Python 3.14) records."""

import base64
import contextlib
import hashlib
import importlib
import json
import re
import sqlite3
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

zstd = ed25519 = None
for name in ("compression.zstd", "backports.zstd", "cryptography.hazmat.primitives.asymmetric.ed25519"):
    with contextlib.suppress(ImportError):
        globals()[name.rpartition(".")[2]] = importlib.import_module(name)

DIGEST = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.[^/]*)?$")


def problems(path, since=b"", public_key=""):
    """Return what is wrong with an archive, a sentence each."""
    return list((check_folder if Path(path).is_dir() else check_database)(Path(path), since, public_key))


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf(data):
    return sha256(b"\0" + data)


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"")
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + root(leaves[:split]) + root(leaves[split:]))


def peaks(leaves):
    size = 1 << (len(leaves).bit_length() - 1) if leaves else 0
    return [root(leaves[:size]).hex(), *peaks(leaves[size:])] if leaves else []


def read_note(note):
    text, blank, rest = note.decode("utf-8").rpartition("\n\n")
    lines = text.split("\n")
    if not blank or len(lines) < 3 or not lines[0] or (rest and not rest.endswith("\n")):
        raise ValueError("it is no checkpoint")
    signatures = {}
    for line in rest.split("\n")[:-1]:
        mark, name, encoded = line.split(" ")
        data = base64.b64decode(encoded, validate=True)
        if mark != "\N{EM DASH}" or len(data) != 68 or base64.b64encode(data).decode() != encoded:
            raise ValueError("it has a line that is no signature")
        signatures[name, data[:4].hex()] = data[4:]
    top = base64.b64decode(lines[2], validate=True)
    if str(int(lines[1])) != lines[1] or base64.b64encode(top).decode() != lines[2]:
        raise ValueError("it is not written as it should be")
    return lines[0], int(lines[1]), top, signatures, f"{text}\n".encode()


def is_signed(note, key):
    name, key_id, encoded = key.split("+", 2)
    public = base64.b64decode(encoded, validate=True)
    if sha256(f"{name}\n".encode() + public).hex()[:8] != key_id or public[:1] != b"\1":
        raise ValueError("the public key is damaged")
    *_, signatures, text = read_note(note)
    if ed25519 is None or (name, key_id) not in signatures:
        return (name, key_id) in signatures
    with contextlib.suppress(Exception):
        ed25519.Ed25519PublicKey.from_public_bytes(public[1:]).verify(signatures[name, key_id], text)
        return True
    return False


def problem_of(number, expected, data, before, log, leaves):
    try:
        value = json.loads(data)
        is_old = value["version"] == 1
        if value["number"] != number or number != expected:
            return "the number is not its own"
        if json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=is_old).encode() != data:
            return "it is not canonical"
        fits = is_old or (value.get("tree", []) == peaks(leaves) and value.get("log", "") == log)
        return "" if fits and value.get("previous", "") == before else "it does not fit those before"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it cannot be read"


def check_chain(manifests, note, since, public_key):
    leaves, before, log, signer, parsed = [], "", "", "", {}
    for expected, number in enumerate(sorted(manifests), 1):
        if problem := problem_of(number, expected, data := manifests[number], before, log, leaves):
            yield f"manifest {number}: {problem}"
            return {}
        leaves.append(leaf(data))
        before = sha256(data).hex()
        log = log or before[:32]
        parsed[number] = json.loads(data)
        signer = parsed[number].get("signer", "")
    try:
        for text in filter(None, (note, since)):
            origin, size, top, *_ = read_note(text)
            if origin != f"muniment/log/{log}" or size > len(leaves) or root(leaves[:size]) != top:
                yield "the checkpoint is not of these manifests: another archive, or an older copy"
        if not note and any(v["version"] > 1 for v in parsed.values()):
            yield "the checkpoint is missing"
        key = public_key or signer
        if note and key and (not is_signed(note, key) or (public_key and read_note(note)[1] < len(leaves))):
            yield "the checkpoint is not signed by who should have"
        if note and not key and read_note(note)[3]:
            yield "the checkpoint is signed, and no manifest says by whom"
    except ValueError as error:
        yield f"the checkpoint cannot be read: {error}"
    return parsed


def check_folder(folder, since, public_key):
    own = folder / ".muniment"
    files = list((own / "manifests").glob("*"))
    manifests = {int(f.stem): f.read_bytes() for f in files if re.fullmatch(r"[0-9]{8,}\.json", f.name)}
    if len(files) > len(manifests):
        yield "there are files among the manifests that are none"
    notes = [f for f in (own / "checkpoint", *sorted((own / "checkpoints").glob("*"))[-1:]) if f.is_file()]
    parsed = yield from check_chain(manifests, notes[-1].read_bytes() if notes else b"", since, public_key)
    expected, was = {}, set()
    for manifest in parsed.values():
        for o in manifest.get("objects", ()):
            expected[o["name"]] = o["sha256"], o["size"], {r[0] for r in o["records"]}
            was.update((*r[:2], name, o["sha256"]) for r in o["records"] for name in (o["name"], ""))
        expected |= {name: (DIGEST.search(name)[1], None, set()) for name in manifest.get("assets", ())}
        _ = [expected.pop(name, None) for name in manifest.get("removed", ())]
    gone = yield from check_tombstones(parsed, was)
    yield from (f"{n}: it holds what was purged" for n, v in expected.items() if {(k, n) for k in v[2] & gone} - gone)
    if (view := own / "latest.json").is_file():
        expected |= {o["name"]: (o["sha256"], o["size"], set()) for o in json.loads(view.read_bytes())["objects"]}
    for name, (digest, size, _) in expected.items():
        data = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if not (folder / name).is_file() or sha256(data).hex() != digest or size not in (None, len(data)):
            yield f"{name}: it is not what was stored"
    has_older = any(m["version"] == 1 for m in parsed.values())
    for file in folder.rglob("*") if parsed else ():
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name in expected or re.search(r"(^|/)\.", name):
            continue
        if not has_older or sha256(file.read_bytes()).hex() not in name:
            yield f"{name}: no manifest names it"


def check_tombstones(parsed, was):
    found = [t for m in parsed.values() for t in m.get("event", {}).get("tombstones", ())]
    if any((t["key"], t["hash"], t.get("object", ""), t.get("sha256", "")) not in was for t in found):
        yield "there are tombstones of what never was"
    return {t["key"] for t in found} | {(t["key"], t.get("object")) for t in found if t.get("shredded")}


def check_database(path, since, public_key):
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        try:
            yield from check_tables(lambda sql, *values: connection.execute(sql, values).fetchall(), since, public_key)
        except Exception as error:  # noqa: BLE001 - whatever damaged bytes lead to
            yield f"it cannot be read: {type(error).__name__}"


def check_tables(query, since, public_key):
    yield from (text for (text,) in query("PRAGMA integrity_check(10)") if text != "ok")
    rows = query("SELECT number, run, manifest, checkpoint FROM manifests ORDER BY number")
    manifests = {number: text.encode() for number, _, text, _ in rows}
    last = rows[-1][3].encode() if rows else b""
    parsed = yield from check_chain(manifests, last, since, public_key)
    for number, run, _, note in rows if parsed else ():
        top = root([leaf(manifests[n]) for n in range(1, number + 1)])
        text = f"muniment/log/{sha256(manifests[1]).hex()[:32]}\n{number}\n{base64.b64encode(top).decode()}\n\n"
        if (not (signer := parsed[number].get("signer")) and note != text) or not note.startswith(text):
            yield f"manifest {number}: its checkpoint is another one"
        if run != parsed[number]["run"] or (signer and not is_signed(note.encode(), signer)):
            yield f"manifest {number}: its run or its signature is another one"
    held, keys, was = yield from check_receipts(query, parsed)
    purged = yield from check_tombstones(parsed, was)
    yield from (f"record {keys[no]}: it was purged, and is held" for no in held if held[no] and keys[no] in purged)
    hides = bool(query("SELECT 1 FROM sqlite_master WHERE name='vault'") and query("SELECT 1 FROM vault"))
    head, called = ("head", "c.id") if hides else ("NULL", "c.source||':'||c.id")
    rows = query(f"SELECT conversation, record, {head} FROM versions")  # noqa: S608
    versions = Counter((no, sha256(more + sha256(blob) if more else blob)) for no, blob, more in rows)
    earlier = [json.loads(zstd.decompress(r)) for _, r, _ in rows] if zstd and not hides else []
    named = {a.get("sha256") for record in earlier for a in record.get("assets", ())}
    joined = "conversations c LEFT JOIN records r ON r.conversation = c.no"
    files = held.pop(0, [])
    for no, key, blob, h in query(f"SELECT c.no, {called}, record, {head} FROM {joined}"):  # noqa: S608
        if not held.get(no) or keys[no] != key or sha256(h + sha256(blob) if h else blob or b"") != held[no].pop():
            yield f"record {key}: it is not what was stored"
        elif zstd is not None and not hides:
            record = json.loads(zstd.decompress(blob))
            named.update(a.get("sha256") for a in record.get("assets", ()))
            yield from (f"record {key}: its rows in `{t}` are others" for t in differing(query, no, record))
    if versions != Counter((no, digest) for no, hashes in held.items() for digest in hashes):
        yield "records or earlier versions are missing, changed or extra"
    chunks = {}
    for digest, data in query("SELECT sha256, data FROM asset_chunks ORDER BY sha256, position"):
        chunks.setdefault(digest, hashlib.sha256()).update(data)
    found = {(d, h.hexdigest(), "", "") for d, h in chunks.items()}
    whole = len(files) == len(chunks) if hides else not zstd or named - {None, ""} == set(chunks)
    if not whole or (found - was if hides else any(d != h for d, h, *_ in found)):
        yield "files are missing, changed or extra"
    texts = "account, title, created_at, updated_at, model, current, metadata"
    wrong = f"SELECT 1 FROM conversations WHERE source||message_count<>'0' OR coalesce({texts}) IS NOT NULL"  # noqa: S608
    if hides and query(wrong):
        yield "conversations: there is text in an encrypted archive"
    for table in ("messages", "assets", "records", "parts"):
        owner = "message" if table == "parts" else "conversation"
        if query(f"SELECT 1 FROM {table} WHERE {owner} NOT IN (SELECT no FROM {owner}s)"):  # noqa: S608
            yield f"{table}: there are rows that belong to nothing"
    yield from check_ledger(query, parsed)


def check_receipts(query, parsed):
    leaves, held, keys, was, order = {}, {}, {}, set(), []
    for n, no, key, digest, out in query("SELECT manifest,conversation,key,stored_hash,gone FROM receipts ORDER BY no"):
        entry = [key, digest.hex(), "gone"] if out else [key, digest.hex()]
        data = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
        leaves.setdefault(n, []).append(leaf(data))
        hashes, keys[no] = held.setdefault(no, []), key
        hashes.remove(digest) if out and digest in hashes else hashes.append(digest)
        order.append(was.add((key, digest.hex(), "", "")) or n)
    for number, manifest in parsed.items():
        said, found = manifest.get("records", {"count": 0, "root": root([]).hex()}), leaves.pop(number, [])
        if (said["count"], said["root"]) != (len(found), root(found).hex()):
            yield f"manifest {number}: its receipts were changed"
    if leaves or order != sorted(order):
        yield "there are receipts of no manifest, or in another order"
    return held, keys, was


def check_ledger(query, parsed):
    said = {c["partition"]: c for m in parsed.values() if m.get("unit") for c in [m["unit"]["checkpoint"]]}
    columns = "partition", "fingerprint", "position", "sequence", "finished", "records", "plan_hash", "run"
    rows = [dict(zip(columns, r, strict=True)) for r in query(f"SELECT {','.join(columns)} FROM checkpoints")]  # noqa: S608
    found = {r["partition"]: {**r, "position": json.loads(r["position"])} for r in rows}
    is_whole = parsed and not any("adopted" in m.get("report", {}) for m in parsed.values())
    if any(found.get(k) != v for k, v in said.items()) or (is_whole and said.keys() != found.keys()):
        yield "the checkpoints are not those of the manifests"
    names = "read", "stored", "unchanged", "dropped", "quarantined"
    runs = {r[0]: r[1:] for r in query(f"SELECT run, exit_code, {', '.join(names)} FROM runs")}  # noqa: S608
    ends = {m["run"]: m["report"] for m in parsed.values() if "exit_code" in m.get("report", {})}
    ends = {run: (report["exit_code"], *(report["counts"][n] for n in names)) for run, report in ends.items()}
    ended = {m["run"] for m in parsed.values() if m.get("unit") and runs.get(m["run"], [None])[0] is not None}
    if any(runs.get(run) != end for run, end in ends.items()) or ended - ends.keys():
        yield "a run did not end as the manifests say"


def moment(text):
    return text and datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def differing(query, no, c):
    messages, times = c.get("messages", []), [moment(c.get("created_at")), moment(c.get("updated_at"))]
    said = [*map(c.get, ("source", "id", "account", "title")), *times, c.get("model"), c.get("current"), len(messages)]
    columns = "source, id, account, title, created_at, updated_at, model, current, message_count, metadata"
    ((*found, metadata),) = query(f"SELECT {columns} FROM conversations WHERE no=?", no)  # noqa: S608
    if found != said or (metadata and json.loads(metadata)) != c.get("metadata"):
        yield "conversations"
    columns = "no, position, hidden, metadata, created_at, id, parent_id, role, author, recipient, model, status"
    rows = query(f"SELECT {columns} FROM messages WHERE conversation=? ORDER BY no", no)  # noqa: S608
    found = [(r[0] - rows[0][0], *r[1:3], json.loads(r[3] or "{}"), *r[4:]) for r in rows]
    names, more = columns.split(", ")[5:], ("metadata", "usage", "feedback")
    if found != [
        (i, i, m.get("hidden", 0), {k: m[k] for k in more if m.get(k)}, moment(m.get("created_at")), *map(m.get, names))
        for i, m in enumerate(messages)
    ]:  # fmt: skip
        yield "messages"
    text = {"text": "content", "reasoning": "content", "file": "name"}
    columns = "m.position, p.position, p.type, p.file_id, p.kind, p.text"
    joined = "messages m JOIN parts p ON p.message=m.no WHERE m.conversation=? ORDER BY p.message, p.position, p.no"
    found = query(f"SELECT {columns} FROM {joined}", no)  # noqa: S608
    if [p if p[2] in text else (*p[:5], "") for p in found] != [
        (i, n, p["type"], p.get("file_id"), p.get("kind", ""), p.get(text.get(p["type"]), ""))
        for i, m in enumerate(messages) for n, p in enumerate(m.get("parts", []))
    ]:  # fmt: skip
        yield "parts"
    columns = {"id": "", "name": "", "mime_type": "", "size": None, "sha256": None, "missing": None}
    found = query(f"SELECT {', '.join(columns)} FROM assets WHERE conversation=? ORDER BY id", no)  # noqa: S608
    if found != sorted(tuple(a.get(k, d) for k, d in columns.items()) for a in c.get("assets", ())):
        yield "assets"


if __name__ == "__main__":
    archive, kept, key, *_ = (*sys.argv[1:], "", "")
    found = problems(archive, Path(kept).read_bytes() if kept else b"", key)
    print("\n".join(found) or "sound")
    sys.exit(1 if found else 0)
