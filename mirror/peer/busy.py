"""What a peer without a free upload slot says: when to come again, and who else may have it. Pure.

See docs/wire/peer-http.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from dht.endpoints import Endpoint, EndpointInvalid, endpoint, may_be_told
from mirror.discovery.base import Peer

# The shortest that the header can say. Most slots are free again sooner; one with a whole layer is not.
RETRY_AFTER_S = 1
# What an asker believes. More is no answer of a host that is only busy.
RETRY_AFTER_MAX_S = 60
# More than a swarm has neighbours: one who asked in vain has enough to choose from.
TOLD_PEERS_MAX_COUNT = 16
# Sixteen IPv6 addresses with their ports are 800 bytes.
BUSY_ANSWER_MAX_BYTES = 2048

_ADDRESS = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")


class _Answer(msgspec.Struct):
    peers: list[str] = []


_DECODER = msgspec.json.Decoder(_Answer)


def encode(peers: Sequence[Peer]) -> bytes:
    """The first sixteen that have an address which means the same elsewhere."""
    told = [text for peer in peers if _ADDRESS.fullmatch(text := str(peer))]
    return msgspec.json.encode(_Answer(told[:TOLD_PEERS_MAX_COUNT]))


def decode(data: bytes, teller: Peer) -> tuple[Peer, ...]:
    """What can be believed of the answer; nothing where it is of another form."""
    if len(data) > BUSY_ANSWER_MAX_BYTES:
        return ()
    try:
        told = _DECODER.decode(data).peers
        source = endpoint(teller.address, teller.port)
    except (msgspec.MsgspecError, UnicodeDecodeError, EndpointInvalid):
        return ()
    found = [_believed(text, source) for text in told[:TOLD_PEERS_MAX_COUNT]]
    return tuple(dict.fromkeys(peer for peer in found if peer is not None and peer != teller))


def retry_after_s(header: str | None) -> int:
    """Of an answer's Retry-After, which may be absent or a date."""
    text = (header or "").strip()
    if not text.isdecimal() or len(text) > 6:
        return RETRY_AFTER_S
    return min(int(text), RETRY_AFTER_MAX_S)


def _believed(text: str, source: Endpoint) -> Peer | None:
    parts = _ADDRESS.fullmatch(text)
    if parts is None:
        return None
    try:
        found = endpoint(parts[1] or parts[2], int(parts[3]))
    except EndpointInvalid:
        return None
    return Peer(*found) if may_be_told(found, source) else None
