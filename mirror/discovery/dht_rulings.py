"""What the DHT's arbiters say, as the ladder wants it. Translates; decides nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dht.claims.rulings as told
from dht.contacts import Contact
from mirror.steer.rulings import (
    Excluded,
    Fence,
    Granted,
    Participant,
    Pending,
    Refused,
    Ruling,
    Unruled,
    Wait,
)

# What the ladder calls a node. By its id where nothing else is said.
NameOf = Callable[[Contact], bytes]


def by_id(contact: Contact) -> bytes:
    return contact.node


def from_dht(ruling: told.Ruling | None, name_of: NameOf = by_id) -> Ruling:
    """`ruling`: of dht.claiming.ClaimAnswer; None: no answer."""

    def participant(holding: told.Holding) -> Participant:
        return Participant(name_of(holding.contact), holding.progress)

    def participants(holdings: Sequence[told.Holding]) -> tuple[Participant, ...]:
        return tuple(participant(one) for one in holdings)

    match ruling:
        case told.Granted(fence, _, others):
            return Granted(Fence(fence.arbiter, fence.counter), participants(others))
        case told.Wait(running, again_s, others) | told.Lost(running, again_s, others):
            known = Fence(running.fence.arbiter, running.fence.counter)
            return Wait(known, participant(running.holder), again_s, participants(others))
        case told.Pending(again_s, others):
            return Pending(again_s, participants(others))
        case told.Excluded(again_s):
            return Excluded(again_s)
        case told.Refused(again_s):
            return Refused(again_s)
        case told.Full() | told.Redirect() | told.NotJoined() | told.Released() | None:
            return Unruled()
