"""The machines of the demo: an origin and some hosts, each host a daemon with a store of its own on a loopback address
of its own. Knows how they are started and when they are ready; pulls nothing.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from mirror.demo import origin
from mirror.demo.children import Child, Children
from mirror.demo.client import Endpoint
from mirror.demo.errors import DemoFailed
from mirror.demo.plan import DemoPlan
from mirror.demo.together import together
from mirror.secret import SECRET_BYTES
from mirror.web.listener import ListenFailed, bind_with_udp

ORIGIN_ADDRESS = "127.0.0.1"
# Linux has all of 127.0.0.0/8 on its loopback interface.
_HOST_NETWORK = "127.0.0."
_HOST_FIRST_NUMBER = 11
CLUSTER_NAME = "peili-demo"
# Ten daemons that start at once on two slow cores need about 8 s.
START_TIMEOUT_S = 20.0
START_POLL_S = 0.05
# Health and facts are short answers on loopback.
ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class DemoHost:
    """`registry`, `peer` and `admin` are host:port."""

    name: str
    address: str
    registry: str
    peer: str
    admin: str
    folder: Path

    @property
    def store_folder(self) -> Path:
        return self.folder / "store"

    @property
    def mirror(self) -> Endpoint:
        return Endpoint(self.registry, is_mirror=True)


class _Status(msgspec.Struct):
    """Of /api/v1/status, what is asked here."""

    members: int


class Cluster:
    """Made by `place`, brought to life by `start`."""

    def __init__(self, hosts: tuple[DemoHost, ...], origin_at: Endpoint, http: aiohttp.ClientSession) -> None:
        self.hosts = hosts
        self.origin = origin_at
        self._http = http

    @staticmethod
    def place(plan: DemoPlan, folder: Path, ports: ExitStack, http: aiohttp.ClientSession) -> Cluster:
        """Addresses for everybody. The ports are kept from others until `ports` is closed. Raises: DemoFailed."""
        hosts = []
        for number in range(plan.hosts_count):
            address = f"{_HOST_NETWORK}{_HOST_FIRST_NUMBER + number}"
            registry, peer, admin = (_reserve(address, ports) for _ in range(3))
            name = f"host {number + 1}"
            hosts.append(DemoHost(name, address, registry, peer, admin, folder / name.replace(" ", "-")))
        origin_at = Endpoint(_reserve(ORIGIN_ADDRESS, ports), is_mirror=False)
        return Cluster(tuple(hosts), origin_at, http)

    async def start(self, plan: DemoPlan, children: Children, folder: Path) -> None:
        """Returns when everybody is ready. Raises: DemoFailed."""
        secret_file = folder / "secret"
        _write_secret(secret_file)
        address, _, port = self.origin.address.rpartition(":")
        started = {
            f"http://{self.origin.address}{origin.FACTS_PATH}": children.start(
                "the origin", origin.command(address, int(port), plan.image_bytes, plan.link_bytes_per_s)
            )
        }
        for host in self.hosts:
            host.folder.mkdir()
            arguments = _serve_arguments(host, self.hosts[0], secret_file)
            started[f"http://{host.admin}/readyz"] = children.start(f"the daemon of {host.name}", arguments)
        await together(self._ready(url, child) for url, child in started.items())
        everybody = len(self.hosts) - 1
        if not await self._all(START_TIMEOUT_S, lambda told: all(one.members == everybody for one in told)):
            raise DemoFailed(f"the daemons have not found each other after {START_TIMEOUT_S:.0f} s")

    async def facts(self) -> origin.Facts:
        """Raises: DemoFailed."""
        try:
            status, body = await self._ask(f"http://{self.origin.address}{origin.FACTS_PATH}")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise DemoFailed(
                f"the origin does not tell its counts: {str(exc) or type(exc).__name__}"
            ) from exc
        if status != 200:
            raise DemoFailed(f"the origin does not tell its counts: it answered {status}")
        return msgspec.json.decode(body, type=origin.Facts)

    async def _all(self, limit_s: float, done: Callable[[list[_Status]], bool]) -> bool:
        """Asks all daemons until what they tell is what is waited for. False: not within the limit."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if done([await self._status(host) for host in self.hosts]):
                return True
            await asyncio.sleep(START_POLL_S)
        return False

    async def _status(self, host: DemoHost) -> _Status:
        """Raises: DemoFailed."""
        try:
            _, body = await self._ask(f"http://{host.admin}/api/v1/status")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise DemoFailed(
                f"the daemon of {host.name} does not tell its status: {str(exc) or type(exc).__name__}"
            ) from exc
        return msgspec.json.decode(body, type=_Status)

    async def _ready(self, url: str, child: Child) -> None:
        reason = "nothing listens"
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    child.check()
                    try:
                        status, body = await self._ask(url)
                        if status == 200:
                            return
                        reason = body.decode(errors="replace").strip()
                    except aiohttp.ClientError:
                        pass
                    await asyncio.sleep(START_POLL_S)
        except TimeoutError:
            raise DemoFailed(f"{child.name} is not ready after {START_TIMEOUT_S:.0f} s: {reason}") from None

    async def _ask(self, url: str) -> tuple[int, bytes]:
        async with self._http.get(url, timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)) as response:
            return response.status, await response.read()


def _serve_arguments(host: DemoHost, first: DemoHost, secret_file: Path) -> list[str]:
    """The same bootstrap for everybody: the first host, itself included."""
    arguments = ["mirror", "serve", "--store", "directory", "--store-dir", str(host.store_folder)]
    arguments += ["--data-dir", str(host.folder / "data")]
    arguments += ["--registry-addr", host.registry, "--peer-addr", host.peer, "--admin-addr", host.admin]
    arguments += ["--bootstrap", f"static:{first.peer}"]
    arguments += ["--cluster", CLUSTER_NAME, "--cluster-secret-file", str(secret_file)]
    return [*arguments, "--log-level", "info", "--log-format", "text"]


def _reserve(address: str, ports: ExitStack) -> str:
    """A free port, kept by a socket that is bound and does not listen: with SO_REUSEADDR on both sides, a daemon can
    still bind it, and the kernel gives it to nobody who asks for any port."""
    try:
        sock = ports.enter_context(bind_with_udp("peer", address, 0))
    except ListenFailed as exc:
        raise DemoFailed(f"no port is to be had on {address}: {exc}") from exc
    return f"{address}:{sock.getsockname()[1]}"


def _write_secret(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(SECRET_BYTES)) + b"\n")
