"""What an arbiter says about a claim, as the ladder wants it; and how the DHT's answers become that.

The arbiter may be a node of the DHT or the scheduler. `again_s`: when to ask again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import dht.claims.rulings as told


class Fence(NamedTuple):
    """Names one grant."""

    arbiter: bytes
    counter: int


class Participant(NamedTuple):
    """Somebody else who is after the digest, and how far he said to be."""

    node: bytes
    progress_bytes: int


@dataclass(frozen=True, slots=True)
class Granted:
    """This host is the claimant."""

    fence: Fence
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Another host is. To a renewal: it has become so."""

    fence: Fence
    holder: Participant
    again_s: float
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """No claim runs and none is granted yet: somebody who is farther is about to ask, or providers make it needless."""

    again_s: float
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Excluded:
    """No claim runs; this host had it and brought nothing."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The origin refused several hosts: nobody gets the claim for `again_s`."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Unruled:
    """No arbiter was reached, or the one that was has no room."""


Ruling = Granted | Wait | Pending | Excluded | Refused | Unruled


def from_dht(ruling: told.Ruling | None) -> Ruling:
    """`ruling`: of dht.claiming.ClaimAnswer; None: no answer."""
    match ruling:
        case told.Granted(fence, _, participants):
            return Granted(Fence(fence.arbiter, fence.counter), _participants(participants))
        case told.Wait(running, again_s, participants) | told.Lost(running, again_s, participants):
            known = Fence(running.fence.arbiter, running.fence.counter)
            return Wait(known, _participant(running.holder), again_s, _participants(participants))
        case told.Pending(again_s, participants):
            return Pending(again_s, _participants(participants))
        case told.Excluded(again_s):
            return Excluded(again_s)
        case told.Refused(again_s):
            return Refused(again_s)
        case told.Full() | told.Redirect() | told.NotJoined() | told.Released() | None:
            return Unruled()


def _participants(holdings: Sequence[told.Holding]) -> tuple[Participant, ...]:
    return tuple(_participant(one) for one in holdings)


def _participant(holding: told.Holding) -> Participant:
    return Participant(holding.contact.node, holding.progress)
