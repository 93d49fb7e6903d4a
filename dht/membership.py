"""Keeps this node and the others known to each other: joins, compares, asks after the silent. Decides nothing about a
member; dht.members.members does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import pairwise
from typing import Final

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.hashes import range_of
from dht.node import Node
from dht.protocol import ProviderProtocol
from dht.replies import Reply
from dht.wire.codec import Differs, GetMembers, Join, Leave, Page, Ping, Sync

log = logging.getLogger(__name__)

_LAST: Final = b"\xff" * 20
_ALL: Final = 1 << 160
# A newcomer shows itself to its neighbours, whose records it will hold, and to some others, who pass it on.
INTRODUCE_NEAR_COUNT = 16
INTRODUCE_COUNT = 64
# Datagrams in a burst, and the rest between two bursts, while something is told to many: 1,600 a second.
BURST_COUNT = 16
BURST_REST_S = 0.01
# Leaving tells so many at most: what SIGTERM's two seconds allow. The others find out.
LEAVE_MAX_COUNT = 4000
# Who did not answer once is asked again so soon; the same for whoever is said to be gone, spread by as much.
SUSPECTS_EVERY_S = 1.0
# Nibbles of a prefix on the wire: with that many a range holds one member of a thousand clusters.
PREFIX_MAX_COUNT = 7
PROBES_COUNT = 3
# Of two, one lives also when half of the cluster died.
WITNESSES_COUNT = 2
# A page that was lost is asked for again, once.
PAGE_TRIES_COUNT = 2
# A page that goes on has room for nine of the largest contacts. Fewer than these are a lie, and so are more pages of a
# range than a full table has. While comparing, the next round goes on.
PAGE_LEAST_COUNT = 4
RANGE_PAGES_LEAST_COUNT = 16
COMPARE_PAGES_MAX_COUNT = 64
FETCH_MAX_S = 30.0


class Membership:
    """`run` once a socket is open."""

    def __init__(self, node: Node, protocol: ProviderProtocol) -> None:
        self._node = node
        self._params = node.params
        self._protocol = protocol
        self._joining = asyncio.Lock()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._compare(), name="dht compare")
            tasks.create_task(self._ask_suspects(), name="dht suspects")
            tasks.create_task(self._probe(), name="dht probe")

    # -- joining ---------------------------------------------------------------------------------------------------

    async def meet(self, endpoint: Endpoint) -> bool:
        """Whether a node answers there. Who was not known is joined."""
        known = len(self._node.members)
        reply = await self._protocol.call(None, endpoint, Ping(self._node.own.info))
        if reply is None:
            return False
        if not self._node.has_joined or len(self._node.members) > known:
            await self._join(reply.sender, endpoint)
        return True

    async def meet_again(self, contact: Contact) -> bool:
        """`meet` for a node whose id is known."""
        to = self._reach(contact)
        return (
            to is not None
            and await self._protocol.call(contact.node, to, Ping(self._node.own.info)) is not None
        )

    async def _join(self, node: bytes, endpoint: Endpoint) -> None:
        was_alone = not self._node.has_joined
        async with self._joining:
            if was_alone and self._node.has_joined:
                # Another one was quicker. What this one knows beyond that costs a request or few.
                contact = self._node.members.get(node)
                if contact is not None:
                    await self.compare_with(contact)
                return
            before_count = len(self._node.members)
            # A newcomer's own discoveries are known to the others; of two islands that meet nothing is.
            are_news = self._node.has_joined and before_count > 0
            reply = await self._protocol.call(node, endpoint, Join(self._node.own.info))
            page = self._learn(reply, are_news=are_news)
            if page is None:
                return
            if page.more:
                await self._fetch_rest(node, endpoint, page, are_news=are_news)
            self._node.joined()
            log.debug(
                "joined through %s: %d members, before %d", endpoint, len(self._node.members), before_count
            )
            await self.introduce()

    async def _fetch_rest(self, node: bytes, endpoint: Endpoint, page: Page, *, are_news: bool) -> None:
        first = int.from_bytes(page.contacts[-1].node, "big") + 1 if page.contacts else 0
        ranges_count = self._params.join_parallel_count
        step = -(-(_ALL - first) // ranges_count) or 1
        pages_count = self._params.members_max_count // (PAGE_LEAST_COUNT * ranges_count)
        async with asyncio.TaskGroup() as tasks:
            for start in range(first, _ALL, step):
                last = min(start + step, _ALL) - 1
                tasks.create_task(
                    self._fetch(
                        node,
                        endpoint,
                        start.to_bytes(20, "big"),
                        last.to_bytes(20, "big"),
                        max(pages_count, RANGE_PAGES_LEAST_COUNT),
                        are_news=are_news,
                    )
                )

    async def _fetch(
        self, node: bytes, endpoint: Endpoint, first: bytes, last: bytes, pages_count: int, *, are_news: bool
    ) -> set[bytes] | None:
        """All pages of a range, but no more than so many, within FETCH_MAX_S. Gives the ids; None: some may lack."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FETCH_MAX_S):
                return await self._fetch_pages(node, endpoint, first, last, pages_count, are_news=are_news)
        return None

    async def _fetch_pages(
        self, node: bytes, endpoint: Endpoint, first: bytes, last: bytes, pages_count: int, *, are_news: bool
    ) -> set[bytes] | None:
        listed: set[bytes] = set()
        for _ in range(pages_count):
            page = None
            for _ in range(PAGE_TRIES_COUNT):
                page = self._learn(
                    await self._protocol.call(node, endpoint, GetMembers(first, last)), are_news=are_news
                )
                if page is not None:
                    break
            if page is None:
                return None
            listed.update(one.node for one in page.contacts)
            if not page.more:
                return listed
            if not _is_honest(page, first, last):
                return None
            following = int.from_bytes(page.contacts[-1].node, "big") + 1
            first = following.to_bytes(20, "big")
        return None

    def _learn(self, reply: Reply | None, *, are_news: bool) -> Page | None:
        if reply is None or not isinstance(reply.result, Page):
            return None
        now = asyncio.get_running_loop().time()
        self._node.introduced(reply.result.contacts, reply.source, now, are_news=are_news)
        return reply.result

    async def introduce(self) -> None:
        """Direct evidence of us, at those who will hold our records' neighbours and at some who pass it on."""
        node = self._node
        chosen = {one.node: one for one in node.members.nearest(node.own.node, INTRODUCE_NEAR_COUNT)}
        members = list(node.members)
        for one in node.rng.sample(members, min(len(members), INTRODUCE_COUNT)):
            if len(chosen) < INTRODUCE_COUNT:
                chosen[one.node] = one
        for number, contact in enumerate(chosen.values(), 1):
            for to in contact.endpoints:
                if self._speaks(to):
                    self._protocol.ask(contact.node, to, Ping(node.own.info), _ignore)
            if number % BURST_COUNT == 0:
                await asyncio.sleep(BURST_REST_S)

    async def leave(self) -> None:
        """Says goodbye to everybody, once, without waiting for anybody."""
        for number, contact in enumerate(list(self._node.members)[:LEAVE_MAX_COUNT], 1):
            to = self._reach(contact)
            if to is not None:
                self._protocol.tell(contact.node, to, Leave())
            if number % BURST_COUNT == 0:
                await asyncio.sleep(0)

    # -- staying in agreement --------------------------------------------------------------------------------------

    async def _compare(self) -> None:
        """Anti-entropy with a random member; a look after one that was lost."""
        while True:
            await asyncio.sleep(self._params.sync_interval_s * self._node.rng.uniform(0.5, 1.5))
            now = asyncio.get_running_loop().time()
            lost = self._node.members.lost_sample(self._node.rng, now)
            if lost is not None and await self.meet_again(lost):
                await self.compare_with(lost)
            contact = self._node.members.random(self._node.rng)
            if contact is not None and not self._node.members.is_full:
                await self.compare_with(contact)

    async def compare_with(self, contact: Contact) -> None:
        """Fetches what differs, within sync_rpcs_max_count requests; the next round goes on."""
        to = self._reach(contact)
        if to is None:
            return
        hashes, open_prefixes = self._node.hashes, [b""]
        rpcs_left = self._params.sync_rpcs_max_count
        while open_prefixes and rpcs_left > 0:
            prefix = open_prefixes.pop()
            rpcs_left -= 1
            reply = await self._protocol.call(contact.node, to, Sync(prefix, hashes.hashes(prefix)))
            if reply is None or not isinstance(reply.result, Differs):
                return
            children = [child for child in range(16) if reply.result.mask >> child & 1]
            self._node.rng.shuffle(children)
            for child in children:
                if (
                    hashes.count(prefix, child) > self._params.sync_leaf_count
                    and len(prefix) < PREFIX_MAX_COUNT
                ):
                    open_prefixes.append(prefix + bytes([child]))
                elif rpcs_left > 0:
                    rpcs_left -= 1
                    first, last = range_of(prefix, child)
                    listed = await self._fetch(
                        contact.node, to, first, last, COMPARE_PAGES_MAX_COUNT, are_news=True
                    )
                    if listed is not None:
                        now = asyncio.get_running_loop().time()
                        self._node.unlisted(first, last, listed, now)

    async def _ask_suspects(self) -> None:
        while True:
            await asyncio.sleep(SUSPECTS_EVERY_S * self._node.rng.uniform(0.5, 1.5))
            asked = self._node.take_suspects(BURST_COUNT)
            if asked and self._node.is_deaf_soon(asyncio.get_running_loop().time()):
                # If one of these answers, it is not we who are not heard.
                witnesses = (self._node.members.random(self._node.rng) for _ in range(WITNESSES_COUNT))
                asked += [one for one in witnesses if one is not None]
            for contact in asked:
                to = self._reach(contact)
                if to is not None:
                    self._protocol.ask(contact.node, to, Ping(self._node.own.info), _ignore)

    async def _probe(self) -> None:
        """An isolated node asks around until somebody answers."""
        while True:
            await asyncio.sleep(self._params.isolated_probe_s)
            if not self._node.is_isolated:
                continue
            members = list(self._node.members)
            for contact in self._node.rng.sample(members, min(len(members), PROBES_COUNT)):
                to = self._reach(contact)
                if to is not None:
                    self._protocol.ask(contact.node, to, Ping(self._node.own.info), _ignore)

    def _reach(self, contact: Contact) -> Endpoint | None:
        return contact.reach(v4=self._protocol.speaks_v4, v6=self._protocol.speaks_v6)

    def _speaks(self, to: Endpoint) -> bool:
        return self._protocol.speaks_v6 if to.is_v6 else self._protocol.speaks_v4


def _ignore(reply: Reply | None) -> None:
    """What the protocol hears of a node is told to the members anyway."""


def _is_honest(page: Page, first: bytes, last: bytes) -> bool:
    """Whether a page that goes on has contacts of the range, in order, as many as fit, and room for more."""
    ids = [one.node for one in page.contacts]
    return (
        len(ids) >= PAGE_LEAST_COUNT
        and first <= ids[0]
        and ids[-1] < last
        and all(one < other for one, other in pairwise(ids))
    )
