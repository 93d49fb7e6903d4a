"""Beacons: when they are sent, over which interfaces, and what a receiver makes of what it hears."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht.bootstrap.beacon_timer import (
    EARLY_ENOUGH_COUNT,
    EARLY_EVERY_S,
    EARLY_WITHIN_S,
    JITTER,
    BeaconTimer,
)
from dht.bootstrap.interfaces import is_here, v6_addresses
from dht.bootstrap.lan import Heard, hear
from dht.bootstrap.multicast import GROUP_V4, GROUP_V6
from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire.codec import Beacon, Ping, encode_beacon, encode_request
from dht.wire.envelope import Envelope, Key
from dht.wire.guard import Guard
from tests.support.examples import examples

PARAMS = Params()
FIRST, INTERVAL = PARAMS.beacon_first_s, PARAMS.beacon_interval_s
NODES = [bytes([n]) * 20 for n in range(1, 60)]


def _beacons(timer: BeaconTimer, until: float) -> list[float]:
    sent = []
    while (now := timer.due_at()) <= until:
        timer.sent(now)
        sent.append(now)
    return sent


def _settled(rng: random.Random) -> tuple[BeaconTimer, float]:
    timer = BeaconTimer(PARAMS, rng, 0.0)
    sent = _beacons(timer, 10.0)
    assert len(sent) == PARAMS.beacon_first_count
    return timer, sent[-1]


@given(st.randoms(use_true_random=False))
def test_a_few_beacons_soon_then_one_now_and_then(rng: random.Random) -> None:
    sent = _beacons(BeaconTimer(PARAMS, rng, 100.0), 500.0)
    assert sent[0] == 100.0
    pauses = [later - earlier for earlier, later in pairwise(sent)]
    nominal = [FIRST] * 4 + [INTERVAL] * (len(pauses) - 4)
    assert all((1 - JITTER) * n - 1e-9 <= pause <= n + 1e-9 for pause, n in zip(pauses, nominal, strict=True))
    assert len(pauses) >= 4 + 12


def test_a_network_that_comes_is_greeted_as_at_the_start() -> None:
    timer, now = _settled(random.Random(1))
    timer.network_came(now + 5)
    assert len(_beacons(timer, now + 10)) == PARAMS.beacon_first_count


@given(st.randoms(use_true_random=False), st.floats(0.1, 10))
def test_a_settled_node_answers_a_newcomer_once(rng: random.Random, after_s: float) -> None:
    timer, now = _settled(rng)
    heard_at = min(now + after_s, timer.due_at() - EARLY_WITHIN_S)
    regular_at = timer.due_at()
    timer.heard(NODES[0], heard_at)
    assert heard_at <= timer.due_at() <= heard_at + EARLY_WITHIN_S
    early_at = timer.due_at()
    timer.sent(early_at)
    # It does not replace the regular one.
    assert timer.due_at() == regular_at
    # It is known now.
    timer.heard(NODES[0], early_at + EARLY_EVERY_S)
    assert timer.due_at() == regular_at


def test_a_node_that_has_just_started_speaks_often_enough() -> None:
    timer = BeaconTimer(PARAMS, random.Random(1), 0.0)
    timer.sent(0.0)
    due_at = timer.due_at()
    timer.heard(NODES[0], 0.1)
    assert timer.due_at() == due_at


def test_early_beacons_are_rare_whoever_speaks() -> None:
    timer, start = _settled(random.Random(1))
    early = []
    for number in range(1000):
        now = start + 0.01 * number
        timer.heard(random.Random(number).randbytes(20), now)
        if timer.due_at() <= now:
            timer.sent(now)
            early.append(now)
    assert len(early) <= 1 + 10 / EARLY_EVERY_S


def test_when_enough_others_answered_nobody_else_does() -> None:
    timer, now = _settled(random.Random(1))
    regular_at = timer.due_at()
    timer.heard(NODES[0], now + 1)
    for number in range(1, 1 + EARLY_ENOUGH_COUNT):
        assert timer.due_at() < regular_at
        timer.heard(NODES[number], now + 1)
    assert timer.due_at() == regular_at


@settings(max_examples=examples(20))
@given(st.integers(2, 50), st.randoms(use_true_random=False))
def test_a_newcomer_hears_some_and_not_everybody(nodes_count: int, rng: random.Random) -> None:
    """All hear each other at once, as on one network."""
    settled = [_settled(rng)[0] for _ in range(nodes_count)]
    newcomer, now, answers_count = NODES[-1], 10.0, 0
    for timer in settled:
        for node in NODES[:nodes_count]:
            timer.heard(node, 0.0)
    # What that stirred up is over.
    for timer in settled:
        _beacons(timer, now)
    for timer in settled:
        timer.heard(newcomer, now)
    while (early := min(settled, key=BeaconTimer.due_at)).due_at() <= now + EARLY_WITHIN_S:
        answers_count += 1
        early.sent(early.due_at())
        for number, timer in enumerate(settled):
            if timer is not early:
                timer.heard(NODES[number], now)
    assert min(nodes_count, EARLY_ENOUGH_COUNT) <= answers_count <= EARLY_ENOUGH_COUNT + nodes_count // 10


def test_it_remembers_so_many_and_no_more() -> None:
    timer = BeaconTimer(Params(strangers_max_count=10), random.Random(1), 0.0)
    for number in range(1000):
        timer.heard(number.to_bytes(20, "big"), 0.0)
    assert len(timer._heard) == 10


IF_INET6 = """\
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
fd000000000000000000000000000001 04 40 00 01     eth0
fe800000000000000000000000000005 05 40 20 80     wlan0
fd000000000000000000000000000009 06 40 00 40     eth1
fd000000000000000000000000000019 07 40 00 08     eth2
00000000000000000000000000000001 01 80 10 80       lo
"""


def test_an_address_that_others_can_be_told_is_preferred_and_one_that_stays() -> None:
    assert v6_addresses(IF_INET6.splitlines()) == {
        4: ("fd00::2", "fd00::1", "fe80::fc:ff:fe00:1"),
        5: ("fe80::5",),
        # Tentative, or found to be another host's: not to be sent from.
    }


@pytest.mark.parametrize(
    ("found", "listens", "is_ours"),
    [
        (Endpoint("127.0.0.1", 5), [Endpoint("127.0.0.1", 5)], True),
        (Endpoint("127.0.0.1", 5), [Endpoint("0.0.0.0", 5)], True),
        (Endpoint("127.0.0.1", 6), [Endpoint("0.0.0.0", 5)], False),
        (Endpoint("127.0.0.2", 5), [Endpoint("127.0.0.1", 5)], False),
        (Endpoint("127.0.0.1", 5), [Endpoint("::", 5)], False),
        (Endpoint("192.0.2.1", 5), [Endpoint("0.0.0.0", 5)], False),
        (Endpoint("2001:db8::1", 5), [Endpoint("::", 5)], False),
        (Endpoint("fe80::1%nowhere", 5), [Endpoint("::", 5)], False),
    ],
)
def test_an_endpoint_of_this_very_node_is_known_as_that(
    found: Endpoint, listens: list[Endpoint], is_ours: bool
) -> None:
    assert is_here(found, listens) is is_ours


# -- what is heard -----------------------------------------------------------------------------------------------

SOURCE = Endpoint("192.168.1.9", 29024)
SECRET = Key(b"key1", b"s" * 32)
NOW_S, WALL_S = 50.0, 1_795_000_000.0
SENDER, RECEIVER = NODES[0], NODES[1]


def _guard(
    node: bytes,
    cluster: str = "home",
    keys: tuple[Key, ...] = (SECRET,),
    advertised: Endpoint | None = None,
) -> Guard:
    return Guard(Envelope(node, 1, cluster, keys), PARAMS, random.Random(node[0]).randbytes, advertised)


def _beacon(guard: Guard, *, frame: bytes | None = None, wall_s: float = WALL_S, to: str = GROUP_V4) -> bytes:
    return guard.seal(
        frame or encode_beacon(bytes(20), Beacon(4711)),
        destination=None,
        to=Endpoint(to, 29024),
        now=NOW_S,
        wall_s=wall_s,
    )


def _hear(datagram: bytes, receiver: Guard, source: Endpoint = SOURCE) -> Heard | str:
    return hear(receiver, datagram, source, NOW_S, WALL_S)


def test_a_beacon_names_its_senders_port_at_the_address_it_came_from() -> None:
    assert _hear(_beacon(_guard(SENDER)), _guard(RECEIVER)) == Heard(SENDER, Endpoint("192.168.1.9", 4711))
    zoned = Endpoint("fe80::1%eth0", 29024)
    assert _hear(_beacon(_guard(SENDER), to=GROUP_V6), _guard(RECEIVER), zoned) == Heard(
        SENDER, Endpoint("fe80::1%eth0", 4711)
    )


def test_an_advertised_endpoint_is_what_others_are_to_use() -> None:
    advertised = Endpoint("203.0.113.5", 31000)
    datagram = _beacon(_guard(SENDER, advertised=advertised))
    assert _hear(datagram, _guard(RECEIVER)) == Heard(SENDER, advertised)


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        (lambda: _guard(SENDER, keys=(Key(b"key1", b"t" * 32),)), "mac"),
        (lambda: _guard(SENDER, keys=(Key(b"key2", b"s" * 32),)), "foreign"),
        (lambda: _guard(SENDER, cluster="work"), "mac"),
        (lambda: _guard(SENDER, keys=()), "foreign"),
        (lambda: _guard(RECEIVER), "duplicate_id"),
    ],
    ids=["wrong secret", "other key", "other cluster", "no secret", "our own id"],
)
def test_who_is_not_of_the_cluster_is_not_heard(sender: Callable[[], Guard], reason: str) -> None:
    assert _hear(_beacon(sender()), _guard(RECEIVER)) == reason


def test_our_own_beacon_comes_back_and_is_nothing() -> None:
    ours = _guard(RECEIVER)
    assert _hear(_beacon(ours), ours) == "echo"


def test_a_beacon_works_once_and_in_its_time() -> None:
    receiver = _guard(RECEIVER)
    datagram = _beacon(_guard(SENDER))
    assert isinstance(_hear(datagram, receiver), Heard)
    assert _hear(datagram, receiver) == "replayed"
    assert _hear(_beacon(_guard(SENDER), wall_s=WALL_S - 200), receiver) == "stale"


def test_clusters_without_a_secret_hear_their_own_name_and_nobody_from_afar() -> None:
    open_sender, open_receiver = _guard(SENDER, keys=()), _guard(RECEIVER, keys=())
    assert isinstance(_hear(_beacon(open_sender), open_receiver), Heard)
    assert _hear(_beacon(open_sender), open_receiver, Endpoint("11.0.0.9", 29024)) == "not_local"
    assert _hear(_beacon(_guard(SENDER, "work", ())), open_receiver) == "foreign"


def test_only_beacons_are_taken_from_a_group() -> None:
    request = encode_request(bytes(20), Ping())
    assert _hear(_beacon(_guard(SENDER), frame=request), _guard(RECEIVER)) == "no_beacon"
    # Without a secret it would be challenged: an answer to what reached a whole network.
    assert _hear(_beacon(_guard(SENDER, keys=()), frame=request), _guard(RECEIVER, keys=())) == "no_beacon"
    damaged = b"\x03" + bytes(20) + b"\x91\x00"
    assert _hear(_beacon(_guard(SENDER), frame=damaged), _guard(RECEIVER)) == "bad beacon"
