"""What this host remembers of one digest's refusals: by its own answers, and by the origin. Pure.

Rules
1. A request at the fallback host is the origin's refusal of this host only if this host sent its containerd to the
   origin for the digest less than STEERED_FRESH_S ago, and its ingest does not grow. Anybody on the host may ask there.
2. A manifest that the origin refuses to everybody, or has not, is not fed: this host may be one that must not have
   it. Of a manifest nothing is fed at the fallback host before that is known. A blob's digest is known to those alone
   who have the manifest.
3. A digest that was given up is answered 404 by any GET, not by Range alone: after a body without bytes the next
   request has no Range.
4. One body a minute at most ends without a byte: four in a row fail a pull.
"""

from __future__ import annotations

from mirror.steer.events import RefusalKind
from mirror.steer.timers import STEERED_FRESH_S, ZERO_BYTE_CLOSE_EVERY_S

_NOT_FOR_EVERYBODY = (RefusalKind.FORBIDDEN, RefusalKind.ABSENT)


def may_be_fed(kind: RefusalKind, *, is_manifest: bool) -> bool:
    """At the fallback host (rule 2)."""
    return not (is_manifest and kind in _NOT_FOR_EVERYBODY)


class Memory:
    def __init__(self) -> None:
        self._first_until: float | None = None
        self._both_until: float | None = None
        self._zero_byte_closed_at: float | None = None

    def give_up(self, until: float) -> None:
        """At the first host."""
        self._first_until = max(until, self._first_until or until)

    def refuse(self, until: float) -> None:
        """At both hosts."""
        self._both_until = max(until, self._both_until or until)

    def forgive(self) -> bool:
        """Whether anything was given up; what was refused stays."""
        was_given_up, self._first_until = self._first_until is not None, None
        return was_given_up

    def is_given_up(self, now: float) -> bool:
        return self._first_until is not None and now < self._first_until

    def is_refused(self, now: float) -> bool:
        return self._both_until is not None and now < self._both_until

    def zero_byte_close_at(self, now: float) -> float:
        """When a body may end without a byte, `now` at the earliest (rule 4)."""
        if self._zero_byte_closed_at is None:
            return now
        return max(now, self._zero_byte_closed_at + ZERO_BYTE_CLOSE_EVERY_S)

    def closed_without_bytes(self, now: float) -> None:
        self._zero_byte_closed_at = now

    def expire(self, now: float) -> None:
        if not self.is_given_up(now):
            self._first_until = None
        if not self.is_refused(now):
            self._both_until = None

    def next_due(self) -> float | None:
        return min((at for at in (self._first_until, self._both_until) if at is not None), default=None)


def counts(*, steered_at: float | None, is_growing: bool, now: float) -> bool:
    """Rule 1."""
    return steered_at is not None and now - steered_at < STEERED_FRESH_S and not is_growing
