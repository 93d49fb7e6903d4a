"""What a node makes of whom it hears, and of silence: members, records, news, announcements, and whom to ask."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from dht.contacts import Contact, stamp
from dht.endpoints import Endpoint, pack
from dht.node import DEAF_RPC_TIMEOUTS_COUNT, FEW_MEMBERS_COUNT, SUSPECTS_MAX_COUNT, Shadow
from dht.params import Params
from dht.wire.codec import Claim, DeltaKind, Leave, Outcome, Ping, Pong, Ruling, Verb
from tests.support.node_bed import (
    HERE,
    HERE_V6,
    KEY,
    OWN,
    TELLER,
    THERE,
    NodeBed,
    Sender,
    X,
    Y,
    Z,
    contact,
    joined,
    wire,
)

PARAMS = Params()
ASKER = b"\x99" * 20
# Longer than any time for which others are waited for.
LONG_S = 60.0
DEAF_S = DEAF_RPC_TIMEOUTS_COUNT * PARAMS.rpc_timeout_s


@pytest.fixture
def at() -> NodeBed:
    return NodeBed()


# -- heard --------------------------------------------------------------------------------------------------------


def test_a_stranger_that_speaks_is_a_member_and_news(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, b"", 0.0)
    assert at.node.members.get(X) == contact(X)
    assert at.news() == [(DeltaKind.JOINED, X)]


def test_what_is_heard_again_is_no_news(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, b"", 0.0)
    assert at.news() != []
    at.node.heard(X, 1, HERE, None, 1.0)
    assert at.news() == []
    at.node.heard(X, 1, THERE, None, 2.0)
    assert at.news() == [(DeltaKind.JOINED, X)], "it has moved"


def test_a_newcomer_is_announced_what_it_keeps_and_the_announcer_is_woken(at: NodeBed) -> None:
    woken: list[int] = []
    at.node.on_announcements_due(lambda: woken.append(1))
    at.node.announcements.provide([KEY], 0, 0.0)
    at.announced(5.0)
    at.node.heard(X, 1, HERE, None, 5.0)
    assert woken == [1]
    assert at.announced(5.0 + PARAMS.rejoin_jitter_s + 1) == {X}
    at.node.heard(X, 1, THERE, None, 5.0)
    assert woken == [1], "a move is nothing to announce"


def test_having_joined_wakes_the_announcer(at: NodeBed) -> None:
    woken: list[int] = []
    at.node.on_announcements_due(lambda: woken.append(1))
    at.node.joined()
    assert (at.node.has_joined, woken) == (True, [1])


def test_the_round_trip_sets_the_hedge(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, None, 0.0)
    at.node.rtt(X, 0.1)
    assert at.node.members.hedge_s(X) == pytest.approx(0.1 * PARAMS.hedge_srtt_factor)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_without_a_secret_an_address_has_so_many_ids(is_sealed: bool) -> None:
    at = NodeBed(is_sealed=is_sealed, params=replace(PARAMS, members_per_address_count=2))
    for number in range(9):
        at.node.heard(bytes([number]) * 20, 1, Endpoint("10.0.0.1", 1 + number), None, 0.0)
    assert len(at.node.members) == (9 if is_sealed else 2)
    assert len(at.news()) == len(at.node.members)


# -- records ------------------------------------------------------------------------------------------------------


@pytest.fixture
def keeping(at: NodeBed) -> NodeBed:
    """X is a member and provides KEY; its coming was told to all."""
    at.node.heard(X, 1, HERE, b"", 0.0)
    at.node.records.add(KEY, contact(X), 0, stamp(1, 1), 3600.0, 0.0)
    assert at.provided(0.0) == [contact(X)]
    at.news()
    return at


def test_records_of_who_fell_silent_are_unseen_until_it_is_back(keeping: NodeBed) -> None:
    keeping.fall_silent(X, 1.0)
    assert X not in keeping.node.members
    assert keeping.provided(2.0) == []
    assert keeping.news() == [(DeltaKind.SILENT, X)]
    keeping.node.heard(X, 1, THERE, None, 3.0)
    assert keeping.provided(3.0) == [contact(X, 1, THERE)], "where it is now"
    assert keeping.news() == [(DeltaKind.JOINED, X)]


def test_records_of_who_left_are_unseen_until_it_is_told_of_again(keeping: NodeBed) -> None:
    assert keeping.node.serve(Leave(), Sender(X), 1.0, 1000) is None
    assert keeping.provided(1.0) == []
    assert keeping.news() == [(DeltaKind.LEFT, X)]
    keeping.node.told([joined(X, 2, THERE)], TELLER, 2.0)
    assert keeping.provided(2.0) == [contact(X)]


def test_records_of_who_was_replaced_are_unseen(keeping: NodeBed) -> None:
    keeping.node.heard(Y, 1, HERE, b"", 1.0)
    assert keeping.provided(1.0) == []
    assert keeping.news() == [(DeltaKind.SILENT, X), (DeltaKind.JOINED, Y)]


def test_records_of_who_was_evicted_are_seen_and_nobody_is_told() -> None:
    at = NodeBed(params=replace(PARAMS, members_max_count=1))
    at.node.told([joined(X)], TELLER, 0.0)
    at.node.records.add(KEY, contact(X), 0, stamp(1, 1), 3600.0, 0.0)
    at.news()
    at.node.heard(Y, 1, THERE, None, 1.0)
    assert list(at.node.members) == [contact(Y, 1, THERE)]
    assert at.provided(1.0) == [contact(X)]
    assert at.news() == [(DeltaKind.JOINED, Y)]


def test_records_move_when_their_provider_is_heard_elsewhere(keeping: NodeBed) -> None:
    """And not by hearsay, which would outlast the truth: no later word of the provider has so high an epoch."""
    keeping.node.told([joined(X, 1 << 23, THERE)], TELLER, 1.0)
    assert keeping.provided(1.0) == [contact(X)]
    keeping.node.heard(X, 2, THERE, None, 2.0)
    assert keeping.provided(2.0) == [contact(X, 2, THERE)]


def test_records_move_when_hearsay_of_a_move_proves_true(keeping: NodeBed) -> None:
    keeping.node.told([joined(X, 2, THERE)], TELLER, 1.0)
    assert keeping.node.members.get(X) == contact(X, 2, THERE)
    assert keeping.provided(1.0) == [contact(X)]
    keeping.node.heard(X, 2, THERE, None, 2.0)
    assert keeping.provided(2.0) == [contact(X, 2, THERE)]


def test_a_provider_that_says_more_of_itself_is_known_so(keeping: NodeBed) -> None:
    keeping.node.heard(X, 1, HERE, b"role", 1.0)
    assert keeping.provided(1.0) == [contact(X, info=b"role")]
    keeping.node.heard(X, 1, HERE_V6, None, 2.0)
    assert keeping.provided(2.0) == [contact(X, 1, HERE, HERE_V6, info=b"role")]


def test_a_word_from_an_address_without_room_moves_no_records() -> None:
    at = NodeBed(is_sealed=False, params=replace(PARAMS, members_per_address_count=1))
    at.node.heard(Y, 1, HERE, None, 0.0)
    at.node.records.add(KEY, contact(X, 1, HERE_V6), 0, stamp(1, 1), 3600.0, 0.0)
    at.node.told([joined(X, 1, THERE)], TELLER, 0.0)
    at.node.heard(X, 1, Endpoint(HERE.address, 9), None, 1.0)
    assert at.provided(1.0) == [contact(X, 1, HERE_V6)]


def test_of_two_providers_of_one_id_the_one_believed_is_named(keeping: NodeBed) -> None:
    for now, endpoint in enumerate((THERE, HERE, HERE)):
        keeping.node.heard(X, 1, endpoint, None, float(now))
    assert keeping.provided(3.0) == [contact(X, 1, THERE)]


# -- leaving ------------------------------------------------------------------------------------------------------


def test_a_goodbye_of_an_earlier_life_is_none(at: NodeBed) -> None:
    at.node.told([joined(X, 6)], TELLER, 0.0)
    at.node.serve(Leave(), Sender(X, epoch=5), 1.0, 1000)
    assert X in at.node.members
    at.node.serve(Leave(), Sender(X, epoch=6), 1.0, 1000)
    assert X not in at.node.members


def test_late_hearsay_about_a_stranger_that_left_is_not_believed(at: NodeBed) -> None:
    at.node.serve(Leave(), Sender(X), 0.0, 1000)
    at.node.told([joined(X)], TELLER, 1.0)
    assert X not in at.node.members


# -- two of one id ------------------------------------------------------------------------------------------------


def test_two_live_nodes_of_one_id_are_noticed(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, None, 0.0)
    at.node.heard(X, 1, THERE, None, 1.0)
    at.news()
    at.node.heard(X, 1, HERE, None, 2.0)
    assert at.noticed == [Shadow(X, (THERE, HERE))]
    assert at.stats.conflicts == 1
    assert at.news() == []


@pytest.mark.parametrize("is_sealed", [True, False])
def test_without_a_secret_lives_in_turns_are_two_nodes(is_sealed: bool) -> None:
    """With one, the replay window refuses the other's datagrams, and dht.members.twins sees it there."""
    at = NodeBed(is_sealed=is_sealed)
    for turn in range(4):
        at.node.heard(X, 1 + turn % 2, (HERE, THERE)[turn % 2], None, float(turn))
    assert (Shadow(X, (THERE, HERE)) in at.noticed) == (not is_sealed)
    assert at.stats.conflicts == len(at.noticed)


def test_a_live_node_of_our_own_id_is_noticed(at: NodeBed) -> None:
    at.node.shadowed(HERE, 0.0)
    assert at.noticed == [Shadow(OWN.node, (HERE,))]
    assert at.stats.conflicts == 1
    assert len(at.node.members) == 0


# -- silence ------------------------------------------------------------------------------------------------------


def test_who_does_not_answer_once_is_asked_again_and_then_gone(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, b"", 0.0)
    at.node.silent(X, 1.0)
    assert at.node.take_suspects(9) == [contact(X)]
    at.node.silent(X, 2.0)
    assert X not in at.node.members
    assert at.node.suspects == {}


@pytest.fixture
def three(at: NodeBed) -> NodeBed:
    """Members that were heard at 0."""
    for number, node in enumerate((X, Y, Z)):
        at.node.heard(node, 1, Endpoint("10.0.0.1", 1 + number), b"", 0.0)
    assert len(at.node.members) > FEW_MEMBERS_COUNT
    return at


def test_when_nobody_is_heard_silence_accuses_nobody(three: NodeBed) -> None:
    """It is our own network that is down: they are asked again."""
    for turn in range(10):
        for node in (X, Y, Z):
            three.node.silent(node, LONG_S + turn)
        assert {one.node for one in three.node.take_suspects(9)} == {X, Y, Z}
    assert len(three.node.members) == 3


def test_what_nobody_heard_was_no_strike(three: NodeBed) -> None:
    three.node.silent(X, LONG_S)
    three.node.alive(Z, LONG_S + 1)
    three.node.silent(X, LONG_S + 1)
    assert X in three.node.members
    three.node.silent(X, LONG_S + 1 + DEAF_S)
    assert X not in three.node.members


@pytest.mark.parametrize(("after_s", "is_gone"), [(0.0, True), (DEAF_S, True), (DEAF_S + 0.01, False)])
def test_a_word_of_anybody_makes_silence_count_for_a_while(
    three: NodeBed, after_s: float, is_gone: bool
) -> None:
    three.node.alive(Z, LONG_S)
    three.node.silent(X, LONG_S)
    three.node.alive(b"\x99" * 20, 2 * LONG_S)
    three.node.silent(X, 2 * LONG_S + after_s)
    assert (X not in three.node.members) == is_gone


def test_where_few_are_known_silence_always_counts(at: NodeBed) -> None:
    for number in range(FEW_MEMBERS_COUNT):
        at.node.heard(bytes([number]) * 20, 1, Endpoint("10.0.0.1", 1 + number), b"", 0.0)
    for now in (LONG_S, 2 * LONG_S):
        at.node.silent(bytes(20), now)
    assert bytes(20) not in at.node.members


def test_a_node_that_was_never_answered_accuses_nobody(at: NodeBed) -> None:
    at.node.introduced([wire(X), wire(Y), wire(Z)], TELLER, 0.0, are_news=False)
    for turn in range(9):
        at.node.silent(X, float(turn))
    assert X in at.node.members


def test_the_silence_of_a_stranger_is_nothing(at: NodeBed) -> None:
    at.node.silent(X, 0.0)
    at.node.silent(X, 1.0)
    assert (at.node.suspects, at.news()) == ({}, [])


# -- suspects -----------------------------------------------------------------------------------------------------


def test_suspects_are_bounded_and_taken_in_turn(at: NodeBed) -> None:
    nodes = [number.to_bytes(20, "big") for number in range(SUSPECTS_MAX_COUNT + 9)]
    for node in nodes:
        at.node.suspect(contact(node))
    assert len(at.node.suspects) == SUSPECTS_MAX_COUNT
    taken = [at.node.take_suspects(100) for _ in range(4)]
    assert [one.node for part in taken for one in part] == nodes[:SUSPECTS_MAX_COUNT]
    assert [len(part) for part in taken] == [100, 100, 56, 0]


def test_who_has_said_something_new_or_is_gone_is_no_suspect(at: NodeBed) -> None:
    for number, node in enumerate((X, Y, Z)):
        at.node.heard(node, 1, Endpoint("10.0.0.1", 1 + number), b"", 0.0)
        at.node.silent(node, 1.0)
    assert set(at.node.suspects) == {X, Y, Z}
    at.node.heard(X, 2, THERE, None, 2.0)
    at.node.serve(Leave(), Sender(Y), 2.0, 1000)
    assert set(at.node.suspects) == {Z}


# -- isolation ----------------------------------------------------------------------------------------------------


def test_after_lookups_without_any_reply_a_node_is_isolated_until_a_datagram_comes(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, None, 0.0)
    for count in range(PARAMS.isolated_after_count):
        assert not at.node.is_isolated, count
        at.node.unheard_lookups_count += 1
    assert at.node.is_isolated
    at.node.silent(X, 1.0)
    at.node.told([joined(Y)], TELLER, 1.0)
    assert at.node.is_isolated, "neither silence nor what is said of others is a datagram"
    at.node.alive(Z, 2.0)
    assert not at.node.is_isolated
    at.node.unheard_lookups_count = PARAMS.isolated_after_count
    at.node.heard(X, 1, HERE, None, 3.0)
    assert not at.node.is_isolated


# -- what goes along with answers ---------------------------------------------------------------------------------


def test_news_wait_for_room(at: NodeBed) -> None:
    assert at.node.news(ASKER, 1000) == []
    at.node.heard(X, 1, HERE, None, 0.0)
    assert at.node.news(ASKER, 100) == []
    assert [one.member.node for one in at.node.news(ASKER, 1000)] == [X]


@pytest.mark.parametrize("own", [OWN, Contact(OWN.node, 5, (), b"")], ids=["own", "own-without-an-address"])
@pytest.mark.parametrize("info_bytes", [0, PARAMS.info_max_bytes])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_news_fit_the_least_room_for_which_they_are_given(own: Contact, info_bytes: int, count: int) -> None:
    at = NodeBed(own=own)
    for number in range(count):
        told = wire(bytes([number]) * 20, 0xFFFFFF, HERE, HERE_V6, info=b"\xff" * info_bytes)
        at.node.introduced([told], TELLER, 0.0, are_news=True)
    assert len(at.node.members) == count
    rooms = range(PARAMS.datagram_max_bytes)
    room_bytes, news = next((room, news) for room in rooms if (news := at.node.news(ASKER, room)))
    assert len(news) == min(count, PARAMS.deltas_per_reply_count)
    assert len(b"".join(map(msgspec.msgpack.encode, news))) <= room_bytes


# -- requests -----------------------------------------------------------------------------------------------------


def test_requests_are_answered(at: NodeBed) -> None:
    assert at.node.serve(Ping(b"info"), Sender(X), 0.0, 1000) == Pong(b"own", pack((HERE,)))
    assert len(at.node.members) == 0, "who asked is learned from the datagram"


def test_nobody_is_granted_a_claim_before_this_node_has_joined(at: NodeBed) -> None:
    request = Claim(KEY, Verb.ASK, 0)
    for outcome in (Outcome.NOT_JOINED, Outcome.GRANTED):
        ruling = at.node.serve(request, Sender(X), 0.0, 1000)
        assert isinstance(ruling, Ruling)
        assert ruling.outcome == outcome
        at.node.joined()
