"""What one neighbour in a digest's swarm said of itself, and what it was told. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.peer.channel import Channel
from mirror.swarm.bitfield import Bitfield


@dataclass(slots=True)
class Neighbour:
    """`size_bytes` 0: it did not say. `told_mask` None: it was not told of us. `is_deaf`: it does not want to be."""

    channel: Channel
    size_bytes: int = 0
    bitfield: Bitfield | None = None
    is_fed: bool = False
    told_mask: int | None = None
    told_size_bytes: int = -1
    told_is_fed: bool = False
    is_deaf: bool = False
