"""Asks the hosts that are said to have a tag what they have under it. Judges none of their answers.

Rules
1. Who has a tag, the DHT says; what it points to, each host says for itself.
2. Up to `ASKED_MAX_COUNT` addresses are asked at once, the first that are found; each has one answer, whatever number
   of ports it has. A second port of an address is asked where the first gave none.
3. What came by the deadline is the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

from mirror.discovery.base import Discovery, Peer
from mirror.peer.client import PeerClient
from mirror.peer.errors import PeerError
from mirror.tags.base import Attestation, TagName

# A pull waits meanwhile. A lookup and two round trips take some tens of milliseconds within a cluster.
DEADLINE_S = 1.0
# Two agree and a third may be asleep; eight also outvote a liar or two.
ASKED_MAX_COUNT = 8
# A host that was restarted on another port is still known by the old one for a while; more is a nuisance.
PORTS_MAX_COUNT = 3


class Attestor:
    """`client` must be open."""

    def __init__(self, discovery: Discovery, client: PeerClient, *, deadline_s: float = DEADLINE_S) -> None:
        self._discovery = discovery
        self._client = client
        self._deadline_s = deadline_s

    async def ask(self, name: TagName) -> list[Attestation]:
        """In the order in which they came, one for each address. Never raises for what the network does."""
        answers: list[Attestation] = []
        ports: dict[str, list[Peer]] = {}
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self._deadline_s),
                asyncio.TaskGroup() as group,
                aclosing(self._discovery.find_providers(name.key)) as providers,
            ):
                async for provider in providers:
                    peer = provider.peer
                    known = ports.get(peer.address)
                    if known is not None:
                        if len(known) < PORTS_MAX_COUNT and peer not in known:
                            known.append(peer)
                    elif len(ports) < ASKED_MAX_COUNT:
                        ports[peer.address] = [peer]
                        group.create_task(self._ask_address(ports[peer.address], name, answers))
                    else:
                        break
        return answers

    async def _ask_address(self, peers: list[Peer], name: TagName, answers: list[Attestation]) -> None:
        # The list may grow meanwhile.
        for peer in peers:
            with suppress(PeerError):
                answers.append(await self._client.attestation(peer, name))
                return
