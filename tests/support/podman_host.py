"""A host of the bed with a real Podman, and a daemon with a directory store and a relay: no containerd.

Podman sees an /etc/containers, a /var/lib and a /run of its own; what it stores is a folder a layer (driver vfs). Needs
root.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.support.bed_hosts import REGISTRY_PORT, BedHost
from tests.support.netns import HostLink
from tests.support.own_etc import own_etc

PULL_LIMIT_S: Final = 60.0
# $1: where what is written lands.
_ON_THE_MACHINE: Final = """
set -e
mkdir -p "$1/var/lib" "$1/run"
mount --bind "$1/var/lib" /var/lib
mount --bind "$1/run" /run
shift
exec "$@"
"""
# $1: where what is written lands; $2: /etc/containers; $3: the root.
_IN_A_ROOT: Final = """
set -e
mount -t overlay overlay -o "lowerdir=$3,upperdir=$1,workdir=$1.work" "$2.root"
for each in proc dev sys; do mount --rbind "/$each" "$2.root/$each"; done
mount --bind "$2" "$2.root/etc/containers"
root="$2.root"
shift 3
exec chroot "$root" "$@"
"""


class PodmanHost(BedHost):
    """`binaries`: folders of podman, conmon and runc; or `root`, which has all of them."""

    def __init__(
        self,
        link: HostLink,
        folder: Path,
        bootstrap: str,
        *,
        binaries: tuple[Path, ...] = (),
        root: Path | None = None,
    ) -> None:
        super().__init__(link, folder, Path("no-containerd"), bootstrap)
        self._root = root
        self._written = folder / "podman"
        self._etc = folder / "containers"
        path = ":".join([*map(str, binaries), "/usr/sbin:/usr/bin:/sbin:/bin"])
        self._environment = {"PATH": path, "HOME": "/root"}
        for made in (self._written, self._etc, Path(f"{self._written}.work"), Path(f"{self._etc}.root")):
            made.mkdir()
        (self._etc / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        conmon = [f'"{path}/conmon"' for path in binaries] or ['"/usr/bin/conmon"']
        (self._etc / "containers.conf").write_text(f"[engine]\nconmon_path = [{', '.join(conmon)}]\n")
        self.daemon.command = [
            *(word for word in self.daemon.command if "--containerd-sock=" not in str(word)),
            *("--store=directory", f"--store-dir={folder / 'store'}", "--origin=relay"),
            f"--hosts-dir={self.certs_dir}",
        ]

    async def _start(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.daemon)

    def install_registry(self, registry: str, url: str) -> None:
        super().install_registry(registry, url)
        (self._etc / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
        )

    def configure(self, registry: str, *flags: str) -> None:
        """As docs/clients/podman.md says it."""
        assert not flags
        in_a_path = registry.replace(":", "__")
        with (self._etc / "registries.conf").open("a") as file:
            file.write(
                f'[[registry.mirror]]\nlocation = "127.0.0.1:{REGISTRY_PORT}/{in_a_path}"\ninsecure = true\n'
            )

    async def podman(self, *words: str) -> tuple[int, str]:
        """Exit code and what a user reads."""
        inside: list[str | Path]
        if self._root is None:
            inside = own_etc(self._written, "/etc/containers", self._etc)
            inside += ["sh", "-c", _ON_THE_MACHINE, "sh", self._written]
        else:
            inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _IN_A_ROOT, "sh"]
            inside += [self._written, self._etc, self._root]
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/run/netns/{self.link.netns}"),
            *inside,
            *("podman", "--storage-driver=vfs", *words),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PULL_LIMIT_S):
            output, _ = await process.communicate()
        assert process.returncode is not None, output
        return process.returncode, output.decode()

    def layer_files(self, name: str) -> Iterator[bytes]:
        """The contents of the files of this name, of each layer that Podman has."""
        for path in self._written.glob(f"var/lib/containers/storage/vfs/dir/*/{name}"):
            yield path.read_bytes()
