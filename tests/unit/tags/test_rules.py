"""What is answered for a tag, and what is asked before: tables of the cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from mirror.oci.digest import Digest
from mirror.origin.base import ManifestHead, Probed, Repository, Standing
from mirror.origin.memory import WINDOW_S, Remembered
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.rules import (
    CLOCK_TOLERANCE_S,
    Answer,
    AskedAt,
    Fresh,
    Need,
    Question,
    Refusal,
    Refuse,
    Stale,
    StaleReason,
    TagPolicy,
    decide,
    needs,
)

NOW_S = 1_800_000_000.0
NAME = TagName(Repository("docker.io", "library/nginx"), "1.27")
OLD, NEW, OTHER = (Digest.of(word) for word in (b"old", b"new", b"other"))
OWN_DIGEST = Digest.of(b"own")
OWN = OwnTag(NAME, OWN_DIGEST, NOW_S - 5000)
HEAD = ManifestHead(Digest.of(b"fresh"), "application/vnd.oci.image.index.v1+json", 500)

PUBLIC = Probed(Standing.PUBLIC, HEAD)
REFUSED = Probed(Standing.REFUSED)
ABSENT = Probed(Standing.ABSENT)
LIMITED = Probed(Standing.RATE_LIMITED)
FAILING = Probed(Standing.FAILING)
NOT_ASKED = Probed(Standing.NOT_ASKED)
ALL = (PUBLIC, REFUSED, ABSENT, LIMITED, FAILING, NOT_ASKED)

KNOWN_PUBLIC = Remembered(was_reached_lately=True, is_public_lately=True, private_at_s=None)
REACHED = Remembered(was_reached_lately=True, is_public_lately=False, private_at_s=None)
UNKNOWN = Remembered(was_reached_lately=False, is_public_lately=False, private_at_s=None)
ASKED = Question(TagPolicy.UPSTREAM, AskedAt.FALLBACK_HOST, None, KNOWN_PUBLIC, False, 9, NOW_S)


def says(host: str, digest: Digest, age_s: float, public_age_s: float | None = None) -> Attestation:
    return Attestation(host, digest, NOW_S - age_s, None if public_age_s is None else NOW_S - public_age_s)


TWO_NEW = (says("a", NEW, 100), says("b", NEW, 200))
ALL_PUBLIC = tuple(replace(one, public_at_s=NOW_S - 60) for one in TWO_NEW)


@dataclass(frozen=True)
class Case:
    name: str
    question: Question
    probed: Probed | None
    attestations: tuple[Attestation, ...]
    answer: Answer


def _refused(why: Refusal) -> Refuse:
    return Refuse(why)


CASES = (
    Case(
        "the registry shows it",
        ASKED,
        PUBLIC,
        TWO_NEW,
        Fresh(HEAD.digest),
    ),
    Case(
        "the registry shows it, whatever this host has and knows",
        replace(ASKED, own=OWN, remembered=UNKNOWN),
        PUBLIC,
        (),
        Fresh(HEAD.digest),
    ),
    Case(
        "429: own record before what others say",
        replace(ASKED, own=OWN),
        LIMITED,
        TWO_NEW,
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.RATE_LIMITED, 0),
    ),
    Case(
        "429 says that it was reached",
        replace(ASKED, own=OWN, remembered=replace(UNKNOWN, is_public_lately=True)),
        LIMITED,
        (),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.RATE_LIMITED, 0),
    ),
    Case(
        "fails: own record",
        replace(ASKED, own=OWN),
        FAILING,
        (),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.FAILING, 0),
    ),
    Case(
        "fails, never reached",
        replace(ASKED, own=OWN, remembered=replace(UNKNOWN, is_public_lately=True)),
        FAILING,
        ALL_PUBLIC,
        _refused(Refusal.REGISTRY_NEVER_REACHED),
    ),
    Case(
        "a tag that was never public, 429",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        TWO_NEW,
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "named by --stale-private",
        replace(ASKED, own=OWN, remembered=REACHED, is_stale_allowed=True),
        FAILING,
        (),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.FAILING, 0),
    ),
    Case(
        "named, but never reached",
        replace(ASKED, own=OWN, remembered=UNKNOWN, is_stale_allowed=True),
        FAILING,
        (),
        _refused(Refusal.REGISTRY_NEVER_REACHED),
    ),
    Case(
        "two others found it public: own record",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        ALL_PUBLIC,
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.RATE_LIMITED, 0),
    ),
    Case(
        "two others found it public and attest it",
        replace(ASKED, remembered=REACHED),
        LIMITED,
        ALL_PUBLIC,
        Stale(NEW, NOW_S - 200, StaleReason.RATE_LIMITED, 2),
    ),
    Case(
        "one other found it public",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        (ALL_PUBLIC[0], TWO_NEW[1]),
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "one other says twice that it found it public",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        (says("a", NEW, 100, 60), says("a", OLD, 90, 50)),
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "two others found it public too long ago",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        (says("a", NEW, 100, WINDOW_S), says("b", NEW, 100, WINDOW_S + 1)),
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "two others found it public in the future",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        (says("a", NEW, 100, -CLOCK_TOLERANCE_S - 1), says("b", NEW, 100, -WINDOW_S)),
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "two others with clocks a little ahead",
        replace(ASKED, own=OWN, remembered=REACHED),
        LIMITED,
        (says("a", NEW, 100, -CLOCK_TOLERANCE_S), says("b", NEW, 100, -1)),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.RATE_LIMITED, 0),
    ),
    Case(
        "two others found it public before this host found that it is not",
        replace(ASKED, own=OWN, remembered=replace(REACHED, private_at_s=NOW_S - 30)),
        LIMITED,
        ALL_PUBLIC,
        _refused(Refusal.NOT_KNOWN_PUBLIC),
    ),
    Case(
        "two others found it public after this host found that it is not",
        replace(ASKED, own=OWN, remembered=replace(REACHED, private_at_s=NOW_S - 90)),
        LIMITED,
        ALL_PUBLIC,
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.RATE_LIMITED, 0),
    ),
    Case(
        "no record anywhere",
        ASKED,
        LIMITED,
        (),
        _refused(Refusal.NO_WITNESS),
    ),
    Case(
        "one other host's word",
        ASKED,
        FAILING,
        (says("a", NEW, 100),),
        _refused(Refusal.NO_WITNESS),
    ),
    Case(
        "one other host's word, twice",
        ASKED,
        FAILING,
        (says("a", NEW, 100), says("a", NEW, 90)),
        _refused(Refusal.NO_WITNESS),
    ),
    Case(
        "a host that changed its word is heard once, with its newest",
        ASKED,
        FAILING,
        (says("a", OLD, 500), says("a", NEW, 100), says("b", OLD, 400), says("c", NEW, 300)),
        Stale(NEW, NOW_S - 300, StaleReason.FAILING, 2),
    ),
    Case(
        "each other host says something else",
        ASKED,
        FAILING,
        (says("a", NEW, 100), says("b", OLD, 90)),
        _refused(Refusal.NO_WITNESS),
    ),
    Case(
        "most hosts before the newest",
        ASKED,
        FAILING,
        (*TWO_NEW, says("c", OLD, 900), says("d", OLD, 800), says("e", OLD, 700)),
        Stale(OLD, NOW_S - 800, StaleReason.FAILING, 3),
    ),
    Case(
        "as many hosts each: the newest",
        ASKED,
        FAILING,
        (*TWO_NEW, says("c", OLD, 900), says("d", OLD, 800)),
        Stale(NEW, NOW_S - 200, StaleReason.FAILING, 2),
    ),
    Case(
        "as many hosts each: one newest voice is not enough",
        ASKED,
        FAILING,
        (*TWO_NEW, says("c", OLD, 900), says("liar", OLD, 0)),
        Stale(NEW, NOW_S - 200, StaleReason.FAILING, 2),
    ),
    Case(
        "two hosts in the future are as old as can be",
        ASKED,
        FAILING,
        (
            *TWO_NEW,
            says("c", OLD, -CLOCK_TOLERANCE_S - 1),
            says("d", OLD, -WINDOW_S),
        ),
        Stale(NEW, NOW_S - 200, StaleReason.FAILING, 2),
    ),
    Case(
        "two hosts a little ahead say now",
        ASKED,
        FAILING,
        (*TWO_NEW, says("c", OLD, -CLOCK_TOLERANCE_S), says("d", OLD, -1)),
        Stale(OLD, NOW_S, StaleReason.FAILING, 2),
    ),
    Case(
        "an own record of before the clock went back is of now",
        replace(ASKED, own=replace(OWN, pulled_at_s=NOW_S + 1e6)),
        FAILING,
        (),
        Stale(OWN_DIGEST, NOW_S, StaleReason.FAILING, 0),
    ),
    Case(
        "--tags peers: own record alone",
        replace(ASKED, policy=TagPolicy.PEERS, own=OWN, remembered=UNKNOWN),
        None,
        (),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.PEERS_POLICY, 0),
    ),
    Case(
        "--tags peers: two hosts are newer than the own record",
        replace(ASKED, policy=TagPolicy.PEERS, own=OWN),
        None,
        TWO_NEW,
        Stale(NEW, NOW_S - 200, StaleReason.PEERS_POLICY, 2),
    ),
    Case(
        "--tags peers: the own record is newer than two hosts",
        replace(ASKED, policy=TagPolicy.PEERS, own=OWN),
        None,
        (says("a", OLD, 6000), says("b", OLD, 7000)),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.PEERS_POLICY, 0),
    ),
    Case(
        "--tags peers: one host's word does not move the own record",
        replace(ASKED, policy=TagPolicy.PEERS, own=OWN),
        None,
        (says("a", NEW, 10),),
        Stale(OWN_DIGEST, OWN.pulled_at_s, StaleReason.PEERS_POLICY, 0),
    ),
    Case(
        "--tags peers: the newest before most hosts",
        replace(ASKED, policy=TagPolicy.PEERS),
        None,
        (*TWO_NEW, says("c", OLD, 900), says("d", OLD, 800), says("e", OLD, 700)),
        Stale(NEW, NOW_S - 200, StaleReason.PEERS_POLICY, 2),
    ),
    Case(
        "--tags peers: one host's word that nobody contradicts",
        replace(ASKED, policy=TagPolicy.PEERS, asked_at=AskedAt.FIRST_HOST),
        None,
        (says("a", NEW, 100),),
        Stale(NEW, NOW_S - 100, StaleReason.PEERS_POLICY, 1),
    ),
    Case(
        "--tags peers: single words that contradict each other",
        replace(ASKED, policy=TagPolicy.PEERS),
        None,
        (says("a", NEW, 100), says("b", OLD, 100)),
        _refused(Refusal.NO_AGREEMENT),
    ),
    Case(
        "--tags peers: nobody knows it",
        replace(ASKED, policy=TagPolicy.PEERS),
        None,
        (),
        _refused(Refusal.NO_WITNESS),
    ),
    *(
        Case(
            f"{probed.standing.value}: never, even if named",
            replace(ASKED, own=OWN, is_stale_allowed=True),
            probed,
            ALL_PUBLIC,
            _refused(why),
        )
        for probed, why in (
            (REFUSED, Refusal.REGISTRY_REFUSES),
            (ABSENT, Refusal.REGISTRY_HAS_NONE),
            (NOT_ASKED, Refusal.REGISTRY_NOT_ASKED),
        )
    ),
    *(
        Case(
            f"the first host, {probed.standing.value}",
            replace(ASKED, asked_at=AskedAt.FIRST_HOST, own=OWN, is_stale_allowed=True),
            probed,
            ALL_PUBLIC,
            _refused(Refusal.REGISTRY_ANSWERS),
        )
        for probed in ALL
    ),
    *(
        Case(
            f"--tags off, {asked_at.value} host",
            replace(ASKED, policy=TagPolicy.OFF, asked_at=asked_at, own=OWN, is_stale_allowed=True),
            PUBLIC,
            ALL_PUBLIC,
            _refused(Refusal.POLICY_OFF),
        )
        for asked_at in AskedAt
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_answer(case: Case) -> None:
    assert decide(case.question, case.probed, case.attestations) == case.answer


def test_a_probe_that_was_needed_and_is_missing_tells_nothing() -> None:
    question = replace(ASKED, own=OWN, is_stale_allowed=True)
    assert decide(question, None, ALL_PUBLIC) == Refuse(Refusal.REGISTRY_NOT_ASKED)


PROBE, WITNESSES = frozenset({Need.PROBE}), frozenset({Need.ATTESTATIONS})
NOTHING: frozenset[Need] = frozenset()


@pytest.mark.parametrize(
    ("question", "probed", "wanted"),
    [
        (ASKED, None, PROBE),
        (ASKED, PUBLIC, NOTHING),
        (ASKED, REFUSED, NOTHING),
        (ASKED, ABSENT, NOTHING),
        (ASKED, NOT_ASKED, NOTHING),
        (ASKED, LIMITED, WITNESSES),
        (ASKED, FAILING, WITNESSES),
        (replace(ASKED, remembered=UNKNOWN), FAILING, NOTHING),
        (replace(ASKED, own=OWN), LIMITED, NOTHING),
        (replace(ASKED, own=OWN, remembered=REACHED), LIMITED, WITNESSES),
        (replace(ASKED, own=OWN, remembered=REACHED, is_stale_allowed=True), LIMITED, NOTHING),
        (replace(ASKED, other_hosts_count=1), LIMITED, NOTHING),
        (replace(ASKED, asked_at=AskedAt.FIRST_HOST), None, NOTHING),
        (replace(ASKED, policy=TagPolicy.OFF), None, NOTHING),
        (replace(ASKED, policy=TagPolicy.PEERS), None, WITNESSES),
        (replace(ASKED, policy=TagPolicy.PEERS, own=OWN), None, WITNESSES),
        (replace(ASKED, policy=TagPolicy.PEERS, asked_at=AskedAt.FIRST_HOST), None, WITNESSES),
        (replace(ASKED, policy=TagPolicy.PEERS, other_hosts_count=1), None, WITNESSES),
        (replace(ASKED, policy=TagPolicy.PEERS, other_hosts_count=0), None, NOTHING),
    ],
)
def test_no_more_is_asked_than_the_answer_hangs_on(
    question: Question, probed: Probed | None, wanted: frozenset[Need]
) -> None:
    assert needs(question, probed) == wanted
    assert needs(question, probed, ()) == wanted - WITNESSES
