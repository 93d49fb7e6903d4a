"""One host of a herd that wants a key (claim_herd): what it has, holds and waits for, why it asks. Judges nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from dht.claims.claims import Claims
from dht.claims.rulings import Running
from dht.contacts import Contact
from dht.silence import Silence
from dht.wire.codec import AskReason, Fence

FETCH_S = 6.0
SLOW_FETCH_S = 60.0
TOTAL_PROGRESS = 100_000
# As in mirror.steer.timers.
HELD_LONG_S = 15.0
PACE_S = 5.0
SLOW_AGAIN_S = 1.0
GAIN = 1.5


@dataclass
class Host:
    """`view`: the members it knows. `has_joined`: so it may rule."""

    contact: Contact
    view: dict[bytes, Contact]
    claims: Claims
    is_alive: bool = True
    has_joined: bool = True
    silence: Silence = field(default_factory=Silence)
    strikes: dict[bytes, int] = field(default_factory=dict)
    known: Fence | None = None
    held: Fence | None = None
    fetching_since: float | None = None
    fetch_s: float = FETCH_S
    is_mute: bool = False
    # What it began to fetch at, and has been fed.
    fed: int = 0
    is_content: bool = False
    wanting_since: float | None = None
    # The holder that it waits for, and how much that one had when.
    paced: tuple[bytes, float, int] | None = None
    slow_again_at: float = 0.0
    # Of the slow one that it helps.
    slow_per_s: float | None = None

    def hears(self, now: float) -> None:
        self.silence.heard(now)

    def progress(self, now: float) -> int:
        if self.fetching_since is None or self.is_mute:
            return self.fed
        return min(
            TOTAL_PROGRESS, self.fed + int((now - self.fetching_since) / self.fetch_s * TOTAL_PROGRESS)
        )

    def pace(self, running: Running, now: float) -> float | None:
        """Of the holder that it was told of; None: seen for too short a time."""
        node, progress = running.holder.contact.node, running.holder.progress
        if self.paced is None or self.paced[0] != node or progress == 0:
            self.paced = (node, now, progress)
        _, since, first = self.paced
        return (progress - first) / (now - since) if now - since >= PACE_S else None

    def reason(self, now: float) -> AskReason:
        """Why it asks."""
        if self.wanting_since is None:
            return AskReason.NEEDED
        if self.fed == 0 and now - self.wanting_since >= HELD_LONG_S:
            return AskReason.HELD_LONG
        is_slow = self.slow_per_s is not None and self.slow_per_s < TOTAL_PROGRESS / FETCH_S / 2
        if is_slow and now >= self.slow_again_at:
            self.slow_again_at = now + SLOW_AGAIN_S
            return AskReason.SLOW_CLAIMANT
        return AskReason.NEEDED
