"""What holds of the answer for a tag, whatever other hosts say and their clocks show."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.oci.digest import Digest
from mirror.origin.base import ManifestHead, Probed, Repository, Standing
from mirror.origin.memory import WINDOW_S, Remembered
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.rules import (
    CLOCK_TOLERANCE_S,
    AskedAt,
    Fresh,
    Need,
    Question,
    Refusal,
    Refuse,
    Stale,
    TagPolicy,
    decide,
    needs,
)
from tests.support.examples import examples

NOW_S = 1_800_000_000.0
NAME = TagName(Repository("docker.io", "library/nginx"), "1.27")
DIGESTS = tuple(Digest.of(word) for word in (b"old", b"new", b"other"))
OWN_DIGEST = Digest.of(b"own")
HEAD = ManifestHead(Digest.of(b"fresh"), "application/vnd.oci.image.index.v1+json", 500)
PROBED = tuple(Probed(standing, HEAD if standing is Standing.PUBLIC else None) for standing in Standing)
UNSETTLED = (Probed(Standing.RATE_LIMITED), Probed(Standing.FAILING))
# One example is some 20 us of rules; what would be wrong needs several things together.
thorough = settings(max_examples=examples(300))


times = st.one_of(
    st.floats(NOW_S - 2 * WINDOW_S, NOW_S + 2 * WINDOW_S),
    st.sampled_from(
        [0.0, -1.0, NOW_S, NOW_S + CLOCK_TOLERANCE_S / 2, NOW_S + CLOCK_TOLERANCE_S, float("inf"), 1e300]
    ),
)
sane_times = st.floats(NOW_S - 2 * WINDOW_S, NOW_S)
public_times = st.none() | times


def attestations_of(hosts: st.SearchStrategy[str]) -> st.SearchStrategy[list[Attestation]]:
    return st.lists(st.builds(Attestation, hosts, st.sampled_from(DIGESTS), times, public_times), max_size=8)


anybody = attestations_of(st.sampled_from("abcd"))
liar = attestations_of(st.just("liar"))
honest = st.lists(
    st.builds(
        Attestation, st.sampled_from("abcd"), st.sampled_from(DIGESTS), sane_times, st.none() | sane_times
    ),
    max_size=6,
    unique_by=lambda one: one.host,
)
remembered = st.builds(Remembered, st.booleans(), st.booleans(), st.none() | sane_times)
questions = st.builds(
    Question,
    st.sampled_from(TagPolicy),
    st.sampled_from(AskedAt),
    st.none() | st.builds(OwnTag, st.just(NAME), st.just(OWN_DIGEST), sane_times),
    remembered,
    st.booleans(),
    st.integers(6, 7),
    st.just(NOW_S),
)
upstream = questions.map(
    lambda question: replace(question, policy=TagPolicy.UPSTREAM, asked_at=AskedAt.FALLBACK_HOST)
)
peers = questions.map(lambda question: replace(question, policy=TagPolicy.PEERS))
# Most of what is to be shown shows where the registry fails.
probes = st.sampled_from(PROBED) | st.sampled_from(UNSETTLED)


def _found_public_count(attestations: list[Attestation]) -> int:
    return len(
        {
            one.host
            for one in attestations
            if one.public_at_s is not None and NOW_S - WINDOW_S < one.public_at_s <= NOW_S + CLOCK_TOLERANCE_S
        }
    )


@thorough
@given(upstream, probes, anybody)
def test_nothing_private_is_told_without_being_named(
    question: Question, probed: Probed, attestations: list[Attestation]
) -> None:
    answer = decide(question, probed, attestations)
    if isinstance(answer, Refuse):
        return
    may_be_told = (
        probed.standing is Standing.PUBLIC
        or question.is_stale_allowed
        or question.remembered.is_public_lately
        or _found_public_count(attestations) >= 2
    )
    assert may_be_told
    assert probed.standing in (Standing.PUBLIC, Standing.RATE_LIMITED, Standing.FAILING)


@thorough
@given(upstream, probes, honest, liar)
def test_a_liar_does_not_make_a_repository_public(
    question: Question, probed: Probed, truth: list[Attestation], lies: list[Attestation]
) -> None:
    told = not isinstance(decide(question, probed, [*lies, *truth]), Refuse)
    known = (
        probed.standing is Standing.PUBLIC
        or question.is_stale_allowed
        or question.remembered.is_public_lately
        or _found_public_count(truth) >= 1
    )
    assert known or not told


@thorough
@given(upstream, probes, honest, liar)
def test_a_liar_alone_never_moves_a_tag_under_upstream(
    question: Question, probed: Probed, truth: list[Attestation], lies: list[Attestation]
) -> None:
    answer = decide(question, probed, [*truth, *lies])
    honest_digests = {one.digest for one in truth}
    match answer:
        case Fresh(digest):
            assert digest == HEAD.digest
        case Stale(digest):
            assert digest == OWN_DIGEST if question.own is not None else digest in honest_digests
    without = decide(question, probed, truth)
    if isinstance(without, Stale) and len(honest_digests) == 1:
        assert isinstance(answer, Stale)
        assert answer.digest == without.digest


@thorough
@given(peers, honest, liar)
def test_a_liar_beside_two_hosts_that_agree_moves_no_tag_under_peers(
    question: Question, truth: list[Attestation], lies: list[Attestation]
) -> None:
    without = decide(question, None, truth)
    answer = decide(question, None, [*truth, *lies])
    honest_digests = {one.digest for one in truth}
    if isinstance(without, Stale) and without.witness_count != 1:
        assert isinstance(answer, Stale)
        assert answer.digest in honest_digests | {OWN_DIGEST}
        assert answer.pulled_at_s >= without.pulled_at_s or answer.digest == without.digest


@thorough
@given(questions, probes, honest, liar)
def test_a_time_in_the_future_does_not_win_by_itself(
    question: Question, probed: Probed, truth: list[Attestation], lies: list[Attestation]
) -> None:
    answer = decide(question, probed, [*truth, *lies])
    if not isinstance(answer, Stale):
        return
    assert answer.pulled_at_s <= NOW_S
    said = [one.pulled_at_s for one in truth if one.digest == answer.digest]
    if answer.witness_count >= 2:
        assert answer.pulled_at_s <= max(said)


@thorough
@given(questions, probes, anybody, st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_answer_does_not_matter(
    question: Question, probed: Probed, attestations: list[Attestation], lot: random.Random
) -> None:
    shuffled = list(attestations)
    lot.shuffle(shuffled)
    assert decide(question, probed, shuffled) == decide(question, probed, attestations)


@thorough
@given(questions, st.integers(0, 3), probes, anybody)
def test_what_was_not_wanted_does_not_change_the_answer(
    question: Question, other_hosts_count: int, probed: Probed, attestations: list[Attestation]
) -> None:
    """And two rounds of asking are enough."""
    question = replace(question, other_hosts_count=other_hosts_count)
    heard = [one for one in attestations if one.host in "abcd"[:other_hosts_count]]
    told: Probed | None = None
    attested: list[Attestation] | None = None
    rounds = 0
    while wanted := needs(question, told, attested):
        rounds += 1
        assert rounds <= 2
        told = probed if Need.PROBE in wanted else told
        attested = heard if Need.ATTESTATIONS in wanted else attested
    answer = decide(question, told, attested or ())
    everything = decide(question, probed, heard)
    if isinstance(everything, Refuse):
        # Which of two reasons is told may hang on what was heard.
        assert isinstance(answer, Refuse)
    else:
        assert answer == everything


@thorough
@given(questions, st.none() | probes, anybody)
def test_where_the_policy_forbids_it_nothing_is_asked_and_nothing_told(
    question: Question, probed: Probed | None, attestations: list[Attestation]
) -> None:
    is_first = question.policy is TagPolicy.UPSTREAM and question.asked_at is AskedAt.FIRST_HOST
    if question.policy is TagPolicy.OFF or is_first:
        assert needs(question) == needs(question, probed, attestations) == frozenset()
        why = Refusal.REGISTRY_ANSWERS if is_first else Refusal.POLICY_OFF
        assert decide(question, probed, attestations) == Refuse(why)
