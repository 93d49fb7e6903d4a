"""Which source to ask next, within one download. Pure: time and randomness are arguments.

Rules
1. A source that failed rests for a while, longer each time; one that does not hold the digest rests for a fixed
   time. One that could not be reached, and one that lied, is out for all downloads for a while (`Bans`).
2. Among those left: complete before partial, fewest failures, fewest open readers, then by lot.
3. A source that was found again is not thereby forgiven.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mirror.discovery.base import Peer, Provider, ProviderState

# Doubled by each failure in a row. Longer than containerd's immediate retry of the Range, so that the retry is
# answered at once with another source or with 404.
FAILURE_REST_S = 2.0
FAILURE_REST_MAX_S = 60.0
# It may pull the image meanwhile; asking more often only costs round trips.
ABSENT_REST_S = 5.0
# A lie is rare and costs a pull: long enough to get through a rollout without that peer.
BAN_S = 120.0
# A host that died is still named for a minute or so, and would cost the pull of every layer a connection that is never
# made. Doubled by each failure in a row; short at first, for a daemon that is only being restarted.
UNREACHABLE_S = 2.0
UNREACHABLE_MAX_S = 60.0
# Peers that lied, and peers that are gone; of more the oldest are forgotten.
BANS_MAX_COUNT = 1024


class Bans:
    """Peers that sent wrong bytes or nonsense, and those that could not be reached. Shared by all downloads."""

    def __init__(self) -> None:
        self._until: dict[Peer, float] = {}
        # How often in a row, and until when.
        self._unreachable: dict[Peer, tuple[int, float]] = {}

    def ban(self, peer: Peer, now: float) -> None:
        self._until.pop(peer, None)
        self._until[peer] = now + BAN_S
        _forget_oldest(self._until)

    def unreachable(self, peer: Peer, now: float) -> None:
        """Several downloads that fail together count once."""
        count, until = self._unreachable.get(peer, (0, now))
        if until > now:
            return
        rest_s = min(UNREACHABLE_S * 2.0**count, UNREACHABLE_MAX_S)
        self._unreachable.pop(peer, None)
        self._unreachable[peer] = (min(count + 1, 10), now + rest_s)
        _forget_oldest(self._unreachable)

    def reached(self, peer: Peer) -> None:
        self._unreachable.pop(peer, None)

    def banned(self, peer: Peer, now: float) -> bool:
        if self._until.get(peer, now) > now:
            return True
        _, until = self._unreachable.get(peer, (0, now))
        return until > now


def _forget_oldest(memory: dict[Peer, float] | dict[Peer, tuple[int, float]]) -> None:
    if len(memory) > BANS_MAX_COUNT:
        del memory[next(iter(memory))]


@dataclass(slots=True)
class Source:
    """A provider inside one download."""

    provider: Provider
    failure_count: int = 0
    reader_count: int = 0
    rests_until: float = 0.0


class Sources:
    """All sources of one digest."""

    def __init__(self, bans: Bans, rng: random.Random) -> None:
        self._bans = bans
        self._rng = rng
        self._sources: dict[Peer, Source] = {}

    def found(self, provider: Provider) -> None:
        known = self._sources.get(provider.peer)
        if known is None:
            self._sources[provider.peer] = Source(provider)
        else:
            known.provider = provider

    def choose(self, now: float) -> Peer | None:
        """The next source to ask; None when none is left now."""
        left = [
            source
            for source in self._sources.values()
            if source.rests_until <= now and not self._bans.banned(source.provider.peer, now)
        ]
        if not left:
            return None
        best = min(left, key=lambda source: (*_rank(source), self._rng.random()))
        return best.provider.peer

    def opened(self, peer: Peer) -> None:
        self._sources[peer].reader_count += 1

    def closed(self, peer: Peer) -> None:
        self._sources[peer].reader_count -= 1

    def served(self, peer: Peer) -> None:
        """It gave all that was asked of it."""
        self._sources[peer].failure_count = 0
        self._bans.reached(peer)

    def absent(self, peer: Peer, now: float) -> None:
        self._sources[peer].rests_until = now + ABSENT_REST_S

    def failed(self, peer: Peer, now: float) -> None:
        source = self._sources[peer]
        rest_s: float = FAILURE_REST_S * 2.0**source.failure_count
        source.failure_count = min(source.failure_count + 1, 10)
        source.rests_until = now + min(rest_s, FAILURE_REST_MAX_S)

    def unreachable(self, peer: Peer, now: float) -> None:
        self.failed(peer, now)
        self._bans.unreachable(peer, now)

    def lied(self, peer: Peer, now: float) -> None:
        self._bans.ban(peer, now)


def _rank(source: Source) -> tuple[bool, int, int]:
    return source.provider.state is not ProviderState.COMPLETE, source.failure_count, source.reader_count
