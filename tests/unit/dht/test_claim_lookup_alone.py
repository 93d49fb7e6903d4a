"""Whom a claim is asked of where nobody at all is heard. The key is zero, so a node's id is its distance."""

from __future__ import annotations

from collections.abc import Sequence

from dht.claims.lookup import Probe, Reason, Undecided
from dht.lookup.lookup import Answered, Timer
from dht.silence import Silence
from tests.support.claim_lookup_steps import CLAIM_HEDGE_S, DEADLINE_S, OWN, claimed, grant, lookup, ruled
from tests.support.lookup_steps import PARAMS, node

UNHEARD_S = PARAMS.claim_unheard_s


def probed(commands: Sequence[object]) -> list[int]:
    (probe,) = (one for one in commands if isinstance(one, Probe))
    return [int.from_bytes(contact.node, "big") for contact in probe.contacts]


def silent(now: float) -> Silence:
    """Somebody was asked then, and nobody heard since."""
    silence = Silence()
    silence.asked(now)
    return silence


def test_all_others_are_probed_when_the_first_is_late_and_nobody_else_is_heard() -> None:
    silence = silent(0.0)
    made = lookup(1, 2, 3, OWN, lively=[1, 2, 3], silence=silence)
    made.start(0.0)
    assert made.next_timer() == CLAIM_HEDGE_S
    commands = made.handle(Timer(), CLAIM_HEDGE_S)
    assert probed(commands) == [2, 3]
    assert claimed(commands) == [(1, [])], "the datagram may have been lost"


def test_when_none_of_them_answers_the_own_node_is_asked() -> None:
    silence = silent(0.0)
    made = lookup(1, 2, 3, OWN, lively=[1, 2, 3], silence=silence)
    made.start(0.0)
    made.handle(Timer(), CLAIM_HEDGE_S)
    silence.probed(CLAIM_HEDGE_S)
    assert made.next_timer() == CLAIM_HEDGE_S + UNHEARD_S
    assert claimed(made.handle(Timer(), CLAIM_HEDGE_S + UNHEARD_S)) == [(OWN, [1, 2, 3])]


def test_the_next_lookup_waits_for_nobody_but_asks_one() -> None:
    silence = silent(0.0)
    silence.probed(0.1)
    made = lookup(1, 2, OWN, silence=silence)
    assert claimed(made.start(1.0)) == [(1, []), (OWN, [1, 2])]


def test_a_nearer_one_that_is_there_after_all_rules() -> None:
    silence = silent(0.0)
    silence.probed(0.1)
    made = lookup(1, OWN, silence=silence)
    made.start(1.0)
    assert made.handle(ruled(1, grant(1)), 1.01)
    assert made.is_finished


def test_any_answer_ends_the_silence_for_a_lookup() -> None:
    """One of the probed answers: the nearest is waited for as ever, though nobody else is heard later."""
    silence = silent(0.0)
    made = lookup(1, 2, OWN, lively=[1, 2], silence=silence)
    made.start(0.0)
    made.handle(Timer(), CLAIM_HEDGE_S)
    made.handle(Answered(node(2), (), ()), CLAIM_HEDGE_S + 0.01)
    silence.heard(0.0)
    silence.asked(CLAIM_HEDGE_S + 0.02)
    silence.probed(CLAIM_HEDGE_S + 0.02)
    assert made.next_timer() == DEADLINE_S / 2


def test_where_only_the_first_was_asked_nobody_takes_himself_for_alone() -> None:
    """It may be the only dead one: the others are probed first."""
    made = lookup(1, 2, OWN, lively=[1, 2], silence=silent(0.0))
    commands = made.start(5.0)
    assert probed(commands) == [1, 2]
    assert claimed(commands) == [(1, [])]


def test_who_may_not_rule_gives_up() -> None:
    """It has not joined yet."""
    silence = silent(0.0)
    silence.probed(0.1)
    made = lookup(1, 2, silence=silence)
    assert made.start(1.0)[-1] == Undecided(Reason.SILENT, 1, 0)


def test_silence_begins_with_the_first_request_and_ends_with_any_word() -> None:
    silence = Silence()
    assert (silence.since, silence.probed_since) == (None, None)
    silence.asked(1.0)
    silence.asked(2.0)
    silence.probed(2.0)
    silence.probed(3.0)
    assert (silence.since, silence.probed_since) == (1.0, 2.0)
    silence.heard(4.0)
    assert (silence.heard_at, silence.since, silence.probed_since) == (4.0, None, None)


def test_a_node_is_alone_when_those_it_probed_had_their_time() -> None:
    silence = silent(1.0)
    assert silence.alone_at(UNHEARD_S) is None, "the others were not asked"
    silence.probed(1.5)
    assert silence.alone_at(UNHEARD_S) == 1.5 + UNHEARD_S
    silence.heard(1.6)
    assert silence.alone_at(UNHEARD_S) is None
