"""Every metric of the daemon, and nothing else. Labels are bounded: never a digest, never a peer.

Documented in docs/metrics.md; a test compares the two.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sized
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from dht.stats import BEACON, Histogram, Stats
from dht.wire.codec import NAMES
from mirror.origin.base import Standing

# The DHT counts by words of its own. Those that are not known here are one label.
OTHER: Final = "other"
RPCS: Final = frozenset(NAMES.values()) | {"unknown"}
RPC_OUTCOMES: Final = frozenset({"answered", "timeout", "challenged", "told", "ignored"})
LOOKUP_OUTCOMES: Final = ("found", "missing", "silent", "nobody", "deadline", "isolated")
CLAIM_VERBS: Final = frozenset({"ask", "renew", "release"})
CLAIM_OUTCOMES: Final = frozenset(
    {
        *("granted", "wait", "pending", "lost", "excluded", "refused", "full"),
        *("unreached", "replaced", "told"),
    }
)
DROP_REASONS: Final = frozenset(
    {
        # The envelope: not a datagram of ours, or of another cluster.
        *("short", "long", "version", "flags", "foreign", "mac", "tag", "advertised", "frame_type"),
        # From where or when it must not come.
        *("source", "not_local", "stale", "clock", "token", "replayed", "stale_epoch"),
        *("echo", "duplicate_id", "rate", "amplification"),
        # What it says.
        *("bad_request", "bad_arguments", "bad_response", "bad_result", "bad_challenge", "bad_beacon"),
        *("bad_endpoint", "bad_hashes", "bad_prefix", "bad_verb", "bad_ruling", "no_fence"),
        *("unknown_rpc", "short_frame"),
        *("unaddressed", "unasked", "wrong_node", "wrong_source", "challenged_twice", "unexpected_frame"),
        # Our own side.
        *("icmp", "no_socket", "no_interface", "send_buffer", "too_long"),
        "beacon",
    }
)


class DhtView(Protocol):
    """What is shown of a DHT."""

    @property
    def members(self) -> Sized: ...

    @property
    def records(self) -> Sized: ...

    @property
    def is_isolated(self) -> bool: ...

    @property
    def stats(self) -> Stats: ...


class Metrics:
    """One set a daemon, on a registry of its own, so that several daemons can live in one process of a
    test."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bytes = Counter(
            "peili_bytes",
            "Body bytes handed to this host's clients, by where they came from (local, peer, origin)",
            ["source"],
            registry=self.registry,
        )
        self.peer_served_bytes = Counter(
            "peili_peer_served_bytes", "Body bytes sent to other peers", registry=self.registry
        )
        self.peer_received_bytes = Counter(
            "peili_peer_received_bytes", "Body bytes received from other peers", registry=self.registry
        )
        self.spliced_bytes = Counter(
            "peili_spliced_bytes",
            "Body bytes that went from a peer to this host's clients inside of the kernel",
            registry=self.registry,
        )
        self.requests = Counter(
            "peili_requests",
            "Registry requests, by kind (manifest, blob) and outcome (local, peer, origin, miss, refused)",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.readers = Gauge("peili_download_readers", "Requests fed from peers now", registry=self.registry)
        self.announced = Gauge(
            "peili_announced_digests", "Digests that this host announces", registry=self.registry
        )
        self.origin_failures = Counter(
            "peili_origin_failures",
            "Requests at the fallback host: the origin failed this host; by kind and by what it says anonymously",
            ["kind", "standing"],
            registry=self.registry,
        )
        self.tags = Counter(
            "peili_tags",
            "Tags that were asked for, by outcome (fresh, stale, missing, refused)",
            ["outcome"],
            registry=self.registry,
        )
        self.announced_tags = Gauge(
            "peili_announced_tags", "Tags that this host tells others of", registry=self.registry
        )
        self.cache_bytes = Gauge(
            "peili_cache_bytes",
            "Bytes of layers that containerd did not keep and this host does",
            registry=self.registry,
        )
        self.origin_received_bytes = Counter(
            "peili_origin_received_bytes",
            "Body bytes that the daemon itself fetched from registries",
            registry=self.registry,
        )
        for source in ("local", "peer", "origin"):
            self.bytes.labels(source)
        for kind in ("manifest", "blob"):
            for outcome in ("local", "peer", "origin", "miss", "refused"):
                self.requests.labels(kind, outcome)
        for kind in ("tag", "manifest", "blob"):
            for standing in Standing:
                self.origin_failures.labels(kind, standing.value)
        for outcome in ("fresh", "stale", "missing", "refused"):
            self.tags.labels(outcome)

    def show_dht(self, dht: DhtView) -> None:
        """Once. Its numbers are read whenever the page is."""
        self.registry.register(_DhtCollector(dht))

    def value(self, name: str, **labels: str) -> int:
        """The present value of a sample, for the status API."""
        return int(self.registry.get_sample_value(name, labels) or 0)

    def requests_count(self) -> int:
        """All that this host's clients asked for so far, with whatever outcome."""
        samples = (sample for family in self.requests.collect() for sample in family.samples)
        return int(sum(sample.value for sample in samples if sample.name == "peili_requests_total"))


class _DhtCollector(Collector):
    def __init__(self, dht: DhtView) -> None:
        self._dht = dht

    def collect(self) -> Iterator[Metric]:
        stats = self._dht.stats
        yield GaugeMetricFamily(
            "peili_dht_members", "Other nodes that this one knows", value=len(self._dht.members)
        )
        yield GaugeMetricFamily(
            "peili_dht_records", "Provider records that this node keeps", value=len(self._dht.records)
        )
        yield GaugeMetricFamily(
            "peili_dht_isolated", "1 while no other node answers", value=int(self._dht.is_isolated)
        )
        yield CounterMetricFamily(
            "peili_dht_conflicts", "Times that one node id was seen at two live hosts", value=stats.conflicts
        )
        yield _rpcs(stats)
        yield _histogram("peili_dht_rtt_seconds", "Round trips of answered requests", stats.rtt_s)
        lookups: Counts[tuple[str, ...]] = Counts({(outcome,): 0 for outcome in LOOKUP_OUTCOMES})
        for outcome, count in stats.lookups.items():
            lookups[(outcome if outcome in LOOKUP_OUTCOMES else OTHER,)] += count
        yield _counter("peili_dht_lookups", "Lookups that ended, by outcome", ("outcome",), lookups)
        yield _histogram("peili_dht_lookup_hops", "Rounds of answered lookups", stats.hops)
        yield _claims(stats)
        drops: Counts[tuple[str, ...]] = Counts()
        for reason, count in stats.drops.items():
            drops[(_drop_label(reason),)] += count
        yield _counter("peili_dht_drops", "Datagrams not acted on, by reason", ("reason",), drops)
        yield _both_ways("peili_dht_datagrams", "Datagrams", stats.datagrams_sent, stats.datagrams_received)
        yield _both_ways(
            "peili_dht_bytes",
            "Bytes in datagrams, without IP and UDP headers",
            stats.bytes_sent,
            stats.bytes_received,
        )


def _rpcs(stats: Stats) -> Metric:
    counts: Counts[tuple[str, ...]] = Counts()
    for direction, told in (("sent", stats.rpcs_sent), ("received", stats.rpcs_received)):
        for (rpc, outcome), count in told.items():
            rpc = rpc if rpc in RPCS else OTHER
            outcome = outcome if outcome in RPC_OUTCOMES else OTHER
            counts[direction, rpc, outcome] += count
    return _counter("peili_dht_rpcs", "Requests, by outcome", ("direction", "rpc", "outcome"), counts)


def _claims(stats: Stats) -> Metric:
    counts: Counts[tuple[str, ...]] = Counts()
    for (verb, outcome), count in stats.claims.items():
        verb = verb if verb in CLAIM_VERBS else OTHER
        counts[verb, outcome if outcome in CLAIM_OUTCOMES else OTHER] += count
    return _counter("peili_dht_claims", "What arbiters answered this node", ("verb", "outcome"), counts)


def _drop_label(reason: str) -> str:
    if reason.startswith(BEACON):
        return "beacon"
    label = reason.replace(" ", "_")
    return label if label in DROP_REASONS else OTHER


def _counter(
    name: str, about: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _both_ways(name: str, about: str, sent: int, received: int) -> CounterMetricFamily:
    return _counter(name, about, ("direction",), {("sent",): sent, ("received",): received})


def _histogram(name: str, about: str, told: Histogram) -> HistogramMetricFamily:
    """Prometheus counts cumulatively."""
    bounds = [*(str(float(bound)) for bound in told.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(told.counts), strict=True))
    return HistogramMetricFamily(name, about, buckets=buckets, sum_value=told.sum)
