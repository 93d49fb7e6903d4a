"""Asks the DHT for claims, and translates what its arbiters say. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from dht.claiming import ClaimAnswer
from dht.contacts import Contact
from dht.ids import key_of
from dht.provider_reading import FoundProvider
from dht.service import DHT
from dht.wire.codec import AskReason as WireReason
from dht.wire.codec import Fence as DhtFence
from dht.wire.codec import Verb
from mirror.discovery import peer_info
from mirror.discovery.base import Peer, ProviderState
from mirror.discovery.dht_rulings import from_dht
from mirror.oci.digest import Digest
from mirror.steer.claims import NamedPeer, Replaced, Word, name_of
from mirror.steer.commands import AskClaim, AskReason, ReleaseClaim, RenewClaim
from mirror.steer.rulings import Unruled

# What goes on the wire with an ask (docs/wire/dht.md).
_REASONS = {
    AskReason.HELD_LONG: WireReason.HELD_LONG,
    AskReason.SLOW_CLAIMANT: WireReason.SLOW_CLAIMANT,
}
WANT_COUNT = 16


class DhtClaims:
    """Implements `Claims`. `has_begun`: the DHT runs. `own`: this host as others may know it."""

    def __init__(self, dht: DHT, own: Collection[Peer], has_begun: Callable[[], bool]) -> None:
        self._dht = dht
        self._has_begun = has_begun
        self._own = frozenset(own)

    @property
    def is_joining(self) -> bool:
        return not self._has_begun() or self._dht.unready is not None

    async def ask(self, digest: Digest, ask: AskClaim | RenewClaim, on_replaced: Replaced) -> Word:
        if not self._has_begun():
            return Word(Unruled(), (), (), is_alone=False)

        def replaced(answer: ClaimAnswer) -> None:
            on_replaced(self._word(answer))

        key = key_of(str(digest))
        if isinstance(ask, RenewClaim):
            fence = DhtFence(ask.fence.arbiter, ask.fence.counter)
            answer = await self._dht.claim(
                key,
                Verb.RENEW,
                progress=ask.progress_bytes,
                fence=fence,
                reason=WireReason.QUEUED if ask.is_queued else WireReason.NEEDED,
                want=WANT_COUNT,
                on_replaced=replaced,
            )
        else:
            known = None if ask.known is None else DhtFence(ask.known.arbiter, ask.known.counter)
            answer = await self._dht.claim(
                key,
                Verb.ASK,
                progress=ask.progress_bytes,
                fence=known,
                reason=_REASONS.get(ask.reason, WireReason.NEEDED),
                want=WANT_COUNT if ask.wants_providers else 0,
                on_replaced=replaced,
            )
        return self._word(answer)

    async def release(self, digest: Digest, release: ReleaseClaim) -> None:
        if not self._has_begun():
            return
        fence = DhtFence(release.fence.arbiter, release.fence.counter)
        await self._dht.claim(
            key_of(str(digest)),
            Verb.RELEASE,
            progress=release.progress_bytes,
            fence=fence,
            reason=release.reason.wire_value,
        )

    def _word(self, answer: ClaimAnswer | None) -> Word:
        is_alone = len(self._dht.members) == 0
        if answer is None:
            return Word(Unruled(), (), (), is_alone)
        providers = tuple(self._providers(answer.providers))
        others: list[NamedPeer] = []

        def name(contact: Contact) -> bytes:
            peer = _peer_of(contact)
            if peer is None or peer in self._own:
                return contact.node
            others.append(NamedPeer(peer, is_complete=False))
            return name_of(peer)

        return Word(from_dht(answer.ruling, name), providers, tuple(others), is_alone)

    def _providers(self, found: Iterable[FoundProvider]) -> Iterable[NamedPeer]:
        for one in found:
            info = peer_info.decode(one.info)
            if info is None:
                continue
            peer = Peer(one.endpoint.address, info.http_port)
            if peer not in self._own:
                yield NamedPeer(peer, peer_info.state_of(one.state) is ProviderState.COMPLETE)


def _peer_of(contact: Contact) -> Peer | None:
    info = peer_info.decode(contact.info)
    if info is None or not contact.endpoints:
        return None
    return Peer(contact.endpoints[0].address, info.http_port)
