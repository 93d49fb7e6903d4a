"""What listens on the daemon's ports, and what the daemon says of itself. Asks over loopback HTTP, reads /proc."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec

from containerd.hosts.layout import FALLBACK_PATH
from mirror.admin.answers import STATUS_PATH
from mirror.doctor.facts import DaemonFacts, ListenFacts, Port
from mirror.doctor.socket_table import Listening, listening
from mirror.host.look_process import namespace_of
from mirror.settings.model import Address

# On loopback, from memory: what takes longer is stuck.
ANSWER_LIMIT_S = 2.0
ANSWER_LIMIT_BYTES = 2**20
# No other registry has it: docker's says 404 there.
_OURS_PATH = f"{FALLBACK_PATH}/"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class NotHttp(Exception):
    """What answers speaks no HTTP."""


class _Status(msgspec.Struct):
    """Of /api/v1/status what is used here; an older daemon leaves some of it out."""

    version: str
    node_id: str
    unready: list[str]
    members: int
    trouble: str | None = None
    uptime_s: float = 0.0
    bootstrap: list[str] | None = None
    requests: int | None = None
    clock_offset_s: float = 0.0
    refused_datagrams: dict[str, int] = {}


async def look_daemon(admin: Address) -> DaemonFacts | str:
    """A text: why its state is not known."""
    try:
        status, body = await get(admin, STATUS_PATH)
    except (OSError, NotHttp) as exc:
        return f"{admin}: {_words(exc)}"
    if status != HTTPStatus.OK:
        return f"{admin}: answered with status {status}"
    try:
        told = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError as exc:
        return f"{admin}: it is not Peili that answers there ({exc})"
    return DaemonFacts(
        told.version,
        told.uptime_s,
        tuple(told.unready),
        told.trouble or "",
        told.members,
        None if told.bootstrap is None else tuple(told.bootstrap),
        told.requests,
        told.clock_offset_s,
        told.refused_datagrams,
    )


async def look_registry(registry: Address) -> ListenFacts:
    bound, owner = await asyncio.to_thread(_bound, registry.port)
    port, said = await _answer(registry, is_bound=bool(bound))
    return ListenFacts(port, said, bound, owner, namespace_of("self", "net"))


async def _answer(registry: Address, *, is_bound: bool) -> tuple[Port, str]:
    try:
        status, _ = await get(registry, _OURS_PATH)
    except ConnectionRefusedError as exc:
        return Port.CLOSED, str(exc)
    except (OSError, NotHttp) as exc:
        if not is_bound:
            return Port.CLOSED, _words(exc)
        return Port.TAKEN, f"it does not answer as Peili: {_words(exc)}"
    if status != HTTPStatus.OK:
        return Port.TAKEN, f"it answers {_OURS_PATH} with status {status}"
    return Port.OURS, ""


def _bound(port: int) -> tuple[tuple[str, ...], str]:
    """The addresses of the listeners on this port, and a process that has one open."""
    found = [one for one in _listening() if one.port == port]
    owner = next((name for one in found if (name := _owner(one.inode))), "")
    return tuple(dict.fromkeys(one.address for one in found)), owner


def _words(exc: Exception) -> str:
    return str(exc) or type(exc).__name__


async def get(address: Address, path: str) -> tuple[int, bytes]:
    """By HTTP/1.0: the body ends with the connection. Raises: OSError (a TimeoutError, too), NotHttp."""
    here = address.from_this_host
    async with asyncio.timeout(ANSWER_LIMIT_S):
        reader, writer = await asyncio.open_connection(here.host, here.port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {here}\r\n\r\n".encode())
            await writer.drain()
            answer = b""
            while len(answer) < ANSWER_LIMIT_BYTES and (more := await reader.read(2**16)):
                answer += more
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    found = _STATUS_LINE.match(head)
    if found is None:
        raise NotHttp("no HTTP comes from there")
    return int(found[1]), body


def _listening() -> Iterator[Listening]:
    for name in ("tcp", "tcp6"):
        try:
            text = Path("/proc/net", name).read_text()
        except OSError:
            continue
        yield from listening(text)


def _owner(inode: str) -> str:
    """The process that has the socket open, as far as this user may see."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) == f"socket:[{inode}]" for entry in (folder / "fd").iterdir()):
                return f"{(folder / 'comm').read_text().strip()} (process {folder.name})"
        except OSError:
            continue
    return ""
