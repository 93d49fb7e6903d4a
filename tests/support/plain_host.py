"""A plain host with a root of its own: an overlay over this machine's, in a network namespace, with a real containerd
at the paths where a user has it. What a program changed on it can be read off: nothing of it reaches the machine.

`changes_since` answers whether a host is as it was. It does not know what peili is.
"""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.bed_process import BedProcess
from tests.support.netns import HostLink

# A root that is mounted, and a containerd that answers, are there in a second or two.
WAIT_S: Final = 30.0
_POLL_S: Final = 0.02
# containerd's own: data, sockets, and folders that it makes at its start. Logs.
_NOT_COMPARED: Final = (
    "var/lib/containerd",
    "run/containerd",
    "opt/containerd",
    "var/log",
    "run/nri",
    "var/run/nri",
    "etc/nri",
    "opt/nri",
)
# An overlay's upper layer must not lie below its lower one: both are on a file system of their own.
_MOUNT: Final = """
set -e
mount -t tmpfs -o mode=755 layers {layers}
mkdir {layers}/upper {layers}/work
mount -t overlay -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work root {root}
mount --rbind /proc {root}/proc
mount --rbind /dev {root}/dev
mount --rbind /sys {root}/sys
mount --bind {run} {root}/run
mkdir -p {root}/var/lib/containerd
mount -t tmpfs -o mode=711 data {root}/var/lib/containerd
echo mounted
exec sleep infinity
"""
Value = tuple[int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


class PlainHost:
    """`config`: of containerd, at /etc/containerd/config.toml. Start it from the main thread."""

    def __init__(self, link: HostLink, folder: Path, binaries: Path, config: str) -> None:
        self.link = link
        self.folder = folder
        self._binaries = binaries
        self._config = config
        self._root, self._layers, self._run = (folder / name for name in ("root", "layers", "run"))
        for path in (self._root, self._layers, self._run):
            path.mkdir(parents=True)
        script = _MOUNT.format(root=self._root, layers=self._layers, run=self._run)
        self._holder = BedProcess(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            folder / "holder.log",
            netns=link.netns,
        )
        self.containerd = BedProcess(
            self.words(binaries / "containerd"), folder / "containerd.log", environment=self.environment
        )

    @property
    def socket(self) -> Path:
        """As this machine sees it."""
        return self._run / "containerd" / "containerd.sock"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PATH": f"{self._binaries}:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}

    def path(self, path: str) -> Path:
        """Where this machine sees a path of the host. It must be started."""
        return Path(f"/proc/{self._holder.pid}/root{self._root}{path}")

    def words(self, *command: str | Path) -> list[str | Path]:
        """The command line that runs it there."""
        # By the folder, not by a pid: the shell that holds the mounts has none yet.
        enter = f'exec nsenter --target "$(cat {self.folder}/pid)" --mount --net -- chroot {self._root} "$@"'
        return ["sh", "-c", enter, "sh", *command]

    async def start(self) -> None:
        """With a containerd that answers. Raises: BedProcessError."""
        self._holder.start()
        await self._holder.said("mounted")
        (self.folder / "pid").write_text(str(self._holder.pid))
        config = self.path("/etc/containerd/config.toml")
        config.parent.mkdir(exist_ok=True)
        config.write_text(self._config)
        await self.start_containerd()

    async def start_containerd(self) -> None:
        self.containerd.start()
        deadline_s = time.monotonic() + WAIT_S
        while (await self.run("ctr", "version")).code != 0:
            assert self.containerd.running and time.monotonic() < deadline_s, self.containerd.log()
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        await self.containerd.stop()
        await self._holder.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self, *command: str | Path) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *self.words(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())

    def snapshot(self) -> dict[str, Value]:
        """What differs from the machine's root, and all of /run: by path, its mode, owner, group and bytes."""
        upper = Path(f"/proc/{self._holder.pid}/root{self._layers}/upper")
        changed = [path.relative_to(upper) for path in _walk(upper)]
        in_run = [Path("run") / path.relative_to(self._run) for path in _walk(self._run)]
        return {
            str(path): value
            for path in (*changed, *in_run)
            if not str(path).startswith(_NOT_COMPARED)
            and (value := _value(self.path(f"/{path}"))) is not None
        }

    def changes_since(self, before: Mapping[str, Value]) -> list[str]:
        """Paths whose mode, owner or bytes are not as then, or that are there or gone since. What is not named in a
        snapshot is as on the machine."""
        after = self.snapshot()
        paths = sorted(before.keys() | after.keys())
        return [
            path
            for path in paths
            if (before.get(path) or _of_the_machine(path)) != _value(self.path(f"/{path}"))
        ]


def _of_the_machine(path: str) -> Value | None:
    return None if path.startswith("run/") else _value(Path("/", path))


def _walk(folder: Path) -> Sequence[Path]:
    return sorted(Path(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files))


def _value(path: Path) -> Value | None:
    try:
        told = path.lstat()
    except FileNotFoundError:
        return None
    content = b""
    if stat.S_ISLNK(told.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(told.st_mode):
        content = path.read_bytes()
    return told.st_mode, told.st_uid, told.st_gid, content


def containerd_config(version: str, registry: str = "") -> str:
    """As a user's: all paths are the defaults. `registry`: lines of the CRI plugin's table."""
    is_2 = version.startswith("2.")
    images = "io.containerd.cri.v1.images" if is_2 else "io.containerd.grpc.v1.cri"
    return "\n".join(
        [
            "# The host's own file.",
            f"version = {3 if is_2 else 2}",
            f'[plugins."{images}".registry]',
            *([registry] if registry else []),
            "",
        ]
    )
