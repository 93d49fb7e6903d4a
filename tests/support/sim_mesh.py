"""Who tells whom in a simulated swarm: the state channels of one digest at one host. Refuses to choose pieces.

As docs/wire/state-channel.md: what two neighbours have, batched; who their other neighbours are. As mirror.herd.mesh: a
host calls others until it has enough neighbours, and takes callers in up to a bound; who is taken in is told of others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from mirror.swarm.bitfield import Bitfield, pieces_of
from mirror.swarm.events import GoneReason, Have, SourceFound, SourceGone, SourceKind, SourceState
from mirror.swarm.offers import Offers
from tests.support.sim_world import Host

if TYPE_CHECKING:
    from tests.support.sim_download import Download

# A dial is a TCP handshake, an upgrade and a HELLO.
DIAL_ROUND_TRIPS: Final = 2
# Neighbours are named anew that long after they changed.
NAME_AFTER_S: Final = 1.0
# A peer that is gone without a FIN: ChannelParams.ping_after_s, and half of it for the pong.
LOST_AFTER_S: Final = 15.0
# Who was called in vain is called again after so long at the earliest.
CALL_AGAIN_S: Final = 2.0


class Mesh:
    def __init__(self, download: Download) -> None:
        self._download = download
        self._world = download.world
        self._params = download.world.plan.channel
        # What each neighbour was told.
        self.told: dict[Host, int] = {}
        self._told_is_fed = False
        self._calling: set[Host] = set()
        self._candidates: dict[Host, None] = {}
        self._called_at: dict[Host, float] = {}
        self._is_flushing = False
        self._flushed_at = -1.0
        self._is_naming = False
        self._offers: Offers[Host] = Offers(download.world.plan.swarm, download.host.rng)
        self._offers_at = -1.0

    # -- who -------------------------------------------------------------------------------------------------------

    def name(self, hosts: Iterable[Host]) -> None:
        """Others who may take part."""
        own = self._download.host
        for host in hosts:
            if host is not own and host not in self.told:
                self._candidates[host] = None
        self.grow()

    def grow(self) -> None:
        now = self._world.clock.now
        wanted_count = self._world.plan.called_max_count
        open_ = [
            host
            for host in self._candidates
            if now - self._called_at.get(host, -CALL_AGAIN_S) >= CALL_AGAIN_S and host not in self._calling
        ]
        self._download.host.rng.shuffle(open_)
        for host in open_[: max(0, wanted_count - len(self.told) - len(self._calling))]:
            del self._candidates[host]
            self._calling.add(host)
            self._called_at[host] = now
            self._tell_count()
            delay_s = (DIAL_ROUND_TRIPS - 0.5) * 2 * self._download.host.half_rtt_s(host)
            self._world.clock.after(delay_s, self._called, host)

    def _called(self, host: Host) -> None:
        """The call is at the other host."""
        back_s = self._download.host.half_rtt_s(host)
        other = host.downloads.get(self._download.blob.key) if host.is_alive else None
        if not self._download.host.is_alive:
            return
        if other is None:
            self._world.clock.after(back_s, self._turned_away, host, ())
        elif self._download.host in other.mesh.told:
            self._calling.discard(host)
        elif len(other.mesh.told) >= self._world.plan.neighbours_max_count:
            named = other.mesh.some(self._download.host) if self._world.plan.is_naming_more else ()
            self._world.clock.after(back_s, self._turned_away, host, named)
        else:
            other.mesh.up(self._download.host, is_naming=True)
            self._world.clock.after(back_s, self._taken_in, host)

    def _taken_in(self, host: Host) -> None:
        self._calling.discard(host)
        if self._download.host.is_alive and host.is_alive and host not in self.told:
            self.up(host, is_naming=False)

    def _turned_away(self, host: Host, named: tuple[Host, ...]) -> None:
        self._calling.discard(host)
        self._world.counts["turned away"] += 1
        self._candidates[host] = None
        self.name(named)

    def some(self, asker: Host) -> tuple[Host, ...]:
        """Of the neighbours, as many as are named at once."""
        others = [host for host in self.told if host is not asker]
        count = min(len(others), self._world.plan.names_count)
        return tuple(self._download.host.rng.sample(others, count))

    def up(self, host: Host, *, is_naming: bool) -> None:
        """The channel is open on this side; what this host has is on its way."""
        download = self._download
        self._candidates.pop(host, None)
        self._offers.joined(host)
        self._look()
        offered = self._offered_to(host)
        self.told[host] = offered.mask
        self._tell_count()
        named = self.some(host) if is_naming else ()
        args = (download.host, offered, self._is_fed(), named)
        self._world.clock.after(download.host.half_rtt_s(host), self._opened, host, *args)
        if self._world.plan.is_naming_more and not self._is_naming:
            self._is_naming = True
            self._world.clock.after(NAME_AFTER_S, self._name_all)

    def _opened(
        self, host: Host, sender: Host, offered: Bitfield, is_fed: bool, named: tuple[Host, ...]
    ) -> None:
        other = host.downloads.get(self._download.blob.key)
        if other is None or not host.is_alive:
            return
        other.source_found(sender, offered, is_fed)
        other.mesh.name(named)

    def _name_all(self) -> None:
        self._is_naming = False
        if not self._download.host.is_alive:
            return
        for host in self.told:
            other = host.downloads[self._download.blob.key]
            if len(other.mesh.told) < self._world.plan.called_max_count:
                self._tell_count()
                delay_s = self._download.host.half_rtt_s(host)
                self._world.clock.after(delay_s, other.mesh.name, self.some(host))

    def lost(self, host: Host) -> None:
        if self.told.pop(host, None) is not None:
            self._offers.left(host)
            self._download.source_gone(host)
        self._calling.discard(host)
        self._candidates.pop(host, None)
        self.grow()

    def host_died(self, *, has_said_so: bool) -> None:
        """The own host. Its neighbours notice it."""
        own = self._download.host
        for host in self.told:
            other = host.downloads[self._download.blob.key]
            delay_s = own.half_rtt_s(host) if has_said_so else LOST_AFTER_S
            self._world.clock.after(delay_s, other.mesh.lost, own)

    # -- what ------------------------------------------------------------------------------------------------------

    def news(self) -> None:
        """There is something to tell: at once, but one batch after the other."""
        if not self._is_flushing and self.told:
            self._is_flushing = True
            self._world.clock.at(
                max(self._world.clock.now, self._flushed_at + self._params.batch_s), self._flush
            )

    def _flush(self) -> None:
        download, clock = self._download, self._world.clock
        self._is_flushing = False
        self._flushed_at = clock.now
        if not download.host.is_alive:
            return
        self._look()
        is_fed = self._is_fed()
        is_state = is_fed != self._told_is_fed
        self._told_is_fed = is_fed
        for host, told in self.told.items():
            offered = self._offered_to(host)
            new = offered.mask & ~told
            if not new and not is_state:
                continue
            self.told[host] = offered.mask
            self._tell_count()
            other = host.downloads[download.blob.key]
            delay_s = download.host.half_rtt_s(host)
            source_id = download.source_id
            if is_state:
                event: Have | SourceState = SourceState(source_id, offered, 0.0, is_fed)
                clock.after(delay_s, other.source_told, download.host, event, is_fed)
            else:
                event = Have(source_id, tuple(pieces_of(new)))
                clock.after(delay_s, other.source_told, download.host, event, is_fed)

    def _is_fed(self) -> bool:
        """As neighbours are told."""
        return self._download.is_fed_from_origin or self._offers.is_careful

    def _offered_to(self, host: Host) -> Bitfield:
        offered = self._download.offered
        if not self._world.plan.has_offers:
            return offered
        mask = offered.mask & self._offers.told(host)
        if not self._download.is_fed(host) and not offered.is_complete:
            # Of what he has himself he need not hear.
            mask &= ~self._download.had(host) | self.told.get(host, 0)
        return Bitfield(offered.piece_count, mask)

    def _look(self) -> None:
        clock, download = self._world.clock, self._download
        key, lending = download.blob.key, download.host.lending
        is_fed = download.is_fed_from_origin
        self._offers.look(
            download.offered.mask,
            is_fed,
            clock.now,
            is_lost=not (is_fed or download.offered.is_complete),
            is_needed_elsewhere=lending.is_needed_elsewhere(key),
        )
        for other in lending.told(key, self._offers.is_needed):
            clock.after(0.0, download.host.downloads[other].mesh.news)
        at = self._offers.next_timer()
        if at is not None and at != self._offers_at:
            self._offers_at = at
            clock.at(at, self.news)

    def has(self, host: Host, mask: int) -> None:
        """All that a neighbour has."""
        self._offers.has(host, mask, self._world.clock.now, is_fed=self._download.is_fed(host))
        if self._offers.is_careful:
            self.news()

    def _tell_count(self) -> None:
        self._download.host.told_count += 1


def found(source_id: str, offered: Bitfield, *, is_fed: bool) -> tuple[SourceFound, SourceState]:
    return (
        SourceFound(source_id, SourceKind.PEER, offered.is_complete, 0),
        SourceState(source_id, offered, 0.0, is_fed),
    )


def gone(source_id: str) -> SourceGone:
    return SourceGone(source_id, GoneReason.CLOSED)
