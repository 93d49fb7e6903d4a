"""What a peer's answer to a GET of a blob says, and whether it is the answer to what was asked. Pure.

Refuses to know how it was read: header names come in lower case, each once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan, ContentRange
from mirror.peer.busy import decode, retry_after_s
from mirror.peer.errors import PeerAbsent, PeerBusy, PeerError, PeerIncompatible, PeerNonsense, PeerRefused
from mirror.peer.wire import VERSIONS_HEADER

# What stands in the head of an answer of ours is below 1 KiB.
HEAD_MAX_BYTES = 16 * 1024
# More digits than any blob has.
LENGTH_MAX_DIGITS = 18
# Two that differ are two answers.
_ONCE = frozenset({"content-length", "content-range", "content-encoding"})


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: Mapping[str, str]

    @staticmethod
    def parse(peer: Peer, data: bytes) -> Head:
        """`data` is all before the empty line. Raises: PeerNonsense."""
        status_line, *lines = data.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        code = rest.partition(" ")[0]
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not code.isdecimal():
            raise PeerNonsense(str(peer), "no HTTP answer")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip():
                raise PeerNonsense(str(peer), "no HTTP answer: a header is malformed")
            if name in _ONCE and name in headers:
                raise PeerNonsense(str(peer), f"told its {name} twice")
            headers[name] = value.strip()
        return Head(int(code), headers)

    @property
    def is_body(self) -> bool:
        return self.status in (200, 206)


def failure_of(peer: Peer, head: Head, text: bytes) -> PeerError:
    """Of an answer that carries no body of a blob. `text`: the beginning of what it carries."""
    match head.status:
        case 404:
            return PeerAbsent(str(peer), "does not hold it")
        case 429:
            again_s = retry_after_s(head.headers.get("retry-after"))
            return PeerBusy(str(peer), "has no free upload slot", again_s, decode(text, peer))
        case 400 if (versions := other_versions(head)) is not None:
            return PeerIncompatible(str(peer), f"speaks wire versions {versions}")
        case _:
            detail = f": {text.decode('utf-8', 'replace')}" if text else ""
            return PeerRefused(str(peer), f"answered {head.status}{detail}")


def other_versions(head: Head) -> str | None:
    """None: it is no answer of a peer of another wire version."""
    versions = head.headers.get(VERSIONS_HEADER.lower())
    return versions[:40] if head.status == 400 and versions is not None else None


def told_body(peer: Peer, head: Head, start: int, stop: int | None) -> tuple[ByteSpan, int]:
    """Which bytes of a blob of which size follow. Raises: PeerNonsense where they are not what was asked for: `start`
    to `stop`, None: to the end; without a range where that is all."""
    length_bytes = content_length(peer, head)
    if head.headers.get("content-encoding", "identity") != "identity":
        raise PeerNonsense(str(peer), "sent a compressed body")
    if "transfer-encoding" in head.headers:
        raise PeerNonsense(str(peer), "sent an encoded body")
    if start == 0 and stop is None:
        if head.status != 200:
            raise PeerNonsense(str(peer), f"answered {head.status} to a request without a range")
        return ByteSpan(0, length_bytes), length_bytes
    told = ContentRange.parse(head.headers.get("content-range"))
    if head.status != 206 or told is None:
        raise PeerNonsense(str(peer), f"answered {head.status} without a usable range to a ranged request")
    wanted_stop = told.size_bytes if stop is None else min(stop, told.size_bytes)
    if told.span != ByteSpan(start, max(start, wanted_stop)) or told.span.length_bytes != length_bytes:
        sent = f"{told.span.content_range(told.size_bytes)} in {length_bytes} bytes"
        raise PeerNonsense(str(peer), f"sent {sent} when bytes from {start} were asked for")
    return told.span, told.size_bytes


def content_length(peer: Peer, head: Head) -> int:
    """Raises: PeerNonsense."""
    text = head.headers.get("content-length", "")
    if not text.isdecimal() or len(text) > LENGTH_MAX_DIGITS:
        raise PeerNonsense(str(peer), "told no length")
    return int(text)
