"""What a ladder knows, and the few orders that more than one of its rules gives. Decides nothing by itself.

The rules stand above it: mirror.steer.claimant for claims, mirror.steer.ladder for requests and bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from mirror.steer.asking import Asking
from mirror.steer.commands import Command, ReleaseReason
from mirror.steer.drain import Drain
from mirror.steer.flow import Flow
from mirror.steer.heads import Heads
from mirror.steer.nobody import Nobody
from mirror.steer.second_claim import SecondClaim
from mirror.steer.serving import Serving
from mirror.steer.sources import Sources
from mirror.steer.timers import Rungs


class Facts:
    """`has_fallback`: containerd asks this host again when the origin failed it. `expected_bytes_s`: what this
    registry lately gave to a host of one blob; None: not known. `flow`: what this host gets of that registry's blobs
    together, shared by their ladders."""

    def __init__(
        self,
        rng: random.Random,
        *,
        is_manifest: bool,
        has_fallback: bool = True,
        rungs: Rungs | None = None,
        expected_bytes_s: float | None = None,
        flow: Flow | None = None,
    ) -> None:
        self._rng = rng
        self._is_manifest = is_manifest
        self._has_fallback = has_fallback
        self._rungs = rungs or Rungs()
        self._out: list[Command] = []
        self._serving = Serving(self._rungs, self._out)
        self._readers = self._serving.readers
        self._memory = self._serving.memory
        self._ingest = self._serving.ingest
        self._heads = Heads(self._serving, self._out)
        self._asking = Asking()
        self._flow = flow or Flow()
        self._sources = Sources(self._flow)
        self._nobody = Nobody()
        self._second_claim = SecondClaim(expected_bytes_s)
        self._drain: Drain | None = None
        self._committed_at: float | None = None
        self._refused_until: float | None = None
        self._is_joining = False
        # When this host goes to the origin though no arbiter ruled.
        self._escape_at: float | None = None
        # When the arbiter was last asked for one claim more.
        self._long_asked_at: float | None = None
        self._timer_at: float | None = None

    @property
    def progress_bytes(self) -> int:
        return max(self._sources.prefix_bytes, self._ingest.size_bytes)

    def _start_swarm(self, nodes: Iterable[bytes], *, has_own_bytes: bool = False) -> None:
        self._out += self._sources.start(nodes, has_own_bytes=has_own_bytes)
        if self._sources.is_any:
            self._asking.has_sources_failed = False
            self._serving.feed_all()

    def _take_over(self, now: float) -> None:
        """The own containerd is sent to the origin, with the claim."""
        self._drain = None
        if any(reader.has_bytes for reader in self._readers.at_first()):
            self._serving.has_unverified = True
        self._serving.steer(now, is_new=True)
        for reader in self._readers.at_first():
            self._serving.let_through(reader, now)

    def _release(self, reason: ReleaseReason, progress_bytes: int | None = None) -> None:
        progress_bytes = self.progress_bytes if progress_bytes is None else progress_bytes
        self._second_claim.forget()
        self._out += self._asking.release(progress_bytes, reason)
