"""Rulings to the wire's struct and back. Decides nothing, but what is left out where the room ends.

A WAIT without a holder is a Pending. Times travel as `for_ms`, rounded up, so that nobody asks a moment too early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import dht.wire.codec as codec
from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Holding,
    Lost,
    NotJoined,
    Pending,
    Redirect,
    Refused,
    Released,
    Ruling,
    Running,
    Wait,
)
from dht.contacts import Contact
from dht.endpoints import Endpoint, EndpointInvalid, pack, unpack
from dht.errors import FrameInvalid
from dht.wire.codec import Fence, Outcome, Participant, WireContact, WireProvider

# A waiter says nothing of what it provides.
STATE_UNSAID: Final = 0
# No arbiter of ours gives a longer time: a longer one would keep the asker from asking ever again.
FOR_MAX_S: Final = 600.0
# At most, with msgpack's heads: outcome, time, fence, three lists.
_RULING_BYTES: Final = 48
# Heads of a participant and its provider, state and progress.
_PARTICIPANT_HEADS_BYTES: Final = 20


def to_wire(ruling: Ruling, providers: Iterable[WireProvider], room_bytes: int) -> codec.Ruling:
    """The holder always fits; then come other participants, at most half of what is left, then providers."""
    match ruling:
        case Granted(fence, hold_s, participants):
            return _told(Outcome.GRANTED, hold_s, fence, None, participants, providers, room_bytes)
        case Wait(running, again_s, participants):
            holder = running.holder
            return _told(Outcome.WAIT, again_s, running.fence, holder, participants, providers, room_bytes)
        case Lost(running, again_s, participants):
            holder = running.holder
            return _told(Outcome.LOST, again_s, running.fence, holder, participants, providers, room_bytes)
        case Pending(again_s, participants):
            return _told(Outcome.WAIT, again_s, None, None, participants, providers, room_bytes)
        case Redirect(closer):
            named = [WireContact(one.node, one.epoch, pack(one.endpoints), one.info) for one in closer]
            left = room_bytes - sum(len(one.endpoints) + len(one.info) + 32 for one in named)
            told = _told(Outcome.REDIRECT, 0.0, None, None, (), providers, left)
            return codec.Ruling(told.outcome, told.for_ms, None, None, [], told.providers, named)
        case NotJoined(again_s):
            return _told(Outcome.NOT_JOINED, again_s, None, None, (), providers, room_bytes)
        case Excluded(again_s):
            return _told(Outcome.EXCLUDED, again_s, None, None, (), providers, room_bytes)
        case Refused(again_s):
            return _told(Outcome.REFUSED, again_s, None, None, (), providers, room_bytes)
        case Full(again_s):
            return _told(Outcome.FULL, again_s, None, None, (), providers, room_bytes)
        case Released():
            return codec.Ruling(Outcome.RELEASED, 0)


# Which of the endpoints that were told of a node may be used, or better ones.
Usable = Callable[[bytes, tuple[Endpoint, ...]], tuple[Endpoint, ...]]


def from_wire(told: codec.Ruling, usable: Usable) -> Ruling:
    """Whoever cannot be reached is left out; a holder is kept, without endpoints. Raises: FrameInvalid for an outcome
    of a later release, and for one that lacks what it must have."""
    again_s = min(told.for_ms / 1000, FOR_MAX_S)
    try:
        participants = _reachable(_holding(one, usable) for one in told.participants)
        running = None
        if told.fence is not None and told.holder is not None:
            running = Running(told.fence, _holding(told.holder, usable))
        match told.outcome:
            case Outcome.GRANTED if told.fence is not None:
                return Granted(told.fence, again_s, participants)
            case Outcome.WAIT if running is not None:
                return Wait(running, again_s, participants)
            case Outcome.WAIT:
                return Pending(again_s, participants)
            case Outcome.LOST if running is not None:
                return Lost(running, again_s, participants)
            case Outcome.REDIRECT:
                closer = (
                    _contact(one.node, one.epoch, one.endpoints, one.info, usable) for one in told.closer
                )
                return Redirect(tuple(one for one in closer if one.endpoints))
            case Outcome.NOT_JOINED:
                return NotJoined(again_s)
            case Outcome.EXCLUDED:
                return Excluded(again_s)
            case Outcome.FULL:
                return Full(again_s)
            case Outcome.REFUSED:
                return Refused(again_s)
            case Outcome.RELEASED:
                return Released()
    except EndpointInvalid as exc:
        raise FrameInvalid("bad endpoint") from exc
    raise FrameInvalid("bad ruling")


def _told(
    outcome: Outcome,
    for_s: float,
    fence: Fence | None,
    holder: Holding | None,
    participants: Sequence[Holding],
    providers: Iterable[WireProvider],
    room_bytes: int,
) -> codec.Ruling:
    left = room_bytes - _RULING_BYTES
    held_by = None
    if holder is not None:
        held_by = _participant(holder)
        left -= _size_bytes(held_by.provider)
    half = left // 2
    others = []
    for holding in participants:
        other = _participant(holding)
        size = _size_bytes(other.provider)
        if size > half:
            break
        half -= size
        left -= size
        others.append(other)
    fitting = []
    for provider in providers:
        left -= _size_bytes(provider)
        if left < 0:
            break
        fitting.append(provider)
    return codec.Ruling(outcome, math.ceil(for_s * 1000), fence, held_by, others, fitting)


def _size_bytes(provider: WireProvider) -> int:
    """At most so much on the wire, as a participant."""
    return _PARTICIPANT_HEADS_BYTES + len(provider.node) + len(provider.endpoints) + len(provider.info)


def _participant(holding: Holding) -> Participant:
    who = holding.contact
    provider = WireProvider(who.node, pack(who.endpoints), STATE_UNSAID, who.info)
    return Participant(provider, holding.progress)


def _holding(told: Participant, usable: Usable) -> Holding:
    one = told.provider
    # The epoch is not told.
    return Holding(_contact(one.node, 0, one.endpoints, one.info, usable), told.progress)


def _contact(node: bytes, epoch: int, endpoints: bytes, info: bytes, usable: Usable) -> Contact:
    return Contact(node, epoch, usable(node, unpack(endpoints)), info)


def _reachable(holdings: Iterable[Holding]) -> tuple[Holding, ...]:
    return tuple(one for one in holdings if one.contact.endpoints)
