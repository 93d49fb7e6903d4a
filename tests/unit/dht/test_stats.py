"""What a node counts about itself."""

from __future__ import annotations

from dht.stats import BEACON, Stats


def test_what_was_dropped_counts_with_beacons_and_without_other_reasons() -> None:
    stats = Stats()
    stats.drops.update({"foreign": 2, f"{BEACON}foreign": 3, "mac": 5, f"{BEACON}mac": 7})
    assert (stats.dropped("foreign"), stats.dropped("mac"), stats.dropped("tag")) == (5, 12, 0)
