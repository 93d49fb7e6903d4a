"""Hosts (`origin_host`) before registries that fail in every way there is.

One origin (`token_origin`) for each way to fail, all at the test's own address, so that a host's hosts directory names
each of them and one containerd can be tried with all at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from tests.support.netns import Network
from tests.support.oci_image import Image
from tests.support.origin_host import PASSWORD, USER, OriginHost
from tests.support.skips import netns_or_missing, require
from tests.support.token_origin import RESET, BlackHole, Good, Status, TokenOrigin, rate_limited

Fault = Literal[
    "ok",
    "basic",
    "slow",
    "401",
    "403",
    "404",
    "429",
    "500",
    "503",
    "realm",
    "reset",
    "refused",
    "silent",
    "dropped",
]

FAULTS: Final[tuple[Fault, ...]] = (
    "ok",
    "basic",
    "slow",
    "401",
    "403",
    "404",
    "429",
    "500",
    "503",
    "realm",
    "reset",
    "refused",
    "silent",
    "dropped",
)
# Each answer of a slow origin begins after this; a pull by tag waits for five or so.
SLOW_S: Final = 0.3
_WORDS: Final = '{"errors":[{"code":"X","message":"words of the origin"}]}'


class FaultyOrigin:
    """A registry that is well until `fail`, and again after `heal`. `fault` says how it fails."""

    def __init__(self, fault: Fault, address: str) -> None:
        self.fault = fault
        self.registry = TokenOrigin("basic" if fault == "basic" else "bearer", address=address)
        self.registry.users[USER] = PASSWORD
        # containerd asks with credentials by POST, and takes nothing else from its answer.
        self.registry.token_field = "access_token"

    async def fail(self) -> None:
        match self.fault:
            case "ok" | "basic" | "dropped":  # the last is done on the way, see OriginBed
                pass
            case "slow":
                self.registry.behave(Good(first_byte_after_s=SLOW_S))
            case "429":
                self.registry.behave(rate_limited())
            case "realm":
                self.registry.behave(Status(401, body=_WORDS), "token")
                self.registry.forget_tokens()
            case "reset":
                self.registry.behave(RESET)
            case "refused":
                await self.registry.refuse()
            case "silent":
                self.registry.behave(BlackHole())
            case "401" | "403" | "404" | "500" | "503":
                self.registry.behave(Status(int(self.fault), body=_WORDS))

    async def heal(self) -> None:
        self.registry.behave_well()
        await self.registry.listen_again()

    def asked(self, repository: str, client: str, since: int, *, by_us: bool) -> int:
        """Requests for this repository from this address after the first `since` of the journal, token requests left
        out: those of the daemon there, or those of the containerd."""
        return sum(
            exchange.asked.repository == repository
            and exchange.asked.client == client
            and exchange.asked.headers.get("user-agent", "").startswith("peili/") is by_us
            for exchange in self.registry.journal[since:]
        )


@dataclass(frozen=True, slots=True)
class OriginBed:
    """Containerds run; no daemon does, and hosts directories hold the user's own files only."""

    network: Network
    origins: dict[Fault, FaultyOrigin]
    hosts: Sequence[OriginHost]

    @property
    def registries(self) -> tuple[str, ...]:
        return tuple(it.registry.authority for it in self.origins.values())

    async def fail(self) -> None:
        for origin in self.origins.values():
            await origin.fail()
        self._drop(end=False)

    async def heal(self) -> None:
        for origin in self.origins.values():
            await origin.heal()
        self._drop(end=True)

    def _drop(self, *, end: bool) -> None:
        if (dropped := self.origins.get("dropped")) is not None:
            for host in self.hosts:
                host.drop(dropped.registry.address, dropped.registry.port, end=end)

    async def start_daemons(self, *flags: str) -> None:
        """Returns when all are ready and know each other."""
        await together(host.start_daemon(*flags) for host in self.hosts)
        count = len(self.hosts) - 1
        await self.hosts[0].wait(lambda: all(host.counted("members") == count for host in self.hosts))

    async def stop_daemons(self) -> None:
        await together(host.daemon.stop() for host in self.hosts)

    async def known(
        self, image_counts: Mapping[OriginHost, int], tag_counts: Mapping[OriginHost, int]
    ) -> None:
        """Returns when these hosts announce so many images each, of three blobs, and so many tags, and every host
        knows of all: fewer hosts than replicas, so everybody keeps every record."""

        def all_is_known() -> bool:
            digests = {host: host.counted("announced_digests") for host in self.hosts}
            tags = {host: host.counted("announced_tags") for host in self.hosts}
            told = sum(digests.values()) + sum(tags.values())
            return (
                all(digests[host] >= 3 * count for host, count in image_counts.items())
                and all(tags[host] >= count for host, count in tag_counts.items())
                and all(host.counted("records") >= told for host in self.hosts)
            )

        await self.hosts[0].wait(all_is_known)


@asynccontextmanager
async def origin_bed(
    folder: Path, versions: Sequence[str], faults: Sequence[Fault], *, has_walled: bool = False
) -> AsyncIterator[OriginBed]:
    """One host for each version, in this order, and behind them the walled one, on containerd 2.1."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    async with AsyncExitStack() as stack:
        count = len(versions) + has_walled
        network = await stack.enter_async_context(Network(count))
        origins = {fault: FaultyOrigin(fault, network.address) for fault in faults}
        for origin in origins.values():
            await stack.enter_async_context(origin.registry)
        links = network.hosts
        hosts = [
            OriginHost(link, folder / f"{n}", version, links[0].address)
            for n, (link, version) in enumerate(zip(links, versions, strict=False))
        ]
        if has_walled:
            walled = OriginHost(links[-1], folder / "walled", "2.1", links[0].address, is_walled=True)
            hosts.append(walled)
        for host in hosts:
            # Below the hosts' addresses.
            host.lay_dead_end(f"{links[0].address.rpartition('.')[0]}.9")
            if host.is_walled:
                host.wall(network.address)
            stack.push_async_callback(host.containerd.stop)
            stack.push_async_callback(host.daemon.stop)
        await together(host.containerd.start() for host in hosts)
        for host in hosts:
            for origin in origins.values():
                host.install_registry(origin.registry.authority, origin.registry.url)
        yield OriginBed(network, origins, hosts)


async def together(works: Iterable[Awaitable[int | None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(_await(work))


async def _await(work: Awaitable[int | None]) -> None:
    await work


def words(message: str, image: str) -> str:
    """A message as it may be compared with that about another image and another connection."""
    repository = re.sub(r"@.*|:[^:/]*$", "", image).partition("/")[2]
    for spelling in (repository, quote(repository, safe="")):
        message = message.replace(spelling, "REPOSITORY")
    message = re.sub(r"sha256:[0-9a-f]{64}|sha256%3A[0-9a-f]{64}", "DIGEST", message)
    message = re.sub(r"(read|write) tcp \S+->", r"\1 tcp HERE->", message)
    # How often a request was tried before its error was told.
    return re.sub(r"https?://", "", message)


def by_tag(registry: str, repository: str) -> str:
    return f"{registry}/{repository}:v1"


def by_digest(registry: str, repository: str, image: Image) -> str:
    return f"{registry}/{repository}@{image.manifest.digest}"
