"""The ladder of one digest, rule by rule: claims and steering.

Every hole of the measured cold start that touches it, and where it is closed: a
test of this module, or one named after its file.

 1 claimant dies: waiters paused, one closes      test_hand_over.py: waiters_are_paused_and_one_takes_over
 2 grant to the one who is behind                 test_hand_over.py: who_is_granted_drains_what_the_others_have_first
 3 slow origin, 1 MiB steps                       test_ingest.py: a_step_of_five_seconds_is_life
 4 first byte takes nine seconds                  test_waiters.py: nobody_escapes_while_a_claim_is_alive
 5 slow claimant                                  test_second_claim.py
 6 a body ended by RST                            seams/test_body_endings.py, test_body_spans.py
 7 zero-byte closes, re-ask without Range         test_endings.py: one_body_a_minute_ends_without_a_byte
 8 unverified bytes before a hand-over            test_endings.py: after_a_hand_over_the_ingest_is_judged
 9 discarded layers                               integration/test_discarding_daemons.py, unit/keep/
10 cancelled pull                                 test_a_cancelled_pull_gives_its_claim_back_at_once,
                                                  test_a_pull_tried_again_is_fed_its_own_prefix
11 fallback waiter let through                    test_fallback.py
12 everybody refused                              test_fallback.py: a_refused_digest_is_a_404_at_both_hosts
13 two that wait for each other                   test_waiters.py: a_chain_that_ends_here_is_no_source
14 daemon joining                                 test_waiters.py: a_joining_daemon_asks_for_a_second
15 protected manifest, 401                        test_fallback.py: a_manifest_that_is_not_for_everybody_is_a_404
16 a tag while the origin fails                   unit/tags/, integration/test_tags_real.py
17 ns chooses where to connect                    seams/test_origin_guard.py
18 automatic hosts.toml                           integration/test_first_seen_real.py, unit/containerd/
19, 20 asked twice; error texts                   integration/test_containerd_error_texts.py
21 a frozen daemon                                seams/test_watchdog.py, integration/test_herd_faults.py
22 claims stolen                                  test_a_head_never_claims, test_waiters.py: excluded_is_a_404_at_once
23 false refusals                                 test_fallback.py: a_refusal_counts_while_the_404_is_fresh, and those
                                                  after it
24 origin drops the claimant                      test_a_range_of_the_claimant_renews_once
25 spool in a small pod                           unit/relay/test_spool.py; a full disk: seams/test_herd.py
26 a manifest's ingest lives 5 ms                 conformance/test_ingest_watch.py
27 size == total is not complete                  test_ingest.py: full_size_is_not_committed
28, 29 progress timeout, header timeout           test_timers.py
30 clocks that differ                             seams/test_dht_clocks.py
31 times across arbiters                          unit/dht/test_claims*.py, test_the_fence_travels_with_renewals
32 daemon restarted                               test_a_growing_ingest_is_adopted
33 ports in the NodePort range                    the defaults lie below it: unit/mirror/test_settings_table.py
34 admin on loopback                              unit/admin/
35 captive portal                                 seams/test_herd_portal.py, unit/oci/test_magic.py
36 parallel chunks                                test_every_range_of_the_claimant_is_a_404
37 range claims                                   there are none: a claim has no range
38 user's mirrors                                 unit/containerd/test_hosts_layout.py
39 no fallback host                               test_without_a_fallback_host_a_silent_claim_is_given_back_early
40 cluster of two, partition                      test_waiters.py: an_unreached_arbiter_costs_a_quarter_second
41 first and fallback host at once                test_fallback.py: a_growing_ingest_is_fed_and_no_refusal
42 foreign layers                                 such requests never reach a ladder
43 gone between announce and serve                test_waiters.py: providers_that_failed_are_not_asked_for_again
44 liars                                          integration/test_herd_liars.py, seams/test_herd_meddlers.py
"""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason, ReleaseReason
from mirror.steer.ladder import State
from mirror.steer.timers import (
    HEAD_MAX_S,
    PROVIDED_LATE_S,
    SILENT_MAX_S,
)
from tests.support.steer_host import (
    FENCE,
    GRANTED,
    MIB,
    PENDING,
    PROVIDER,
    WAIT,
    SteerHost,
)


@pytest.fixture
def host() -> SteerHost:
    return SteerHost()


def claimed(host: SteerHost) -> int:
    request = host.ask()
    host.rule(GRANTED)
    assert host.state() is State.CLAIMED
    return request


# -- one claimant a digest ----------------------------------------------------------------------------------------


def test_a_cluster_of_one_answers_in_one_step(host: SteerHost) -> None:
    request = host.ask()
    ordered = [*host.ordered, *host.rule(GRANTED, is_alone=True)]
    kinds = [type(one) for one in ordered if not isinstance(one, do.SetTimer)]
    assert kinds == [do.AskClaim, do.Tail, do.Answer404], "no other event, and no time between"
    assert host.got_404(request)


def test_all_requests_of_a_digest_ask_once(host: SteerHost) -> None:
    requests = [host.ask(start=start) for start in (0, MIB, 2 * MIB)]
    assert len(host.of(do.AskClaim)) == 1
    host.rule(GRANTED)
    assert all(host.got_404(one) for one in requests)


def test_a_head_never_claims(host: SteerHost) -> None:
    head = host.ask(head=True)
    assert host.of(do.AskClaim) == []
    assert host.of(do.FindProviders) == [do.FindProviders()]
    host.tell(on.ProvidersKnown(()))
    assert host.got_404(head)
    assert host.of(do.Tail) == [], "containerd fetches nothing after a HEAD"


def test_a_head_is_answered_from_providers(host: SteerHost) -> None:
    head = host.ask(head=True)
    host.tell(on.ProvidersKnown((PROVIDER,)))
    assert host.was_fed(head)


def test_a_head_is_not_held_for_providers_that_say_nothing(host: SteerHost) -> None:
    """What others know of them may be old, and a pull by digest begins with a HEAD."""
    head = host.ask(head=True)
    host.tell(on.ProvidersKnown((PROVIDER,)))
    host.pass_(HEAD_MAX_S - 0.1)
    assert not host.got_404(head)
    host.pass_(0.2)
    assert host.got_404(head)


def test_a_head_is_a_404_once_those_who_were_named_have_it_no_more(host: SteerHost) -> None:
    host.ask()
    head = host.ask(head=True)
    host.rule(PENDING, providers=(PROVIDER,))
    host.tell(on.SourcesGone())
    assert host.got_404(head)


def test_every_range_of_the_claimant_is_a_404(host: SteerHost) -> None:
    claimed(host)
    for start in (0, MIB, 7 * MIB):
        assert host.got_404(host.ask(start=start))
    host.tell(on.IngestGrew(MIB))
    assert host.got_404(host.ask(start=5 * MIB))
    assert len(host.of(do.AskClaim)) == 1


def test_a_range_of_the_claimant_renews_once(host: SteerHost) -> None:
    """The origin dropped its connection."""
    claimed(host)
    host.tell(on.IngestGrew(3 * MIB))
    host.ask(start=3 * MIB)
    host.rule(GRANTED)
    host.ask(start=3 * MIB)
    assert len(host.of(do.RenewClaim)) == 1


def test_a_claimant_whose_origin_broke_is_fed_if_somebody_is_farther(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(3 * MIB))
    host.progress(3 * MIB, 9 * MIB)
    assert host.was_fed(host.ask(start=3 * MIB))
    host.progress(3 * MIB, 3 * MIB)
    assert host.got_404(host.ask(start=3 * MIB))


def test_the_fence_travels_with_renewals(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    host.pass_ruled(3.0, GRANTED)
    renewals = host.of(do.RenewClaim)
    assert len(renewals) == 3, "as often as a waiter asks"
    assert {one.fence for one in renewals} == {FENCE}
    assert renewals[-1].progress_bytes == MIB


def test_a_lost_claim_is_not_renewed_and_its_download_goes_on(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    host.pass_(1.0)
    host.rule(WAIT)
    assert host.state() is State.GIVEN_UP
    assert host.ladder.is_fed_from_origin
    for grown in range(2, 6):
        host.tell(on.IngestGrew(grown * MIB))
        host.pass_(1.0)
    assert host.question is None


def test_a_claim_that_no_request_needs_is_given_back(host: SteerHost) -> None:
    request = host.ask()
    host.tell(on.Left(request))
    host.rule(GRANTED)
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 0, ReleaseReason.UNUSED)]
    assert host.of(do.Tail) == []
    assert host.ladder.is_idle


def test_a_claim_is_not_used_while_there_are_providers(host: SteerHost) -> None:
    request = host.ask()
    host.rule(GRANTED, (PROVIDER,))
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 0, ReleaseReason.UNUSED)]
    assert host.of(do.StartSwarm) == [do.StartSwarm((PROVIDER,))]
    assert host.was_fed(request)
    assert host.state() is State.FED


def test_the_claim_is_given_back_when_others_find_this_host(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    host.tell(on.Committed())
    assert host.of(do.ReleaseClaim) == []
    host.tell(on.Provided())
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, MIB, ReleaseReason.COMMITTED)]
    assert host.ladder.is_idle


def test_the_claim_is_given_back_though_nobody_says_that_it_is_provided(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.Committed())
    host.pass_(PROVIDED_LATE_S)
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [ReleaseReason.COMMITTED]


def test_a_cancelled_pull_gives_its_claim_back_at_once(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(2 * MIB))
    host.tell(on.IngestVanished())
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 2 * MIB, ReleaseReason.VANISHED)]
    assert not host.ladder.is_fed_from_origin


def test_a_pull_tried_again_is_fed_its_own_prefix(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(2 * MIB))
    host.progress(2 * MIB, 2 * MIB)
    host.tell(on.IngestVanished())
    host.progress(2 * MIB, 2 * MIB, rooted=False)
    request = host.ask()
    host.rule(GRANTED)
    assert host.was_fed(request), "from the descriptor that is kept"
    host.tell(on.Fed(request, MIB))
    host.tell(on.Starved(request, 2 * MIB))
    assert host.was_ended(request)
    assert host.got_404(host.ask(start=2 * MIB))


def test_a_growing_ingest_is_adopted(host: SteerHost) -> None:
    """The daemon was restarted while its containerd was reading."""
    host.tell(on.IngestBorn(9 * MIB))
    host.tell(on.IngestGrew(4 * MIB))
    assert host.ladder.is_fed_from_origin
    assert host.of(do.Tail) == [do.Tail(False)]
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert (question.reason, question.progress_bytes) == (AskReason.FED_ALREADY, 4 * MIB)
    host.rule(GRANTED)
    assert host.state() is State.CLAIMED


def test_what_is_due_is_done_by_whatever_comes_first(host: SteerHost) -> None:
    """Bytes that come, of which nothing else follows, before a timer that is late."""
    claimed(host)
    host.tell(on.IngestBorn(9 * MIB))
    host.tell(on.IngestGrew(MIB))
    host.progress(MIB, MIB)
    assert host.question is None
    assert host.timer_at is not None
    host.now = host.timer_at + 0.01
    host.progress(2 * MIB, 2 * MIB)
    assert isinstance(host.question, do.RenewClaim)
    assert host.question.progress_bytes == 2 * MIB


@pytest.mark.parametrize("late_s", [0.0, 0.25, 5.0])
def test_a_silence_that_is_told_late_ends_no_later(host: SteerHost, late_s: float) -> None:
    request = host.ask()
    host.rule(WAIT)
    host.progress(2 * MIB, 2 * MIB)
    host.tell(on.Fed(request, MIB))
    since = host.now
    host.now += late_s
    host.tell(on.Starved(request, 2 * MIB, since))
    host.pass_ruled(SILENT_MAX_S - late_s - 0.01, WAIT)
    assert not host.was_ended(request)
    host.pass_ruled(0.02, WAIT)
    assert host.was_ended(request)


def test_what_this_host_feeds_is_not_adopted(host: SteerHost) -> None:
    request = host.fed_to(2 * MIB)
    host.tell(on.IngestGrew(MIB))
    host.tell(on.Left(request))
    host.tell(on.IngestGrew(2 * MIB))
    assert not host.ladder.is_fed_from_origin
    assert host.of(do.Tail) == []


def test_without_a_fallback_host_a_silent_claim_is_given_back_early() -> None:
    for has_fallback, given_back in [(True, []), (False, [ReleaseReason.SILENT])]:
        host = SteerHost(has_fallback=has_fallback)
        claimed(host)
        host.pass_ruled(6.0, GRANTED)
        assert [one.reason for one in host.of(do.ReleaseClaim)] == given_back
