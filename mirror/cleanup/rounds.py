"""Whether many hosts are clean, from what a name led to and what was answered there, round after round. Pure.

Rules
1. All are clean when each address of the name has answered, round after round, for `SETTLED_S` in which no address
   came or went: a name server tells a list that is as old as its cache.
2. A name without an address is no answer: the pods have not begun.
3. A host that has no address (it is down, no pod could begin there) is not seen by this, and cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# CoreDNS keeps answers for 30 s as Kubernetes sets it up, and a change takes a moment to reach it.
SETTLED_S = 35.0
# Against a time in which hardly a round fits.
SETTLED_ROUNDS_COUNT = 3
# What fits into a message; a list of 500 addresses tells no more than its beginning.
NAMED_MAX_COUNT = 20


@dataclass(frozen=True, slots=True)
class Round:
    """`troubles`: why an address is not clean, by address; None: it is. Without addresses `unresolved` says why."""

    troubles: Mapping[str, str | None]
    unresolved: str = ""


class Rounds:
    """`now_s` is any clock that only goes forward."""

    def __init__(self, name: str, settled_s: float = SETTLED_S) -> None:
        self._name = name
        self._settled_s = settled_s
        self._clean: frozenset[str] = frozenset()
        self._since_s = 0.0
        self._count = 0
        self._last = Round({}, "it was not asked for yet")

    def heard(self, round_: Round, now_s: float) -> bool:
        """Whether all hosts are clean."""
        self._last = round_
        addresses = frozenset(round_.troubles)
        if not addresses or any(round_.troubles.values()):
            self._clean, self._count = frozenset(), 0
            return False
        if addresses != self._clean:
            self._clean, self._since_s, self._count = addresses, now_s, 0
        self._count += 1
        return self._count >= SETTLED_ROUNDS_COUNT and now_s - self._since_s >= self._settled_s

    @property
    def clean_count(self) -> int:
        return sum(trouble is None for trouble in self._last.troubles.values())

    @property
    def standing(self) -> str:
        """The last round, in a line that stays the same while nothing changes."""
        if not self._last.troubles:
            return f"{self._name} leads to no host yet: {self._last.unresolved}"
        return f"{self.clean_count} of {len(self._last.troubles)} hosts are clean"

    def failure(self, waited_s: float) -> str:
        """Why it was given up, and what to do."""
        lines = [f"gave up after {waited_s:.0f} s: {self.standing}"]
        unclean = sorted((it, why) for it, why in self._last.troubles.items() if why is not None)
        lines += [f"  {address}: {why}" for address, why in unclean[:NAMED_MAX_COUNT]]
        if len(unclean) > NAMED_MAX_COUNT:
            lines.append(f"  and {len(unclean) - NAMED_MAX_COUNT} more")
        if self._last.troubles and not unclean:
            lines.append("  all of them answer, but not for long enough; wait longer (--give-up-after)")
        lines.append(
            "those hosts may still point containerd at a port that refuses, which costs a pull nothing; to clean them: "
            "docs/kubernetes.md, Hosts that were down"
        )
        return "\n".join(lines)
