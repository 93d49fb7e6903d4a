"""The port to the cluster's knowledge of who holds what. Refuses to move content.

A key is a key string: ``sha256:…`` in lower case.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """A daemon reachable over HTTP. `address` is an IP literal or a host name, without brackets."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class ProviderState(Enum):
    COMPLETE = "complete"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that is said to hold a key. Hearsay: the peer may answer that it does not."""

    peer: Peer
    state: ProviderState
    is_seed: bool = False


class Discovery(Protocol):
    """Construction does no I/O."""

    async def run(self) -> None:
        """Serves until cancelled."""
        ...

    @property
    def unready(self) -> str | None:
        """Why providers cannot be found now, in words for an operator; None when they can. A host without peers is
        a ready cluster of one."""
        ...

    def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        """Providers as they become known, the first at once, this host never among them. Ends by itself when no
        more are to be expected; an absent key ends without a result. Never raises for what the network does.
        A caller that leaves early closes the generator itself (contextlib.aclosing)."""
        ...

    async def announce(self, keys: Collection[str]) -> None:
        """This host holds these keys whole. Idempotent."""
        ...

    async def withdraw(self, keys: Collection[str]) -> None:
        """This host no longer holds these keys. Idempotent."""
        ...
