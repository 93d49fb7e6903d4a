"""Keys that a node has enough providers of: it is told again only at every fourth sweep."""

from __future__ import annotations

from dht.ids import ID_BYTES


class Damping:
    """Remembers 20 bytes a key and node, for at most `factor` sweeps."""

    __slots__ = ("_by_node", "_cleared", "_factor")

    def __init__(self, factor: int) -> None:
        self._factor = factor
        # The sweep at which the node is told everything again, and the keys it need not be told before.
        self._by_node: dict[bytes, tuple[int, bytes]] = {}
        self._cleared = 0

    def saturated(self, node: bytes, keys: list[bytes], sweep: int) -> None:
        due, known = self._by_node.get(node, (0, b""))
        if due <= sweep:
            due, known = sweep + self._factor, b""
        listed = _listed(known)
        self._by_node[node] = (due, known + b"".join(key for key in keys if key not in listed))

    def left(self, node: bytes, keys: list[bytes], sweep: int) -> list[bytes]:
        """What the node is to be told at this sweep."""
        if sweep > self._cleared:
            self._cleared = sweep
            self._by_node = {one: kept for one, kept in self._by_node.items() if kept[0] > sweep}
        if node not in self._by_node:
            return keys
        damped = _listed(self._by_node[node][1])
        return [key for key in keys if key not in damped]

    def forget(self, node: bytes) -> None:
        """It was started anew: what it knew may be lost."""
        self._by_node.pop(node, None)

    def __len__(self) -> int:
        return sum(len(keys) // ID_BYTES for _, keys in self._by_node.values())


def _listed(keys: bytes) -> set[bytes]:
    return {keys[at : at + ID_BYTES] for at in range(0, len(keys), ID_BYTES)}
