"""What is answered for a tag, and what must be asked first. Pure.

A tag is the registry's to answer. Rules

1. `upstream`: the first host refuses always, so that the registry is asked. The fallback host, which is asked when the
   registry refused or failed this host, looks at what the registry says to an anonymous question:
   - it shows the manifest: that digest;
   - it says 429, or fails and answered lately: an older answer, if the repository is known to be public, or the
     operator named it (`--stale-private`). It is known to be public when this host found it so lately, or when two
     other hosts did, later than this host found the contrary. The older answer is this host's own record, else the
     digest that most other hosts attest, and two at least: one host's word alone moves no tag;
   - it refuses, has no such image, never answered lately, or may not be asked: nothing.
   So whatever is told was public, or was named.
2. `peers` (no registry may be within reach): at both hosts, and without asking the registry, the newest of this host's
   own record and the digests that two other hosts or more attest; if there is none, the word of one host that no other
   contradicts. The operator chose to trust the hosts of the cluster, and every tag they hold is told to every host.
3. `off`: nothing.

Other hosts may lie, and clocks may be wrong. A host is heard once. A digest is as new as the second newest of those who
attest it says, so that one more voice makes no digest newer than an honest one; a time in the future is none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mirror.oci.digest import Digest
from mirror.origin.base import Probed, Standing
from mirror.origin.memory import WINDOW_S, Remembered
from mirror.tags.base import Attestation, OwnTag

# How many other hosts must say the same: one of them may lie.
WITNESSES_MIN_COUNT = 2
# How far another host's clock may be ahead: as far as the MAC of a request lets it be.
CLOCK_TOLERANCE_S = 120.0


class TagPolicy(StrEnum):
    UPSTREAM = "upstream"
    PEERS = "peers"
    OFF = "off"


class AskedAt(StrEnum):
    FIRST_HOST = "first"
    FALLBACK_HOST = "fallback"


class Need(StrEnum):
    PROBE = "probe"
    ATTESTATIONS = "attestations"


class Refusal(StrEnum):
    """The value is for the log, the name for a metric."""

    POLICY_OFF = "tags are not answered here: --tags off"
    REGISTRY_ANSWERS = "tags are the registry's to answer"
    REGISTRY_REFUSES = "the registry refuses an anonymous question for it"
    REGISTRY_HAS_NONE = "the registry has no such image, or shows it to nobody"
    REGISTRY_NOT_ASKED = "the registry may not be asked by this daemon"
    REGISTRY_NEVER_REACHED = "the registry fails, and has not answered this host lately"
    NOT_KNOWN_PUBLIC = (
        "the registry fails or limits, and the repository is neither known to be public nor named"
    )
    NO_WITNESS = "neither this host nor two others have a record of it"
    NO_AGREEMENT = "other hosts contradict each other"


class StaleReason(StrEnum):
    """Why an answer is given without the registry's word. The value is for the log, the name for a metric."""

    RATE_LIMITED = "the registry limits the rate"
    FAILING = "the registry fails"
    PEERS_POLICY = "tags are answered by hosts: --tags peers"


@dataclass(frozen=True, slots=True)
class Question:
    """A tag was asked for. `is_stale_allowed`: `--stale-private` names the repository. `other_hosts_count`: how many
    other hosts this one knows, so that nobody waits for witnesses that cannot be. `now_s`: seconds since 1970."""

    policy: TagPolicy
    asked_at: AskedAt
    own: OwnTag | None
    remembered: Remembered
    is_stale_allowed: bool
    other_hosts_count: int
    now_s: float


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the registry says now; the head is with the probe's result."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Stale:
    """What was said earlier. `pulled_at_s` (seconds since 1970; 0: not known): when, as the witnesses say it.
    `witness_count`: how many other hosts attest it; 0: this host's own record."""

    digest: Digest
    pulled_at_s: float
    why: StaleReason
    witness_count: int


@dataclass(frozen=True, slots=True)
class Refuse:
    why: Refusal


Answer = Fresh | Stale | Refuse


def needs(
    question: Question, probed: Probed | None = None, attestations: Sequence[Attestation] | None = None
) -> frozenset[Need]:
    """What must be asked before `decide`, given what was asked already (None: not yet). Ask for it, and ask here again
    until it is empty: two rounds at most, since many an outcome of the probe makes other hosts' words idle."""
    if question.policy is TagPolicy.OFF:
        return frozenset()
    if question.policy is TagPolicy.PEERS:
        return _witnesses(question.other_hosts_count >= 1 and attestations is None)
    if question.asked_at is AskedAt.FIRST_HOST:
        return frozenset()
    if probed is None:
        return frozenset({Need.PROBE})
    if attestations is not None or isinstance(_because(question, probed), Refusal):
        return frozenset()
    is_settled = question.own is not None and _is_told_freely(question)
    return _witnesses(question.other_hosts_count >= WITNESSES_MIN_COUNT and not is_settled)


def decide(question: Question, probed: Probed | None, attestations: Sequence[Attestation] = ()) -> Answer:
    """`probed` and `attestations` as `needs` wanted them; what it did not want does not change the answer. None of a
    probe that was needed counts as a registry that may not be asked."""
    match question.policy:
        case TagPolicy.OFF:
            return Refuse(Refusal.POLICY_OFF)
        case TagPolicy.PEERS:
            return _by_peers(question, attestations)
        case TagPolicy.UPSTREAM:
            return _by_upstream(question, probed, attestations)


def _by_upstream(question: Question, probed: Probed | None, attestations: Sequence[Attestation]) -> Answer:
    if question.asked_at is AskedAt.FIRST_HOST:
        return Refuse(Refusal.REGISTRY_ANSWERS)
    if probed is None:
        return Refuse(Refusal.REGISTRY_NOT_ASKED)
    if probed.standing is Standing.PUBLIC and probed.head is not None:
        return Fresh(probed.head.digest)
    why = _because(question, probed)
    if isinstance(why, Refusal):
        return Refuse(why)
    heard = _heard(attestations)
    if not (_is_told_freely(question) or _is_attested_public(question, heard)):
        return Refuse(Refusal.NOT_KNOWN_PUBLIC)
    if question.own is not None:
        return _own(question.own, question.now_s, why)
    witnessed = [one for one in _by_digest(heard, question.now_s) if one.count >= WITNESSES_MIN_COUNT]
    if not witnessed:
        return Refuse(Refusal.NO_WITNESS)
    best = max(witnessed, key=lambda one: (one.count, one.pulled_at_s, one.digest))
    return Stale(best.digest, best.pulled_at_s, why, best.count)


def _by_peers(question: Question, attestations: Sequence[Attestation]) -> Answer:
    why = StaleReason.PEERS_POLICY
    known = _by_digest(_heard(attestations), question.now_s)
    answers = [
        Stale(one.digest, one.pulled_at_s, why, one.count)
        for one in known
        if one.count >= WITNESSES_MIN_COUNT
    ]
    if question.own is not None:
        answers.append(_own(question.own, question.now_s, why))
    if not answers and len(known) == 1:
        answers.append(Stale(known[0].digest, known[0].pulled_at_s, why, known[0].count))
    if answers:
        # Among equals this host's own record, then most hosts.
        return max(
            answers,
            key=lambda one: (one.pulled_at_s, one.witness_count == 0, one.witness_count, one.digest),
        )
    return Refuse(Refusal.NO_AGREEMENT if known else Refusal.NO_WITNESS)


def _because(question: Question, probed: Probed) -> StaleReason | Refusal:
    """Why an older answer may be given, or may not, as far as the registry's answer decides it."""
    match probed.standing:
        case Standing.RATE_LIMITED:
            return StaleReason.RATE_LIMITED
        case Standing.FAILING if question.remembered.was_reached_lately:
            return StaleReason.FAILING
        case Standing.FAILING:
            return Refusal.REGISTRY_NEVER_REACHED
        case Standing.REFUSED:
            return Refusal.REGISTRY_REFUSES
        case Standing.ABSENT:
            return Refusal.REGISTRY_HAS_NONE
        case Standing.PUBLIC | Standing.NOT_ASKED:
            return Refusal.REGISTRY_NOT_ASKED


def _is_told_freely(question: Question) -> bool:
    """Without asking other hosts."""
    return question.remembered.is_public_lately or question.is_stale_allowed


def _is_attested_public(question: Question, heard: Iterable[Attestation]) -> bool:
    since_s = question.now_s - WINDOW_S
    if question.remembered.private_at_s is not None:
        since_s = max(since_s, question.remembered.private_at_s)
    until_s = question.now_s + CLOCK_TOLERANCE_S
    found = [one for one in heard if one.public_at_s is not None and since_s < one.public_at_s <= until_s]
    return len(found) >= WITNESSES_MIN_COUNT


@dataclass(frozen=True, slots=True)
class _Witnessed:
    digest: Digest
    count: int
    # The second newest of what the witnesses say; the word of a single one as it is.
    pulled_at_s: float


def _heard(attestations: Iterable[Attestation]) -> list[Attestation]:
    """One of each host, its newest word, whatever the order in which they came."""
    heard: dict[str, Attestation] = {}
    for one in attestations:
        other = heard.get(one.host)
        if other is None or _rank(other) < _rank(one):
            heard[one.host] = one
    return list(heard.values())


def _rank(one: Attestation) -> tuple[float, Digest, float]:
    return one.pulled_at_s, one.digest, one.public_at_s or 0.0


def _by_digest(heard: Iterable[Attestation], now_s: float) -> list[_Witnessed]:
    times: dict[Digest, list[float]] = {}
    for one in heard:
        times.setdefault(one.digest, []).append(_believed_s(one.pulled_at_s, now_s))
    return [
        _Witnessed(digest, len(said), sorted(said, reverse=True)[min(1, len(said) - 1)])
        for digest, said in times.items()
    ]


def _believed_s(pulled_at_s: float, now_s: float) -> float:
    return min(pulled_at_s, now_s) if 0.0 <= pulled_at_s <= now_s + CLOCK_TOLERANCE_S else 0.0


def _own(own: OwnTag, now_s: float, why: StaleReason) -> Stale:
    """This host does not lie to itself: a clock that went back makes its record new, not unknown."""
    return Stale(own.digest, min(own.pulled_at_s, now_s), why, 0)


def _witnesses(are_needed: bool) -> frozenset[Need]:
    return frozenset({Need.ATTESTATIONS}) if are_needed else frozenset()
