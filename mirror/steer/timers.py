"""The one ladder of times by which a request for a digest is never forgotten. Numbers only.

Each rung is longer than the one below it, so that a lower rung has had its chance: a source is hedged before a claim
is given up, a claim before a waiter asks for another, that before a body is ended. All waits of one pull together are
shorter than half of what its progress timeout allows (5 minutes unless the user shortened it), but where the claimant
is known to be alive and reads other layers first. containerd 2.3 gives a host up that sent no headers for 30 s: there
such a wait ends so early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

# -- the ladder, in its order
# A source silent for so long is hedged by another. The swarm's.
SOURCE_SILENT_S = 1.0
# A HEAD whose providers say nothing. As long as a peer has to answer a connection's first words: by then they are known
# to be of no use, and the GET that follows need not find out. On a host that pulls hundreds of images at once 0.5 s was
# too short for good ones.
HEAD_MAX_S = 2.0
# A claim whose progress does not grow for so long ends, or CLAIM_STEP_FACTOR times its last step: an ingest grows by
# 1 MiB at a time, which takes 5.3 s at 200 KB/s. The arbiter's (dht.params); here to know what still is alive.
CLAIM_SILENT_MIN_S = 5.0
CLAIM_STEP_FACTOR = 3.0
# Before the first byte: a token and a cold cache take 4 to 9 s at a registry.
CLAIM_FIRST_BYTE_S = 10.0
# Held without a byte: the arbiter is asked for one claim more.
HELD_LONG_S = 15.0
# Silent for so long: the request is let through to the origin. Pauses of 12 s were measured to be safe everywhere.
SILENT_MAX_S = 20.0
# Held at the first host while the claimant reads others and has still to begin: longer than the arbiter gives him
# (dht.params), so that one waiter is granted the claim and not all go to the origin.
QUEUED_MAX_S = 140.0
# At the fallback host a 404 ends the pull, so it is the last.
FALLBACK_MAX_S = 25.0

# -- asking
# An ask that was not answered: more than twice the deadline of dht.params, which the DHT takes where nodes are busy.
RULING_LATE_S = 2.5
# Where others were of no use before, nobody may be there at all: a pull shall not wait twice for that.
RULING_LATE_ALONE_S = 0.6
# Where the ruling names no time, or one that is too long for a host that holds a request.
ASK_AGAIN_S = 1.0
# As often as waiters ask, so that an arbiter that is new hears of the claim before it grants another.
RENEW_EVERY_S = 1.0
# What came within this time goes on coming: twice the time of a step of 1 MiB at 8 Mbit/s. A claim ends 5 s after the
# last growth, so whoever is granted it for that has heard of none for longer.
COMING_S = 2.0
# A claim that was told of counts as alive for so long after the last word of it.
CLAIM_HEARD_S = 5.0
# While the daemon joins, its neighbours may know more in a moment.
JOINING_HOLD_S = 1.0
JOINING_AGAIN_S = 0.25
# Nobody rules. With nothing in hand a miss must be quick: no pull may be a second late.
ESCAPE_BARE_MAX_S = 0.25
# With a claim or bytes in hand there is time to let others go first.
ESCAPE_WAITED_MAX_S = 5.0
# At the fallback host: long enough for a waiter elsewhere, who asks every second, to be granted what this host gave
# back.
NOBODY_S = 1.5
NOBODY_AGAIN_S = 0.75
# Others find this host as a provider within a second or so; the claim is given back when they do.
PROVIDED_LATE_S = 3.0

# -- handing over
# What the swarm has is drained first. The others are paused meanwhile, and the claim is young.
DRAIN_MAX_S = 6.0
DRAIN_STALL_S = 1.5

# -- memory
# Any GET of a digest that was given up is answered 404 for so long: containerd asks again within a second.
GIVE_UP_S = 10.0
# Wrong bytes were found; the sources that sent them are banned for longer.
WRONG_S = 10.0
# A request at the fallback host speaks of the origin's answer to a 404 of ours while that is so fresh.
STEERED_FRESH_S = 60.0
# Four bodies that end without a byte fail a pull.
ZERO_BYTE_CLOSE_EVERY_S = 60.0
# A host without a fallback host cannot say that it was refused: it gives its claim back earlier.
FIRST_BYTE_UNTOLD_S = 5.0
# Full-sized and not committed: containerd does not like what it has.
UNCOMMITTED_MAX_S = 5.0

# -- a slow claimant
# One claim more needs so much gain in time.
SECOND_CLAIM_GAIN = 1.5
# Below this share of the rate that this registry had lately.
SLOW_SHARE = 0.5
# Far below it is known sooner than a little below: a herd should not wait for certainty behind a host that is ten times
# slower. Less than one step of the claimant's cannot be told from none.
EARLY_MIN_S = 2.0
EARLY_SHARE = 0.25
STEP_BYTES = 1 << 20
# The frontier stands still though the claim lives: twice the longest usual step.
FRONTIER_STARVED_S = 10.0
# The second claimant's first byte.
SECOND_CLAIM_SETUP_S = 1.0
PACE_MIN_S = 5.0
PACE_WINDOW_S = 20.0
# As often as is asked at all: the arbiter says how many are granted, and may have heard too little of the claim yet.
SLOW_AGAIN_S = ASK_AGAIN_S
# Who was found slow for one blob is taken to be slow for all that he holds. One pull of a large image by a slow way.
SLOW_KNOWN_S = 60.0
# A claimant has bytes, and this host could not get any of them for so long: two calls that were not answered, and a
# moment. Behind a firewall it would hold all others up until each goes to the origin.
CUT_OFF_S = 3.0


@dataclass(frozen=True, slots=True)
class Rungs:
    """The rungs that depend on the host."""

    held_long_s: float = HELD_LONG_S
    silent_max_s: float = SILENT_MAX_S
    fallback_max_s: float = FALLBACK_MAX_S
    queued_max_s: float = QUEUED_MAX_S

    @classmethod
    def under(cls, progress_timeout_s: float) -> Self:
        """`progress_timeout_s`: containerd's image_pull_progress_timeout; 0: none. containerd 1.7 counts a hold as no
        progress and cancels the whole pull, without asking the next host: the holds at both hosts together stay below
        half of it."""
        if progress_timeout_s <= 0.0:
            return cls()
        share = min(1.0, progress_timeout_s / 2 / (SILENT_MAX_S + FALLBACK_MAX_S))
        return cls(
            HELD_LONG_S * share,
            SILENT_MAX_S * share,
            FALLBACK_MAX_S * share,
            min(QUEUED_MAX_S, progress_timeout_s / 2),
        )
