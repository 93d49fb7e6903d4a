"""Lookups as a daemon does them, with a bare ping by the same node just before each: the lower bound of the same code
path at the same moment. Judges nothing."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from dht.endpoints import Endpoint
from dht.ids import ID_BYTES
from dht.protocol import ProviderProtocol
from dht.replies import Done
from dht.service import DHT
from dht.stats import HOPS_BOUNDS
from dht.wire.codec import GetProviders, Ping, Request
from tests.bench.dht_bed import Bed
from tests.support.dht_cluster import Member, look_up

# A digest that a few hosts have: the case that matters, one that all have is found anyway.
PROVIDERS_COUNT: Final = 5
# In virtual time all lookups start within so long of the deaths, at random: nobody has learned of them.
SPREAD_S: Final = 1.0
# On loopback so many run at a time: one, and what they take is Python's time for one; with dead nodes waits prevail,
# and one after the other would take so long that the tables were no longer stale.
LANES_COUNT: Final = 1
LANES_WITH_DEAD_COUNT: Final = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """`is_hopeless`: nobody who lives holds it. A miss is nobody's at all."""

    asker: Member
    key: bytes
    is_hit: bool
    is_hopeless: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """`rounds_count`: the moments at which requests left; `hops` 0: nobody answered. `ping_s` None: no answer."""

    wanted: Wanted
    first_s: float | None
    total_s: float
    asked_count: int
    rounds_count: int
    hops: int
    ping_s: float | None


def choose(bed: Bed, hits_count: int, misses_count: int) -> list[Wanted]:
    """In the order in which they are to be asked. Puts the records in place. No asker holds records of its key: it
    would know without asking."""
    living = bed.living
    is_dead = {member.node for member in bed.dead}
    wanted: list[Wanted] = []
    providers_of: dict[bytes, list[Member]] = {}
    while len(wanted) < hits_count + misses_count:
        key = bed.rng.randbytes(ID_BYTES)
        holders = bed.holders(key)
        asker = bed.rng.choice(living)
        if asker in holders:
            continue
        is_hit = len(wanted) < hits_count
        if is_hit:
            others = [bed.rng.choice(living) for _ in range(4 * PROVIDERS_COUNT)]
            unlike = list({one.node: one for one in others if one is not asker}.values())
            providers_of[key] = unlike[:PROVIDERS_COUNT]
        is_hopeless = all(holder.node in is_dead for holder in holders)
        wanted.append(Wanted(asker, key, is_hit, is_hopeless))
    bed.store(providers_of)
    bed.injected.append(
        f"records of {hits_count} looked-up keys with up to {PROVIDERS_COUNT} living providers each at their nearest "
        f"{bed.params.replicas_count}"
    )
    bed.rng.shuffle(wanted)
    return wanted


async def look(bed: Bed, wanted: Sequence[Wanted]) -> list[Looked]:
    """All, and no lookup beside another of the same node."""
    by_asker: dict[bytes, list[Wanted]] = defaultdict(list)
    for one in wanted:
        by_asker[one.asker.node].append(one)
    lanes: list[list[Wanted]]
    if bed.clock == "virtual":
        lanes = list(by_asker.values())
    else:
        lanes = [[] for _ in range(LANES_WITH_DEAD_COUNT if bed.dead else LANES_COUNT)]
        for number, listed in enumerate(by_asker.values()):
            lanes[number % len(lanes)] += listed
        # What lived until now is not looked through during the measurement: no single daemon has so much.
        gc.collect()
        gc.freeze()
    bed.kill()
    living = bed.living
    looked: list[Looked] = []
    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            delay_s = bed.rng.random() * SPREAD_S if bed.clock == "virtual" else 0.0
            tasks.create_task(_lane(bed, lane, living, delay_s, looked))
    return looked


async def _lane(
    bed: Bed, lane: Iterable[Wanted], living: Sequence[Member], delay_s: float, looked: list[Looked]
) -> None:
    await asyncio.sleep(delay_s)
    for one in lane:
        target = bed.rng.choice(living)
        while target is one.asker:
            target = bed.rng.choice(living)
        ping_s = await ping(one.asker, target)
        with Asks(one.asker.dht) as asks:
            hops_before = one.asker.dht.stats.hops.counts.copy()
            found = await look_up(one.asker.dht, one.key)
            hops = _hops(hops_before, one.asker.dht.stats.hops.counts)
        looked.append(Looked(one, found.first_s, found.total_s, asks.count, asks.rounds_count, hops, ping_s))


async def ping(asker: Member, target: Member) -> float | None:
    """None: no answer."""
    time = asyncio.get_running_loop().time
    started_s = time()
    request = Ping(asker.dht.node.own.info)
    reply = await protocol_of(asker.dht).call(target.node, target.host.listen[0], request)
    return None if reply is None else time() - started_s


def protocol_of(dht: DHT) -> ProviderProtocol:
    return dht._protocol


class Asks:
    """This node's requests for providers, while entered. Those that leave in one step of the event loop are a round:
    by time, a process that has to wait for its core in between would show two."""

    def __init__(self, dht: DHT) -> None:
        self._protocol = protocol_of(dht)
        self._loop = asyncio.get_running_loop()
        self._is_in_round = False
        self.count = 0
        self.rounds_count = 0

    def __enter__(self) -> Asks:
        plain = self._protocol.ask

        def ask(node: bytes | None, to: Endpoint, request: Request, done: Done, **more: float | None) -> None:
            if isinstance(request, GetProviders):
                self._count()
            plain(node, to, request, done, **more)

        self._protocol.ask = ask  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del self._protocol.ask

    def _count(self) -> None:
        self.count += 1
        if not self._is_in_round:
            self._is_in_round = True
            self.rounds_count += 1
            self._loop.call_soon(self._step_ended)

    def _step_ended(self) -> None:
        self._is_in_round = False


def _hops(before: Sequence[int], after: Sequence[int]) -> int:
    """Of the one lookup between. The histogram's bound: exact up to four."""
    for place, (was, now) in enumerate(zip(before, after, strict=True)):
        if now > was:
            return HOPS_BOUNDS[place] if place < len(HOPS_BOUNDS) else HOPS_BOUNDS[-1] + 1
    return 0


def percentile(values: Iterable[float], percent: float) -> float:
    """By nearest rank. Raises: ValueError without values."""
    listed = sorted(values)
    if not listed:
        raise ValueError("no values")
    return listed[max(0, ceil(len(listed) * percent / 100) - 1)]


def ms(values: Iterable[float], *percents: float) -> dict[str, float | None]:
    listed = sorted(values)
    names = ["max" if percent == 100 else f"p{percent:g}" for percent in percents]
    found = [round(percentile(listed, percent) * 1000, 3) if listed else None for percent in percents]
    return dict(zip(names, found, strict=True))


def lookup_fields(looked: Sequence[Looked]) -> dict[str, object]:
    hits = [one for one in looked if one.wanted.is_hit]
    misses = [one for one in looked if not one.wanted.is_hit]
    pings_s = [one.ping_s for one in looked if one.ping_s is not None]
    firsts_s = [one.first_s for one in hits if one.first_s is not None]
    heard = [one for one in looked if one.hops]
    failed = [one for one in hits if one.first_s is None]
    return {
        "lookups": {
            "hits": len(hits),
            "misses": len(misses),
            "failed": len(failed),
            "of_which_no_living_node_holds_it": sum(one.wanted.is_hopeless for one in failed),
        },
        "first_provider_ms": ms(firsts_s, 50, 90, 99, 100),
        "ping_ms": {**ms(pings_s, 50, 90, 99, 100), "unanswered": len(looked) - len(pings_s)},
        "miss_ms": ms((one.total_s for one in misses), 50, 99, 100),
        "rpcs_per_lookup": {
            "hits": _mean(one.asked_count for one in hits),
            "misses": _mean(one.asked_count for one in misses),
        },
        "rounds_per_lookup": {
            "hits": _mean(one.rounds_count for one in hits),
            "hits_p99": int(percentile((one.rounds_count for one in hits), 99)),
            "misses": _mean(one.rounds_count for one in misses),
            "misses_p90": int(percentile((one.rounds_count for one in misses), 90)),
        },
        "hops_p99": int(percentile((one.hops for one in heard), 99)),
    }


def _mean(numbers: Iterable[int]) -> float:
    listed = list(numbers)
    return round(sum(listed) / len(listed), 2)
