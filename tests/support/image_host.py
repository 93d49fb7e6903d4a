"""A host of the bed whose daemon runs in a container of its own containerd, from the image that `make image` builds.

The container has what the chart gives it and nothing else: the host's network, a read-only root, no capability, no new
privileges, the default seccomp profile, and four folders of the host: the socket's, the content store (both read-only),
the hosts directory and the data directory. Every command of ours runs in such a container, too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final

from tests.support.bed_hosts import ADMIN_PORT, PEER_PORT, REGISTRY_PORT, BedHost
from tests.support.built_images import BuiltImage
from tests.support.netns import HostLink

NAMESPACE: Final = "peili"
# All that containerd's own default gives a container.
_CAPABILITIES: Final = (
    *(
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
    ),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
# An import unpacks 80 MB; a slow disk takes seconds.
_CTR_TIMEOUT_S: Final = 120.0
_SERIAL: Final = count()


class ImageHost(BedHost):
    """`memory_max_bytes` is the limit of the daemon's container."""

    def __init__(
        self,
        link: HostLink,
        folder: Path,
        binaries: Path,
        bootstrap: str,
        *,
        runtime_binaries: Path,
        image: BuiltImage,
        memory_max_bytes: int | None = None,
        daemon_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(link, folder, binaries, bootstrap)
        self.containerd.runtime_binaries = runtime_binaries
        # In a folder of its own, which is mounted: a socket that is mounted itself is stale once containerd restarts.
        self.containerd.socket = folder / "run" / "containerd.sock"
        self.data_dir = folder / "data"
        self.memory_max_bytes = memory_max_bytes
        self._bootstrap = bootstrap
        self._environment = dict(daemon_environment or {})
        self.container_id = ""
        self.use(image)

    def use(self, image: BuiltImage, *, bootstrap: str = "") -> None:
        """The daemon's next start is of this image. It is told everything by its environment, so that the image's own
        entry point and command run. bootstrap: another address than before."""
        self.image = image
        self._bootstrap = bootstrap or self._bootstrap
        self.container_id = f"daemon-{next(_SERIAL)}"
        environment = {
            "PEILI_CONTAINERD_SOCK": str(self.containerd.socket),
            "PEILI_DATA_DIR": str(self.data_dir),
            "PEILI_HOSTS_DIR": str(self.certs_dir),
            "PEILI_REGISTRY_ADDR": f"127.0.0.1:{REGISTRY_PORT}",
            "PEILI_PEER_ADDR": f"0.0.0.0:{PEER_PORT}",
            "PEILI_ADMIN_ADDR": f"127.0.0.1:{ADMIN_PORT}",
            "PEILI_CLUSTER_SECRET_FILE": str(self.folder / "secret"),
            "PEILI_BOOTSTRAP": f"static:{self._bootstrap}:{PEER_PORT}",
            "PEILI_LOG_LEVEL": "debug",
            **self._environment,
        }
        mounts = [
            (self.containerd.socket.parent, "ro"),
            (self.containerd.content_root, "ro"),
            (self.folder / "secret", "ro"),
            (self.certs_dir, "rw"),
            (self.data_dir, "rw"),
        ]
        self.daemon.command = self._run(
            self.container_id, environment, mounts, memory_max_bytes=self.memory_max_bytes
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        await stack.enter_async_context(self.containerd)
        stack.callback(self._end_containers)
        self.load(self.image)
        await stack.enter_async_context(self.daemon)

    def load(self, image: BuiltImage) -> None:
        self.ctr("image", "import", str(image.tar))

    def ctr(self, *words: str, is_checked: bool = True) -> str:
        done = subprocess.run(
            [*self._ctr(), *words], capture_output=True, text=True, timeout=_CTR_TIMEOUT_S, check=False
        )
        assert done.returncode == 0 or not is_checked, f"ctr {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def peili(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of ours, in a container that may write to the hosts directory only."""
        mounts = [(self.containerd.socket.parent, "ro"), (self.certs_dir, "rw")]
        command = self._run(f"command-{next(_SERIAL)}", {}, mounts, ("/usr/bin/peili", *arguments))
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.link.netns}", *command],
            capture_output=True,
            text=True,
            timeout=_CTR_TIMEOUT_S,
            check=False,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A program of the image that is not ours, with no folder of the host."""
        command = self._run(f"command-{next(_SERIAL)}", {}, [], arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=_CTR_TIMEOUT_S, check=False)

    def task_pid(self) -> int:
        """Of the daemon, as the machine counts."""
        for line in self.ctr("task", "ls").splitlines():
            name, pid, *_ = line.split()
            if name == self.container_id:
                return int(pid)
        raise LookupError(f"containerd runs no {self.container_id}")

    def memory_folder(self) -> Path:
        """Of the daemon's cgroup: version 1's memory controller, or version 2's one tree."""
        for line in Path(f"/proc/{self.task_pid()}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                return Path(f"/sys/fs/cgroup/memory{path}")
            if not controllers and Path(f"/sys/fs/cgroup{path}/memory.max").exists():
                return Path(f"/sys/fs/cgroup{path}")
        raise LookupError("the daemon is in no cgroup that counts memory")

    def _run(
        self,
        container_id: str,
        environment: Mapping[str, str],
        mounts: Sequence[tuple[Path, str]],
        arguments: Sequence[str] = (),
        *,
        memory_max_bytes: int | None = None,
    ) -> list[str | Path]:
        words: list[str | Path] = [*self._ctr(), "run", "--rm", "--net-host", "--read-only", "--seccomp"]
        # Else two beds meet in /run/containerd, and something is left there.
        words += [f"--runc-root={self.folder / 'runc'}", f"--fifo-dir={self.folder / 'fifo'}"]
        # One level: an upper one would be left over.
        words += [f"--cgroup=/peili-{os.getpid()}-{self.folder.name}-{container_id}"]
        words += [f"--cap-drop=CAP_{name}" for name in _CAPABILITIES]
        words += [f"--env={name}={value}" for name, value in environment.items()]
        words += [f"--mount=type=bind,src={path},dst={path},options=rbind:{mode}" for path, mode in mounts]
        if memory_max_bytes is not None:
            words += [f"--memory-limit={memory_max_bytes}"]
        return [*words, self.image.name, container_id, *arguments]

    def _ctr(self) -> list[str | Path]:
        return [
            self.containerd.binaries / "ctr",
            f"--address={self.containerd.socket}",
            f"--namespace={NAMESPACE}",
        ]

    def _end_containers(self) -> None:
        """What a test left running when it failed."""
        for name in self.ctr("container", "ls", "--quiet", is_checked=False).split():
            self.ctr("task", "kill", "--signal=KILL", name, is_checked=False)
            self.ctr("task", "delete", "--force", name, is_checked=False)
            self.ctr("container", "delete", name, is_checked=False)
