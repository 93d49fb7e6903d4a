"""What is remembered of origins: which registries answered lately, and which repositories anybody may read. Pure.

Rules
1. A registry that answered at all was reached: also by a 401, 404 or 429. One that failed or was not asked was not.
2. A repository is public from the anonymous answer that showed it until the first that refuses it. A 404 for a
   reference that had been found public ends it too, since some registries hide so what is private; a 404 for any other
   reference may be a slip of the pen, and says nothing.
3. Ages never shrink. A wall clock that goes back takes all findings back with it, so that none lives longer for it; one
   that goes forward makes them older than they are, which costs an answer and tells nobody a thing.

All times in and out are seconds since 1970 by this host's clock as it is at the call.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from mirror.origin.base import Repository, Standing

# How old a finding may be and still speak for a registry that is away now: a long outage, and a week's holiday.
WINDOW_S: Final = 7 * 24 * 3600.0
# Of more, those with the oldest finding are forgotten. A host pulls from a handful of registries and some hundred
# repositories; what strangers invent is refused, and must not push out what was found public.
REGISTRIES_MAX_COUNT: Final = 256
PUBLIC_MAX_COUNT: Final = 4096
PRIVATE_MAX_COUNT: Final = 1024
# Of each repository, the references that were last found public: as many tags of one name as a host has at a time.
REFERENCES_MAX_COUNT: Final = 4

_ANSWERS: Final = frozenset({Standing.PUBLIC, Standing.REFUSED, Standing.ABSENT, Standing.RATE_LIMITED})

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one repository now. `private_at_s`: when it was last found not public, if that was within the
    window and it was not found public since."""

    was_reached_lately: bool
    is_public_lately: bool
    private_at_s: float | None


@dataclass(frozen=True, slots=True)
class FoundPublic:
    """`references`: those that showed it last, the newest at the end."""

    at_s: float
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it, to be kept over a restart. Each mapping has the oldest first, and no time after `saved_at_s`. A
    repository stands in one of the last two at most."""

    saved_at_s: float
    reached_at_s: Mapping[str, float] = field(default_factory=dict)
    public: Mapping[Repository, FoundPublic] = field(default_factory=dict)
    private_at_s: Mapping[Repository, float] = field(default_factory=dict)


class OriginMemory:
    """Starts with `findings`, as an earlier process left them. `changes_count` grows with all that is worth keeping."""

    def __init__(
        self, findings: Findings | None = None, now_s: float = 0.0, window_s: float = WINDOW_S
    ) -> None:
        self._window_s = window_s
        # Inside, all times are on a clock that never goes back: the wall clock and all it ever went back.
        self._latest_s = 0.0
        self._went_back_s = 0.0
        self._reached_at_s: dict[str, float] = {}
        self._public: dict[Repository, FoundPublic] = {}
        self._private_at_s: dict[Repository, float] = {}
        self.changes_count = 0
        if findings is not None:
            self._latest_s = findings.saved_at_s
            self._reached_at_s.update(findings.reached_at_s)
            self._public.update(findings.public)
            self._private_at_s.update(findings.private_at_s)
            self._now(now_s)

    def reached(self, registry: str, now_s: float) -> None:
        """It answered below 500, whatever it said and whoever asked."""
        _put(self._reached_at_s, registry, self._now(now_s), REGISTRIES_MAX_COUNT)
        self.changes_count += 1

    def note(self, repository: Repository, reference: str, standing: Standing, now_s: float) -> None:
        """What an anonymous question for `reference` (a tag or a digest) showed."""
        if standing not in _ANSWERS:
            return
        self.reached(repository.registry, now_s)
        at_s = self._now(now_s)
        found = self._public.get(repository)
        references = () if found is None else found.references
        if standing is Standing.PUBLIC:
            others = tuple(one for one in references if one != reference)
            kept = (*others[-(REFERENCES_MAX_COUNT - 1) :], reference)
            self._private_at_s.pop(repository, None)
            _put(self._public, repository, FoundPublic(at_s, kept), PUBLIC_MAX_COUNT)
        elif standing is Standing.REFUSED or (standing is Standing.ABSENT and reference in references):
            self._public.pop(repository, None)
            _put(self._private_at_s, repository, at_s, PRIVATE_MAX_COUNT)

    def was_reached_lately(self, registry: str, now_s: float) -> bool:
        return self._is_lately(self._reached_at_s.get(registry), now_s)

    def is_public_lately(self, repository: Repository, now_s: float) -> bool:
        return self.public_at_s(repository, now_s) is not None

    def public_at_s(self, repository: Repository, now_s: float) -> float | None:
        """When it was last found public; None: not within the window, or found not public since."""
        found = self._public.get(repository)
        return self._told_s(None if found is None else found.at_s, now_s)

    def recall(self, repository: Repository, now_s: float) -> Remembered:
        return Remembered(
            self.was_reached_lately(repository.registry, now_s),
            self.is_public_lately(repository, now_s),
            self._told_s(self._private_at_s.get(repository), now_s),
        )

    def findings(self, now_s: float) -> Findings:
        """A copy; what is older than the window is left out."""
        at_s = self._now(now_s)
        since_s, back_s = at_s - self._window_s, self._went_back_s
        return Findings(
            at_s - back_s,
            {key: then_s - back_s for key, then_s in self._reached_at_s.items() if then_s > since_s},
            {
                key: FoundPublic(found.at_s - back_s, found.references)
                for key, found in self._public.items()
                if found.at_s > since_s
            },
            {key: then_s - back_s for key, then_s in self._private_at_s.items() if then_s > since_s},
        )

    def _now(self, now_s: float) -> float:
        at_s = now_s + self._went_back_s
        if at_s < self._latest_s:
            self._went_back_s = self._latest_s - now_s
            return self._latest_s
        self._latest_s = at_s
        return at_s

    def _is_lately(self, then_s: float | None, now_s: float) -> bool:
        at_s = self._now(now_s)
        return then_s is not None and at_s - then_s < self._window_s

    def _told_s(self, then_s: float | None, now_s: float) -> float | None:
        if then_s is None or not self._is_lately(then_s, now_s):
            return None
        return then_s - self._went_back_s


def _put(table: dict[_Key, _Value], key: _Key, value: _Value, max_count: int) -> None:
    """At the end: a table has the oldest first."""
    table.pop(key, None)
    table[key] = value
    if len(table) > max_count:
        del table[next(iter(table))]
