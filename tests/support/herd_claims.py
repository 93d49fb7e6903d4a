"""One arbiter for the hosts of a test in this process: the claims of a real node of the DHT, asked without a network.

Providers are whatever the hosts announced to the cluster of memory discoveries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dht.claims.claims import Claims
from dht.claims.rulings import Granted, Ruling
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import key_of
from dht.params import Params
from dht.wire.codec import AskReason, Fence
from mirror.discovery.base import Peer, ProviderState
from mirror.discovery.dht_claims import _REASONS
from mirror.discovery.dht_rulings import from_dht
from mirror.oci.digest import Digest
from mirror.steer.claims import NamedPeer, Replaced, Word, name_of
from mirror.steer.commands import AskClaim, ReleaseClaim, ReleaseReason, RenewClaim
from mirror.steer.rulings import Unruled
from tests.support.memory_discovery import MemoryCluster


@dataclass(slots=True)
class HerdArbiter:
    """`granted`: to whom, once for each fence, in order; `released`: why, in order."""

    cluster: MemoryCluster
    clock: Callable[[], float] = time.monotonic
    params: Params = field(default_factory=Params)
    granted: list[Peer] = field(default_factory=list)
    released: list[tuple[Peer, ReleaseReason]] = field(default_factory=list)
    # An arbiter that cannot be reached.
    is_gone: bool = False
    _fences: set[Fence] = field(default_factory=set)
    _claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        self._claims = Claims(b"\x0a" * 20, 1, self.params)

    def member(self) -> HerdClaims:
        return HerdClaims(self)

    async def rule(self, peer: Peer, digest: Digest, ask: AskClaim | RenewClaim) -> Word:
        await asyncio.sleep(0)
        found = [one for one in self.cluster.holders(str(digest)) if one.peer != peer]
        providers = tuple(NamedPeer(one.peer, one.state is ProviderState.COMPLETE) for one in found)
        if self.is_gone:
            return Word(Unruled(), (), (), is_alone=False)
        who, now, key = _contact(peer), self.clock(), key_of(str(digest))
        ruling: Ruling
        if isinstance(ask, RenewClaim):
            fence = Fence(ask.fence.arbiter, ask.fence.counter)
            reason = AskReason.QUEUED if ask.is_queued else AskReason.NEEDED
            ruling = self._claims.renew(key, who, fence, ask.progress_bytes, now, reason=reason)
        else:
            wanted = providers if ask.wants_providers else ()
            ruling = self._claims.ask(
                key,
                who,
                ask.progress_bytes,
                now,
                known=None if ask.known is None else Fence(ask.known.arbiter, ask.known.counter),
                is_source_known=bool(wanted),
                reason=_REASONS.get(ask.reason, 0),
            )
            providers = wanted
        if isinstance(ruling, Granted) and ruling.fence not in self._fences:
            self._fences.add(ruling.fence)
            self.granted.append(peer)
        others: list[NamedPeer] = []

        def name(contact: Contact) -> bytes:
            other = Peer(contact.endpoints[0].address, contact.endpoints[0].port)
            if other != peer:
                others.append(NamedPeer(other, is_complete=False))
            return name_of(other)

        return Word(from_dht(ruling, name), providers, tuple(others), is_alone=False)

    def release(self, peer: Peer, digest: Digest, release: ReleaseClaim) -> None:
        self.released.append((peer, release.reason))
        fence = Fence(release.fence.arbiter, release.fence.counter)
        self._claims.release(
            key_of(str(digest)),
            _contact(peer),
            fence,
            release.progress_bytes,
            release.reason.wire_value,
            self.clock(),
        )


class HerdClaims:
    """Implements `Claims` for one host, whose `peer` is to be set once it is known."""

    is_joining = False

    def __init__(self, arbiter: HerdArbiter) -> None:
        self.peer = Peer("127.0.0.1", 0)
        self._arbiter = arbiter

    async def ask(self, digest: Digest, ask: AskClaim | RenewClaim, on_replaced: Replaced) -> Word:
        return await self._arbiter.rule(self.peer, digest, ask)

    async def release(self, digest: Digest, release: ReleaseClaim) -> None:
        self._arbiter.release(self.peer, digest, release)


def _contact(peer: Peer) -> Contact:
    return Contact(peer.port.to_bytes(20, "big"), 1, (Endpoint(peer.address, peer.port),), b"")
