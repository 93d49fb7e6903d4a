"""Whether a datagram was seen before, and whether it is the newest its sender sent.

Judges by stamps only. A datagram older than anything remembered here must have been refused by its time before.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Final

from dht.contacts import SEQUENCE_BITS
from dht.params import Params

# Time differs by at most freshness_s to either side, so a datagram is fresh for twice that at most. A little more
# makes it certain that what is forgotten here is refused there.
_FORGET_FACTOR: Final = 2.5


class Verdict(Enum):
    NEWEST = "newest"
    # Overtaken on the way by a later one: to be served, but old news.
    LATE = "late"
    # Seen before, or too old to tell.
    REPLAYED = "replayed"
    # From before the sender's last start that we know of.
    STALE_EPOCH = "stale_epoch"


class _Window:
    """Bit n of `seen`: the datagram n before `newest` was here."""

    __slots__ = ("accepted_at", "newest", "seen")

    def __init__(self, newest: int, accepted_at: float) -> None:
        self.newest = newest
        self.seen = 1
        self.accepted_at = accepted_at


class Replay:
    """A sender silent for 2.5 x freshness_s is forgotten: a node restored from a backup comes back with a lower epoch.
    What is refused here does not count as a sign of life, so that such a node's own attempts do not lock it out."""

    def __init__(self, params: Params) -> None:
        self._window_count = params.replay_window_count
        self._mask = (1 << params.replay_window_count) - 1
        self._forget_s = _FORGET_FACTOR * params.freshness_s
        self._max_count = params.members_max_count + params.strangers_max_count
        # In the order of the last accepted datagram.
        self._windows: dict[Hashable, _Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def accept(self, sender: Hashable, stamp: int, now: float) -> Verdict:
        """`sender` is a node id, or whatever else names one counter of stamps."""
        window = self._windows.get(sender)
        if window is None or now - window.accepted_at > self._forget_s:
            self._put(sender, _Window(stamp, now), now)
            return Verdict.NEWEST
        ahead = stamp - window.newest
        if ahead > 0:
            if stamp >> SEQUENCE_BITS != window.newest >> SEQUENCE_BITS or ahead >= self._window_count:
                window.seen = 1
            else:
                window.seen = (window.seen << ahead & self._mask) | 1
            window.newest = stamp
            self._put(sender, window, now)
            return Verdict.NEWEST
        if stamp >> SEQUENCE_BITS != window.newest >> SEQUENCE_BITS:
            return Verdict.STALE_EPOCH
        if -ahead >= self._window_count:
            return Verdict.REPLAYED
        bit = 1 << -ahead
        if window.seen & bit:
            return Verdict.REPLAYED
        window.seen |= bit
        self._put(sender, window, now)
        return Verdict.LATE

    def _put(self, sender: Hashable, window: _Window, now: float) -> None:
        windows = self._windows
        windows.pop(sender, None)
        window.accepted_at = now
        windows[sender] = window
        oldest = next(iter(windows))
        if len(windows) > self._max_count or now - windows[oldest].accepted_at > self._forget_s:
            del windows[oldest]
