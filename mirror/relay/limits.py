"""What the relay needs of the daemon, and how patient it is."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.origin.base import Origin
from mirror.relay.spool import Spool


@dataclass(frozen=True, slots=True)
class RelayPorts:
    """`discard_ingest` is the store's; `count_bytes` gets what the origin sent. `is_anonymous`: the origin is asked
    without credentials of any kind. `keep`: takes what was verified, from its open file, with its size in bytes, and
    dups it; None: it is kept nowhere but in the spool."""

    origin: Origin
    spool: Spool
    discard_ingest: Callable[[Digest], Awaitable[None]]
    count_bytes: Callable[[int], None]
    clock: Callable[[], float]
    rng: random.Random
    is_anonymous: bool = False
    keep: Callable[[Digest, int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class RelayLimits:
    # Registries and their CDNs hold one connection to a few ten MB/s; more than a few of a client are impolite.
    connections_per_blob_count: int = 4
    connections_max_count: int = 16
    # A client without a first byte is told a 404 rather than held: it has other hosts to ask.
    first_byte_patience_s: float = 10.0
    # By then two seconds have passed, and each attempt was two requests where the origin answered 5xx.
    attempts_without_byte_max_count: int = 3
    # A body that paused so long is ended. Pauses of 12 s are safe with every containerd (measured).
    patience_s: float = 20.0
    # Between two attempts on one connection, doubling; jittered down to a half.
    pause_min_s: float = 0.2
    pause_max_s: float = 5.0
    # containerd comes back with a Range after a cut body, and a user repeats a pull that he broke off.
    linger_s: float = 30.0
    # Long enough for containerd's retries after a cut body to be sent on to the origin.
    give_up_s: float = 10.0
    # The same answer for further clients after a failure, so that a crowd of them does not become one at the origin.
    failed_s: float = 2.0
    # A registry may say `Retry-After: 21600`; a user who logged in or paid should not wait for us.
    rate_limited_max_s: float = 60.0
