"""A host of the bed whose containerd a real dockerd uses, with containerd's image store in it, and a Peili daemon.

dockerd sees an /etc of its own, in which /etc/docker/certs.d is the host's hosts directory. Pulls go by Docker's API,
as `docker pull` makes them. No container can run there. Needs root.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp

from tests.support.bed_hosts import BedHost
from tests.support.bed_process import BedProcess
from tests.support.netns import HostLink
from tests.support.own_etc import own_etc

NAMESPACE: Final = "moby"
# Beyond every wait that a test provokes on purpose.
PULL_LIMIT_S: Final = 60.0


class DockerHost(BedHost):
    """`docker_binaries`: the folders of dockerd and runc. `docker_settings`: what stands in daemon.json.
    `owns_containerd`: dockerd starts one, as where no other runs."""

    def __init__(
        self,
        link: HostLink,
        folder: Path,
        containerd_binaries: Path,
        docker_binaries: Sequence[Path],
        bootstrap: str,
        *,
        docker_settings: Mapping[str, object] | None = None,
        owns_containerd: bool = False,
        daemon_flags: Sequence[str] = (),
    ) -> None:
        docker = folder / "docker"
        super().__init__(
            link,
            folder,
            containerd_binaries,
            bootstrap,
            daemon_flags=[
                f"--containerd-namespace={NAMESPACE}",
                f"--hosts-dir={docker / 'certs.d'}",
                *daemon_flags,
            ],
        )
        docker.mkdir()
        self.certs_dir = self.containerd.certs_dir = docker / "certs.d"
        self.certs_dir.mkdir()
        settings = {"features": {"containerd-snapshotter": True}, **(docker_settings or {})}
        (docker / "daemon.json").write_text(json.dumps(settings))
        self.docker_socket = folder / "docker.sock"
        state = folder / "dockerd"
        state.mkdir()
        self.containerd_socket = self.containerd.socket
        if owns_containerd:
            self.containerd_socket = state / "exec/containerd/containerd.sock"
            self.daemon.command = [
                f"--containerd-sock={self.containerd_socket}" if "--containerd-sock=" in str(word) else word
                for word in self.daemon.command
            ]
        path = ":".join([*map(str, (containerd_binaries, *docker_binaries)), "/usr/sbin:/usr/bin:/sbin:/bin"])
        self.dockerd = BedProcess(
            [
                *own_etc(state, "/etc/docker", docker),
                *("dockerd", f"--host=unix://{self.docker_socket}"),
                *(f"--data-root={state / 'data'}", f"--exec-root={state / 'exec'}"),
                f"--pidfile={state / 'pid'}",
                *(() if owns_containerd else (f"--containerd={self.containerd.socket}",)),
                *("--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false"),
            ],
            folder / "dockerd.log",
            netns=link.netns,
            environment={"PATH": path, "HOME": str(state)},
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        if self.containerd_socket == self.containerd.socket:
            await stack.enter_async_context(self.containerd)
        await stack.enter_async_context(self.dockerd)
        await self.dockerd.said("API listen on")
        await stack.enter_async_context(self.daemon)

    def configure(self, registry: str, *flags: str) -> None:
        """As docs/clients/docker.md says it."""
        done = self.peili(
            "configure",
            f"--hosts-dir={self.certs_dir}",
            f"--containerd-sock={self.containerd_socket}",
            f"--mirror={registry}",
            *flags,
        )
        assert done.returncode == 0, done.stderr

    async def docker_pull(self, image: str) -> str:
        """ "" where it succeeded, else what its user reads."""
        name, _, tag = image.partition("@") if "@" in image else image.rpartition(":")
        timeout = aiohttp.ClientTimeout(total=PULL_LIMIT_S)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.docker_socket))) as session,
            session.post(
                "http://docker/images/create", params={"fromImage": name, "tag": tag}, timeout=timeout
            ) as answer,
        ):
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        said = [str(line.get("error") or line.get("message") or "") for line in lines]
        failure = "\n".join(filter(None, said))
        assert failure or answer.status == 200
        return failure

    async def docker_asked(self, path: str) -> object:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.docker_socket))) as session,
            session.get(f"http://docker{path}") as answer,
        ):
            assert answer.status == 200, await answer.text()
            found: object = await answer.json()
            return found
