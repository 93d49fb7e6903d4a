"""One row, from start to verdicts, in this process."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from tests.bench.dht_bed import Bed, Pool, providers_of, rss_mb, rtt_words, run_bed
from tests.bench.dht_lookups import choose, look, lookup_fields
from tests.bench.dht_reach import REST_NODES_COUNT, Verdict, judge_lookups, judge_rest, judge_state
from tests.bench.dht_rows import WARM_UP_S, LookupRow, RestRow, Row, StateRow
from tests.bench.dht_state import kib_by_case, state_fields
from tests.bench.dht_traffic import announce, cpu_us_bare_udp, cpu_us_per_rpc, rest

Fields = dict[str, object]


def measure(row: Row, done: Callable[[Fields], None] | None = None) -> Fields:
    """`done` is called with the fields before the nodes are ended, which takes long where there are thousands."""
    started_s = time.monotonic()
    head: Fields = {
        "bench": "dht",
        "row": str(row),
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
    }

    def whole(found: Fields) -> Fields:
        fields = {**head, **found, "took_s": round(time.monotonic() - started_s, 1)}
        if done is not None:
            done(fields)
        return fields

    if isinstance(row, StateRow):
        return whole(_state(row))
    if isinstance(row, RestRow):
        rest_row = row

        async def at_rest(bed: Bed) -> Fields:
            return whole(await _rest(bed, rest_row))

        return run_bed("virtual", at_rest, row.params)
    lookup_row = row

    async def lookups(bed: Bed) -> Fields:
        return whole(await _lookups(bed, lookup_row))

    return run_bed(row.clock, lookups, row.params)


def with_reach(fields: Fields, reach: dict[str, Verdict]) -> Fields:
    return {**fields, "reach": reach, "reached": all(one["met"] for one in reach.values())}


async def _lookups(bed: Bed, row: LookupRow) -> Fields:
    before_mb = rss_mb()
    time_s = asyncio.get_running_loop().time
    settled_s = time_s()
    await bed.settle(row.nodes_count)
    bed.dead = bed.rng.sample(bed.members, row.nodes_count * row.dead_percent // 100)
    announcers = bed.rng.sample(bed.living, row.announcers_count)
    silent = {member.node for member in announcers}
    if row.digests_count:
        pool = Pool(bed.rng)
        refreshing = [member for member in bed.members if member.node not in silent]
        bed.announced(refreshing, lambda _: pool.share(row.digests_count))
        bed.injected.append(
            f"{row.digests_count} digests of each node but the {row.announcers_count} that announce, as if announced "
            "before: refreshed meanwhile, in nobody's records yet"
        )
    wanted = choose(bed, row.hits_count, row.misses_count)
    looked = await look(bed, wanted)
    announced = await announce(bed, announcers)
    fields: Fields = {
        "nodes": row.nodes_count,
        "dead_percent": row.dead_percent,
        "clock": row.clock,
        "network": rtt_words(row.clock),
        "injected": bed.injected,
        "hedge_ms": row.params.hedge_start_s * 1000,
        **lookup_fields(looked),
        "announce": announced,
        "cpu_us_per_rpc": await cpu_us_per_rpc(bed, [one.key for one in wanted if one.is_hit]),
    }
    if row.dead_percent:
        died = "all at once, without notice; the lookups start at that moment, the announcements after them"
        fields["dead"] = f"{len(bed.dead)} of {row.nodes_count} closed their sockets {died}"
    if row.clock == "live":
        fields["cpu_us_bare_udp"] = await cpu_us_bare_udp()
    if row.rest_s:
        await asyncio.sleep(max(0.0, WARM_UP_S - (time_s() - settled_s)))
        fields["rest"] = asdict(await rest(bed.living, row.rest_s))
    fields["rss_mb"] = round(rss_mb(), 1)
    fields["rss_kib_per_node"] = round((rss_mb() - before_mb) * 1e6 / 1024 / row.nodes_count, 1)
    return with_reach(
        fields,
        judge_lookups(
            looked,
            dead_percent=row.dead_percent,
            is_virtual=row.clock == "virtual",
            hedge_ms=row.params.hedge_start_s * 1000,
        ),
    )


async def _rest(bed: Bed, row: RestRow) -> Fields:
    before_mb = rss_mb()
    await bed.settle(row.nodes_count)
    pool = Pool(bed.rng)
    shares = {member.node: pool.share(row.digests_count) for member in bed.members}
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(bed.bootstrap(member)) for member in bed.members]
        if row.are_records_there:
            for member in bed.members:
                member.keys = shares[member.node]
            bed.store(providers_of(bed.members))
            bed.injected.append("the records of all digests at their nearest, as if announced before")
            bed.announced(bed.members, lambda member: shares[member.node])
            await asyncio.sleep(WARM_UP_S)
        else:
            await asyncio.sleep(WARM_UP_S)
            bed.announced(bed.members, lambda member: shares[member.node])
            bed.injected.append("digests as if announced before, refreshed; in nobody's records yet")
            await asyncio.sleep(1.0)
        found = await rest(bed.members, row.rest_s)
        for task in running:
            task.cancel()
    fields: Fields = {
        "nodes": row.nodes_count,
        "digests_per_node": row.digests_count,
        "clock": "virtual",
        "network": rtt_words("virtual"),
        "injected": bed.injected,
        "warm_up_s": WARM_UP_S,
        "rest": asdict(found),
        "rss_mb": round(rss_mb(), 1),
        "rss_kib_per_node": round((rss_mb() - before_mb) * 1e6 / 1024 / row.nodes_count, 1),
    }
    if row.are_records_there:
        counts = sorted(len(member.dht.records) for member in bed.members)
        sizes_bytes = sum(member.dht.records.size_bytes for member in bed.members)
        fields["records_per_node"] = {"median": counts[len(counts) // 2], "max": counts[-1]}
        fields["state_estimate_kib_per_1000_records"] = round(sizes_bytes / 1024 / sum(counts) * 1000, 1)
    if row.nodes_count > REST_NODES_COUNT:
        return fields
    return with_reach(
        fields,
        judge_rest(found.requests_per_s, found.datagrams_sent_per_s, found.bytes_sent_per_s),
    )


def _state(row: StateRow) -> Fields:
    found = kib_by_case(row.params)
    return with_reach(state_fields(found), judge_state(found))
