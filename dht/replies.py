"""What comes back from another node. Types only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dht.endpoints import Endpoint
from dht.wire.codec import Result


@dataclass(frozen=True, slots=True)
class Reply:
    """`asked` is where the request went, `source` where the answer came from. `rtt_s` counts from the first datagram
    of the request."""

    result: Result
    sender: bytes
    asked: Endpoint
    source: Endpoint
    rtt_s: float


# None: no answer within the time.
Done = Callable[[Reply | None], None]
