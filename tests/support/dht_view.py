"""What the metrics page shows of a DHT, with numbers of a test's choice."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field

from dht.stats import Stats


@dataclass
class View:
    members: Sized = ()
    records: Sized = ()
    is_isolated: bool = False
    stats: Stats = field(default_factory=Stats)
