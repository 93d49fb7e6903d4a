"""What nodes send: at rest, and for an announcement; and what a request costs in CPU. Judges nothing."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from dht.ids import ID_BYTES
from dht.wire.codec import GetProviders
from tests.bench.dht_bed import LOSS, Bed
from tests.bench.dht_lookups import protocol_of
from tests.support.dht_cluster import Member

# IPv4 and UDP.
HEADERS_BYTES: Final = 28
ANNOUNCED_COUNT: Final = 1000
# Repeats of which the median counts, and requests of each.
CPU_REPEATS_COUNT: Final = 3
CPU_REQUESTS_COUNT: Final = 1500
# On loopback as many as a busy host has under way; in virtual time enough that hardly any passes.
CPU_PARALLEL_COUNT: Final = {"live": 16, "virtual": 256}
# As of a request for providers and of an answer with five, sealed.
_BARE_REQUEST: Final = bytes(124)
_BARE_ANSWER: Final = bytes(320)


@dataclass(frozen=True, slots=True)
class Totals:
    """Of some nodes, since they started. A request is counted when it is answered or given up."""

    requests: Counter[str]
    sent_count: int
    sent_bytes: int

    @classmethod
    def of(cls, members: Iterable[Member]) -> Totals:
        requests: Counter[str] = Counter()
        sent_count = sent_bytes = 0
        for member in members:
            stats = member.dht.stats
            for (name, outcome), count in stats.rpcs_sent.items():
                if outcome != "challenged":
                    requests[name] += count
            sent_count += stats.datagrams_sent
            sent_bytes += stats.bytes_sent
        return cls(requests, sent_count, sent_bytes)


@dataclass(frozen=True, slots=True)
class AtRest:
    """All but the first two are per node."""

    seconds: float
    nodes: int
    requests_per_s: float
    requests_per_s_by_kind: dict[str, float]
    datagrams_sent_per_s: float
    bytes_sent_per_s: float
    cpu_ms_per_s: float


async def rest(members: Sequence[Member], for_s: float) -> AtRest:
    """Over the next `for_s`."""
    before, cpu_s = Totals.of(members), time.process_time()
    await asyncio.sleep(for_s)
    after, cpu_s = Totals.of(members), time.process_time() - cpu_s
    share = 1 / (for_s * len(members))
    kinds = after.requests - before.requests
    sent_count = after.sent_count - before.sent_count
    sent_bytes = after.sent_bytes - before.sent_bytes + HEADERS_BYTES * sent_count
    return AtRest(
        seconds=for_s,
        nodes=len(members),
        requests_per_s=round(kinds.total() * share, 3),
        requests_per_s_by_kind={name: round(count * share, 4) for name, count in sorted(kinds.items())},
        datagrams_sent_per_s=round(sent_count * share, 3),
        bytes_sent_per_s=round(sent_bytes * share, 1),
        cpu_ms_per_s=round(cpu_s * share * 1000, 3),
    )


async def announce(bed: Bed, members: Sequence[Member]) -> dict[str, object]:
    """A thousand new keys of each, at the same time: the median node."""

    async def one(member: Member) -> tuple[int, float]:
        keys = [bed.rng.randbytes(ID_BYTES) for _ in range(ANNOUNCED_COUNT)]
        time_s = asyncio.get_running_loop().time
        before, started_s = Totals.of([member]), time_s()
        member.dht.provide(keys)
        await member.dht.flush()
        took_s = time_s() - started_s
        return (Totals.of([member]).requests - before.requests)["add_providers"], took_s

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(member)) for member in members]
    results = [task.result() for task in running]
    return {
        "keys": ANNOUNCED_COUNT,
        "nodes": len(members),
        "rpcs": int(statistics.median(count for count, _ in results)),
        "seconds": round(statistics.median(took_s for _, took_s in results), 2),
    }


async def cpu_us_per_rpc(bed: Bed, keys: Sequence[bytes]) -> float:
    """Of requests for providers, both sides together, and of all else that the process does meanwhile. `keys` are
    asked for where they are held. Nothing is lost meanwhile: in virtual time a lost datagram is half a second of
    everybody's timers."""
    living = bed.living
    if bed.net is not None:
        bed.net.loss = 0.0
    is_living = {member.node for member in living}

    def chosen() -> tuple[Member, Member, bytes]:
        while True:
            asker, key = bed.rng.choice(living), bed.rng.choice(keys)
            for holder in bed.holders(key):
                if holder.node in is_living and holder is not asker:
                    return asker, holder, key

    async def ask(listed: Sequence[tuple[Member, Member, bytes]]) -> None:
        for asker, target, key in listed:
            request = GetProviders(key, bed.params.want_count)
            await protocol_of(asker.dht).call(target.node, target.host.listen[0], request)

    parallel_count = CPU_PARALLEL_COUNT[bed.clock]
    each_count = max(1, CPU_REQUESTS_COUNT // parallel_count)
    found: list[float] = []
    for _ in range(CPU_REPEATS_COUNT):
        lists = [[chosen() for _ in range(each_count)] for _ in range(parallel_count)]
        used_s = time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for listed in lists:
                tasks.create_task(ask(listed))
        found.append((time.process_time() - used_s) / (each_count * parallel_count))
    if bed.net is not None:
        bed.net.loss = LOSS
    return round(statistics.median(found) * 1e6, 1)


async def cpu_us_bare_udp() -> float:
    """The lower bound: a question and an answer of these sizes between two bare asyncio endpoints."""
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(_Echo, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, asking = await loop.create_datagram_endpoint(
        lambda: _Asking(CPU_REQUESTS_COUNT), remote_addr=address[:2], family=socket.AF_INET
    )
    try:
        found: list[float] = []
        for _ in range(CPU_REPEATS_COUNT):
            used_s = time.process_time()
            await asking.run(CPU_PARALLEL_COUNT["live"])
            found.append((time.process_time() - used_s) / CPU_REQUESTS_COUNT)
        return round(statistics.median(found) * 1e6, 1)
    finally:
        client.close()
        server.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(_BARE_ANSWER, addr)


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, count: int) -> None:
        self._count = count
        self._left_count = 0
        self._unasked_count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    async def run(self, parallel_count: int) -> None:
        self._left_count = self._count
        self._unasked_count = self._count - parallel_count
        self._done = asyncio.get_running_loop().create_future()
        for _ in range(parallel_count):
            self._transport.sendto(_BARE_REQUEST)
        await self._done

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._left_count -= 1
        if self._unasked_count:
            self._unasked_count -= 1
            self._transport.sendto(_BARE_REQUEST)
        elif not self._left_count:
            self._done.set_result(None)
