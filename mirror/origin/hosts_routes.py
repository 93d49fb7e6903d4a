"""The routes to registries, as containerd on this host would take them without us: from the hosts directory.

It reads, and turns hosts.toml's words into endpoints. It connects to nothing; where a route may lead, the guard judges.

Rules
1. A host that may not pull is no endpoint, but it is named: redirects and token realms of its registry may go there.
2. What cannot be read or used is logged once and left out; then the registry itself is what is left.
3. Plain http only where the user's file says it, or containerd would speak it: to loopback. The latter is nobody's
   word, and so the guard refuses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from containerd.hosts.errors import HostsError, RegistryNameInvalid
from containerd.hosts.toml_text import Value
from containerd.hosts.users import UserHost, origin_host, user_hosts
from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint
from mirror.origin.resolver import place_of

log = logging.getLogger(__name__)

ROUTE_KEPT_S = 1.0
"""containerd reads the files anew at each pull; a layer's hundred requests need not."""

ROUTES_MAX_COUNT = 256
"""Registries are named by requests; a host pulls from a few."""

COMPLAINTS_MAX_COUNT = 1024
"""Of what was logged already; beyond, it is forgotten and said again."""

NOWHERE = Endpoint("https://registry.invalid/v2")
"""For what is not the name of a registry, or may not be pulled from: the guard refuses it."""


@dataclass(frozen=True, slots=True)
class _Known:
    read_at_s: float
    route: tuple[Endpoint, ...]
    named: frozenset[Place]


class HostsRoutes:
    """Implements Routes. `hosts_dir` None: there is none, and each registry is reached directly. The other arguments
    are those of `configure`; `clock` is monotonic. Used from one event loop."""

    def __init__(
        self,
        hosts_dir: Path | None,
        *,
        config_path: str | None,
        containerd_version: tuple[int, int] | None,
        registry_url: str,
        clock: Callable[[], float],
    ) -> None:
        self._hosts_dir = hosts_dir
        self._config_path = config_path
        self._containerd_version = containerd_version
        self._registry_url = registry_url
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._complained: set[str] = set()

    async def route(self, registry: str) -> Sequence[Endpoint]:
        now_s = self._clock()
        known = self._known.get(registry)
        if known is None or now_s - known.read_at_s >= ROUTE_KEPT_S:
            hosts, complaints = await asyncio.to_thread(self._read, registry)
            known = _understood(now_s, registry, hosts, complaints)
            self._complain(complaints)
            self._known[registry] = known
            while len(self._known) > ROUTES_MAX_COUNT:
                self._known.popitem(last=False)
        self._known.move_to_end(registry)
        return known.route

    def named_with(self, endpoint: Endpoint) -> Collection[Place]:
        """What the user's files name for the registries whose route has this endpoint; for AddressGuard. Only routes
        that were asked for lately are known."""
        found: set[Place] = set()
        for known in self._known.values():
            if any(it.named_by_user and it.base == endpoint.base for it in known.route):
                found |= known.named
        return found

    def _read(self, registry: str) -> tuple[Sequence[UserHost], list[str]]:
        """Runs in a thread."""
        try:
            if self._hosts_dir is not None:
                hosts = user_hosts(
                    self._hosts_dir,
                    registry,
                    registry_url=self._registry_url,
                    config_path=self._config_path,
                    containerd_version=self._containerd_version,
                )
                return hosts, []
            return [origin_host(registry, self._containerd_version)], []
        except RegistryNameInvalid as error:
            return [], [str(error)]
        except HostsError as error:
            complaint = f"{error}; until then, {registry} is reached as if no file named it"
            return [origin_host(registry, self._containerd_version)], [complaint]

    def _complain(self, complaints: Sequence[str]) -> None:
        for complaint in complaints:
            if complaint not in self._complained:
                if len(self._complained) >= COMPLAINTS_MAX_COUNT:
                    self._complained.clear()
                self._complained.add(complaint)
                log.warning("%s", complaint)


def _understood(now_s: float, registry: str, hosts: Sequence[UserHost], complaints: list[str]) -> _Known:
    """What cannot be used is added to `complaints`."""
    route = []
    named = set()
    for host in hosts:
        place = _place(host.base)
        if place is None:
            complaints.append(
                f"{host.base!r}, where {registry} would be, is no plain name or address: left out"
            )
            continue
        if host.is_named:
            named.add(place)
        if host.can_pull:
            route.append(_endpoint(host, complaints))
    return _Known(now_s, tuple(route) or (NOWHERE,), frozenset(named))


def _place(base: str) -> Place | None:
    try:
        url = URL(base)
    except ValueError:
        return None
    return place_of(url) if url.scheme in ("http", "https") else None


def _endpoint(host: UserHost, complaints: list[str]) -> Endpoint:
    return Endpoint(
        host.base,
        named_by_user=host.is_named,
        ca_files=tuple(_strings(host.options.get("ca"))),
        client_pairs=tuple(_pairs(host.options.get("client"))),
        skip_verify=host.options.get("skip_verify") is True,
        can_resolve=host.can_resolve,
        headers=dict(_headers(host, complaints)),
    )


def _headers(host: UserHost, complaints: list[str]) -> Iterator[tuple[str, str]]:
    table = host.options.get("header")
    if not isinstance(table, Mapping):
        return
    for name, value in table.items():
        text = ", ".join(_strings(value))
        if name.isascii() and name.isprintable() and " " not in name and name and text.isprintable():
            yield name, text
        else:
            # Its value may be a secret.
            complaints.append(f"the header {name!r} of {host.base} cannot be sent: it is left out")


def _strings(value: Value | None) -> list[str]:
    """A string, or a list of them."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _pairs(value: Value | None) -> Iterator[tuple[str, str]]:
    """`client` is a file, or a list whose items are files or pairs of them."""
    for item in value if isinstance(value, list) else [value]:
        match item:
            case str():
                yield item, ""
            case [str(certificate), str(key)]:
                yield certificate, "" if key == certificate else key
            case _:
                pass
