"""Who sent a request, as far as it was proven. Types only."""

from __future__ import annotations

from typing import Protocol

from dht.endpoints import Endpoint


class Asker(Protocol):
    """`endpoint` is where the sender is to be reached, `source` where the datagram came from. `stamp` orders all
    that the sender says."""

    @property
    def sender(self) -> bytes: ...

    @property
    def stamp(self) -> int: ...

    @property
    def source(self) -> Endpoint: ...

    @property
    def endpoint(self) -> Endpoint: ...
