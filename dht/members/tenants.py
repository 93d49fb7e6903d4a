"""Which node was heard at which endpoint: one at a time, and a bounded number at one address. Asks nobody.

A node that is heard where another was has taken its place: a host that lost its data directory comes back with a new
id. Without a bound one machine could fill everybody's table with ids of its own. Where a node is only said to be
counts for nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dht.endpoints import Endpoint


class Tenants:
    """`per_address_count` None: the cluster has a secret, and whoever knows it is trusted that far. A node's own homes
    are not listed here (0.1 KB a member): who calls knows where the node may be."""

    __slots__ = ("_at", "_counts", "_per_address_count")

    def __init__(self, per_address_count: int | None) -> None:
        self._per_address_count = per_address_count
        self._at: dict[Endpoint, bytes] = {}
        # Kept only where there is a bound.
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._at)

    def at(self, endpoint: Endpoint) -> bytes | None:
        return self._at.get(endpoint)

    def has_room(self, node: bytes, endpoint: Endpoint, homes: Iterable[Endpoint] = ()) -> bool:
        """Whether the node may move in there. Another port of an address where it is takes no more room."""
        if self._per_address_count is None or endpoint in self._at:
            return True
        if self._counts[endpoint.address] < self._per_address_count:
            return True
        return any(home.address == endpoint.address and self._at.get(home) == node for home in homes)

    def move_in(self, node: bytes, endpoint: Endpoint) -> None:
        """Whoever was there was moved out before."""
        assert endpoint not in self._at
        self._at[endpoint] = node
        if self._per_address_count is not None:
            self._counts[endpoint.address] += 1

    def move_out(self, node: bytes, homes: Iterable[Endpoint]) -> None:
        """From where it is: elsewhere others may be."""
        for home in homes:
            if self._at.get(home) != node:
                continue
            del self._at[home]
            if self._per_address_count is not None:
                self._counts[home.address] -= 1
                if not self._counts[home.address]:
                    del self._counts[home.address]
