"""Every number of the DHT, with its unit and its reason. Decides nothing.

Tests and simulations pass their own; a cluster must agree on `replicas_count` and `record_ttl_s`, or records are
looked for where nobody put them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Params:
    # -- datagrams
    # Below the smallest MTU that IPv6 guarantees (1,280) less headers and a tunnel's: never fragmented.
    datagram_max_bytes: int = 1200
    # A replayed or delayed datagram older than this is refused; clocks of hosts with NTP differ by far less.
    freshness_s: float = 120.0
    # One sender's datagrams may overtake each other by so many and are still told from replays.
    replay_window_count: int = 1024
    # Whom we answer without knowing them: a bounded memory of strangers (windows, limits, tokens).
    strangers_max_count: int = 4096
    # A node at rest sends about two datagrams a second; a herd's arbiter gets some hundred from each host.
    sender_rate_per_s: float = 500.0
    sender_burst_count: int = 1000
    # Without a secret: requests without a token, from everybody together.
    tokenless_rate_per_s: float = 1000.0
    # BEP 5: the secret behind tokens changes every five minutes, the one before is still accepted.
    token_rotate_s: float = 300.0
    # Without a secret, before the token came back (BEP 5 has no such bound; DNS cookies, RFC 7873 §5.2.3, have).
    amplification_max: int = 3

    # -- members
    # 0.4 KB each. Above this the table keeps near nodes and lookups iterate.
    members_max_count: int = 16_384
    # Without a secret: node ids at one address. More than a machine has reason to run.
    members_per_address_count: int = 256
    # A lost datagram is no death, nor is a second in which a host's CPUs are busy with a pull.
    strikes_count: int = 2
    strikes_apart_s: float = 1.0
    # Opaque bytes a node says of itself.
    info_max_bytes: int = 48
    # A node that fell silent is asked again now and then, so that a healed split merges.
    lost_max_count: int = 256
    lost_forget_s: float = 24 * 3600.0
    # Hearsay about a node that we found dead is not believed for so long, unless it was started anew.
    dead_memory_s: float = 600.0
    # A node that fell silent so long ago, and was not heard of since, is no provider to us, whoever names it. Sooner it
    # may have been restarted, and the news of that is on its way.
    silent_sure_s: float = 15.0
    # The same id at two addresses in turns, within this time: two live nodes share it.
    conflict_window_s: float = 60.0

    # -- gossip
    deltas_per_reply_count: int = 4
    deltas_max_count: int = 256
    # Each delta is passed on this many times log2 of the members (SWIM §4.1).
    delta_spread_factor: int = 3
    sync_interval_s: float = 15.0
    # One round of anti-entropy asks at most so much, whatever it finds.
    sync_rpcs_max_count: int = 8
    # A range of so few members is fetched rather than compared further.
    sync_leaf_count: int = 24
    # Members asked for pages at once while joining.
    join_parallel_count: int = 4

    # -- RPCs
    rpc_timeout_s: float = 0.5
    # Until a node's own round trip is known.
    hedge_start_s: float = 0.05
    hedge_min_s: float = 0.02
    hedge_srtt_factor: float = 4.0
    # RFC 6298 §2: the weight of a new sample.
    srtt_weight: float = 0.125

    # -- lookups
    lookup_deadline_s: float = 0.3
    ask_first_count: int = 3
    # Enough holders answered.
    answers_enough_count: int = 2
    empty_enough_count: int = 4
    want_count: int = 16
    lookup_cache_s: float = 5.0
    # An absent key is asked again soon: an announcement may be on its way.
    lookup_miss_cache_s: float = 0.25
    lookup_cache_max_count: int = 4096
    # Two lookups without any reply: nobody hears us.
    isolated_after_count: int = 2
    isolated_probe_s: float = 1.0

    # -- records
    replicas_count: int = 8
    record_ttl_s: float = 3600.0
    # A withdrawal is remembered longer than a replayed announcement can be fresh.
    tombstone_s: float = 300.0
    providers_per_key_count: int = 64
    keys_per_provider_count: int = 20_000
    # Without a secret, one address may run many nodes.
    records_per_address_count: int = 40_000
    records_max_count: int = 500_000
    sample_count: int = 16
    closer_count: int = 4
    expire_interval_s: float = 10.0

    # -- announcing
    refresh_period_s: float = 1200.0
    delta_debounce_s: float = 0.25
    delta_debounce_max_s: float = 1.0
    keys_per_datagram_count: int = 48
    announce_rate_per_s: float = 200.0
    announce_parallel_count: int = 16
    # Keys for a member that came (back), spread over this time.
    rejoin_jitter_s: float = 30.0
    # A holder that has enough providers of a key: that provider comes back at every fourth sweep.
    damping_factor: int = 4

    # -- claims (times are the arbiter's own)
    claim_first_progress_s: float = 10.0
    claim_progress_min_s: float = 5.0
    claim_step_factor: float = 3.0
    # A holder who is busy with others keeps what he has still to begin for so long. Waiters wait a little longer (their
    # containerd cancels a pull in which nothing moves for 5 minutes), so one of them is granted it and not all go.
    claim_queued_max_s: float = 120.0
    # And what he has begun, where nothing comes of it while others of his grow: on a slow link one of three connections
    # may stand still for some seconds, and whoever is granted the claim meanwhile fetches what is on its way.
    claim_standing_max_s: float = 15.0
    claim_exclude_start_s: float = 10.0
    claim_exclude_max_s: float = 300.0
    claims_max_count: int = 20_000
    claims_per_holder_count: int = 256
    # The claim and what is granted beside it: each is one more copy from the origin.
    claims_per_key_count: int = 5
    # Between claims beside a slow one: whoever helps knows after some ten seconds whether he is faster. Doubles.
    claim_slow_again_s: float = 30.0
    claim_slow_again_max_s: float = 300.0
    claim_waiters_count: int = 64
    claim_forget_s: float = 60.0
    claim_wait_retry_s: float = 1.0
    claim_deadline_s: float = 1.0
    # An arbiter's answer is of use until then; where it is a grant that comes after the deadline, it is given back.
    claim_rpc_timeout_s: float = 1.0
    # A waiter asks each second, and a claim that has grown holds for five. What the own node was told of another
    # arbiter's claim is taken for true so long.
    claim_elsewhere_s: float = 5.0
    # To tell eight nodes of a blob takes two tries of half a second and more, where they are busy.
    claim_done_s: float = 3.0
    # A host whose pull begins has busy CPUs, and answers tens of milliseconds late. Whoever is passed over for that
    # costs a copy from the origin; waiting so long for a dead one costs the first askers a quarter of a second.
    claim_hedge_min_s: float = 0.12
    # Of the time that a lookup has left, for a node that was heard lately: that one is alive, and on a host with few
    # CPUs it answers after 300 ms when a pull begins there. The rest suffices for two dead ones.
    claim_lively_share: float = 0.5
    # After all that are near were asked: nobody answered, nor spoke otherwise, so this node takes itself for alone and
    # rules by itself. A busy one is late by 300 ms, hardly all of eight. A pull may take one second longer than without
    # a mirror in all, and where dead ones are known to have the blob it waits for a connection to them, too.
    claim_unheard_s: float = 0.3

    # -- bootstrap
    bootstrap_alone_s: float = 30.0
    bootstrap_joined_s: float = 300.0
    bootstrap_backoff_start_s: float = 0.5
    resolve_timeout_s: float = 5.0
    dns_lowest_count: int = 3
    dns_random_count: int = 3
    beacon_first_s: float = 1.0
    beacon_first_count: int = 5
    beacon_interval_s: float = 30.0

    # -- saved state
    saved_peers_count: int = 64
    save_interval_s: float = 300.0
