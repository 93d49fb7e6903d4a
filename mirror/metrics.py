"""Every metric of the daemon, and nothing else. Labels are bounded: never a digest, never a peer.

Documented in docs/metrics.md; a test compares the two.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """One set a daemon, on a registry of its own, so that several daemons can live in one process of a
    test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bytes = Counter(
            "peili_bytes",
            "Body bytes handed to this host's runtime, by where they came from (local or peer)",
            ["source"],
            registry=self.registry,
        )
        self.peer_served_bytes = Counter(
            "peili_peer_served_bytes", "Body bytes sent to other peers", registry=self.registry
        )
        self.peer_received_bytes = Counter(
            "peili_peer_received_bytes", "Body bytes received from other peers", registry=self.registry
        )
        self.requests = Counter(
            "peili_requests",
            "Registry requests, by kind (manifest, blob) and outcome (local, peer, miss, refused)",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.readers = Gauge("peili_download_readers", "Requests fed from peers now", registry=self.registry)
        self.announced = Gauge(
            "peili_announced_digests", "Digests that this host announces", registry=self.registry
        )
        for source in ("local", "peer"):
            self.bytes.labels(source)
        for kind in ("manifest", "blob"):
            for outcome in ("local", "peer", "miss", "refused"):
                self.requests.labels(kind, outcome)

    def value(self, name: str, **labels: str) -> int:
        """The present value of a sample, for the status API."""
        return int(self.registry.get_sample_value(name, labels) or 0)
