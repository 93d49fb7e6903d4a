"""A host to copy commands to: the paths, ports and addresses of a real one, seen by what runs there and nobody else.

/etc is a copy, /run and /var/lib are empty, the network is its own; the rest is the machine's. A real
containerd runs where one does by default. Which commands, is the caller's. Needs root.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.bed_process import BedProcess

# The longest is the import of an image, about 2 s on two idle cores; the rest is room for a loaded machine.
COMMAND_TIMEOUT_S: Final = 60.0
_UNSHARE: Final = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c"]
_SET_UP: Final = """
set -e
mkdir -p "$0/etc"
mount -t tmpfs tmpfs "$0/etc"
cp -a /etc/. "$0/etc"
rm -rf "$0/etc/containerd"
mkdir "$0/etc/containerd"
mount --bind "$0/etc" /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
ip link set lo up
echo ready
exec sleep infinity
"""
# containerd would make /opt/containerd, and /opt is the machine's.
_OPT: Final = "[plugins.'io.containerd.internal.v1.opt']\npath = '/var/lib/opt'\n"


class CommandError(Exception):
    """A command did not end with 0; the message holds its words."""


class CommandHost:
    """`async with CommandHost(folder) as host: host.run("peili configure")`. `folder`: where commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._binaries: list[Path] = [Path(sys.executable).parent]
        self._stack = AsyncExitStack()
        self._holder = BedProcess([*_UNSHARE, _SET_UP, folder / ".host"], folder / "host.log")

    async def __aenter__(self) -> Self:
        (self.folder / ".host").mkdir()
        self._holder.start()
        # What was mounted goes with the last process inside.
        self._stack.push_async_callback(self._holder.stop)
        try:
            await self._holder.said("ready")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int:
        """Of the process that holds the namespaces."""
        return self._holder.pid

    async def start_containerd(self, binaries: Path, config: str) -> None:
        """`config`: what stands in /etc/containerd/config.toml."""
        self._binaries.insert(0, binaries)
        (self._root / "etc/containerd/config.toml").write_text(config + _OPT)
        containerd = self.process("containerd", "containerd")
        await self._stack.enter_async_context(containerd)
        await containerd.said("containerd successfully booted")

    def run(self, text: str) -> str:
        """What the command printed. Raises: CommandError."""
        done = subprocess.run(
            self._inside(text), capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
        )
        if done.returncode:
            raise CommandError(f"{text}: {done.returncode}\n{done.stderr}{done.stdout}")
        return done.stdout

    def process(self, text: str, name: str) -> BedProcess:
        """The command as a program that goes on; its log is NAME.log."""
        return BedProcess(self._inside(f"exec {text}"), self.folder / f"{name}.log")

    def files(self, folder: str) -> dict[str, bytes]:
        """Path below the folder to content; a directory has none. Empty where there is no such folder."""
        top = self._root / folder.lstrip("/")
        return {
            str(path.relative_to(top)): path.read_bytes() if path.is_file() else b""
            for path in sorted(top.rglob("*"))
        }

    @property
    def _root(self) -> Path:
        return Path(f"/proc/{self.pid}/root")

    def _inside(self, text: str) -> list[str]:
        path = ":".join([*map(str, self._binaries), "/usr/sbin:/usr/bin:/sbin:/bin"])
        environment = [f"PATH={path}", "HOME=/root", "LC_ALL=C.UTF-8", "PYTHONUNBUFFERED=1"]
        enter = f"nsenter --target {self.pid} --mount --net -- env -i --chdir={self.folder}".split()
        return [*enter, *environment, "sh", "-c", text]


@asynccontextmanager
async def linked(folder: Path, addresses: Sequence[str]) -> AsyncIterator[tuple[CommandHost, CommandHost]]:
    """Two hosts on one cable, with these addresses of one /24."""
    async with AsyncExitStack() as stack:
        hosts = []
        for address in addresses:
            (folder / address).mkdir()
            hosts.append(await stack.enter_async_context(CommandHost(folder / address)))
        first, second = hosts
        _ip(first, f"link add eth0 type veth peer name eth0 netns {second.pid}")
        for host, address in zip(hosts, addresses, strict=True):
            _ip(host, f"addr add {address}/24 dev eth0")
            _ip(host, "link set eth0 up")
        yield first, second


def _ip(host: CommandHost, words: str) -> None:
    host.run(f"ip {words}")


def shell(text: str, folder: Path, *programs: Path) -> subprocess.CompletedProcess[str]:
    """The command on this machine, with these programs before its own."""
    path = [*map(str, programs), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    return subprocess.run(
        ["sh", "-c", text],
        cwd=folder,
        env={"PATH": ":".join(path), "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
