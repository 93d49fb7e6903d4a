"""Peers and records over a restart: what is written reads back, time goes on, damage is found."""

import hashlib
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.errors import StateDamaged
from dht.params import Params
from dht.records.records import SavedRecord
from dht.records.saved import (
    PEERS_MAX_BYTES,
    RECORDS_MAX_BYTES,
    RecordsEncoder,
    StateForeign,
    decode_peers,
    decode_records,
    encode_peers,
    encode_records,
)

PARAMS = Params()
V4_AND_V6 = (Endpoint("10.0.0.1", 29021), Endpoint("fd00::1", 29021))
ids = st.binary(min_size=20, max_size=20)
infos = st.binary(max_size=48)
v4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
v6 = st.ip_addresses(v=6, network="fd00::/16").map(str)
ports = st.integers(1, 65535)
endpoints = st.one_of(
    st.builds(lambda a, p: (Endpoint(a, p),), v4, ports),
    st.builds(lambda a, p: (Endpoint(a, p),), v6, ports),
    st.builds(lambda a, p, b, q: (Endpoint(a, p), Endpoint(b, q)), v4, ports, v6, ports),
    st.builds(lambda p: (Endpoint("fe80::1%eth0", p),), ports),
)
contacts = st.builds(Contact, ids, st.integers(0, 2**24 - 1), endpoints, infos)
routable = endpoints.filter(lambda found: "%" not in found[0].address)
records = st.builds(
    SavedRecord,
    ids,
    ids,
    routable.map(pack),
    infos,
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.floats(1, 3600),
)


@given(st.lists(contacts, max_size=10))
def test_peers_read_back_in_order(found: list[Contact]) -> None:
    assert decode_peers(encode_peers(found, "home", PARAMS), "home", PARAMS) == found


def test_so_many_peers_are_saved_and_no_more() -> None:
    many = [Contact(bytes([n]) * 20, 1, (Endpoint("10.0.0.1", 1 + n),), bytes(48)) for n in range(100)]
    unreachable = Contact(bytes(20), 1, (), b"")
    content = encode_peers([unreachable, *many], "home", PARAMS)
    assert len(content) <= PEERS_MAX_BYTES
    assert decode_peers(content, "home", Params(saved_peers_count=1000)) == many[: PARAMS.saved_peers_count]
    assert decode_peers(content, "home", Params(saved_peers_count=5)) == many[:5]


@given(st.lists(records, max_size=20), st.floats(0, 3599))
def test_records_read_back_with_what_remains(found: list[SavedRecord], passed_s: float) -> None:
    loaded = decode_records(encode_records(found, "home", 1e9), "home", 1e9 + passed_s, PARAMS)
    left = [one for one in found if int(one.remaining_s) - passed_s > 0]
    assert [one._replace(remaining_s=0) for one in loaded] == [one._replace(remaining_s=0) for one in left]
    for one, saved in zip(loaded, left, strict=True):
        # Whole seconds, rounded down: never longer than it was promised.
        assert saved.remaining_s - passed_s - 1.001 <= one.remaining_s <= saved.remaining_s - passed_s + 0.001


def _record(number: int, remaining_s: float = 100.0) -> SavedRecord:
    key, node = number.to_bytes(20, "big"), (number % 7).to_bytes(20, "big")
    return SavedRecord(key, node, pack((Endpoint("10.0.0.1", 1),)), b"info", 1, number, remaining_s)


def test_a_clock_that_went_back_lets_no_record_live_longer() -> None:
    content = encode_records([_record(1, 50.0)], "home", 2e9)
    assert decode_records(content, "home", 1e9, PARAMS) == [_record(1, 50.0)]


def test_no_record_is_believed_to_live_longer_than_any_may() -> None:
    content = encode_records([_record(1, 1e9)], "home", 1e9)
    (loaded,) = decode_records(content, "home", 1e9, PARAMS)
    assert loaded.remaining_s == PARAMS.record_ttl_s


def test_pieces_make_the_same_file_content_and_name_a_provider_once() -> None:
    found = [_record(number) for number in range(100)]
    encoder = RecordsEncoder("home", 1e9)
    for start in range(0, 100, 30):
        encoder.add(found[start : start + 30])
    content = encoder.finish()
    assert decode_records(content, "home", 1e9, PARAMS) == found
    assert content.count(b"info") == 7


def test_more_records_than_a_node_holds_are_not_loaded() -> None:
    params = Params(records_max_count=5)
    content = encode_records([_record(number) for number in range(9)], "home", 1e9)
    assert len(decode_records(content, "home", 1e9, params)) == 5


def test_a_full_store_fits_the_bound() -> None:
    rng = random.Random(1)
    longest = _record(1)._replace(endpoints=pack(V4_AND_V6), info=bytes(48), stamp=2**64 - 1, state=255)
    empty = len(encode_records([], "home", 1e9))

    def bytes_each(found: list[SavedRecord]) -> float:
        return (len(encode_records(found, "home", 1e9)) - empty) / len(found)

    of_one_provider = bytes_each([longest._replace(key=rng.randbytes(20)) for _ in range(1000)])
    of_many = bytes_each(
        [longest._replace(key=rng.randbytes(20), node=rng.randbytes(20)) for _ in range(1000)]
    )
    full = of_one_provider * PARAMS.records_max_count + of_many * PARAMS.members_max_count
    assert full < RECORDS_MAX_BYTES


Decode = Callable[[bytes], object]


def _peers(content: bytes) -> object:
    return decode_peers(content, "home", PARAMS)


def _records(content: bytes) -> object:
    return decode_records(content, "home", 1e9, PARAMS)


GOOD: dict[Decode, bytes] = {
    _peers: encode_peers([Contact(bytes(20), 1, (Endpoint("10.0.0.1", 1),), b"x")], "home", PARAMS),
    _records: encode_records([_record(1)], "home", 1e9),
}
both = pytest.mark.parametrize("decode", GOOD, ids=["peers", "records"])


@both
@given(data=st.data())
def test_a_flipped_bit_or_a_short_file_is_damage(decode: Decode, data: st.DataObject) -> None:
    content = bytearray(GOOD[decode])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StateDamaged):
        decode(bytes(content))


@both
def test_a_file_of_another_release_or_cluster_is_foreign(decode: Decode) -> None:
    with pytest.raises(StateForeign, match="another release"):
        decode(GOOD[decode].replace(b" 1\n", b" 2\n", 1))
    with pytest.raises(StateForeign, match=r"cluster 'home', and this node to 'work'"):
        if decode is _peers:
            decode_peers(GOOD[decode], "work", PARAMS)
        else:
            decode_records(GOOD[decode], "work", 1e9, PARAMS)


@both
@given(body=st.binary(max_size=60))
def test_any_content_with_a_right_checksum_is_content_or_damage(decode: Decode, body: bytes) -> None:
    line = GOOD[decode].partition(b"\n")[0] + b"\n"
    content = line + hashlib.blake2b(body, digest_size=16).digest() + body
    with pytest.raises(StateDamaged):
        decode(content)


def test_a_record_of_a_provider_that_is_not_there_is_damage() -> None:
    lines = [(bytes(20), 1, 0, 7, 60)]
    for providers, is_good in (
        ([(bytes(20), b"\x0a\0\0\1\0\1", b"")], False),
        ([(bytes(20), b"\x0a\0\0\1\0\1", b"")] * 2, True),
    ):
        chunk = msgspec.msgpack.encode((providers, lines))
        body = msgspec.msgpack.encode(("home", 1e9, [msgspec.Raw(chunk)]))
        content = b"dht records 1\n" + hashlib.blake2b(body, digest_size=16).digest() + body
        if is_good:
            assert decode_records(content, "home", 1e9, PARAMS)
        else:
            with pytest.raises(StateDamaged):
                decode_records(content, "home", 1e9, PARAMS)


def test_addresses_that_are_none_are_damage() -> None:
    for address in ("10.0.0", "239.0.0.1", "0.0.0.0"):
        contact = Contact(bytes(20), 1, (Endpoint(address, 1),), b"")
        with pytest.raises(StateDamaged, match="address"):
            _peers(encode_peers([contact], "home", PARAMS))
    for packed in (bytes(7), bytes(4) + bytes(2)):
        with pytest.raises(StateDamaged):
            _records(encode_records([_record(1)._replace(endpoints=packed)], "home", 1e9))
