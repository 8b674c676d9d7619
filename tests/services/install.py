"""What brings the servers onto this machine, and only those that are not there.

Packages come from wherever this machine's own pip, apt-get and npm are set up to get them.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
AZURITE = "azurite@3.37.0"
EXTRAS = ("test-servers", "test-servers-optional")


class InstallError(Exception):
    """Something could not be fetched; the words say what and why."""


def cache() -> Path:
    """Return the folder for what is fetched once and kept: `MUNIMENT_TEST_CACHE`, or the machine's or user's cache."""
    if given := os.environ.get("MUNIMENT_TEST_CACHE"):
        return Path(given)
    base = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
    return base / "muniment-test-servers"


def mysql_tree() -> Path:
    """Return the folder that holds MySQL's files as Debian's packages lay them out."""
    return cache() / "mysql"


def install_wheels(distributions: Iterable[str]) -> None:
    """Have pip install these, in the versions that pyproject.toml names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    wanted = {name.lower() for name in distributions}
    lines = [line for extra in EXTRAS for line in extras[extra] if line.partition("=")[0].lower() in wanted]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", "--constraint", ROOT / "requirements/dev.txt", *lines])


def install_packages(packages: Iterable[str]) -> None:
    """Have apt-get install Debian's packages that are missing; no service is started."""
    missing = [name for name in packages if not is_installed(name)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise InstallError(f"{' '.join(missing)}: install them by this system's own means, there is no apt-get")
    if os.geteuid() != 0:
        raise InstallError(f"apt-get needs root: sudo apt-get install --no-install-recommends {' '.join(missing)}")
    subprocess.run(["apt-get", "update", "-qq"], check=False)  # one source of many may be away
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    with ServicesDenied():
        run(command, {"DEBIAN_FRONTEND": "noninteractive"})


def is_installed(package: str) -> bool:
    """Tell whether dpkg knows it as installed."""
    if not shutil.which("dpkg-query"):
        return False
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


class ServicesDenied:
    """While this holds, Debian's packages start no service: the tests start servers of their own."""

    policy = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self.mine = not self.policy.exists()
        if self.mine:
            self.policy.write_text("#!/bin/sh\nexit 101\n")
            self.policy.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.mine:
            self.policy.unlink(missing_ok=True)


def fetch_azurite() -> None:
    """Have npm put Azurite into the cache."""
    if not shutil.which("npm"):
        raise InstallError("azurite: npm is not installed")
    folder = cache() / "azurite"
    folder.mkdir(parents=True, exist_ok=True)
    run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", folder, AZURITE])


def fetch_mysql() -> None:
    """Unpack MySQL of Debian unstable, with the libraries it needs, from the mirror that this machine uses."""
    tree = mysql_tree()
    state = tree.with_suffix(".apt")
    sources = sorted({*targets("$(REPO_URI)", "Origin: Debian", "Label: Debian")})
    if not sources or not KEYS.exists():
        raise InstallError("mysql: fetched from Debian unstable, but apt-get knows no mirror of Debian here")
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYS}] {sources[0]} sid main\n")
    settings = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
    run([*apt, "update"])
    run([*apt, "-y", "--download-only", "install", "mysql-server-core"])
    partial = tree.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for package in sorted((state / "cache/archives").glob("*.deb")):
        unpack = f'dpkg-deb --fsys-tarfile "{package}" | tar -x -C "{partial}" --keep-directory-symlink'
        run(["bash", "-o", "pipefail", "-c", unpack])
    shutil.rmtree(tree, ignore_errors=True)
    partial.rename(tree)
    shutil.rmtree(state)


def targets(what: str, *filters: str) -> list[str]:
    """Return a property of the package lists that apt-get uses."""
    command = ["apt-get", "indextargets", "--format", what, "Created-By: Packages", *filters]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        return []


def run(command: list[str | Path], env: dict[str, str] | None = None) -> None:
    """Run an installer; raise with its last words when it fails."""
    words = list(map(str, command))
    done = subprocess.run(words, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(words[:3])} ... failed: {(done.stderr or done.stdout)[-1500:].strip()}")
