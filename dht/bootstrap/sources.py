"""Turns what an operator names (a host and port, a DNS name) into endpoints that may be pinged.

A name is resolved by the machine's own resolver, in a thread that nobody waits for at exit: the C library may hold it
for ten seconds and more where no name server answers. Refuses to remember: every question is a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import threading
from collections.abc import Set as AbstractSet
from typing import Protocol

from dht.endpoints import Endpoint, EndpointInvalid, endpoint, is_source
from dht.errors import DHTError
from dht.params import Params

# A static name stands for one node, or for a few behind round robin; a list of all members is `DnsSource`'s.
STATIC_ADDRESSES_MAX_COUNT = 16


class SourceFailed(DHTError):
    """A source gave nothing. The text is for an operator, and stays the same while the cause does."""


class Source(Protocol):
    """`str()` gives the operator's own words for it. `known`: endpoints of members, to prefer others."""

    async def endpoints(self, known: AbstractSet[Endpoint]) -> list[Endpoint]:
        """Raises: SourceFailed."""


class StaticSource:
    """One node's name or address (IPv6 without brackets, a link-local one with its zone) and UDP port."""

    def __init__(self, host: str, port: int, params: Params) -> None:
        self._resolver = _Resolver(host, port, params.resolve_timeout_s)
        self._text = f"static:[{host}]:{port}" if ":" in host else f"static:{host}:{port}"

    def __str__(self) -> str:
        return self._text

    async def endpoints(self, known: AbstractSet[Endpoint] = frozenset()) -> list[Endpoint]:
        """Raises: SourceFailed."""
        del known
        return (await self._resolver.endpoints())[:STATIC_ADDRESSES_MAX_COUNT]


class DnsSource:
    """A name with one address a member, such as that of a headless Service.

    The lowest addresses are everybody's common anchor, so that no islands form; random ones spread the load, and those
    that are no members yet come first: after a split they are the other side.
    """

    def __init__(self, name: str, port: int, rng: random.Random, params: Params) -> None:
        self._resolver = _Resolver(name, port, params.resolve_timeout_s)
        self._name = name
        self._rng = rng
        self._params = params

    def __str__(self) -> str:
        return f"dns:{self._name}"

    async def endpoints(self, known: AbstractSet[Endpoint] = frozenset()) -> list[Endpoint]:
        """Raises: SourceFailed."""
        return sample(await self._resolver.endpoints(), known, self._rng, self._params)


def sample(
    found: list[Endpoint], known: AbstractSet[Endpoint], rng: random.Random, params: Params
) -> list[Endpoint]:
    """Of each family the lowest few, and as many random ones of the others."""
    chosen: list[Endpoint] = []
    for is_v6 in (False, True):
        family = sorted({one for one in found if one.is_v6 is is_v6}, key=_number)
        chosen += family[: params.dns_lowest_count]
        others = family[params.dns_lowest_count :]
        unknown = [one for one in others if one not in known]
        picked = rng.sample(unknown, min(params.dns_random_count, len(unknown)))
        lacking = params.dns_random_count - len(picked)
        rest = [one for one in others if one in known] if lacking else []
        chosen += picked + rng.sample(rest, min(lacking, len(rest)))
    return chosen


def _number(found: Endpoint) -> int:
    return int(ipaddress.ip_address(found.address))


class _Resolver:
    """One name. At most one question runs: where the last one still hangs, its answer is the one waited for."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._running: asyncio.Future[list[Endpoint] | str] | None = None
        try:
            self._literal: list[Endpoint] | None = [endpoint(host, port)]
        except EndpointInvalid:
            self._literal = None

    async def endpoints(self) -> list[Endpoint]:
        """Raises: SourceFailed."""
        if self._literal is not None:
            return self._literal
        if self._running is None:
            self._running = self._ask()
        done, _ = await asyncio.wait({self._running}, timeout=self._timeout_s)
        if not done:
            raise SourceFailed(
                f"cannot resolve {self._host}: no answer in {self._timeout_s:g} s; check that the name servers of "
                f"/etc/resolv.conf answer"
            )
        found = self._running.result()
        self._running = None
        if isinstance(found, str):
            raise SourceFailed(f"cannot resolve {self._host}: {found}")
        return found

    def _ask(self) -> asyncio.Future[list[Endpoint] | str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Endpoint] | str] = loop.create_future()

        def work() -> None:
            found = _resolve(self._host, self._port)
            # The loop may have ended long ago.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(answer.set_result, found)

        # Not the loop's executor: its threads are waited for at exit.
        threading.Thread(target=work, name=f"resolve {self._host}", daemon=True).start()
        return answer


def _resolve(host: str, port: int) -> list[Endpoint] | str:
    """Blocks. A text says why there is none."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except socket.gaierror as exc:
        if exc.errno == socket.EAI_NONAME:
            return "there is no such name; check its spelling and the name servers of /etc/resolv.conf"
        if exc.errno == socket.EAI_NODATA:
            return "the name has no address; check that its service lists members that are not ready yet, too"
        return f"{exc.strerror}; check that the name servers of /etc/resolv.conf answer"
    except (OSError, ValueError) as exc:
        return f"{exc}; check its spelling"
    found = [endpoint(str(address[0]), port) for _, _, _, _, address in answers]
    usable = [one for one in dict.fromkeys(found) if is_source(one)]
    return usable or "none of its addresses is one of a single host; check the name's records"
