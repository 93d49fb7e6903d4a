"""How many bodies are on their way to peers at once. Pure.

A host that serves everybody at once serves nobody soon: the one who waits a moment, or asks another, has the whole
sooner than all have their parts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

# On 1 Gbit/s each still gets 4 MB/s, about what one client gets of a busy registry. Enough for the ten neighbours of a
# swarm with three requests each. Each may hold a send buffer of 4 MiB: 128 MiB of the kernel's memory at worst.
UPLOAD_SLOTS_COUNT = 32
# How far the load moves before it is told again: each telling wakes every channel.
TOLD_STEP_RATIO = 1 / 8
# A manifest, a config, a small layer: gone at once, into the socket's buffer.
FREE_BODY_MAX_BYTES = 64 * 1024


_NEEDS_NONE = nullcontext(True)
_IS_NONE = nullcontext(False)


class _Slot:
    """Any of them: it knows only how many are taken. A generator costs three times the calls, for every piece."""

    __slots__ = ("_slots",)

    def __init__(self, slots: UploadSlots) -> None:
        self._slots = slots

    def __enter__(self) -> bool:
        self._slots.change(1)
        return True

    def __exit__(self, *_: object) -> None:
        self._slots.change(-1)


def _tell_nobody(_: float) -> None:
    """Where there are no state channels."""


class UploadSlots:
    """`on_change` is told the load ratio when it has moved, and when all slots are taken or none is any more."""

    def __init__(
        self, count: int = UPLOAD_SLOTS_COUNT, on_change: Callable[[float], None] = _tell_nobody
    ) -> None:
        assert count > 0
        self._count = count
        self._taken_count = 0
        self._on_change = on_change
        self._told_ratio = 0.0
        self._slot = _Slot(self)

    @property
    def load_ratio(self) -> float:
        """The share that is in use, 0 to 1."""
        return self._taken_count / self._count

    def slot(self, length_bytes: int) -> AbstractContextManager[bool]:
        """One for a body of so many bytes, until it is left; entered at once. False: there is none."""
        if length_bytes <= FREE_BODY_MAX_BYTES:
            return _NEEDS_NONE
        return self._slot if self._taken_count < self._count else _IS_NONE

    def change(self, by_count: int) -> None:
        """Only its slots call this."""
        self._taken_count += by_count
        ratio = self._taken_count / self._count
        moved = abs(ratio - self._told_ratio)
        if moved >= TOLD_STEP_RATIO or (moved and self._taken_count in (0, self._count)):
            self._told_ratio = ratio
            self._on_change(ratio)
