"""Whether a key gets one claim more though one runs. Pure; refuses to judge who asks (dht.claims.claims does).

1. HELD_LONG: only after a claim of the key ended by its time. After the first such end one more may run, after the
   second two, after the third four: whoever holds the claim in vain then costs the others ever less time, and a
   registry that is down is not asked by everybody at once.
2. SLOW_CLAIMANT: only beside one claim, and only if that one has grown or is queued behind others of its holder's
   (whoever else brings nothing is not slow: his time ends). Once at first, then after an interval that doubles: the one
   that helps may turn out to be no faster, and then another would be no faster either.
3. Never more than `claims_per_key_count` at once, for whatever reason. A reason that is not known is none.

When somebody has all of it, or the key is forgotten, the ends by time are counted anew; the interval is only with the
key forgotten, since whoever helped in vain gives his claim back in the same words.
"""

from __future__ import annotations

from dht.claims.state import KeyState
from dht.params import Params
from dht.wire.codec import AskReason

# Doubled more often than this a number is beyond every bound.
_DOUBLINGS_MAX_COUNT = 16


def is_due(state: KeyState, reason: int, now: float, params: Params) -> bool:
    """`reason`: dht.wire.codec.AskReason, or any other number."""
    running_count = len(state.claims)
    if not 0 < running_count < params.claims_per_key_count:
        return False
    if reason == AskReason.HELD_LONG:
        return state.expired_count > 0 and running_count <= 2 ** (state.expired_count - 1)
    if reason == AskReason.SLOW_CLAIMANT:
        only = state.claims[0]
        is_slow = only.has_grown or only.is_queued
        return running_count == 1 and is_slow and now >= state.slow_again_at
    return False


def granted(state: KeyState, reason: int, now: float, params: Params) -> None:
    if reason != AskReason.SLOW_CLAIMANT:
        return
    after_s = params.claim_slow_again_s * 2**state.slow_times_count
    state.slow_again_at = now + min(after_s, params.claim_slow_again_max_s)
    state.slow_times_count = min(state.slow_times_count + 1, _DOUBLINGS_MAX_COUNT)


def expired(state: KeyState) -> None:
    """A claim ended by its time."""
    state.expired_count = min(state.expired_count + 1, _DOUBLINGS_MAX_COUNT)


def completed(state: KeyState) -> None:
    """The last claim that ran was given back as done, with bytes."""
    state.expired_count = 0
