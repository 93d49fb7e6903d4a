"""Since when others were asked for a pull's sake and nobody at all was heard: a host that is parted from all others, or
the last that lives, shall find that once and not once a layer. Pure.

Knows nothing of single nodes: who is dead among the living is dht.members' matter.
"""

from __future__ import annotations


class Silence:
    """`since`: the first request after which nobody was heard; `probed_since`: when all who are near were asked first.
    None: there is none."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.probed_since: float | None = None

    def asked(self, now: float) -> None:
        """Another node, by a request that is worth an answer."""
        if self.since is None:
            self.since = now

    def probed(self, now: float) -> None:
        if self.probed_since is None:
            self.probed_since = now

    def broken(self) -> None:
        """By any node's word."""
        self.since = self.probed_since = None
