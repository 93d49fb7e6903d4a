"""Which of this host's repositories anybody may read, as far as is known, and when to find out again. Pure.

Rules
1. A repository is public from this host's own finding on, or from that of two other hosts, for `WINDOW_S`. Hearsay
   holds only until this host finds the contrary.
2. Hearsay is passed on with its first time, which is the second newest that was told: so it never grows younger, and as
   long as one host lies and no more, somebody honest did find what is told.
3. A finding is looked for when there is none of the last `FRESH_S`; the first time after a pause drawn at random, so
   that of the hosts that pulled one image together a few ask the registry and the others hear it from them.
4. What grows old while many hosts still say it is renewed by a few of them, drawn at random each hour: the registry is
   asked by some hosts in a hundred and not by all.
5. A registry that did not say is asked again soon, one that refused after a day.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable

from mirror.origin.base import Repository, Standing
from mirror.origin.memory import WINDOW_S, OriginMemory
from mirror.tags.base import Attestation
from mirror.tags.rules import CLOCK_TOLERANCE_S, WITNESSES_MIN_COUNT

# A seventh of the window: six more days for a registry that is away.
FRESH_S = 24 * 3600.0
# The pause before the first question. The pull's own requests are over by then; a minute spreads a rollout.
FIRST_MIN_S = 5.0
FIRST_MAX_S = 60.0
# 429, 5xx or no answer: a registry limits by the hour or so, and outages end.
SOON_S = 15 * 60.0
# No such tag: it may have been deleted at the registry since, and another one is there now. Or the registry could not
# be asked, and other hosts may know by then.
LATER_S = 3600.0
# Below this age, a finding of which `MANY_COUNT` hosts speak is renewed in one turn of `RENEWERS_EVERY`. A turn is an
# hour: by this age almost every host has renewed it, or heard of who did.
RENEW_BY_S = 3 * FRESH_S
MANY_COUNT = 4
RENEWERS_EVERY = 8
# All of these are stretched by up to this part, so that hosts that began together drift apart.
STRETCH_MAX = 0.2


class Publicity:
    """`now_s` is seconds since 1970, `now` monotonic seconds."""

    def __init__(self, memory: OriginMemory, rng: random.Random) -> None:
        self._memory = memory
        self._rng = rng
        self._due_at: dict[Repository, float] = {}
        # The second newest of what other hosts say: of two, one may lie.
        self._heard_at_s: dict[Repository, float] = {}

    def public_at_s(self, repository: Repository, now_s: float) -> float | None:
        """When it was found public, by whomever; None: not within the window, or not public since."""
        found_at_s = self._memory.public_at_s(repository, now_s)
        heard_at_s = self._heard_at_s.get(repository)
        if heard_at_s is None or not now_s - WINDOW_S < heard_at_s <= now_s + CLOCK_TOLERANCE_S:
            return found_at_s
        private_at_s = self._memory.recall(repository, now_s).private_at_s
        if private_at_s is not None and private_at_s >= heard_at_s:
            return found_at_s
        return heard_at_s if found_at_s is None else max(found_at_s, heard_at_s)

    def is_public(self, repository: Repository, now_s: float) -> bool:
        return self.public_at_s(repository, now_s) is not None

    def is_fresh(self, repository: Repository, now_s: float) -> bool:
        """Not so old that it should be looked for anew."""
        public_at_s = self.public_at_s(repository, now_s)
        return public_at_s is not None and now_s - public_at_s < FRESH_S

    def hear(self, repository: Repository, attestations: Iterable[Attestation], now_s: float) -> None:
        """What other hosts say of their own findings; one word of each host counts."""
        said: dict[str, float] = {}
        for one in attestations:
            if one.public_at_s is not None and one.public_at_s <= now_s + CLOCK_TOLERANCE_S:
                said[one.host] = max(said.get(one.host, 0.0), one.public_at_s)
        if len(said) >= WITNESSES_MIN_COUNT:
            heard_at_s = sorted(said.values(), reverse=True)[WITNESSES_MIN_COUNT - 1]
            self._heard_at_s[repository] = max(heard_at_s, self._heard_at_s.get(repository, 0.0))

    def leaves_it_to_others(
        self, repository: Repository, attestations: Collection[Attestation], now_s: float
    ) -> bool:
        """Whether this time the registry need not be asked for what grows old: it draws."""
        public_at_s = self.public_at_s(repository, now_s)
        if public_at_s is None or not FRESH_S <= now_s - public_at_s <= RENEW_BY_S:
            return False
        speaking = {one.host for one in attestations if one.public_at_s is not None}
        return len(speaking) >= MANY_COUNT and self._rng.randrange(RENEWERS_EVERY) != 0

    def keep(self, repositories: Collection[Repository], now: float) -> None:
        """These are to be known about, and no others."""
        for gone in self._due_at.keys() - set(repositories):
            del self._due_at[gone]
            self._heard_at_s.pop(gone, None)
        for repository in repositories:
            if repository not in self._due_at:
                self._due_at[repository] = now + self._rng.uniform(FIRST_MIN_S, FIRST_MAX_S)

    def due(self, now: float) -> Repository | None:
        """The one that has waited longest for a question."""
        repository = min(self._due_at, key=self._due_at.__getitem__, default=None)
        return repository if repository is not None and self._due_at[repository] <= now else None

    def next_due_at(self) -> float | None:
        return min(self._due_at.values(), default=None)

    def asked(self, repository: Repository, standing: Standing | None, now: float) -> None:
        """A question is over. `standing` None: it is known, and there was none."""
        match standing:
            case Standing.RATE_LIMITED | Standing.FAILING:
                pause_s = SOON_S
            case Standing.ABSENT | Standing.NOT_ASKED:
                pause_s = LATER_S
            case _:
                pause_s = FRESH_S
        if repository in self._due_at:
            self._due_at[repository] = now + pause_s * self._rng.uniform(1.0, 1.0 + STRETCH_MAX)
