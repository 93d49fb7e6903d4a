"""A node as others know it. Immutable, so that one object may stand in many tables."""

from __future__ import annotations

from dataclasses import dataclass

from dht.endpoints import Endpoint

# A stamp is 24 bits of epoch and 40 bits of sequence: a thousand datagrams a second for 34 years.
SEQUENCE_BITS = 40
EPOCH_MAX = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Contact:
    """`node` is 20 bytes. `epoch` counts the node's starts, 0 where only hearsay without one is known. `endpoints`
    holds at most one a family, IPv4 first. `info` is the node's own, opaque."""

    node: bytes
    epoch: int
    endpoints: tuple[Endpoint, ...]
    info: bytes

    def reach(self, *, v4: bool, v6: bool) -> Endpoint | None:
        """The first endpoint of a family that we speak."""
        for found in self.endpoints:
            if v6 if found.is_v6 else v4:
                return found
        return None


def merged(old: Contact, new: Contact) -> Contact:
    """`new`, with the other family's endpoint of `old` where both are of the same epoch."""
    if old.epoch != new.epoch:
        return new
    families = {one.is_v6 for one in new.endpoints}
    kept = [one for one in old.endpoints if one.is_v6 not in families]
    if not kept:
        return new
    both = tuple(sorted((*new.endpoints, *kept), key=lambda one: one.is_v6))
    return Contact(new.node, new.epoch, both, new.info)


def stamp(epoch: int, sequence: int) -> int:
    """What orders everything a node ever said."""
    return epoch << SEQUENCE_BITS | sequence


def epoch_of(stamped: int) -> int:
    return stamped >> SEQUENCE_BITS
