"""A claim's lookup, step by step. The key is zero, so a node's id is its distance."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dht.claims.lookup import AskClaim, AskProviders, ClaimLookup, Ruled
from dht.claims.rulings import Granted, Holding, Ruling, Running, Wait
from dht.lookup.lookup import Timer
from dht.silence import Silence
from dht.wire.codec import Fence
from tests.support.lookup_steps import HEDGE_S, KEY, PARAMS, Provider, contact, contacts, node, providers

OWN = 1000
DEADLINE_S = PARAMS.claim_deadline_s
HOLDER = Running(Fence(node(1), 5), Holding(contact(90), 10))
WAIT = Wait(HOLDER, 1.0, ())

CLAIM_HEDGE_S = PARAMS.claim_hedge_min_s


def lookup(
    *numbers: int,
    others: int = 0,
    own: int = OWN,
    want: int = 16,
    lively: Collection[int] = (),
    silence: Silence | None = None,
) -> ClaimLookup[Provider]:
    return ClaimLookup(
        KEY,
        node(own),
        contacts(*numbers),
        PARAMS,
        want=want,
        hedge_s=lambda _: HEDGE_S,
        is_heard_lately=lambda asked: int.from_bytes(asked, "big") in lively,
        silence=silence or Silence(),
        providers_asked_count=others,
    )


def claimed(commands: Sequence[object]) -> list[tuple[int, list[int]]]:
    return [
        (int.from_bytes(one.contact.node, "big"), [int.from_bytes(each, "big") for each in one.passed_over])
        for one in commands
        if isinstance(one, AskClaim)
    ]


def asked(commands: Sequence[object]) -> list[int]:
    return [int.from_bytes(one.contact.node, "big") for one in commands if isinstance(one, AskProviders)]


def grant(number: int, counter: int = 1) -> Granted:
    return Granted(Fence(node(number), counter), 10.0, ())


def ruled(number: int, ruling: Ruling, *named: int) -> Ruled[Provider]:
    return Ruled(node(number), ruling, providers(*named))


def passed(made: ClaimLookup[Provider]) -> Sequence[object]:
    """Both tries of the node under way go past their hedge."""
    commands: Sequence[object] = []
    for _ in range(2):
        due_at = made.next_timer()
        assert due_at is not None
        commands = made.handle(Timer(), due_at)
    return commands
