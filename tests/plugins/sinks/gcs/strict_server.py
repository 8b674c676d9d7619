"""A small server of the JSON API of Google Cloud Storage that refuses what its documentation says is refused.

The emulators do not: one answers the question how far an upload is by completing it, the other ignores preconditions,
and none knows retention, holds or wrong checksums. This one keeps objects in memory, over real HTTP, and can lose
requests and answers.
"""

import base64
import json
import random
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
from attrs import define, field

GRAIN = 256 * 2**10


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.reason, self.message, self.headers = status, reason, message, headers or {}
        super().__init__(message)


class Lost(Exception):
    """The connection is cut."""


@define
class Upload:
    bucket: str
    resource: dict[str, Any]
    match: int | None
    kms: str
    data: bytearray = field(factory=bytearray)
    done: dict[str, Any] | None = None


@define
class StrictServer:
    """A context manager. ``before`` and ``behind`` are called with the method and the target of each request, and may
    raise `Refused` or `Lost`: before it is carried out, and when its answer is due."""

    lost: ClassVar[type[Exception]] = Lost
    refused: ClassVar[type[Exception]] = Refused
    before: Callable[[str, str], None] = lambda method, target: None
    behind: Callable[[str, str], None] = lambda method, target: None
    denied: set[str] = field(factory=set)
    page_size: int = 1000
    keeps_at_most: int | None = None
    buckets: dict[str, dict[str, Any]] = field(factory=dict)
    objects: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = field(factory=dict)
    uploads: dict[str, Upload] = field(factory=dict)
    cancelled: set[str] = field(factory=set)
    seen: list[tuple[str, str]] = field(factory=list)
    lock: Any = field(factory=threading.RLock)
    _http: Any = None
    _generation: int = 1000

    def __enter__(self) -> "StrictServer":
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True, args=(0.02,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def names(self, bucket: str) -> list[str]:
        return sorted(name for b, name in self.objects if b == bucket)

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        return self.objects[bucket, name][0]

    def random_faults(self, seed: int, share: float) -> "RandomFaults":
        return RandomFaults(seed, share, self)

    # --- rules ------------------------------------------------------------------------------

    def need(self, permission: str) -> None:
        if permission in self.denied:
            raise Refused(403, "forbidden", f"me@example.org does not have {permission} access to the object.")

    def check(self, bucket: str, name: str, match: int | None) -> None:
        """Refuse a write or a deletion that preconditions, retention or holds forbid."""
        there = self.objects.get((bucket, name))
        generation = int(there[0]["generation"]) if there else 0
        if match is not None and match != generation:
            raise Refused(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        if there:
            self.need("storage.objects.delete")
            self.check_kept(bucket, there[0])

    def check_kept(self, bucket: str, resource: dict[str, Any]) -> None:
        if resource.get("temporaryHold") or resource.get("eventBasedHold"):
            raise Refused(403, "objectUnderActiveHold", "Object is under active hold and cannot be deleted.")
        until = (resource.get("retention") or {}).get("retainUntilTime", "")
        period = self.buckets[bucket].get("retentionPolicy", {}).get("retentionPeriod")
        if period:
            made = datetime.fromisoformat(resource["timeCreated"])
            until = max(until, (made + timedelta(seconds=int(period))).isoformat())
        if until and datetime.fromisoformat(until) > datetime.now(UTC):
            raise Refused(403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy.")

    def make(self, upload: Upload, data: bytes) -> dict[str, Any]:
        """Let an object appear."""
        bucket, name = upload.bucket, upload.resource["name"]
        self.need("storage.objects.create")
        self.check(bucket, name, upload.match)
        crc32c = checksum(data)
        if upload.resource.get("crc32c", crc32c) != crc32c:
            raise Refused(400, "invalid", f"Provided CRC32C does not match calculated CRC32C {crc32c}.")
        if upload.resource.get("retention") and not self.buckets[bucket].get("objectRetention"):
            raise Refused(400, "invalid", "Object retention is not enabled on the bucket.")
        self._generation += 1
        resource = {
            "kind": "storage#object", "storageClass": "STANDARD", **upload.resource, "bucket": bucket,
            "generation": str(self._generation), "size": str(len(data)), "crc32c": crc32c,
            "timeCreated": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        if upload.kms:
            resource["kmsKeyName"] = upload.kms + "/cryptoKeyVersions/1"
        self.objects[bucket, name] = (resource, data)
        return resource


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: StrictServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_one(self.get)

    def do_POST(self) -> None:
        self.handle_one(self.post)

    def do_PUT(self) -> None:
        self.handle_one(self.put)

    def do_DELETE(self) -> None:
        self.handle_one(self.delete)

    def handle_one(self, work: Callable[[], tuple[int, dict[str, str], bytes]]) -> None:
        state = self.server_state
        parts = urlsplit(self.path)
        self.segments = [unquote(s) for s in parts.path.strip("/").split("/")]
        self.query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with state.lock:
                state.seen.append((self.command, self.path))
                try:
                    state.before(self.command, self.path)
                    answer = work()
                    state.behind(self.command, self.path)
                except Refused as refused:
                    error = {"code": refused.status, "message": refused.message, "errors": [{"reason": refused.reason}]}
                    answer = (refused.status, refused.headers, json.dumps({"error": error}).encode())
        except Lost:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    # --- requests ---------------------------------------------------------------------------

    def get(self) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        segments = self.segments[1:] if self.segments[0] == "download" else self.segments
        bucket = self.bucket(segments[3])
        if len(segments) == 5:
            return self.listing(bucket)
        state.need("storage.objects.get")
        found = state.objects.get((bucket, "/".join(segments[5:])))
        wanted = self.query.get("generation")
        if not found or (wanted and wanted != found[0]["generation"]):
            raise Refused(404, "notFound", f"No such object: {bucket}/{segments[5]}")
        resource, data = found
        if self.query.get("alt") != "media":
            return 200, {}, json.dumps(resource).encode()
        headers = {"X-Goog-Generation": resource["generation"], "X-Goog-Hash": f"crc32c={resource['crc32c']}"}
        if asked := re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            return 206, {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
        return 200, headers, data

    def listing(self, bucket: str) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        state.need("storage.objects.list")
        prefix, after = self.query.get("prefix", ""), self.query.get("pageToken", "")
        names = [n for n in state.names(bucket) if n.startswith(prefix) and n > after]
        page = names[: state.page_size]
        found: dict[str, Any] = {"items": [state.resource(bucket, n) for n in page]}
        if len(names) > len(page):
            found["nextPageToken"] = page[-1]
        return 200, {}, json.dumps(found).encode()

    def post(self) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        if self.segments == ["storage", "v1", "b"]:
            resource = json.loads(self.body)
            state.buckets[resource["name"]] = resource
            return 200, {}, self.body
        bucket = self.bucket(self.segments[4])
        state.need("storage.objects.create")
        match = int(self.query["ifGenerationMatch"]) if "ifGenerationMatch" in self.query else None
        if self.query["uploadType"] == "resumable":
            upload = Upload(bucket, json.loads(self.body), match, self.query.get("kmsKeyName", ""))
            state.check(bucket, upload.resource["name"], match)
            number = f"u{len(state.uploads)}"
            state.uploads[number] = upload
            address = f"http://{self.headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={number}"
            return 200, {"Location": address}, b""
        described, media = _parts(self.body)
        upload = Upload(bucket, json.loads(described), match, self.query.get("kmsKeyName", ""))
        return 200, {}, json.dumps(state.make(upload, media)).encode()

    def put(self) -> tuple[int, dict[str, str], bytes]:
        state, upload = self.server_state, self.upload()
        asked = self.headers["Content-Range"]
        if upload.done is not None:
            return 200, {}, json.dumps(upload.done).encode()
        if re.fullmatch(r"bytes \*/\*", asked):
            return self.kept(upload)
        found = re.fullmatch(r"bytes (?:([0-9]+)-([0-9]+)|\*)/([0-9]+|\*)", asked)
        if not found:
            raise Refused(400, "invalid", "Content-Range cannot be read.")
        start = int(found[1]) if found[1] else len(upload.data)
        if start > len(upload.data):
            raise Refused(400, "invalid", "There is a gap between what is kept and what was sent.")
        if found[3] == "*" and len(self.body) % GRAIN:
            raise Refused(400, "invalid", "A chunk must be a multiple of 256 KiB.")
        fresh = self.body[len(upload.data) - start :]
        if state.keeps_at_most is not None:
            fresh, state.keeps_at_most = fresh[: state.keeps_at_most], None
        upload.data += fresh
        if found[3] == "*" or len(upload.data) < int(found[3]):
            return self.kept(upload)
        if (said := self.headers.get("X-Goog-Hash")) and said != f"crc32c={checksum(bytes(upload.data))}":
            raise Refused(400, "invalid", "Provided crc32c does not match what was calculated.")
        upload.done = state.make(upload, bytes(upload.data))
        return 200, {}, json.dumps(upload.done).encode()

    def kept(self, upload: Upload) -> tuple[int, dict[str, str], bytes]:
        return 308, {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}, b""

    def delete(self) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        if "upload_id" in self.query:
            self.upload()
            state.cancelled.add(self.query["upload_id"])
            del state.uploads[self.query["upload_id"]]
            return 499, {}, b""
        bucket, name = self.bucket(self.segments[3]), "/".join(self.segments[5:])
        state.need("storage.objects.delete")
        if (bucket, name) not in state.objects:
            raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
        match = self.query.get("ifGenerationMatch")
        state.check(bucket, name, int(match) if match else None)
        del state.objects[bucket, name]
        return 204, {}, b""

    def bucket(self, name: str) -> str:
        if name not in self.server_state.buckets:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        return name

    def upload(self) -> Upload:
        found = self.server_state.uploads.get(self.query["upload_id"])
        if found is None:
            raise Refused(
                410 if self.query["upload_id"] in self.server_state.cancelled else 404, "notFound", "Not Found"
            )
        return found


@define
class RandomFaults:
    """Loses requests and answers, or answers 503 or 429, for a share of the requests; as `StrictServer.before` and
    `StrictServer.behind`."""

    seed: int
    share: float
    server: StrictServer
    count: int = 0
    _random: random.Random = field(init=False)

    @_random.default
    def _seeded(self) -> random.Random:
        return random.Random(self.seed)

    def before(self, method: str, target: str) -> None:
        if self._random.random() >= self.share:
            return
        self.count += 1
        kind = self._random.choice(("lost", "503", "429", "part"))
        if kind == "lost":
            raise Lost
        if kind == "part" and "upload_id" in target:
            # Of what is sent, only a part is kept.
            self.server.keeps_at_most = GRAIN
        elif kind in ("503", "429"):
            raise Refused(int(kind), "rateLimitExceeded" if kind == "429" else "backendError", "Later.")

    def behind(self, method: str, target: str) -> None:
        if self._random.random() < self.share:
            self.count += 1
            raise Lost


def checksum(data: bytes) -> str:
    sum_ = google_crc32c.Checksum()
    sum_.update(data)
    return base64.b64encode(sum_.digest()).decode()


def _parts(body: bytes) -> tuple[bytes, bytes]:
    """Return the two parts of a `multipart/related` body."""
    boundary = body[: body.index(b"\r\n")]
    second = body.index(b"\r\n" + boundary)
    media = body.index(b"\r\n\r\n", second) + 4
    return body[body.index(b"\r\n\r\n") + 4 : second], body[media : body.rindex(b"\r\n" + boundary)]
