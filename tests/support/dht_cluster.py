"""A cluster of real DHT nodes in one process: started, stopped, crashed, restarted and asked.

Hosts come from outside: the virtual net's, or loopback's below. Judges nothing, and measures only what one lookup
shows: simulations and the benchmark do that.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.params import Params
from dht.records.records import SavedRecord
from dht.service import DHT
from dht.settings import Bootstrap, Settings, StaticBootstrap
from dht.sockets import OpenUdp, open_udp
from dht.state_files import StateFiles
from dht.wire.envelope import Key

CLUSTER: Final = "simulated"
SECRET: Final = Key(b"simu", bytes(range(32)))


class Host(Protocol):
    @property
    def listen(self) -> tuple[Endpoint, ...]: ...

    @property
    def open_udp(self) -> OpenUdp: ...

    def kill(self) -> None:
        """Nothing of it leaves or arrives from now on."""

    def revive(self) -> None: ...


class LoopbackHost:
    """Real sockets on 127.0.0.1, one port for its life. `kill` closes them under the program."""

    def __init__(self) -> None:
        self._local = Endpoint("127.0.0.1", 0)
        self._open: list[asyncio.DatagramTransport] = []

    @property
    def listen(self) -> tuple[Endpoint, ...]:
        return (self._local,)

    @property
    def open_udp(self) -> OpenUdp:
        return self._open_udp

    async def _open_udp(
        self, factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        transport, protocol = await open_udp(factory, local)
        self._local = local._replace(port=transport.get_extra_info("sockname")[1])
        self._open.append(transport)
        return transport, protocol

    def kill(self) -> None:
        for transport in self._open:
            transport.abort()
        self._open.clear()

    def revive(self) -> None:
        """Its sockets are opened again by the next start."""


class Disk:
    """What a host keeps over a restart; a crash keeps what was saved before."""

    def __init__(self, files: StateFiles) -> None:
        self._files = files
        self.is_powered = True

    async def load_peers(self) -> list[Contact]:
        return await self._files.load_peers()

    async def save_peers(self, contacts: Iterable[Contact]) -> bool:
        return self.is_powered and await self._files.save_peers(contacts)

    async def load_records(self) -> list[SavedRecord]:
        return await self._files.load_records()

    async def save_records(self, records: Iterable[SavedRecord]) -> bool:
        return self.is_powered and await self._files.save_records(records)


@dataclass(slots=True)
class Member:
    """One host of the cluster and the node it runs. `folder` None: it keeps nothing over a restart."""

    number: int
    host: Host
    node: bytes
    folder: Path | None
    wrong_by_s: float = 0.0
    info: bytes = b""
    epoch: int = 0
    keys: set[bytes] = field(default_factory=set)
    running: DHT | None = None
    disk: Disk | None = None
    task: asyncio.Task[None] | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def dht(self) -> DHT:
        assert self.running is not None, f"member {self.number} does not run"
        return self.running

    @property
    def contact(self) -> Contact:
        return Contact(self.node, max(self.epoch, 1), self.host.listen, self.info)


@dataclass(frozen=True, slots=True)
class Looked:
    """One lookup to its end. `first_s` None: nothing was found."""

    first_s: float | None
    total_s: float
    nodes: tuple[bytes, ...]


class Cluster:
    """`wall` gives the wall clock of a host that is so many seconds wrong. Members run as tasks of `tasks`."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        rng: random.Random,
        wall: Callable[[float], Callable[[], float]],
        *,
        params: Params | None = None,
        secret: Key | None = SECRET,
        folder: Path | None = None,
    ) -> None:
        self._tasks = tasks
        self._rng = rng
        self._wall = wall
        self._params = params or Params()
        self._secret = secret
        self._folder = folder
        self.members: list[Member] = []

    # -- members

    def add(self, host: Host, *, wrong_by_s: float = 0.0) -> Member:
        """A host that does not run yet."""
        number = len(self.members)
        folder = None if self._folder is None else self._folder / f"host-{number}"
        made = Member(number, host, self._rng.randbytes(20), folder, wrong_by_s)
        self.members.append(made)
        return made

    @property
    def alive(self) -> list[Member]:
        return [one for one in self.members if one.running is not None]

    async def start(self, member: Member, bootstrap: Sequence[Bootstrap] = ()) -> DHT:
        """Returns when it listens; it provides `member.keys` and meets the others in the background."""
        assert member.running is None
        member.host.revive()
        member.epoch += 1
        member.ending = asyncio.Event()
        member.disk = None
        if member.folder is not None:
            member.folder.mkdir(parents=True, exist_ok=True)
            member.disk = Disk(
                StateFiles(member.folder, CLUSTER, self._params, self._wall(member.wrong_by_s))
            )
        started: asyncio.Future[DHT] = asyncio.get_running_loop().create_future()
        member.task = self._tasks.create_task(
            self._run(member, tuple(bootstrap), started), name=f"member {member.number}"
        )
        await asyncio.wait((member.task, started), return_when=asyncio.FIRST_COMPLETED)
        return await started

    async def stop(self, member: Member) -> None:
        """As by SIGTERM."""
        assert member.task is not None
        member.ending.set()
        await member.task

    async def crash(self, member: Member) -> None:
        """Its power is cut: nothing is said, nothing is saved."""
        member.host.kill()
        if member.disk is not None:
            member.disk.is_powered = False
        await self.stop(member)

    async def _run(
        self, member: Member, bootstrap: tuple[Bootstrap, ...], started: asyncio.Future[DHT]
    ) -> None:
        settings = Settings(
            node=member.node,
            epoch=member.epoch,
            cluster=CLUSTER,
            keys=() if self._secret is None else (self._secret,),
            listen=member.host.listen,
            info=member.info,
            bootstrap=bootstrap,
            params=self._params,
        )
        rng = random.Random(self._rng.getrandbits(64))
        dht = DHT(
            settings,
            rng=rng,
            random_bytes=rng.randbytes,
            open_udp=member.host.open_udp,
            wall=self._wall(member.wrong_by_s),
            state=member.disk,
        )
        async with dht:
            member.running = dht
            if member.keys:
                dht.provide(member.keys)
            started.set_result(dht)
            await member.ending.wait()
            member.running = None

    # -- what is true

    def provide(self, member: Member, keys: Iterable[bytes]) -> None:
        listed = list(keys)
        member.keys.update(listed)
        member.dht.provide(listed)

    def withdraw(self, member: Member, keys: Iterable[bytes]) -> None:
        listed = list(keys)
        member.keys.difference_update(listed)
        member.dht.withdraw(listed)

    def nearest(self, key: bytes, count: int) -> list[Member]:
        """Of those that live."""
        number = int.from_bytes(key, "big")
        return sorted(self.alive, key=lambda one: int.from_bytes(one.node, "big") ^ number)[:count]


def statically(*hosts: Host) -> tuple[StaticBootstrap, ...]:
    return tuple(StaticBootstrap(one.listen[0].address, one.listen[0].port) for one in hosts)


def key_number(number: int) -> bytes:
    return hashlib.sha256(b"key %d" % number).digest()[:20]


async def look_up(dht: DHT, key: bytes, *, want: int | None = None) -> Looked:
    time = asyncio.get_running_loop().time
    started = time()
    first_s: float | None = None
    nodes: list[bytes] = []
    async for found in dht.find_providers(key, want):
        if first_s is None:
            first_s = time() - started
        nodes.append(found.node)
    return Looked(first_s, time() - started, tuple(nodes))


async def until(done: Callable[[], bool], *, limit_s: float, every_s: float = 0.1) -> float:
    """How long it took, to `every_s`. Raises: TimeoutError after `limit_s`."""
    time = asyncio.get_running_loop().time
    started = time()
    while not done():
        if time() - started > limit_s:
            raise TimeoutError(f"it did not happen within {limit_s:g} s")
        await asyncio.sleep(every_s)
    return time() - started
