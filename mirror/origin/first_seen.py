"""Gives a registry an entry of its own in containerd's hosts directory once it was heard of in a request, so that the
fallback host stands behind its origin too.

It decides when; what is written is `containerd.hosts.configure`'s.

Rules
1. Only where `configure` has run: its manifest says that the operator wants our entries in this directory.
2. A request can name anything: never an address or localhost, only what answers HTTPS as its route says, and
   REGISTRIES_MAX_COUNT in all. Those that an operator named are not counted.
3. It works behind the requests, one registry at a time. What failed is looked at again after a pause that doubles;
   what is settled, after a long one, since the directory may have been cleaned and configured anew.
4. The log tells of each entry, and of each kind of trouble once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from containerd.hosts.configure import add_registry
from containerd.hosts.errors import HostsDirBusy, HostsDirUnusable, HostsError, RegistryNameInvalid
from containerd.hosts.layout import Tags
from containerd.hosts.names import Registry
from containerd.hosts.report import Action, Report
from containerd.hosts.users import manifest_of
from mirror.origin.addresses import why_not_name
from mirror.origin.base import Routes
from mirror.origin.connections import Connections
from mirror.origin.errors import OriginError

log = logging.getLogger(__name__)

REGISTRIES_MAX_COUNT = 64
"""Entries that requests may bring about: each is a directory that containerd reads, on the host's disk for good."""

WAITING_MAX_COUNT = 64
"""Registries not looked at yet. More than that at once is no ordinary use; they are heard of again."""

REMEMBERED_MAX_COUNT = 1024
"""Registries that need no look now; the longest unlooked-at are forgotten, which costs a look at the manifest."""

SETTLED_S = 600.0
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Entries:
    """How `configure` writes an entry here: its arguments."""

    hosts_dir: Path
    registry_url: str
    tags: Tags
    config_path: str | None
    containerd_version: tuple[int, int] | None
    stale_tags: bool | None

    def add(self, registry: str) -> Report:
        """Raises: HostsError."""
        return add_registry(
            self.hosts_dir,
            registry,
            registry_url=self.registry_url,
            tags=self.tags,
            config_path=self.config_path,
            containerd_version=self.containerd_version,
            stale_tags=self.stale_tags,
        )


@dataclass(frozen=True, slots=True)
class _Look:
    not_before_s: float
    failure_count: int


class _NotNow(Exception):
    """Look again later. The message is for the log, or empty."""


class FirstSeen:
    """`clock` is monotonic. Used from one event loop."""

    def __init__(
        self,
        entries: Entries,
        routes: Routes,
        connections: Connections,
        clock: Callable[[], float],
    ) -> None:
        self._entries = entries
        self._routes = routes
        self._connections = connections
        self._clock = clock
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self._waiting: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._said: set[str] = set()

    def saw(self, registry: str) -> None:
        """At each request that names a registry (canonical). Never waits, never raises."""
        look = self._looks.get(registry)
        if look is not None and self._clock() < look.not_before_s:
            return
        if len(self._waiting) < WAITING_MAX_COUNT:
            self._waiting[registry] = None
            self._woken.set()

    @property
    def waiting_count(self) -> int:
        """Not looked at yet, or being looked at."""
        return len(self._waiting)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                registry = next(iter(self._waiting))
                try:
                    await self._look_at(registry)
                finally:
                    del self._waiting[registry]

    async def _look_at(self, registry: str) -> None:
        earlier = self._looks.pop(registry, None)
        failure_count = 0 if earlier is None else earlier.failure_count
        try:
            await self._add_if_due(registry)
            look = _Look(self._clock() + SETTLED_S, 0)
        except _NotNow as reason:
            if str(reason):
                log.debug("%s gets no entry in hosts.toml now: %s", registry, reason)
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failure_count, 16))
            look = _Look(self._clock() + pause_s, failure_count + 1)
        self._looks[registry] = look
        while len(self._looks) > REMEMBERED_MAX_COUNT:
            self._looks.popitem(last=False)

    async def _add_if_due(self, registry: str) -> None:
        """Returns when there is nothing more to do. Raises: _NotNow."""
        try:
            wanted = Registry.parse(registry)
        except RegistryNameInvalid:
            return
        if wanted.is_address or why_not_name(wanted.host) is not None:
            return
        try:
            if not await asyncio.to_thread(self._is_due, registry):
                return
            await self._origin_answers(registry)
            report = await asyncio.to_thread(self._entries.add, registry)
        except HostsDirUnusable as error:
            # One line for the directory, however many registries: it is often read-only by intention.
            self._say_once(
                "unusable", f"registries heard of get no entry of their own: {error}; pulls work without"
            )
            raise _NotNow(str(error)) from error
        except HostsDirBusy as error:
            raise _NotNow(str(error)) from error
        except HostsError as error:
            self._say_once(str(error), f"{registry} gets no entry of its own: {error}")
            raise _NotNow(str(error)) from error
        self._tell(registry, report)

    def _is_due(self, registry: str) -> bool:
        """Runs in a thread. Raises: HostsError, _NotNow."""
        manifest = manifest_of(self._entries.hosts_dir)
        if manifest is None:
            raise _NotNow("`peili configure` has not run for this directory")
        if any(entry.registry == registry and entry.named for entry in manifest.entries):
            return False
        added = {entry.registry for entry in manifest.entries if entry.first_seen}
        if len(added) >= REGISTRIES_MAX_COUNT:
            self._say_once(
                "full",
                f"{registry} and what comes after it get no entry of their own: {len(added)} registries that no "
                "operator named have one; name those that count with `peili configure --mirror`",
            )
            return False
        return True

    async def _origin_answers(self, registry: str) -> None:
        """Raises: _NotNow."""
        # The last of a route is the registry itself, or what the user says it is.
        origin = (await self._routes.route(registry))[-1]
        if not origin.base.startswith("https://"):
            raise _NotNow(f"{origin.base} is not https")
        root = URL(f"{origin.base}/")
        try:
            # 401 without a token is what a registry answers here.
            async with self._connections.request(origin, "GET", root, {}, shows_client=True) as response:
                status = response.status
        except OriginError as error:
            raise _NotNow(str(error)) from error
        if status >= 500:
            raise _NotNow(f"{origin.base} answered {status}")

    def _tell(self, registry: str, report: Report) -> None:
        for change in report.changes:
            if change.action is Action.WRITTEN:
                log.info(
                    "%s was heard of in a request and has an entry of its own now: %s", registry, change.path
                )
        for warning in report.warnings:
            self._say_once(warning, warning)

    def _say_once(self, what: str, text: str) -> None:
        if what not in self._said and len(self._said) < REMEMBERED_MAX_COUNT:
            self._said.add(what)
            log.warning("%s", text)
