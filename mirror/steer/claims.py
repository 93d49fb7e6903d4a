"""The port to whoever rules on claims: a node of the DHT, or nobody where this host never asks the origin.

Refuses to know what a claim is good for: that is mirror.steer's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.steer.commands import AskClaim, ReleaseClaim, RenewClaim
from mirror.steer.rulings import Ruling


def name_of(peer: Peer) -> bytes:
    """A peer as the ladder knows it: opaque there."""
    return str(peer).encode()


@dataclass(frozen=True, slots=True)
class NamedPeer:
    """`is_complete`: said to hold the whole."""

    peer: Peer
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Word:
    """What was answered. `providers`: whom the asked ones named as holding it. `others`: everybody whom the ruling
    names, by `name_of`. `is_alone`: there is no other host."""

    ruling: Ruling
    providers: tuple[NamedPeer, ...]
    others: tuple[NamedPeer, ...]
    is_alone: bool


# A ruling that takes the place of one that was given: a nearer arbiter's came late.
Replaced = Callable[[Word], None]


class Claims(Protocol):
    @property
    def is_joining(self) -> bool:
        """This daemon does not know its neighbours yet."""
        ...

    async def ask(self, digest: Digest, ask: AskClaim | RenewClaim, on_replaced: Replaced) -> Word:
        """Never raises for what the network does."""
        ...

    async def release(self, digest: Digest, release: ReleaseClaim) -> None: ...
