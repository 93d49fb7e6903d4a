"""The own containerd's file of one digest: as it grows, and when it is committed. Tells the ladder all of it, and shows
the swarm its bytes while they come from the origin.

An ingest of bytes that this host's own swarm sent is nobody's source; what went past the swarm is.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import mirror.steer.events as on
from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.herd.ports import Put, TransferPorts
from mirror.herd.readings import Readings
from mirror.herd.runs import Spawn
from mirror.herd.swarming import Swarming
from mirror.ingest.base import IngestFile
from mirror.oci.digest import Digest
from mirror.oci.magic import FIRST_BYTES_COUNT, fits

log = logging.getLogger(__name__)

# Between looks for a blob whose file was seen to be renamed: containerd tells of it within milliseconds on 2.1, and a
# walk finds it within a second before.
STORED_WAITS_S = (0.02, 0.1, 0.3, 0.6, 1.0)


class OwnIngest:
    """`begin` gives the swarm of a blob of that size, made if there is none; None: it may not be of that size.
    `settle` runs the transfer's queue."""

    def __init__(
        self,
        digest: Digest,
        registry: str,
        ports: TransferPorts,
        *,
        begin: Callable[[int | None], Swarming | None],
        readings: Readings,
        put: Put,
        settle: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self._digest = digest
        self._registry = registry
        self._ports = ports
        self._begin = begin
        self._readings = readings
        self._put = put
        self._settle = settle
        self._spawn = spawn
        self._media_type = ""
        self._is_tailing = False
        self._is_judged = False
        self._file: IngestFile | None = None
        # When the origin's first bytes were seen, how many they were, and how far it came since.
        self._fed_since: tuple[float, int] | None = None
        self._reached_bytes = 0
        # How far it is the swarm's although it is not tailed.
        self._shown_bytes = 0
        self.is_committed = False
        # The file that is open here vanished: so many bytes of the blob are in it all the same.
        self._kept_bytes = 0
        self._is_aborted = False

    def is_growth_awaited(self) -> bool:
        """By others, by the swarm, or by the ladder; not where it is what this host sends, nor before it is asked."""
        if self._is_tailing or self._shown_bytes:
            return True
        if self._readings.is_any_begun:
            return False
        # A request that is held may be sent to the origin; bytes that no request of ours brought come from there.
        return len(self._readings) > 0 or bool(self._ports.ingests.size_bytes(self._digest))

    # -- orders ----------------------------------------------------------------------------------------------------

    def tail(self, *, is_judged: bool) -> None:
        """It may have been born before."""
        self._is_tailing = True
        self._is_judged = is_judged
        ingests = self._ports.ingests
        if ingests.size_bytes(self._digest) is None:
            return
        total_bytes = ingests.total_bytes(self._digest)
        self._put(on.IngestBorn(total_bytes))
        self._look(total_bytes)

    def show(self, upto_bytes: int) -> None:
        """What it holds before `upto_bytes` came past the swarm, which is to have it, too."""
        self._shown_bytes = max(self._shown_bytes, upto_bytes)
        self._show()

    async def abort(self) -> None:
        """While wrong bytes stand in it the image cannot be pulled."""
        self._is_aborted = True
        self._kept_bytes = 0
        try:
            await self._ports.discard_ingest(self._digest)
        except StoreUnavailable as exc:
            log.warning("what containerd holds of %s could not be thrown away: %s", self._digest, exc)
        else:
            log.info("containerd holds no unfinished %s any more", self._digest)

    # -- what happens ----------------------------------------------------------------------------------------------

    def expects(self, media_type: str) -> None:
        """As the own containerd asked for it."""
        self._media_type = media_type or self._media_type

    def born(self, total_bytes: int | None) -> None:
        self._close_file()
        self._fed_since = None
        self._reached_bytes = self._shown_bytes = 0
        swarm = self._begin(total_bytes)
        if swarm is not None and not self.is_committed and not self._kept_bytes:
            # Another file counts from now on. Where the image was removed, or its pull was cancelled, and is pulled
            # anew, the file that went, which is open here, feeds this pull.
            swarm.lose_own()
        self._put(on.IngestBorn(total_bytes))
        self._look(total_bytes)
        self._settle()

    def grew(self, size_bytes: int) -> None:
        self._put(on.IngestGrew(size_bytes))
        # Whether it is to be tailed the ladder says in answer to that.
        self._settle()
        if self._is_tailing or self._shown_bytes:
            self._look(None)
            self._show()
            self._settle()

    def vanished(self) -> None:
        self._look(None)
        self._kept_bytes = 0 if self._file is None or self._is_aborted else self._file.size_bytes()
        self._is_tailing = self._is_aborted = False
        self._put(on.IngestVanished())
        self._settle()

    def committed(self) -> None:
        if not self.is_committed:
            self.is_committed = True
            self._note_rate()
            self._spawn(self._take_committed())

    def close(self) -> None:
        self._close_file()

    def _note_rate(self) -> None:
        if self._is_tailing and self._fed_since is not None:
            since, first_bytes = self._fed_since
            count_bytes = self._reached_bytes - first_bytes
            self._ports.note_rate(self._registry, count_bytes, self._ports.clock() - since)

    def swarm_replaced(self) -> None:
        """By one of another size."""
        self._close_file()
        self._look(None)

    # -- bytes -----------------------------------------------------------------------------------------------------

    def _look(self, total_bytes: int | None) -> None:
        """What stands in it may be offered, while containerd reads it from the origin."""
        if not self._is_tailing or self.is_committed:
            return
        swarm = self._begin(total_bytes or self._ports.ingests.total_bytes(self._digest))
        if swarm is None:
            return
        self._open_file(swarm)
        if self._file is None:
            return
        size_bytes = self._file.size_bytes()
        if size_bytes and not self._looks_right(self._file, min(FIRST_BYTES_COUNT, swarm.layout.size_bytes)):
            return
        if size_bytes:
            swarm.own_reaches(size_bytes)
        if size_bytes > self._reached_bytes:
            self._fed_since = self._fed_since or (self._ports.clock(), size_bytes)
            self._reached_bytes = size_bytes
        if self._is_judged and size_bytes >= swarm.layout.size_bytes:
            self._is_judged = False
            self._spawn(self._judge(swarm))

    def _looks_right(self, file: IngestFile, count_bytes: int) -> bool:
        """A page of a captive portal, say, is not shown to others, who could tell it from the blob at its end only."""
        first_bytes = os.pread(file.descriptor, count_bytes, 0)
        if len(first_bytes) < count_bytes:
            return False
        if fits(self._media_type, first_bytes):
            return True
        log.warning(
            "what the registry sends is no %s: it is thrown away. Look at what answers in its place, such as a proxy",
            self._media_type,
            extra={"digest": str(self._digest), "first_bytes": first_bytes.hex()},
        )
        self._is_tailing = False
        self._put(on.BytesWrong())
        return False

    def _show(self) -> None:
        if not self._shown_bytes or self._is_tailing or self.is_committed:
            return
        swarm = self._begin(None)
        if swarm is not None:
            self._open_file(swarm)
        if swarm is not None and self._file is not None:
            size_bytes = min(self._file.size_bytes(), self._shown_bytes)
            swarm.own_reaches(size_bytes)
            if size_bytes == self._shown_bytes:
                self._shown_bytes = 0

    def _open_file(self, swarm: Swarming) -> None:
        if self._file is not None:
            return
        try:
            file = self._ports.ingests.open(self._digest)
        except (ContentNotFound, StoreUnavailable):
            return
        if not self._kept_bytes:
            swarm.take_own(os.dup(file.descriptor))
        elif file.size_bytes() >= self._kept_bytes:
            self._kept_bytes = 0
            swarm.own.exchange_own(os.dup(file.descriptor))
        else:
            file.close()
            return
        self._file = file

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def _open_stored(self) -> Swarming | None:
        """As the store has it, which hears of it a little later."""
        for wait_s in (*STORED_WAITS_S, None):
            try:
                descriptor, size_bytes = await self._ports.open_stored(self._digest)
            except (ContentNotFound, StoreUnavailable) as exc:
                log.debug("%s was committed and is not to be read: %s", self._digest, exc)
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                continue
            swarm = self._begin(size_bytes)
            if swarm is None:
                os.close(descriptor)
            else:
                swarm.take_own(descriptor)
            return swarm
        return None

    async def _judge(self, swarm: Swarming) -> None:
        """It begins with bytes that nobody verified, and is full-sized."""
        if not swarm.held.is_complete:
            return
        is_right = await swarm.digesting.is_right()
        self._put(on.IngestRight() if is_right else on.BytesWrong())
        self._settle()

    async def _take_committed(self) -> None:
        """The whole is here: in the file that containerd wrote, or as the store has it."""
        swarm = self._begin(self._ports.ingests.total_bytes(self._digest))
        if swarm is not None and self._is_tailing:
            self._open_file(swarm)
        if swarm is None or not swarm.own.has_own or self._kept_bytes:
            self._kept_bytes = 0
            swarm = await self._open_stored()
            if swarm is None:
                # What is told to be here is fed from here without a bound: told is only what can be read.
                self.is_committed = False
                self._put(on.IngestVanished())
                self._settle()
                return
        swarm.begin_again()
        swarm.own_reaches(swarm.layout.size_bytes)
        self._settle()
        swarm.committed()
        swarm.own.stands_whole()
        self._put(on.Committed())
        self._settle()
