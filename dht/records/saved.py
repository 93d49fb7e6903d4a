"""What a node keeps over a restart, as bytes: members worth asking again, and the records it holds. Pure.

A file is a line that says what it is, a BLAKE2b-128 checksum of the rest, and msgpack. Of records only the remaining
time is kept, beside the wall time of saving: monotonic clocks mean nothing to the next process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from dht.contacts import Contact
from dht.endpoints import Endpoint, EndpointInvalid, endpoint, is_source, unpack
from dht.errors import StateDamaged
from dht.params import Params
from dht.records.records import SavedRecord

# Raised when a later release cannot read what this one writes.
_PEERS: Final = b"dht peers 1\n"
_RECORDS: Final = b"dht records 1\n"
_CHECKSUM_BYTES: Final = 16
# 64 contacts of at most 200 bytes.
PEERS_MAX_BYTES: Final = 64 * 1024
# `records_max_count` records of at most 60 bytes, and their providers.
RECORDS_MAX_BYTES: Final = 48 * 1024 * 1024
# Reading and encoding as many takes one to two milliseconds (measured: 7 us each): what the event loop may be held for.
RECORDS_PER_CHUNK_COUNT: Final = 200

_Id = Annotated[bytes, Meta(min_length=20, max_length=20)]
_Info = Annotated[bytes, Meta(max_length=48)]
_Index = Annotated[int, Meta(ge=0)]


class StateForeign(StateDamaged):
    """A file of another cluster, or of a release that writes it differently."""


class _Peer(Struct, array_like=True, frozen=True):
    node: _Id
    epoch: Annotated[int, Meta(ge=0, le=0xFFFFFF)]
    # As text: a zone means something to the same host.
    endpoints: Annotated[
        list[tuple[Annotated[str, Meta(max_length=64)], int]], Meta(min_length=1, max_length=2)
    ]
    info: _Info


class _Peers(Struct, array_like=True, frozen=True):
    cluster: str
    peers: list[_Peer]


class _Provider(Struct, array_like=True, frozen=True, gc=False):
    node: _Id
    endpoints: Annotated[bytes, Meta(min_length=6, max_length=24)]
    info: _Info


class _Record(Struct, array_like=True, frozen=True, gc=False):
    key: _Id
    provider: _Index
    state: Annotated[int, Meta(ge=0, le=255)]
    stamp: _Index
    remaining_s: Annotated[float, Meta(ge=0)]


class _Chunk(Struct, array_like=True, frozen=True):
    """`providers` are those not named before; a record counts them from the first chunk on."""

    providers: list[_Provider]
    records: list[_Record]


class _Records(Struct, array_like=True, frozen=True):
    cluster: str
    saved_s: float
    chunks: list[msgspec.Raw]


_encode: Final = msgspec.msgpack.Encoder().encode
_peers: Final = msgspec.msgpack.Decoder(_Peers)
_records: Final = msgspec.msgpack.Decoder(_Records)
_chunk: Final = msgspec.msgpack.Decoder(_Chunk)

_S = TypeVar("_S", bound=Struct)


def encode_peers(contacts: Iterable[Contact], cluster: str, params: Params) -> bytes:
    """The first `saved_peers_count` that have an endpoint."""
    peers = [
        _Peer(one.node, one.epoch, [(found.address, found.port) for found in one.endpoints], one.info)
        for one in contacts
        if one.endpoints
    ]
    return _sealed(_PEERS, _encode(_Peers(cluster, peers[: params.saved_peers_count])))


def decode_peers(content: bytes, cluster: str, params: Params) -> list[Contact]:
    """In the order in which they were saved. Raises: StateDamaged, StateForeign."""
    saved = _decode(_peers, _opened(_PEERS, content))
    _check_cluster(saved.cluster, cluster)
    return [_contact(one) for one in saved.peers[: params.saved_peers_count]]


class RecordsEncoder:
    """Takes records by the chunk, so that the caller may do other work in between."""

    def __init__(self, cluster: str, saved_s: float) -> None:
        """`saved_s` is the wall time of saving, in seconds since 1970."""
        self._cluster = cluster
        self._saved_s = saved_s
        self._numbers: dict[tuple[bytes, bytes, bytes], int] = {}
        self._chunks: list[msgspec.Raw] = []

    def add(self, records: Iterable[SavedRecord]) -> None:
        numbers = self._numbers
        providers = []
        lines = []
        for key, node, endpoints, info, state, stamp, remaining_s in records:
            provider = (node, endpoints, info)
            number = numbers.get(provider)
            if number is None:
                number = numbers[provider] = len(numbers)
                providers.append(provider)
            # Whole seconds are short, and close enough; rounded down, so that no record outlives its time.
            lines.append((key, number, state, stamp, int(remaining_s)))
        self._chunks.append(msgspec.Raw(_encode((providers, lines))))

    def finish(self) -> bytes:
        return _sealed(_RECORDS, _encode(_Records(self._cluster, self._saved_s, self._chunks)))


def encode_records(records: Iterable[SavedRecord], cluster: str, saved_s: float) -> bytes:
    encoder = RecordsEncoder(cluster, saved_s)
    encoder.add(records)
    return encoder.finish()


def decode_records(content: bytes, cluster: str, now_s: float, params: Params) -> list[SavedRecord]:
    """Those that have not expired; `now_s` is seconds since 1970. A wall clock that went back is not believed: no time
    has passed then. Raises: StateDamaged, StateForeign."""
    saved = _decode(_records, _opened(_RECORDS, content))
    _check_cluster(saved.cluster, cluster)
    return list(_living(saved, max(0.0, now_s - saved.saved_s), params))


def _living(saved: _Records, passed_s: float, params: Params) -> Iterator[SavedRecord]:
    providers: list[_Provider] = []
    count = 0
    for raw in saved.chunks:
        chunk = _decode(_chunk, raw)
        for provider in chunk.providers:
            try:
                unpack(provider.endpoints)
            except EndpointInvalid as exc:
                raise StateDamaged(f"a provider's address is none: {exc}") from exc
        providers += chunk.providers
        for record in chunk.records:
            if record.provider >= len(providers):
                raise StateDamaged("a record names a provider that is not there")
            remaining_s = min(record.remaining_s, params.record_ttl_s) - passed_s
            if remaining_s <= 0:
                continue
            count += 1
            if count > params.records_max_count:
                return
            provider = providers[record.provider]
            yield SavedRecord(
                record.key,
                provider.node,
                provider.endpoints,
                provider.info,
                record.state,
                record.stamp,
                remaining_s,
            )


def _contact(peer: _Peer) -> Contact:
    found: list[Endpoint] = []
    for address, port in peer.endpoints:
        try:
            one = endpoint(address, port)
        except EndpointInvalid as exc:
            raise StateDamaged(f"a peer's address is none: {exc}") from exc
        if not is_source(one):
            raise StateDamaged(f"{one} is no address of a peer")
        found.append(one)
    return Contact(peer.node, peer.epoch, tuple(found), peer.info)


def _sealed(kind: bytes, body: bytes) -> bytes:
    return kind + hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest() + body


def _opened(kind: bytes, content: bytes) -> memoryview:
    if not content.startswith(kind):
        if content.startswith(kind[: kind.rindex(b" ")]):
            raise StateForeign("another release wrote it")
        raise StateDamaged("it does not begin as such a file does")
    start = len(kind) + _CHECKSUM_BYTES
    body = memoryview(content)[start:]
    if hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest() != content[len(kind) : start]:
        raise StateDamaged("its checksum is wrong")
    return body


def _check_cluster(saved: str, cluster: str) -> None:
    if saved != cluster:
        raise StateForeign(f"it belongs to the cluster {saved[:60]!r}, and this node to {cluster[:60]!r}")


def _decode(decoder: msgspec.msgpack.Decoder[_S], body: memoryview | msgspec.Raw) -> _S:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise StateDamaged(f"its content is not what is saved: {exc}") from exc
