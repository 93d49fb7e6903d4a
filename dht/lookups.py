"""Carries out lookups: asks whom dht.lookup.lookup says, and hands providers on as they come.

One lookup a key at a time, however many ask for it; what it found is kept for a few seconds. No tasks: answers and
timers call back, and a lookup ends by its deadline whether anybody waits or not.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator

from dht.contacts import Contact
from dht.lookup.lookup import Answered, Ask, Finish, Lookup, Outcome, Report, Silent, Timer
from dht.node import Node
from dht.protocol import ProviderProtocol
from dht.provider_reading import FoundProvider, Providers
from dht.replies import Reply
from dht.stats import Stats
from dht.wire.codec import Found, GetProviders


class _Flight:
    """One lookup, and all who wait for it."""

    def __init__(self, lookup: Lookup[FoundProvider]) -> None:
        self.lookup = lookup
        self.found: list[FoundProvider] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.finished_at: float | None = None

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Lookups:
    def __init__(self, node: Node, protocol: ProviderProtocol, providers: Providers, stats: Stats) -> None:
        self._node = node
        self._params = node.params
        self._protocol = protocol
        self._providers = providers
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._flights: OrderedDict[bytes, _Flight] = OrderedDict()

    async def find(self, key: bytes, want: int) -> AsyncGenerator[FoundProvider, None]:
        """The first at once, each provider once, this node never; at most `want`."""
        flight = self._flight(key)
        sent_count = 0
        while True:
            while sent_count < min(len(flight.found), want):
                sent_count += 1
                yield flight.found[sent_count - 1]
            if sent_count >= want or flight.finished_at is not None:
                return
            waiter = self._loop.create_future()
            flight.waiters.append(waiter)
            await waiter

    def forget(self, key: bytes) -> None:
        """What is known of the key is out of date."""
        flight = self._flights.get(key)
        if flight is not None and flight.finished_at is not None:
            del self._flights[key]

    def close(self) -> None:
        """Whoever waits gets no more."""
        for flight in self._flights.values():
            if flight.timer is not None:
                flight.timer.cancel()
            flight.finished_at = flight.finished_at or 0.0
            flight.wake()
        self._flights.clear()

    def _flight(self, key: bytes) -> _Flight:
        now = self._loop.time()
        flight = self._flights.get(key)
        if flight is not None and self._is_current(flight, now):
            return flight
        flight = self._start(key, now)
        self._flights[key] = flight
        self._flights.move_to_end(key)
        while len(self._flights) > self._params.lookup_cache_max_count:
            _, oldest = self._flights.popitem(last=False)
            if oldest.finished_at is None:
                # It ends by its deadline, and whoever waits for it is served.
                continue
        return flight

    def _is_current(self, flight: _Flight, now: float) -> bool:
        if flight.finished_at is None:
            return True
        kept_s = self._params.lookup_cache_s if flight.found else self._params.lookup_miss_cache_s
        return now - flight.finished_at < kept_s

    def _start(self, key: bytes, now: float) -> _Flight:
        node = self._node
        near = [] if node.is_isolated else node.members.nearest(key, self._params.replicas_count)
        # Whoever we cannot reach cannot be asked, nor be waited for.
        near = [one for one in near if self._providers.reach(one) is not None]
        lookup: Lookup[FoundProvider] = Lookup(
            key,
            node.own.node,
            near,
            self._params,
            want=self._params.want_count,
            hedge_s=node.members.hedge_s,
        )
        flight = _Flight(lookup)
        known = self._providers.known_here(key, now)
        if known or self._is_holder(key, near):
            flight.found += known
            lookup.handle(Answered(node.own.node, known, ()), now)
        self._do(key, flight, lookup.start(now), now)
        return flight

    def _is_holder(self, key: bytes, near: list[Contact]) -> bool:
        """Whether providers of the key tell this node: what its records do not know may not exist."""
        if len(near) < self._params.ask_first_count:
            return True
        farthest = near[self._params.ask_first_count - 1].node
        number = int.from_bytes(key, "big")
        own = int.from_bytes(self._node.own.node, "big")
        return own ^ number < int.from_bytes(farthest, "big") ^ number

    def _do(
        self, key: bytes, flight: _Flight, commands: list[Ask | Report[FoundProvider] | Finish], now: float
    ) -> None:
        for command in commands:
            if isinstance(command, Ask):
                self._ask(key, flight, command.contact)
            elif isinstance(command, Report):
                flight.found += command.providers
                flight.wake()
            else:
                self._finish(flight, command, now)
        self._arm(key, flight, now)

    def _arm(self, key: bytes, flight: _Flight, now: float) -> None:
        due_at = flight.lookup.next_timer()
        if flight.timer is not None:
            if flight.timer.when() == due_at:
                return
            flight.timer.cancel()
            flight.timer = None
        if due_at is not None:
            flight.timer = self._loop.call_at(due_at, self._timer, key, flight)

    def _timer(self, key: bytes, flight: _Flight) -> None:
        flight.timer = None
        now = self._loop.time()
        self._do(key, flight, flight.lookup.handle(Timer(), now), now)

    def _ask(self, key: bytes, flight: _Flight, contact: Contact) -> None:
        to = self._providers.reach(contact)
        if to is None:
            # Named by an answer, over a family that we do not speak.
            self._loop.call_soon(self._event, key, flight, Silent(contact.node))
            return

        def done(reply: Reply | None) -> None:
            if reply is None or not isinstance(reply.result, Found):
                self._event(key, flight, Silent(contact.node))
                return
            found = self._providers.read(reply.result.providers, reply, self._loop.time())
            closer = self._providers.read_closer(reply.result.closer, reply)
            self._event(key, flight, Answered(contact.node, found, closer))

        self._node.silence.asked(self._loop.time())
        self._protocol.ask(contact.node, to, GetProviders(key, self._params.want_count), done)

    def _event(self, key: bytes, flight: _Flight, event: Answered[FoundProvider] | Silent) -> None:
        now = self._loop.time()
        self._do(key, flight, flight.lookup.handle(event, now), now)

    def _finish(self, flight: _Flight, finish: Finish, now: float) -> None:
        flight.finished_at = now
        self._stats.lookups[finish.outcome.value] += 1
        if finish.answered_count:
            self._stats.hops.observe(finish.hops)
        if finish.is_unheard:
            self._node.unheard_lookups_count += 1
        elif finish.outcome is Outcome.NOBODY and self._node.is_isolated:
            self._stats.lookups["isolated"] += 1
        flight.wake()
