"""Builds a real kube-apiserver into `.tools/kube/`: `python -m tests.support.kube_apiserver_build`, or
`make kube-apiserver`.

k8s.io/kubernetes cannot be installed with `go install`: it names its staging modules as v0.0.0 and replaces them with
folders that its module archive does not hold. The module in tests/support/kube_apiserver replaces each with the release
of the same number instead; go.sum holds the hash of every module. The proxy is the one that Go is set up with. It does
not carry all releases of all staging modules: 1.35.4 is one for which it has all that is needed (k8s.io/code-generator
of 0.35.2 included, of which nothing is compiled in).

Measured on two cores: 3 min 12 s, 6 min of CPU, 103 MB. Needs Go 1.25 and 3 GB below Go's caches.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.debs import TOOLS
from tests.support.missing import NO_KUBE_APISERVER, Missing

MODULE: Final = Path(__file__).parent / "kube_apiserver"
BUILD: Final = "run `make kube-apiserver` in the checkout (Go 1.25 and network access needed; some minutes)."


def version() -> str:
    found = re.search(
        r"^\tk8s\.io/kubernetes v([0-9.]+)$|^require k8s\.io/kubernetes v([0-9.]+)$", _go_mod(), re.M
    )
    assert found is not None
    return found[1] or found[2]


def kube_apiserver(tools: Path = TOOLS) -> Path | Missing:
    path = tools / "kube" / f"kube-apiserver-{version()}"
    return path if path.exists() else Missing(NO_KUBE_APISERVER, f"{path.name} is not built.", BUILD)


def build(tools: Path = TOOLS) -> Path:
    """Raises: subprocess.CalledProcessError."""
    target = tools / "kube" / f"kube-apiserver-{version()}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.new")
    major, minor, _ = version().split(".")
    stamps = {"gitVersion": f"v{version()}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={text}" for name, text in stamps.items())
    command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(unfinished), "."]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    subprocess.run(command, cwd=MODULE, env=environment, check=True)
    unfinished.rename(target)
    return target


def _go_mod() -> str:
    return (MODULE / "go.mod").read_text()


def main() -> int:
    if shutil.which("go") is None:
        print(
            "kube-apiserver is built with Go 1.25 or later; there is no `go` on this machine", file=sys.stderr
        )
        return 1
    print(build())
    return 0


if __name__ == "__main__":
    sys.exit(main())
