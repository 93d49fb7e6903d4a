from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import EPOCH_MAX, stamp
from dht.endpoints import Endpoint
from dht.errors import SettingsInvalid
from dht.wire.envelope import (
    ADVERTISED_BYTES,
    ENVELOPE_BYTES,
    FIRST_SEQUENCE_LIMIT,
    Dropped,
    Envelope,
    FrameTooLong,
    Key,
    Opened,
    said,
)

ALICE, BOB, CAROL = b"a" * 20, b"b" * 20, b"c" * 20
OLD = Key(b"old.", b"o" * 32)
NEW = Key(b"new.", b"n" * 32)
NOW_MS = 1_800_000_000_123
FRAME = b"\x00" + b"m" * 20 + b"body"
PLACE = Endpoint("192.0.2.7", 29021)

frames = st.binary(min_size=1, max_size=1200 - ENVELOPE_BYTES - ADVERTISED_BYTES)
places = st.none() | st.sampled_from([PLACE, Endpoint("2001:db8::7", 1), Endpoint("10.0.0.1", 65535)])


def sealed(node: bytes, *keys: Key, cluster: str = "peili", epoch: int = 3) -> Envelope:
    return Envelope(node, epoch, cluster, keys or (NEW,))


def opened_by(receiver: Envelope, datagram: bytes) -> Opened | str:
    try:
        return receiver.open(datagram)
    except Dropped as exc:
        return exc.reason


@given(frames, st.integers(0, (1 << 48) - 1), st.booleans(), places)
def test_what_is_sealed_opens(frame: bytes, now_ms: int, is_addressed: bool, place: Endpoint | None) -> None:
    datagram = sealed(ALICE).seal(
        frame, destination=BOB if is_addressed else None, now_ms=now_ms, advertised=place
    )
    assert sealed(BOB).open(datagram) == Opened(ALICE, stamp(3, 0), now_ms, is_addressed, place, b"", frame)
    assert said(datagram) == (ALICE, stamp(3, 0), now_ms)
    assert len(datagram) == ENVELOPE_BYTES + (ADVERTISED_BYTES if place else 0) + len(frame)


@given(frames, st.binary(min_size=8, max_size=8), st.booleans())
def test_what_is_not_sealed_opens_too(frame: bytes, token: bytes, is_addressed: bool) -> None:
    datagram = Envelope(ALICE, 3, "peili").seal(
        frame, destination=BOB if is_addressed else None, now_ms=NOW_MS, token=token
    )
    shown = b"" if token == bytes(8) else token
    assert Envelope(BOB, 1, "peili").open(datagram) == Opened(
        ALICE, stamp(3, 0), NOW_MS, is_addressed, None, shown, frame
    )


@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    datagram = bytearray(sealed(ALICE).seal(FRAME, destination=BOB, now_ms=NOW_MS, advertised=PLACE))
    position = data.draw(st.integers(0, len(datagram) * 8 - 1))
    datagram[position // 8] ^= 1 << position % 8
    assert isinstance(opened_by(sealed(BOB), bytes(datagram)), str)


@given(st.data())
def test_nothing_can_be_cut_or_added(data: st.DataObject) -> None:
    datagram = sealed(ALICE).seal(FRAME, destination=BOB, now_ms=NOW_MS)
    cut = data.draw(st.integers(0, len(datagram) - 1))
    added = data.draw(st.binary(min_size=1, max_size=20))
    assert isinstance(opened_by(sealed(BOB), datagram[:cut]), str)
    assert opened_by(sealed(BOB), datagram + added) == "mac"


@given(st.binary(max_size=1300))
def test_noise_is_dropped(noise: bytes) -> None:
    for receiver in (sealed(BOB), Envelope(BOB, 1, "peili")):
        assert isinstance(opened_by(receiver, noise), str)


def test_each_reason() -> None:
    datagram = sealed(ALICE).seal(FRAME, destination=BOB, now_ms=NOW_MS)
    receiver = sealed(BOB)
    assert isinstance(opened_by(receiver, datagram), Opened)
    assert opened_by(receiver, b"") == "short"
    assert opened_by(receiver, datagram[:ENVELOPE_BYTES]) == "short"
    assert opened_by(receiver, datagram + bytes(1200)) == "long"
    assert opened_by(receiver, b"\x02" + datagram[1:]) == "version"
    assert opened_by(receiver, datagram[:1] + b"\x05" + datagram[2:]) == "flags"
    assert opened_by(receiver, datagram[:1] + b"\x80" + datagram[2:]) == "flags"
    assert opened_by(receiver, datagram[:2] + b"four" + datagram[6:]) == "foreign"
    assert opened_by(sealed(CAROL), datagram) == "mac"


def test_a_datagram_without_an_address_is_for_everybody() -> None:
    datagram = sealed(ALICE).seal(FRAME, destination=None, now_ms=NOW_MS)
    for receiver in (BOB, CAROL):
        assert not sealed(receiver).open(datagram).addressed


def test_clusters_never_mix() -> None:
    """Same secret and another name, same name and another secret, with a secret and without."""
    name = sealed(ALICE, cluster="left").seal(FRAME, destination=BOB, now_ms=NOW_MS)
    assert opened_by(sealed(BOB, cluster="right"), name) == "mac"
    assert opened_by(sealed(BOB, Key(NEW.key_id, b"x" * 32), cluster="left"), name) == "mac"
    assert opened_by(sealed(BOB, OLD, cluster="left"), name) == "foreign"
    assert opened_by(Envelope(BOB, 1, "left"), name) == "foreign"
    free = Envelope(ALICE, 1, "left").seal(FRAME, destination=BOB, now_ms=NOW_MS)
    assert opened_by(sealed(BOB, cluster="left"), free) == "foreign"
    assert opened_by(Envelope(BOB, 1, "right"), free) == "foreign"


def test_a_secret_is_changed_without_an_outage() -> None:
    """Old; old and new; new and old; new: each stage understands its neighbours."""
    stages = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    for one, other in itertools.pairwise(stages):
        for sender, receiver in ((one, other), (other, one), (one, one)):
            datagram = sealed(ALICE, *sender).seal(FRAME, destination=BOB, now_ms=NOW_MS)
            assert isinstance(opened_by(sealed(BOB, *receiver), datagram), Opened), (sender, receiver)
    assert opened_by(sealed(BOB, OLD), sealed(ALICE, NEW).seal(FRAME, destination=BOB, now_ms=0)) == "foreign"


def test_every_datagram_has_a_higher_stamp() -> None:
    sender = Envelope(ALICE, 7, "peili", (NEW,), first_sequence=41)
    stamps = [sealed(BOB).open(sender.seal(FRAME, destination=BOB, now_ms=0)).stamp for _ in range(3)]
    assert stamps == [stamp(7, 41), stamp(7, 42), stamp(7, 43)]
    assert [sender.has_sent(one) for one in (stamp(7, 40), *stamps, stamp(7, 44))] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert not sender.has_sent(stamp(6, 42))
    last = Envelope(ALICE, EPOCH_MAX, "peili", (NEW,), first_sequence=FIRST_SEQUENCE_LIMIT - 1)
    assert sealed(BOB).open(last.seal(FRAME, destination=BOB, now_ms=0)).stamp == stamp(
        EPOCH_MAX, FIRST_SEQUENCE_LIMIT - 1
    )


def test_an_unsealed_tag_has_eight_zero_bytes_behind_its_token() -> None:
    datagram = Envelope(ALICE, 1, "peili").seal(FRAME, destination=None, now_ms=NOW_MS, token=b"12345678")
    assert opened_by(Envelope(BOB, 1, "peili"), datagram[:55] + b"\x01" + datagram[56:]) == "tag"


def test_what_is_no_endpoint_is_not_advertised() -> None:
    datagram = sealed(ALICE).seal(FRAME, destination=BOB, now_ms=0, advertised=Endpoint("192.0.2.7", 0))
    assert opened_by(sealed(BOB), datagram) == "advertised"
    no_frame = sealed(ALICE).seal(b"", destination=BOB, now_ms=0, advertised=PLACE)
    assert opened_by(sealed(BOB), no_frame) == "short"


def test_a_zone_stays_at_home() -> None:
    datagram = sealed(ALICE).seal(FRAME, destination=BOB, now_ms=0, advertised=Endpoint("fe80::7%eth0", 9))
    assert sealed(BOB).open(datagram).advertised == Endpoint("fe80::7", 9)


@pytest.mark.parametrize("place", [None, PLACE])
def test_a_frame_fits_or_is_not_sent(place: Endpoint | None) -> None:
    room = 1200 - ENVELOPE_BYTES - (ADVERTISED_BYTES if place else 0)
    sender = sealed(ALICE)
    assert len(sender.seal(bytes(room), destination=BOB, now_ms=0, advertised=place)) == 1200
    with pytest.raises(FrameTooLong):
        sender.seal(bytes(room + 1), destination=BOB, now_ms=0, advertised=place)


@pytest.mark.parametrize(
    ("node", "epoch", "keys", "first"),
    [
        (b"a" * 19, 1, (), 0),
        (ALICE, -1, (), 0),
        (ALICE, EPOCH_MAX + 1, (), 0),
        (ALICE, 1, (Key(b"five5", b"k"),), 0),
        (ALICE, 1, (Key(b"four", b""),), 0),
        (ALICE, 1, (Key(b"four", b"k" * 65),), 0),
        (ALICE, 1, (Key(b"four", b"k"), Key(b"four", b"l")), 0),
        (ALICE, 1, (), FIRST_SEQUENCE_LIMIT),
        (ALICE, 1, (), -1),
    ],
)
def test_settings_that_make_no_envelope(node: bytes, epoch: int, keys: tuple[Key, ...], first: int) -> None:
    with pytest.raises(SettingsInvalid):
        Envelope(node, epoch, "peili", keys, first_sequence=first)


def test_the_same_key_twice_is_one() -> None:
    datagram = sealed(ALICE, NEW, NEW).seal(FRAME, destination=BOB, now_ms=0)
    assert isinstance(opened_by(sealed(BOB), datagram), Opened)


def test_a_key_is_not_shown() -> None:
    assert "nnnn" not in repr(NEW)
