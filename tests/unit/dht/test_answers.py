"""What is answered to each RPC."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.claims.rules import CLOSER_NAMED_COUNT
from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.errors import FrameInvalid
from dht.ids import distance
from dht.wire.codec import (
    Added,
    AddProviders,
    AskReason,
    Claim,
    Differs,
    Fence,
    FindNode,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Leave,
    Nodes,
    Outcome,
    Page,
    Ping,
    Pong,
    Removed,
    RemoveProviders,
    Ruling,
    Sync,
    Verb,
)
from tests.support.answers_bed import PARAMS, AnswersBed, as_sender, without_address
from tests.support.node_bed import HERE, HERE_V6, KEY, OWN, THERE, Sender, X, Y, contact

FIRST, LAST = bytes(20), b"\xff" * 20
ASKER = Sender(X)


@pytest.fixture
def at() -> AnswersBed:
    return AnswersBed()


def key(number: int) -> bytes:
    return b"\x55" * 18 + number.to_bytes(2, "big")


def add(at: AnswersBed, provider: Contact, *keys: bytes, state: int = 0) -> Added:
    added = at.ask(AddProviders(state, 3600, provider.info, b"".join(keys)), as_sender(provider))
    assert isinstance(added, Added)
    return added


def found(at: AnswersBed, asked: bytes = KEY, want: int = 16, asker: Sender = ASKER) -> Found:
    answer = at.ask(GetProviders(asked, want), asker)
    assert isinstance(answer, Found)
    return answer


def page(at: AnswersBed, first: bytes = FIRST, last: bytes = LAST) -> Page:
    answer = at.ask(GetMembers(first, last), ASKER)
    assert isinstance(answer, Page)
    return answer


# -- members ------------------------------------------------------------------------------------------------------


def test_a_ping_is_told_who_answers_and_where_it_came_from(at: AnswersBed) -> None:
    assert at.ask(Ping(), Sender(X, came_from=HERE_V6)) == Pong(OWN.info, pack((HERE_V6,)))


def test_a_goodbye_is_not_answered(at: AnswersBed) -> None:
    assert at.ask(Leave(), ASKER) is None


def test_a_newcomer_is_given_the_first_page(at: AnswersBed) -> None:
    at.fill(100)
    joined = at.ask(Join(b""), ASKER)
    assert joined == page(at)
    assert isinstance(joined, Page)
    assert joined.more
    assert (joined.count, joined.info) == (101, OWN.info)


def test_a_cluster_of_one_has_one_page(at: AnswersBed) -> None:
    answer = page(at)
    assert [one.contact() for one in answer.contacts] == [OWN]
    assert (answer.more, answer.count) == (False, 1)


def test_a_page_is_of_its_range(at: AnswersBed) -> None:
    members = at.fill(9, families="4")
    answer = page(at, members[2].node, members[4].node)
    inside = [one for one in [*members, OWN] if members[2].node <= one.node <= members[4].node]
    assert [one.node for one in answer.contacts] == sorted(one.node for one in inside)
    assert (answer.more, answer.count) == (False, 10)
    assert page(at, members[4].node, members[2].node).contacts == []


@pytest.mark.parametrize("has_address", [True, False], ids=["with-address", "without"])
@pytest.mark.parametrize("own", [FIRST, b"\x77" * 20, LAST], ids=["first", "within", "last"])
@given(
    count=st.integers(0, 130),
    info_bytes=st.sampled_from([0, 20, 48]),
    families=st.sampled_from(["4", "6", "46"]),
    own_info_bytes=st.sampled_from([0, 48]),
    seed=st.integers(0, 99),
)
def test_pages_hold_everybody_once(
    own: bytes, has_address: bool, count: int, info_bytes: int, families: str, own_info_bytes: int, seed: int
) -> None:
    contact = Contact(own, 1, (HERE,) if has_address else (), bytes(own_info_bytes))
    at = AnswersBed(contact, seed=seed)
    at.fill(count, info_bytes=info_bytes, families=families)
    expected = {one.node: one for one in at.members} | ({own: contact} if has_address else {})
    told: list[Contact] = []
    first, more = FIRST, True
    while more:
        answer = page(at, first)
        assert answer.count == len(at.members) + 1
        told += [one.contact() for one in answer.contacts]
        more = answer.more
        assert answer.contacts or not more, "nobody knows how to go on"
        if more:
            first = (int.from_bytes(answer.contacts[-1].node, "big") + 1).to_bytes(20, "big")
    assert told == [expected[node] for node in sorted(expected)]


def test_the_nearest_are_named_without_the_asker(at: AnswersBed) -> None:
    members = at.fill(30, families="4")
    near = sorted(members, key=lambda one: distance(one.node, KEY))
    for asker in (near[0], near[19], near[29], contact(X)):
        nodes = at.ask(FindNode(KEY), as_sender(asker))
        assert isinstance(nodes, Nodes)
        assert [one.contact() for one in nodes.nodes] == [one for one in near if one != asker][:20]


def test_a_comparison_names_what_differs(at: AnswersBed) -> None:
    other = AnswersBed()
    members = at.fill(40)
    other.members.preload(members)
    assert at.ask(Sync(b"", other.hashes.hashes(b"")), ASKER) == Differs(0)
    other.members.preload([replace(members[5], epoch=1)])
    assert at.ask(Sync(b"", other.hashes.hashes(b"")), ASKER) == Differs(1 << (members[5].node[0] >> 4))


# -- providers ----------------------------------------------------------------------------------------------------


def test_who_announces_is_named_to_who_asks(at: AnswersBed) -> None:
    assert add(at, contact(Y, 1, THERE, info=b"role"), KEY, key(1), state=7) == Added(2, b"")
    (provider,) = found(at).providers
    assert (provider.node, provider.state, provider.info) == (Y, 7, b"role")
    assert provider.endpoints == pack((THERE,))
    assert found(at).stored == 1


def test_who_asks_is_not_named_to_himself(at: AnswersBed) -> None:
    add(at, contact(X), KEY)
    assert found(at).providers == []
    assert found(at).stored == 1


@pytest.mark.parametrize(
    ("known", "named"),
    [
        pytest.param(None, (HERE,), id="a-stranger"),
        pytest.param(contact(X, 1, HERE, HERE_V6), (HERE, HERE_V6), id="a-member"),
        pytest.param(contact(X, 1, THERE, HERE_V6), (HERE,), id="a-member-elsewhere"),
    ],
)
def test_a_provider_is_where_it_was_heard(
    at: AnswersBed, known: Contact | None, named: tuple[Endpoint, ...]
) -> None:
    at.members.preload([] if known is None else [known])
    at.ask(AddProviders(0, 3600, b"", KEY), Sender(X, came_from=Endpoint("10.0.0.9", 1)))
    (provider,) = found(at, asker=Sender(Y)).providers
    assert provider.endpoints == pack(named)


@pytest.mark.parametrize("full", [(), (0,), (7, 8), (5, 15, 47), range(48)])
def test_keys_that_have_enough_providers_are_named_by_their_bits(
    at: AnswersBed, full: tuple[int, ...]
) -> None:
    for number in range(PARAMS.providers_per_key_count):
        if full:
            provider = contact(number.to_bytes(20, "big"))
            add(at, provider, *(key(one) for one in full))
    added = add(at, contact(Y), *(key(number) for number in range(48)))
    bits = int.from_bytes(added.saturated, "little")
    assert {number for number in range(48) if bits >> number & 1} == set(full)
    assert bits >> 48 == 0
    assert len(added.saturated) == (max(full) // 8 + 1 if full else 0)
    assert added.stored == 48 - len(full)


def test_what_is_out_of_date_or_above_a_quota_is_neither_stored_nor_saturated() -> None:
    at = AnswersBed(params=replace(PARAMS, keys_per_provider_count=2))
    assert at.ask(RemoveProviders(key(0)), Sender(Y, 2)) == Removed(0)
    added = at.ask(AddProviders(0, 3600, b"", b"".join(map(key, range(5)))), Sender(Y, 1))
    assert added == Added(2, b"")


def test_a_withdrawal_is_counted_and_done(at: AnswersBed) -> None:
    add(at, contact(Y, 1), KEY, key(1))
    assert at.ask(RemoveProviders(KEY + key(1) + key(2)), Sender(Y, 1, sequence=2)) == Removed(2)
    assert found(at).providers == []


@pytest.mark.parametrize(("want", "named_count"), [(0, 0), (3, 3), (255, PARAMS.sample_count)])
def test_as_many_are_named_as_are_wanted_up_to_a_sample(at: AnswersBed, want: int, named_count: int) -> None:
    for number in range(40):
        add(at, contact(number.to_bytes(20, "big")), KEY)
    answer = found(at, want=want)
    assert len({one.node for one in answer.providers}) == named_count
    assert answer.stored == 40


def test_more_providers_than_a_byte_counts_are_255() -> None:
    at = AnswersBed(params=replace(PARAMS, providers_per_key_count=300))
    for number in range(300):
        add(at, contact(number.to_bytes(20, "big")), KEY)
    assert found(at).stored == 255


def test_nearer_nodes_are_named_without_the_asker(at: AnswersBed) -> None:
    members = at.fill(200)
    near = sorted(members, key=lambda one: distance(one.node, KEY))
    assert distance(near[4].node, KEY) < distance(OWN.node, KEY)
    assert [one.contact() for one in found(at).closer] == near[: PARAMS.closer_count]
    asker = as_sender(near[1])
    assert [one.contact() for one in found(at, asker=asker).closer] == [near[0], near[2], near[3]]
    assert found(at, OWN.node).closer == [], "nobody is nearer to our own id"


@pytest.mark.parametrize("closer_count", [4, 20])
def test_providers_and_nearer_nodes_leave_each_other_room(closer_count: int) -> None:
    at = AnswersBed(params=replace(PARAMS, closer_count=closer_count))
    at.fill(200, info_bytes=48)
    for _ in range(40):
        add(at, at.stranger(info_bytes=48), KEY)
    answer = found(at)
    assert len(answer.closer) >= 4
    assert len(answer.providers) >= 4


# -- claims -------------------------------------------------------------------------------------------------------

# Nobody is nearer to our own id than we are.
OURS = OWN.node
FOREIGN = Fence(b"\x99" * 20, 7)


def ruled(at: AnswersBed, request: Claim, asker: Sender = ASKER, *, is_joined: bool = True) -> Ruling:
    ruling = at.ask(request, asker, is_joined=is_joined)
    assert isinstance(ruling, Ruling)
    return ruling


def test_a_claim_is_granted_waited_for_renewed_and_released(at: AnswersBed) -> None:
    at.fill(30)
    granted = ruled(at, Claim(OURS, Verb.ASK, 16))
    assert (granted.outcome, granted.for_ms) == (Outcome.GRANTED, 1000 * PARAMS.claim_first_progress_s)
    assert granted.fence is not None
    waiting = ruled(at, Claim(OURS, Verb.ASK, 16), Sender(Y, 1, THERE))
    assert (waiting.outcome, waiting.fence) == (Outcome.WAIT, granted.fence)
    assert waiting.holder is not None
    assert waiting.holder.provider.node == X
    assert waiting.holder.provider.endpoints == pack((HERE,))
    renewed = ruled(at, Claim(OURS, Verb.RENEW, 16, 5, granted.fence))
    assert (renewed.outcome, renewed.fence) == (Outcome.GRANTED, granted.fence)
    assert [one.provider.node for one in renewed.participants] == [Y]
    assert ruled(at, Claim(OURS, Verb.RELEASE, 0, 5, granted.fence)).outcome == Outcome.RELEASED
    assert ruled(at, Claim(OURS, Verb.ASK, 16), Sender(Y, 1, THERE)).outcome == Outcome.GRANTED


def test_one_claim_more_is_granted_beside_a_slow_one_and_to_an_older_asker_never(at: AnswersBed) -> None:
    fence = ruled(at, Claim(OURS, Verb.ASK, 0)).fence
    ruled(at, Claim(OURS, Verb.RENEW, 0, 5, fence))
    for reason in (0, 99):
        told = ruled(at, Claim(OURS, Verb.ASK, 0, reason=reason), Sender(Y, 1, THERE))
        assert (told.outcome, told.fence) == (Outcome.WAIT, fence)
    more = ruled(at, Claim(OURS, Verb.ASK, 0, reason=AskReason.SLOW_CLAIMANT), Sender(Y, 1, THERE))
    assert more.outcome == Outcome.GRANTED
    assert [(one.provider.node, one.progress) for one in more.participants] == [(X, 5)]


def test_a_claimant_is_known_as_the_member_that_it_is(at: AnswersBed) -> None:
    at.members.preload([contact(X, 1, HERE, HERE_V6, info=b"role")])
    ruled(at, Claim(OURS, Verb.ASK, 0))
    holder = ruled(at, Claim(OURS, Verb.ASK, 0), Sender(Y)).holder
    assert holder is not None
    assert (holder.provider.endpoints, holder.provider.info) == (pack((HERE, HERE_V6)), b"role")


def test_where_providers_are_known_nothing_is_granted_but_to_who_tried_them(at: AnswersBed) -> None:
    add(at, contact(Y), OURS)
    told = ruled(at, Claim(OURS, Verb.ASK, 16))
    assert (told.outcome, told.fence) == (Outcome.WAIT, None)
    assert [one.node for one in told.providers] == [Y]
    granted = ruled(at, Claim(OURS, Verb.ASK, 0))
    assert (granted.outcome, granted.providers) == (Outcome.GRANTED, [])


def test_a_claimant_that_provides_it_is_not_told_of_himself(at: AnswersBed) -> None:
    add(at, contact(X), OURS)
    assert ruled(at, Claim(OURS, Verb.ASK, 16)).outcome == Outcome.GRANTED


def test_another_arbiter_is_named_unless_it_was_passed_over(at: AnswersBed) -> None:
    near = sorted(at.fill(200), key=lambda one: distance(one.node, KEY))
    add(at, contact(Y), KEY)
    told = ruled(at, Claim(KEY, Verb.ASK, 16))
    assert told.outcome == Outcome.REDIRECT
    assert [one.contact() for one in told.closer] == near[:CLOSER_NAMED_COUNT]
    assert [one.node for one in told.providers] == [Y]
    passed_over = [near[0].node, near[2].node]
    told = ruled(at, Claim(KEY, Verb.ASK, 0, passed_over=passed_over), as_sender(near[1]))
    assert [one.contact() for one in told.closer] == near[3 : 3 + CLOSER_NAMED_COUNT]


def test_who_has_not_joined_rules_on_nothing(at: AnswersBed) -> None:
    assert ruled(at, Claim(OURS, Verb.ASK, 0), is_joined=False).outcome == Outcome.NOT_JOINED
    assert ruled(at, Claim(OURS, Verb.RENEW, 0, 1, FOREIGN), is_joined=False).outcome == Outcome.NOT_JOINED
    assert ruled(at, Claim(OURS, Verb.RELEASE, 0, 1, FOREIGN), is_joined=False).outcome == Outcome.RELEASED


@pytest.mark.parametrize(
    "request_",
    [Claim(OURS, Verb.RENEW, 0), Claim(OURS, Verb.RELEASE, 0), Claim(OURS, 9, 0, 0, FOREIGN)],
)
def test_a_senseless_claim_is_refused(at: AnswersBed, request_: Claim) -> None:
    with pytest.raises(FrameInvalid):
        at.ask(request_, ASKER)


# -- an own contact without an address ----------------------------------------------------------------------------


def test_our_own_contact_is_told_only_with_an_address() -> None:
    at = AnswersBed(without_address(OWN))
    assert page(at).contacts == []
    assert (page(at).more, page(at).count) == (False, 1)
    at.members.own = OWN
    assert [one.contact() for one in page(at).contacts] == [OWN]
