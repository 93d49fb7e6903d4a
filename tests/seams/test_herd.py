"""A herd of hosts that want one blob at the same time: registry, ladders, swarms, state channels and a real arbiter's
claims, with an origin that gives as much as the test lets it.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from tests.support.herd_hosts import MIB, herd, pulling
from tests.support.mirror_host import ask
from tests.support.store_beds import eventually

BLOB = random.Random(11).randbytes(12 * MIB + 77)
D = Digest.of(BLOB)
HALF = 6 * MIB
SMALL = BLOB[:3000]
MANIFEST = (
    b'{"schemaVersion": 2, "config": {"mediaType": "a", "digest": "sha256:%064d", "size": 2}, "layers": []}'
    % 7
)


async def test_a_cold_herd_costs_the_origin_one_copy() -> None:
    """One is sent there, the others are fed while its ingest grows."""
    async with herd(4, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            bed.origin.allow(None)
            await pulls.done()
        assert all(pull.data == BLOB for pull in pulls)
        assert bed.origin.total_bytes == len(BLOB)
        assert len(bed.arbiter.granted) == 1
        claimant = bed.hosts.index(bed.named(bed.arbiter.granted[0]))
        for number, pull in enumerate(pulls):
            assert pull.statuses == [404 if number == claimant else 200]


async def test_a_claimant_that_is_lost_half_way_is_followed_by_one_other() -> None:
    """The others are paused, not closed; the one goes on where they are."""
    async with herd(4, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            lost = bed.hosts.index(bed.named(bed.arbiter.granted[0]))
            pulls.tasks[lost].cancel()
            await eventually(lambda: len(bed.origin.opened) == 2)
            bed.origin.allow(None)
            await pulls.done()
        assert len(bed.arbiter.granted) == 2
        successor = bed.hosts.index(bed.named(bed.arbiter.granted[1]))
        assert successor != lost
        for number, pull in enumerate(pulls):
            if number == successor:
                assert (pull.statuses, pull.starts, pull.cuts) == ([200, 404], [0, HALF], [HALF])
            elif number != lost:
                assert (pull.statuses, pull.cuts, pull.data == BLOB) == ([200], [], True)
        assert bed.origin.total_bytes == len(BLOB)


async def test_a_manifest_costs_one_copy_too() -> None:
    async with herd(4, MANIFEST) as bed:
        bed.origin.allow(0)
        async with pulling(bed.hosts, MANIFEST, "manifests") as pulls:
            await eventually(lambda: len(bed.origin.opened) == 1)
            bed.origin.allow(None)
            await pulls.done()
        assert all(pull.data == MANIFEST for pull in pulls)
        assert sorted(pull.statuses for pull in pulls) == [[200], [200], [200], [404]]
        assert bed.origin.total_bytes == len(MANIFEST)


async def test_one_that_comes_late_is_fed_what_the_others_have() -> None:
    async with herd(3, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            late = await bed.host()
            async with pulling([late], BLOB) as late_pulls:
                await late_pulls.reach(HALF)
                bed.origin.allow(None)
                await pulls.done()
                await late_pulls.done()
        last = await bed.host()
        assert (await last.pull(D, len(BLOB))).statuses == [200]
        assert [pull.statuses for pull in late_pulls] == [[200]]
        assert bed.origin.total_bytes == len(BLOB)
        assert len(bed.arbiter.granted) == 1


async def test_only_who_is_fed_by_others_may_hear_of_its_growth_late() -> None:
    """Waiters have no more than the claimant was seen to have."""
    async with herd(3, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            claimant = bed.named(bed.arbiter.granted[0])
            late = {host.name for host in bed.hosts if host.ingests.may_be_late(D)}
            assert late == {host.name for host in bed.hosts} - {claimant.name}
            bed.origin.allow(None)
            await pulls.done()


async def test_two_ranges_of_one_blob_share_one_download() -> None:
    async with herd(1, BLOB) as bed:
        holder = await bed.host(BLOB)
        url = f"{bed.hosts[0].mirror.registry_url}/v2/team/app/blobs/{D}"
        first, second = await asyncio.gather(
            ask(url, Range=f"bytes=0-{HALF - 1}"), ask(url, Range=f"bytes={HALF}-")
        )
        assert (first.status, second.status, first.body + second.body == BLOB) == (206, 206, True)
        assert holder.mirror.metrics.value("peili_peer_served_bytes_total") < len(BLOB) + 2 * MIB


async def test_a_disk_that_takes_nothing_is_no_reason_to_wait() -> None:
    async with herd(0, BLOB) as bed:
        await bed.host(BLOB)
        full = await bed.host(spool_bytes=1)
        pull = await full.pull(D, len(BLOB))
        assert (pull.statuses, pull.origin_bytes) == ([404], len(BLOB))


async def test_a_small_blob_needs_no_disk() -> None:
    async with herd(0, SMALL) as bed:
        await bed.host(SMALL)
        full = await bed.host(spool_bytes=1)
        assert (await full.pull(Digest.of(SMALL), len(SMALL))).statuses == [200]


async def test_the_spool_is_given_back_after_the_commit() -> None:
    """And what containerd wrote is lent to others."""
    async with herd(0, BLOB) as bed:
        first = await bed.host(BLOB)
        second = await bed.host()
        assert (await second.pull(D, len(BLOB))).statuses == [200]
        await eventually(lambda: second.mirror.spool.used_bytes == 0)
        bed.cluster.withdraw(str(D), first.peer)
        late = await bed.host()
        assert (await late.pull(D, len(BLOB))).statuses == [200]


async def test_what_is_on_its_way_is_lent_as_far_as_it_is_here() -> None:
    async with herd(2, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            for host in bed.hosts:
                lender = host.mirror.herd
                assert lender.size_bytes(D) == len(BLOB)
                with lender.lend(D, ByteSpan(5, HALF)) as portions:
                    assert portions is not None
                    lent = b"".join(
                        os.pread(one.descriptor, one.span.length_bytes, one.span.start) for one in portions
                    )
                    assert lent == BLOB[5:HALF]
                for span in (ByteSpan(5, HALF + 1), ByteSpan(0, len(BLOB) + 1), ByteSpan(5, 5)):
                    with lender.lend(D, span) as portions:
                        assert portions is None
                with lender.lend(Digest.of(b"another"), ByteSpan(0, 1)) as portions:
                    assert portions is None


async def test_a_pull_that_is_cancelled_and_begun_again_is_fed() -> None:
    """As a kubelet does after its deadline."""
    async with herd(2, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
            claimant = bed.named(bed.arbiter.granted[0])
            waiter = next(host for host in bed.hosts if host is not claimant)
            pulls.tasks[bed.hosts.index(waiter)].cancel()
            async with pulling([waiter], BLOB) as again:
                await again.reach(HALF)
                bed.origin.allow(None)
                await again.done()
                await pulls.done()
        assert [pull.statuses for pull in again] == [[200]]
        assert bed.origin.total_bytes == len(BLOB)


async def test_a_claimant_whose_pull_is_begun_again_goes_on_by_itself() -> None:
    """Alone it costs what it costs without a mirror."""
    async with herd(1, BLOB) as bed:
        bed.origin.allow(HALF)
        async with pulling(bed.hosts, BLOB) as pulls:
            await pulls.reach(HALF)
        bed.origin.allow(None)
        pull = await bed.hosts[0].pull(D, len(BLOB))
        assert (pull.data == BLOB, len(pull.cuts) <= 1) == (True, True)
        assert bed.origin.total_bytes <= len(BLOB) + HALF


async def test_many_hosts_and_layers_at_once() -> None:
    """Four layers on six hosts: one copy of each."""
    layers = [random.Random(number).randbytes(3 * MIB + number) for number in range(4)]
    async with herd(6, *layers) as bed, asyncio.timeout(60):
        await asyncio.gather(
            *(host.pull(Digest.of(layer), len(layer)) for host in bed.hosts for layer in layers)
        )
        assert bed.origin.total_bytes == sum(len(layer) for layer in layers)


async def test_without_an_arbiter_each_goes_to_the_origin_soon() -> None:
    async with herd(3, SMALL) as bed:
        bed.arbiter.is_gone = True
        async with pulling(bed.hosts, SMALL) as pulls:
            await pulls.done()
        assert all(pull.data == SMALL for pull in pulls)


async def test_no_descriptor_is_left_behind() -> None:
    async def once() -> None:
        async with herd(3, BLOB) as bed:
            bed.origin.allow(HALF)
            async with pulling(bed.hosts, BLOB) as pulls:
                await pulls.reach(HALF)
                pulls.tasks[0].cancel()
                bed.origin.allow(None)
                await pulls.done()

    await once()
    before_count = _descriptors_count()
    await once()
    assert _descriptors_count() <= before_count


def _descriptors_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_commit_that_is_told_late_is_not_that_of_the_download_that_runs() -> None:
    """The image was pulled, removed and pulled anew before the store said that it had the first one's blob."""
    async with herd(1, BLOB) as bed:
        (host,) = bed.hosts
        bed.origin.allow(HALF)
        async with pulling([host], BLOB) as pulls:
            await pulls.reach(HALF)
            made = host.mirror.herd
            made._stored(D)
            assert not made._transfers[D]._own_ingest.is_committed
            bed.origin.allow(None)
            await pulls.done()
        await eventually(lambda: made._transfers[D]._own_ingest.is_committed)
