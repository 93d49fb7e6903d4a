"""What an arbiter may say about a claim. Types only; dht.claims.wire has their bytes.

All times are relative and on the arbiter's clock. `again_s`: when to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass

from dht.contacts import Contact
from dht.wire.codec import Fence


@dataclass(frozen=True, slots=True)
class Holding:
    """Somebody who is after the key, and how much of it he said to have."""

    contact: Contact
    progress: int


@dataclass(frozen=True, slots=True)
class Running:
    """The claim that runs."""

    fence: Fence
    holder: Holding


@dataclass(frozen=True, slots=True)
class Granted:
    """The asker holds the claim, for `hold_s` from now unless its progress grows."""

    fence: Fence
    hold_s: float
    participants: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else holds the claim."""

    running: Running
    again_s: float
    participants: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """No claim is known to run and none is granted yet: one with more progress is about to ask, a claim granted by
    another arbiter is about to be renewed here, or providers make it needless."""

    again_s: float
    participants: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim that was to be renewed is no longer the asker's; he counts as a waiter now."""

    running: Running
    again_s: float
    participants: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class Excluded:
    """The asker had the claim and brought nothing; others may have it."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Several holders were refused by whatever they fetch from: nobody gets the claim for a while."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Full:
    """The arbiter's or the asker's number of claims is reached."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Redirect:
    """`closer`, nearest first: whom to ask instead."""

    closer: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class NotJoined:
    """Knows too few members to be an arbiter."""

    again_s: float


@dataclass(frozen=True, slots=True)
class Released:
    pass


Ruling = Granted | Wait | Pending | Lost | Excluded | Refused | Full | Redirect | NotJoined | Released
