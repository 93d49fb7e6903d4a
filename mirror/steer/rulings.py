"""What an arbiter says about a claim, as the ladder wants it. Types only.

The arbiter may be a node of the DHT or the scheduler. `again_s`: when to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Fence(NamedTuple):
    """Names one grant."""

    arbiter: bytes
    counter: int


class Participant(NamedTuple):
    """Somebody else who is after the digest, and how far he said to be."""

    node: bytes
    progress_bytes: int


@dataclass(frozen=True, slots=True)
class Granted:
    """This host is the claimant."""

    fence: Fence
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Another host is. To a renewal: it has become so."""

    fence: Fence
    holder: Participant
    again_s: float
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """No claim runs and none is granted yet: somebody who is farther is about to ask, or providers make it needless."""

    again_s: float
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True)
class Excluded:
    """No claim runs; this host had it and brought nothing."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The origin refused several hosts: nobody gets the claim for `again_s`."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Unruled:
    """No arbiter was reached, or the one that was has no room."""


Ruling = Granted | Wait | Pending | Excluded | Refused | Unruled
