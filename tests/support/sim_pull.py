"""containerd of a simulated host, and how it pulls one blob: our mirror first, the origin after a 404, from where its
ingest ends. Refuses to know why it is answered so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirror.steer.events import Asked
from tests.support.sim_links import Transfer

if TYPE_CHECKING:
    from tests.support.sim_download import Download

# From a body's end to the next request; on loopback.
ASK_AGAIN_S: Final = 0.001
# The origin sends its first byte: a redirect and a cache.
FIRST_BYTE_S: Final = 0.05


class Pull:
    """`ingest_bytes`: all that came, from wherever. `is_from_origin`: it reads from there now."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._world = download.world
        self._request_id = 0
        self._transfer: Transfer | None = None
        self._origin_start = 0
        self.ingest_bytes = 0
        self.is_from_origin = False
        self.was_from_origin = False
        self.is_committed = False

    def ask(self) -> None:
        self._request_id += 1
        self._download.ladder_told(
            Asked(self._request_id, is_head=False, range_start=self.ingest_bytes, at_fallback=False)
        )

    def missed(self) -> None:
        """404."""
        if self.is_from_origin:
            return
        self.is_from_origin = self.was_from_origin = True
        self._origin_start = self.ingest_bytes
        self._world.counts["origin reads"] += 1
        self._world.clock.after(FIRST_BYTE_S, self._read)

    def _read(self) -> None:
        if self._download.host.is_alive:
            download = self._download
            self._download.ingest_born()
            self._transfer = self._world.from_origin(
                download.host, download.blob, self._origin_start, self._came
            )

    def _came(self, came_bytes: int) -> None:
        if not self._download.host.is_alive:
            return
        self.ingest_bytes = self._origin_start + came_bytes
        self._download.ingest_grew(self.ingest_bytes)
        if self.ingest_bytes == self._download.blob.size_bytes:
            self.commit()

    def fed(self, upto: int) -> None:
        assert not self.is_from_origin
        self.ingest_bytes = upto

    def ended(self) -> None:
        """A body of ours, before its last byte."""
        self._world.clock.after(ASK_AGAIN_S, self._ask_again)

    def _ask_again(self) -> None:
        if self._download.host.is_alive:
            self.ask()

    def commit(self) -> None:
        self.is_committed = True
        self.is_from_origin = False
        self._download.committed()

    def stop(self) -> None:
        """The host dies."""
        if self._transfer is not None:
            self._transfer.end()
