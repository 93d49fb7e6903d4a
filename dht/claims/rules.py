"""Whether this node is the one to rule on a claim, and which rule applies to a request. Keeps nothing
(dht.claims.claims does).

1. A node that has not joined knows too few members to be an arbiter: it never grants.
2. A node that knows a live member nearer to the key, which the asker did not pass over, names it instead. So two
   nodes that see different members rarely grant the same key twice: with a twentieth of the members missing from each
   view, about once in fifty keys instead of for every second.
3. The asker himself is never named to himself, though he be the nearest: he asks because he cannot rule.
4. A release is taken from anybody: it can only end the sender's own claim.
"""

from __future__ import annotations

from collections.abc import Sequence

from dht.claims.claims import Claims
from dht.claims.rulings import NotJoined, Redirect, Ruling
from dht.contacts import Contact
from dht.errors import FrameInvalid
from dht.wire.codec import Claim, Verb

# Nearer members to look at: a claim passes over eight at most (dht.wire.codec), and two more are worth naming.
CLOSER_LOOKED_AT_COUNT = 10
# One to ask, one should it be dead.
CLOSER_NAMED_COUNT = 2
# Joining takes about as long.
NOT_JOINED_AGAIN_S = 1.0


def judge(
    claims: Claims,
    request: Claim,
    asker: Contact,
    closer: Sequence[Contact],
    now: float,
    *,
    is_joined: bool,
    is_source_known: bool = False,
) -> Ruling:
    """`asker` may be the own node. `closer`: live members nearer to the key than this node, nearest first,
    CLOSER_LOOKED_AT_COUNT are enough. `is_source_known`: the asker is told of providers in the same answer and wants
    them, so that no claim is needed. Raises: FrameInvalid for what no asker sends."""
    fence = request.fence
    if request.verb == Verb.RELEASE:
        if fence is None:
            raise FrameInvalid("no fence")
        return claims.release(request.key, asker, fence, request.progress, request.reason, now)
    if request.verb == Verb.RENEW:
        if fence is None:
            raise FrameInvalid("no fence")
        turned = _turned_away(request, asker, closer, is_joined=is_joined)
        if turned is not None:
            # The claim goes on elsewhere: it is no fault of the holder that it ends here.
            claims.moved(request.key, asker, request.progress, now)
            return turned
        return claims.renew(request.key, asker, fence, request.progress, now, reason=request.reason)
    if request.verb != Verb.ASK:
        raise FrameInvalid("bad verb")
    turned = _turned_away(request, asker, closer, is_joined=is_joined)
    if turned is not None:
        return turned
    return claims.ask(
        request.key,
        asker,
        request.progress,
        now,
        known=fence,
        is_source_known=is_source_known,
        wants_sources=request.want > 0,
        reason=request.reason,
    )


def _turned_away(
    request: Claim, asker: Contact, closer: Sequence[Contact], *, is_joined: bool
) -> Redirect | NotJoined | None:
    if not is_joined:
        return NotJoined(NOT_JOINED_AGAIN_S)
    known = {asker.node, *request.passed_over}
    named = [one for one in closer if one.node not in known and one.endpoints]
    return Redirect(tuple(named[:CLOSER_NAMED_COUNT])) if named else None
