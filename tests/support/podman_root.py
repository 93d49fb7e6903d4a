"""A small root folder with the Podman of Debian trixie, which needs a newer C library than bookworm has: it runs there
by `chroot`, and nothing of it is installed. `python -m tests.support.podman_root`, or `make client-tools`, unpacks it.

apt says which packages Podman needs, and checks them against the signed index (`tests.support.apt`). No maintainer
script runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.apt import Apt, FetchError, run
from tests.support.debs import ETC_APT, TOOLS
from tests.support.missing import NO_CLIENT_TOOLS, Missing

SUITE: Final = "trixie"
UNPACK: Final = "run `make client-tools` in the checkout (network access needed; some minutes)."
# As in every Debian of 2023 and later: links into /usr.
_MERGED: Final = ("bin", "lib", "lib64", "sbin")
_MOUNT_POINTS: Final = ("dev", "proc", "run", "sys", "tmp", "root", "var/tmp")


def podman_root(tools: Path = TOOLS) -> Path | Missing:
    path = tools / "clients" / f"podman-{SUITE}"
    return path if path.exists() else Missing(NO_CLIENT_TOOLS, f"{path.name} is not unpacked.", UNPACK)


def fetch(tools: Path = TOOLS) -> Path:
    """Raises: FetchError."""
    target = tools / "clients" / f"podman-{SUITE}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".podman-") as name:
        scratch = Path(name)
        apt = Apt.for_suite(SUITE, scratch, ETC_APT)
        plan = run(
            ["apt-get", "install", "--simulate", "--no-install-recommends", "podman"],
            environment={"APT_CONFIG": str(apt.config), "LC_ALL": "C"},
        )
        packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
        if "podman" not in packages:
            raise FetchError(f"apt's plan holds no podman: {plan[-300:]}")
        root = scratch / "root"
        for folder in (*_MOUNT_POINTS, "usr/lib64"):
            (root / folder).mkdir(parents=True)
        for link in _MERGED:
            (root / "usr" / link).mkdir(exist_ok=True)
            (root / link).symlink_to(f"usr/{link}")
        for deb in apt.download_all(packages):
            # Not `dpkg-deb -x`, which would put a folder in the place of a link.
            packed = subprocess.run(
                ["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True
            ).stdout
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], input=packed, check=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        shutil.rmtree(root / "etc/containers", ignore_errors=True)
        (root / "etc/containers").mkdir()
        root.rename(target)
    return target


def main() -> int:
    try:
        root = fetch()
    except FetchError as error:
        print(f"podman: {error}", file=sys.stderr)
        return 1
    print(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
