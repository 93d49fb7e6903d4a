"""Builds programs that Debian does not have into `.tools/clients/`: `python -m tests.support.client_tools_build`, or
`make client-tools`. So far nerdctl.

nerdctl's `go install` fails: a part of its tests lies beside `main`, and needs a module that was never released. So the
module is copied without that part, and built with its own go.mod and go.sum, which hold the hash of every other module.
Its own hash stands here. The proxy is the one that Go is set up with.

Measured on two cores: 3 min 30 s at low priority, 2 min of CPU, 29 MB. Needs Go 1.24 and 2 GB below Go's caches.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.debs import TOOLS
from tests.support.missing import NO_CLIENT_TOOLS, Missing

# For containerd 1.7 and 2.x.
NERDCTL_VERSION: Final = "v2.1.3"
NERDCTL_SUM: Final = "h1:8QpZrEdTFE0V26kVpeKz8/EyQQfh9VAQTx+PdjSJF1A="
_MODULE: Final = "github.com/containerd/nerdctl/v2"
# What stands in the way; of tests only.
_TESTS: Final = ("cmd/nerdctl/helpers/testing.go", "cmd/nerdctl/helpers/testing_linux.go")
_UNRELEASED: Final = "github.com/containerd/nerdctl/mod/tigron"
BUILD: Final = "run `make client-tools` in the checkout (Go 1.24 and network access needed; some minutes)."


class BuildError(Exception):
    """The module is not the one whose hash stands here."""


def nerdctl(tools: Path = TOOLS) -> Path | Missing:
    path = tools / "clients" / f"nerdctl-{NERDCTL_VERSION}"
    return path if path.exists() else Missing(NO_CLIENT_TOOLS, f"{path.name} is not built.", BUILD)


def build(tools: Path = TOOLS) -> Path:
    """Raises: BuildError, subprocess.CalledProcessError."""
    target = tools / "clients" / f"nerdctl-{NERDCTL_VERSION}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".nerdctl-") as name:
        folder = Path(name)

        def go(*words: str, cwd: Path) -> str:
            return subprocess.run(
                ["go", *words], cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        (folder / "empty").mkdir()
        found = json.loads(
            go("mod", "download", "-json", f"{_MODULE}@{NERDCTL_VERSION}", cwd=folder / "empty")
        )
        if found["Sum"] != NERDCTL_SUM:
            raise BuildError(f"{_MODULE} {NERDCTL_VERSION} is {found['Sum']}, not {NERDCTL_SUM}")
        source = folder / "source"
        # Modules in Go's cache are read-only, files and folders.
        shutil.copytree(found["Dir"], source, copy_function=shutil.copyfile)
        for path in (source, *source.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for one in _TESTS:
            (source / one).unlink()
        go("mod", "edit", f"-droprequire={_UNRELEASED}", f"-dropreplace={_UNRELEASED}@v0.0.0", cwd=source)
        flags = f"-s -w -X {_MODULE}/pkg/version.Version={NERDCTL_VERSION}"
        go(
            "build",
            "-trimpath",
            "-ldflags",
            flags,
            "-o",
            str(folder / "nerdctl"),
            "./cmd/nerdctl",
            cwd=source,
        )
        (folder / "nerdctl").rename(target)
    return target


def main() -> int:
    if shutil.which("go") is None:
        print("nerdctl is built with Go 1.24 or later; there is no `go` on this machine", file=sys.stderr)
        return 1
    try:
        print(build())
    except (BuildError, subprocess.CalledProcessError) as error:
        print(f"nerdctl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
