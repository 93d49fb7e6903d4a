"""Two hosts whose images are pulled by another client than the kubelet: Docker, nerdctl or ctr, each with a daemon, and
an origin in the test's process, on the same network, that notes who asked for what.

It judges nothing. Needs root: `tests.support.skips.netns_or_missing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from containerd.client import Client
from tests.support.bed_hosts import BedHost
from tests.support.client_tools_build import nerdctl
from tests.support.containerd_calls import read
from tests.support.docker_host import NAMESPACE, PULL_LIMIT_S, DockerHost
from tests.support.netns import HostLink, Network
from tests.support.oci_image import Image
from tests.support.own_etc import own_etc
from tests.support.skips import netns_or_missing, require, tool_bin
from tests.support.token_origin import TokenOrigin

# In the User-Agent of what the daemons ask.
_OURS: Final = "peili"


@dataclass(frozen=True, slots=True)
class ClientKind:
    """`program`: docker, nerdctl or ctr. `version`: of containerd. `flags`: of the program's own."""

    program: str
    version: str = "2.1"
    namespace: str = "default"
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join(
            [self.program, self.version, self.namespace, *(flag.strip("-") for flag in self.flags)]
        )


DOCKER: Final = ClientKind("docker", namespace=NAMESPACE)


class ClientHost:
    def __init__(self, kind: ClientKind, link: HostLink, folder: Path, bootstrap: str) -> None:
        self.kind = kind
        binaries = tool_bin(f"containerd-{kind.version}")
        self.host: BedHost
        if kind.program == "docker":
            docker = (tool_bin("docker"), tool_bin("runc"))
            self.host = DockerHost(link, folder, binaries, docker, bootstrap)
        else:
            flags = [f"--containerd-namespace={kind.namespace}", f"--hosts-dir={folder / 'certs.d'}"]
            self.host = BedHost(link, folder, binaries, bootstrap, daemon_flags=flags)

    async def pull(self, image: str) -> str:
        """ "" where it succeeded, else what its user reads."""
        if isinstance(self.host, DockerHost):
            return await self.host.docker_pull(image)
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/run/netns/{self.host.link.netns}"),
            *self._command(image),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.host.folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PULL_LIMIT_S):
            output, _ = await process.communicate()
        return output.decode() or "no word" if process.returncode else ""

    def _command(self, image: str) -> list[str | Path]:
        to = [f"--address={self.host.containerd.socket}", f"--namespace={self.kind.namespace}"]
        if self.kind.program == "nerdctl":
            # Without --hosts-dir: it looks where configure writes by default.
            state = self.host.folder / "nerdctl"
            state.mkdir(exist_ok=True)
            inside = own_etc(state, "/etc/containerd/certs.d", self.host.certs_dir)
            return [*inside, require(nerdctl()), *to, f"--data-root={state}", "pull", *self.kind.flags, image]
        program = self.host.containerd.binaries / "ctr"
        more = ["images", "pull", f"--hosts-dir={self.host.certs_dir}", *self.kind.flags]
        return [program, *to, *more, image]

    async def held(self, digest: str) -> bytes:
        """What its containerd has. Raises: NotFound."""
        async with Client(self.host.containerd.socket) as client:
            return await read(client.content(self.kind.namespace), digest)


@dataclass(frozen=True, slots=True)
class ClientBed:
    origin: TokenOrigin
    first: ClientHost
    second: ClientHost

    @property
    def hosts(self) -> tuple[ClientHost, ClientHost]:
        return self.first, self.second

    def add(self, image: Image, repository: str) -> tuple[str, str]:
        """Its names by tag and by digest."""
        self.origin.add(image, repository, "v1")
        name = f"{self.origin.authority}/{repository}"
        return f"{name}:v1", f"{name}@{image.manifest.digest}"

    def asked(self, since: int = 0) -> list[str]:
        """Of the origin, by clients; as `Asked.short`, in order."""
        return [
            exchange.asked.short
            for exchange in self.origin.journal[since:]
            if _OURS not in exchange.asked.headers.get("user-agent", "") and exchange.asked.kind != "ping"
        ]

    async def known(self, image: Image) -> None:
        """Returns when both hosts know that the first one has it."""
        count = len(list(image))
        first = self.first.host
        await first.wait(lambda: first.counted("announced_digests") >= count)
        records_count = first.counted("announced_digests")
        await first.wait(lambda: all(it.host.counted("records") >= records_count for it in self.hosts))


@asynccontextmanager
async def client_bed(folder: Path, kind: ClientKind) -> AsyncIterator[ClientBed]:
    """Both hosts are configured for the origin, run, and know each other."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    if kind.program == "nerdctl":
        require(nerdctl())
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(2))
        origin = await stack.enter_async_context(TokenOrigin(auth="none", address=network.address))
        bootstrap = network.hosts[0].address
        hosts = [
            ClientHost(kind, link, folder / f"h{number}", bootstrap)
            for number, link in enumerate(network.hosts)
        ]
        for one in hosts:
            one.host.install_registry(origin.authority, origin.url)
        await _started(stack, hosts)
        for one in hosts:
            one.host.configure(origin.authority)
        first, second = hosts
        await first.host.wait(lambda: all(it.host.counted("members") == 1 for it in hosts))
        yield ClientBed(origin, first, second)


async def _started(stack: AsyncExitStack, hosts: Sequence[ClientHost]) -> None:
    async with asyncio.TaskGroup() as starts:
        for one in hosts:
            starts.create_task(stack.enter_async_context(one.host))
