"""Since when nobody at all is heard: a host that is parted from all others, or the last that lives, shall find that
once and not once a layer. Pure.

Knows nothing of single nodes: who is dead among the living is dht.members' matter. Silence counts from a request for a
pull's sake on: a node that asks nobody hears nobody, and is not alone for that.
"""

from __future__ import annotations

import math


class Silence:
    """`heard_at`: the last word of anybody. `since`: the first request after it; `probed_since`: when all who are near
    were asked after that. None: there is none."""

    def __init__(self) -> None:
        self.heard_at = -math.inf
        self.since: float | None = None
        self.probed_since: float | None = None

    def asked(self, now: float) -> None:
        """Another node, by a request that is worth an answer."""
        if self.since is None:
            self.since = now

    def probed(self, now: float) -> None:
        if self.probed_since is None:
            self.probed_since = now

    def heard(self, now: float) -> None:
        """Any node."""
        self.heard_at = now
        self.since = self.probed_since = None

    def alone_at(self, unheard_s: float) -> float | None:
        """When this node takes itself for alone: so long after all were probed. None: somebody may be heard yet."""
        return None if self.probed_since is None else self.probed_since + unheard_s
