"""Runs of a simulated swarm: requests for pieces over links, and what other hosts answer. Refuses to choose pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirror.swarm.bitfield import mask_of
from mirror.swarm.events import Failure, PieceArrived, RequestRun, RunFailed, RunId, RunProgress
from tests.support.sim_links import Transfer
from tests.support.sim_world import Host

if TYPE_CHECKING:
    from tests.support.sim_download import Download

# Of RunProgress.
PROGRESS_EVERY_S: Final = 0.1


class Fetch:
    """One run. `piece` is under way; `stop` may come nearer."""

    __slots__ = (
        "came_bytes",
        "first",
        "is_over",
        "piece",
        "progress_at",
        "run_id",
        "sender",
        "source",
        "stop",
        "transfer",
    )

    def __init__(self, run_id: RunId, source: Host, sender: Download, first: int, stop: int) -> None:
        self.run_id = run_id
        self.source = source
        self.first = first
        self.piece = first
        self.stop = stop
        self.transfer: Transfer | None = None
        self.progress_at = -PROGRESS_EVERY_S
        self.is_over = False
        self.came_bytes = 0
        self.sender = sender


class Fetches:
    def __init__(self, download: Download) -> None:
        self._download = download
        self._world = download.world
        self._layout = download.blob.layout
        self._by_run: dict[RunId, Fetch] = {}

    # -- the asking side -------------------------------------------------------------------------------------------

    def start(self, command: RequestRun, source: Host) -> None:
        sender = source.downloads[self._download.blob.key]
        fetch = Fetch(command.run_id, source, sender, command.first, command.first + command.count)
        self._by_run[command.run_id] = fetch
        self._download.host.requests_count += 1
        delay_s = self._download.host.half_rtt_s(source)
        self._world.clock.after(delay_s, self._at_source, fetch)

    def trim(self, run_id: RunId, stop: int) -> None:
        fetch = self._by_run.get(run_id)
        if fetch is None:
            return
        fetch.stop = stop
        if fetch.transfer is not None:
            fetch.transfer.size_bytes = self._layout.start(stop) - self._layout.start(fetch.first)

    def cancel(self, run_id: RunId) -> None:
        fetch = self._by_run.pop(run_id, None)
        if fetch is None:
            return
        fetch.is_over = True
        if fetch.transfer is not None:
            done_bytes = self._layout.start(fetch.piece) - self._layout.start(fetch.first)
            self._download.host.wasted_bytes += max(0, fetch.transfer.sent_bytes - done_bytes)
            if not fetch.transfer.is_over:
                fetch.transfer.end()
                fetch.source.uploads_count -= 1

    def end_of(self, source: Host) -> None:
        """The source is gone, and the swarm knows."""
        for fetch in [one for one in self._by_run.values() if one.source is source]:
            self.cancel(fetch.run_id)

    def end_all(self) -> None:
        for run_id in list(self._by_run):
            self.cancel(run_id)

    # -- the answering side ----------------------------------------------------------------------------------------

    def _at_source(self, fetch: Fetch) -> None:
        source = fetch.source
        if fetch.is_over or not source.is_alive:
            return
        plan = self._world.plan
        wanted = mask_of(fetch.first, fetch.stop)
        if wanted & ~fetch.sender.offered.mask:
            self._fail_after(fetch, Failure.ABSENT)
        elif source.uploads_count >= plan.upload_slots_count:
            self._world.counts["busy"] += 1
            self._fail_after(fetch, Failure.BUSY)
        else:
            source.uploads_count += 1
            fetch.transfer = Transfer(
                source.up,
                self._download.host.down,
                self._layout.start(fetch.stop) - self._layout.start(fetch.first),
                self._download.blob.segment_bytes,
                self._download.host.half_rtt_s(source),
                lambda came_bytes: self._came(fetch, came_bytes),
            )
            source.up.send(fetch.transfer)

    def _fail_after(self, fetch: Fetch, failure: Failure) -> None:
        delay_s = self._download.host.half_rtt_s(fetch.source)
        self._world.clock.after(delay_s, self._failed, fetch, failure)

    def _failed(self, fetch: Fetch, failure: Failure) -> None:
        if not fetch.is_over and self._download.host.is_alive:
            self._end(fetch)
            self._download.swarm_told(RunFailed(fetch.run_id, failure))

    def _came(self, fetch: Fetch, came_bytes: int) -> None:
        download, layout = self._download, self._layout
        assert fetch.transfer is not None
        fetch.sender.sent_bytes += came_bytes - fetch.came_bytes
        fetch.came_bytes = came_bytes
        if fetch.transfer.is_over:
            fetch.source.uploads_count -= 1
        if fetch.is_over or not download.host.is_alive:
            return
        offset = layout.start(fetch.first) + came_bytes
        while fetch.piece < fetch.stop and layout.start(fetch.piece + 1) <= offset:
            piece = fetch.piece
            fetch.piece += 1
            if fetch.piece == fetch.stop:
                self._end(fetch)
            download.swarm_told(PieceArrived(fetch.run_id, piece))
        now = self._world.clock.now
        if fetch.piece < fetch.stop and now - fetch.progress_at >= PROGRESS_EVERY_S:
            fetch.progress_at = now
            download.swarm_told(RunProgress(fetch.run_id, offset))

    def _end(self, fetch: Fetch) -> None:
        fetch.is_over = True
        self._by_run.pop(fetch.run_id, None)

    def source_died(self, source: Host, *, has_said_so: bool) -> None:
        """Its connections end with a FIN that all askers see, or just fall silent."""
        for fetch in [one for one in self._by_run.values() if one.source is source]:
            if fetch.transfer is not None:
                fetch.transfer.end()
            if has_said_so:
                self._fail_after(fetch, Failure.BROKE)
