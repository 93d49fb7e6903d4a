"""A host of the origin bed: a real containerd and a real daemon in a namespace, pulls as the kubelet makes them, and
raw requests to its daemon.

It may be walled: its containerd reaches an address and its daemon does not. What the daemon sends there is lost in
silence, as a network policy loses it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import aiohttp
import grpc.aio
from yarl import URL

from containerd.client import Client
from containerd.errors import ContainerdError, DeadlineExceeded
from tests.support.bed_hosts import REGISTRY_PORT, BedHost
from tests.support.netns import HostLink
from tests.support.skips import tool_bin

METRICS_ADDRESS: Final = "127.0.0.1:29023"
METRICS_FLAG: Final = f"--metrics-addr={METRICS_ADDRESS}"
# CRI's.
NAMESPACE: Final = "k8s.io"
USER: Final = "robot"
PASSWORD: Final = "the pull secret"
# A pull that may end by itself: beyond every limit of the daemon's own.
PULL_DEADLINE_S: Final = 40.0
# containerd waits for headers without a limit: a pull that is said to hang is given up after this.
HANG_S: Final = 4.0
# Of one raw request to a daemon; its own limits are shorter.
ASK_DEADLINE_S: Final = 20.0
# So many pulls of one host at a time: two cores, and seconds that shall mean something.
PULLS_AT_ONCE: Final = 3
# containerd waits 30 s for a connection, and for some pulls does so four times.
DROPPED_DEADLINE_S: Final = 140.0
# The user id of a walled daemon: of nobody on a usual machine. And the table of routes that lead nowhere.
_WALLED_UID: Final = 47_110
_CAPABILITIES: Final = "+dac_override,+dac_read_search"
_CLONE_NEWNET: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class Outcome:
    """`how`: pulled; failed with `message`; or hung, and was given up."""

    how: Literal["pulled", "failed", "hung"]
    took_s: float
    message: str = ""
    image_id: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a daemon answered to a raw request. status 0: it ended the connection."""

    status: int
    digest: str
    warning: str
    body: bytes


class OriginHost(BedHost):
    """`start_daemon` and `containerd.start` are the test's to call: a bed is first seen without a mirror."""

    def __init__(
        self, link: HostLink, folder: Path, version: str, bootstrap: str, *, is_walled: bool = False
    ) -> None:
        super().__init__(link, folder, tool_bin(f"containerd-{version}"), bootstrap)
        self.version = version
        self.is_walled = is_walled
        self._command = list(self.daemon.command)
        # The data directory is of the user that the daemon runs as.
        data = folder / "data"
        data.mkdir()
        if is_walled:
            os.chown(data, _WALLED_UID, _WALLED_UID)
        # Behind a wall a pull mostly waits.
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE * (10 if is_walled else 1))

    def install_registry(self, registry: str, url: str) -> None:
        """The user's own file, which names his registry once: as 1.6 and 1.7 take no file without a host, and ask twice
        then, that is so on 2.1 only."""
        if self.version != "2.1":
            super().install_registry(registry, url)
            return
        folder = self.certs_dir / registry
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "{url}"\n')

    @property
    def user_agent(self) -> str:
        """As its containerd's."""
        return f"containerd/{self.version}.0"

    async def start_daemon(self, *flags: str) -> None:
        """Returns when it is ready."""
        walled: list[str | Path] = []
        if self.is_walled:
            walled = ["setpriv", f"--reuid={_WALLED_UID}", "--clear-groups", "--pdeathsig", "KILL"]
            # access(2) leaves capabilities out of account for other users than root, but for the last.
            walled += [f"--inh-caps={_CAPABILITIES}", f"--ambient-caps={_CAPABILITIES}"]
            walled.append("--securebits=+no_setuid_fixup")
        self.daemon.command = [*walled, *self._command, f"--hosts-dir={self.certs_dir}", *flags]
        self.daemon.start()
        # One that ended will not become ready.
        await self.wait(lambda: not self.daemon.running or self.is_ready())
        assert self.daemon.running, self.daemon.log()

    def lay_dead_end(self, gate: str) -> None:
        """`gate` is an address where nobody is: what is sent there is lost. To be called once, before the next two."""
        self._ip(f"neigh add {gate} lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
        self._ip(f"route add default via {gate} dev eth0 table {_WALLED_UID}")

    def wall(self, address: str) -> None:
        """From now on packets of a walled daemon to this address are lost."""
        self._ip(f"rule add uidrange {_WALLED_UID}-{_WALLED_UID} to {address}/32 table {_WALLED_UID}")

    def drop(self, address: str, port: int, *, end: bool = False) -> None:
        """From now on, or no longer, packets of this host to this port are lost."""
        verb = "del" if end else "add"
        self._ip(f"rule {verb} to {address}/32 ipproto tcp dport {port} table {_WALLED_UID}")

    def _ip(self, command: str) -> None:
        subprocess.run(["ip", "-n", self.link.netns, *command.split()], check=True, capture_output=True)

    def configure_all(self, registries: Iterable[str], *flags: str) -> None:
        """`peili configure` for these registries."""
        done = self.peili(
            "configure",
            f"--hosts-dir={self.certs_dir}",
            f"--registry-addr=127.0.0.1:{REGISTRY_PORT}",
            f"--containerd-sock={self.containerd.socket}",
            f"--containerd-config-path={self.certs_dir}",
            *(f"--mirror={registry}" for registry in registries),
            *flags,
        )
        assert done.returncode == 0, done.stderr

    async def pull(
        self,
        image: str,
        *,
        password: str = "",
        deadline_s: float = PULL_DEADLINE_S,
        mostly_waits: bool = False,
    ) -> Outcome:
        """As the kubelet does, with the user's pull secret where there is a password. One that `mostly_waits` does not
        wait for its turn as well."""
        async with AsyncExitStack() as stack:
            if not mostly_waits:
                await stack.enter_async_context(self._pulls)
            client = await stack.enter_async_context(Client(self.containerd.socket))
            started_s = time.monotonic()
            user = USER if password else ""
            try:
                image_id = await client.cri.pull_image(
                    image, deadline_s=deadline_s, username=user, password=password
                )
            except DeadlineExceeded as error:
                took_s = time.monotonic() - started_s
                cause = error.__cause__
                if took_s >= deadline_s or not isinstance(cause, grpc.aio.AioRpcError):
                    return Outcome("hung", took_s)
                # containerd's own time limit for a connection; by chance it calls it UNKNOWN, or this.
                return Outcome(
                    "failed", took_s, f"containerd CRI PullImage {image}: UNKNOWN: {cause.details()}"
                )
            except ContainerdError as error:
                return Outcome("failed", time.monotonic() - started_s, str(error))
            return Outcome("pulled", time.monotonic() - started_s, image_id=image_id)

    async def is_present(self, image: str) -> bool:
        """As the kubelet finds out."""
        async with Client(self.containerd.socket) as client:
            return await client.cri.image_status(image) is not None

    async def name_again(self, image: str, other: str) -> None:
        """Gives what has the first name a second one, as a local build or `ctr images tag` does."""
        async with Client(self.containerd.socket) as client:
            images = client.images(NAMESPACE)
            await images.create(other, (await images.get(image)).target)

    async def metric(self, sample: str) -> float:
        """As Prometheus reads it, 0 where it is not told. The daemon was started with METRICS_FLAG."""
        async with self._session() as session, session.get(f"http://{METRICS_ADDRESS}/metrics") as response:
            values = dict(
                line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[:1] != "#"
            )
        return float(values.get(sample, 0))

    async def ask(
        self,
        registry: str,
        path: str,
        *,
        method: str = "HEAD",
        is_fallback: bool = True,
        user_agent: str = "",
    ) -> Told:
        """One request to this host's daemon as its containerd makes it; `path` is what follows /v2/."""
        prefix = "/fallback" if is_fallback else ""
        url = f"http://127.0.0.1:{REGISTRY_PORT}{prefix}/v2/{path}?ns={quote(registry, safe='')}"
        headers = {"User-Agent": user_agent or self.user_agent}
        try:
            async with (
                self._session() as session,
                session.request(method, URL(url, encoded=True), headers=headers) as response,
            ):
                digest = response.headers.get("Docker-Content-Digest", "")
                warning = response.headers.get("Warning", "")
                return Told(response.status, digest, warning, await response.read())
        except aiohttp.ServerDisconnectedError:
            return Told(0, "", "", b"")

    def _session(self) -> aiohttp.ClientSession:
        """Whose connections begin in this host's namespace: its daemon listens on loopback."""
        netns = self.link.netns
        connector = aiohttp.TCPConnector(socket_factory=lambda info: _socket_in(netns, info[0], info[1]))
        return aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=ASK_DEADLINE_S), auto_decompress=False
        )


def _socket_in(netns: str, family: int, kind: int) -> socket.socket:
    """A socket belongs to the namespace that its thread was in when it was made."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            descriptor = os.open(f"/run/netns/{netns}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            made.append(socket.socket(family, kind))
        except OSError as error:
            made.append(error)

    # The namespace is the thread's alone, and the thread ends.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result
