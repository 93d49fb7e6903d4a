"""A herd with a member that says one thing over its state channel and does another when it is asked for pieces."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from mirror.oci.digest import Digest
from mirror.steer.timers import SILENT_MAX_S
from tests.support.herd_hosts import MIB, Herd, HerdHost, PullFailed, herd, pulling
from tests.support.meddling import Meddle, Meddling
from tests.support.mirror_host import ask
from tests.support.store_beds import eventually

BLOB = random.Random(12).randbytes(12 * MIB + 77)
D = Digest.of(BLOB)
HALF = 6 * MIB
SMALL = BLOB[:3000]
# All of its pieces have one size.
EVEN = BLOB[: 12 * MIB]
PIECE = 512 * 1024
# Whom a piece is asked of is a matter of chance.
TRIES_COUNT = 20
USELESS = (Meddle.ABSENT, Meddle.ERROR_500, Meddle.TRUNCATE, Meddle.STALL)


@pytest.mark.parametrize("verify_always", [True, False], ids=["hashed", "streamed"])
@pytest.mark.parametrize("how", USELESS)
async def test_one_bad_source_among_good_ones_costs_nothing(how: Meddle, verify_always: bool) -> None:
    async with herd(0, BLOB) as bed:
        meddling = Meddling(BLOB, how)
        await bed.host(BLOB, middleware=meddling.middleware)
        await bed.host(BLOB)
        host = await bed.host(verify_always=verify_always)
        pull = await host.pull(D, len(BLOB))
        assert (pull.statuses, pull.cuts, pull.origin_bytes) == ([200], [], 0)


@pytest.mark.parametrize("how", USELESS)
@pytest.mark.parametrize(
    ("data", "verify_always"),
    [(BLOB, True), (BLOB, False), (SMALL, True)],
    ids=["hashed", "streamed", "small"],
)
async def test_useless_sources_alone_hold_a_pull_for_a_moment(
    how: Meddle, data: bytes, verify_always: bool
) -> None:
    """As long as it takes to find that they are: a stalled one is silent for two seconds, and is asked twice; one that
    ends its bodies early brings something each time, until it is asked for a last piece."""
    async with herd(0, data) as bed:
        meddling = Meddling(data, how)
        await bed.host(data, middleware=meddling.middleware)
        host = await bed.host(verify_always=verify_always)
        async with asyncio.timeout(8 if how in (Meddle.STALL, Meddle.TRUNCATE) else 3):
            pull = await host.pull(Digest.of(data), len(data))
        assert pull.data == data
        assert pull.origin_bytes > 0
        asked_count = len(meddling.spans)
        assert asked_count <= (8 if how is Meddle.TRUNCATE else 4)


async def test_a_claimant_that_serves_nobody_costs_one_copy_more() -> None:
    """Whoever is granted one claim more serves the others."""
    async with herd(0, BLOB) as bed:
        mute = await bed.host(middleware=Meddling(BLOB, Meddle.ABSENT).middleware)
        bed.origin.allow(HALF)
        async with pulling([mute], BLOB) as mute_pulls:
            await mute_pulls.reach(HALF)
            hosts = [await bed.host(verify_always=True) for _ in range(3)]
            async with pulling(hosts, BLOB) as pulls:
                await pulls.reach(HALF)
                bed.origin.allow(None)
                await pulls.done()
                await mute_pulls.done()
        assert all(pull.data == BLOB for pull in pulls)
        assert bed.origin.total_bytes == 2 * len(BLOB)
        assert sorted(pull.statuses for pull in pulls) == [[200], [200], [404]]


@pytest.mark.parametrize("how", [Meddle.TRUNCATE, Meddle.ABSENT])
async def test_waiters_do_not_wait_for_each_other(how: Meddle) -> None:
    """Whoever had it whole gives next to nothing, and they are all that each of them knows."""
    async with herd(0, BLOB) as bed:
        first = await bed.host(middleware=Meddling(BLOB, how).middleware)
        await first.pull(D, len(BLOB))
        hosts = [await bed.host(verify_always=True) for _ in range(3)]
        async with asyncio.timeout(SILENT_MAX_S * 3 / 4), pulling(hosts, BLOB) as pulls:
            await pulls.done()
        assert bed.origin.total_bytes < 3.5 * len(BLOB)


async def test_wrong_bytes_of_a_lone_source_never_make_a_blob() -> None:
    """What containerd holds of it is thrown away before its body ends."""
    async with herd(0, BLOB) as bed:
        await bed.host(BLOB, middleware=Meddling(BLOB, Meddle.WRONG_BYTES).middleware)
        host = await bed.host(verify_always=True)
        async with pulling([host], BLOB) as pulls:
            (pull,) = pulls
            await eventually(lambda: bool(pull.cuts))
            assert pull.was_discarded == [True]
        again = await ask(f"{host.mirror.registry_url}/v2/team/app/blobs/{D}", Range=f"bytes={pull.cuts[0]}-")
        assert again.status == 404


async def test_wrong_bytes_that_went_past_the_hash_come_once() -> None:
    """containerd finds them at its commit; when it pulls anew it has the right ones."""
    async with herd(0, BLOB) as bed:
        await bed.host(BLOB, middleware=Meddling(BLOB, Meddle.WRONG_BYTES).middleware)
        host = await bed.host()
        with pytest.raises(PullFailed, match="wrong bytes"):
            await host.pull(D, len(BLOB))
        assert (await host.pull(D, len(BLOB))).data == BLOB


@dataclass(frozen=True, slots=True)
class OneLiar:
    """Three hosts have the blob, one of which flips one byte of it; a fourth wants it."""

    herd: Herd
    liar: Meddling
    others: list[HerdHost]
    host: HerdHost

    @property
    def sent_bytes(self) -> float:
        """By all peers."""
        served = [one.mirror.metrics.value("peili_peer_served_bytes_total") for one in self.others]
        return sum(served) + sum(span.length_bytes for span in self.liar.spans)

    async def sent(self, count_bytes: float) -> None:
        """Until they sent so many: what they count comes after what is received."""
        await eventually(lambda: self.sent_bytes >= count_bytes)


@asynccontextmanager
async def one_liar(at: int | None) -> AsyncIterator[OneLiar]:
    async with herd(0, EVEN) as bed:
        liar = Meddling(EVEN, Meddle.WRONG_BYTE, at)
        await bed.host(EVEN, middleware=liar.middleware)
        others = [await bed.host(EVEN), await bed.host(EVEN)]
        yield OneLiar(bed, liar, others, await bed.host(verify_always=True))


async def test_a_wrong_piece_that_nobody_was_handed_costs_one_piece() -> None:
    """The last is withheld: its source is found by what others say of their pieces, and it is asked for again."""
    for _ in range(TRIES_COUNT):
        async with one_liar(len(EVEN) - 10) as bed:
            pull = await bed.host.pull(Digest.of(EVEN), len(EVEN))
            assert (pull.statuses, pull.cuts, pull.data == EVEN) == ([200], [], True)
            await bed.sent(len(EVEN) + bed.liar.lied * PIECE)
            # What is taken over from a source that falls behind comes on top; to fetch all again would be 12 MiB.
            assert bed.sent_bytes <= len(EVEN) + 4 * MIB
            if bed.liar.lied and bed.sent_bytes == len(EVEN) + PIECE:
                return
    pytest.fail("the liar was not asked for it, or it cost more, each time")


async def test_a_wrong_piece_that_was_handed_on_costs_one_piece_and_that_pull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """containerd's download is thrown away. When it pulls anew, later, all but one piece is still here."""
    monkeypatch.setattr("mirror.steer.serving.WRONG_S", 0.1)
    monkeypatch.setattr("mirror.steer.serving.GIVE_UP_S", 0.1)
    for _ in range(TRIES_COUNT):
        async with one_liar(None) as bed:
            with suppress(PullFailed):
                await bed.host.pull(Digest.of(EVEN), len(EVEN))
                # It was found before that piece was handed on.
                continue
            assert Digest.of(EVEN) in bed.host.mirror.store.discarded
            assert bed.herd.origin.total_bytes == PIECE, "the end of the pull that failed"
            sent_bytes = bed.sent_bytes
            url = f"{bed.host.mirror.registry_url}/v2/team/app/blobs/{Digest.of(EVEN)}"
            async with asyncio.timeout(5.0):
                while (await ask(url, "HEAD")).status == 404:
                    pass
            pull = await bed.host.pull(Digest.of(EVEN), len(EVEN))
            assert (pull.statuses, pull.cuts, pull.data == EVEN) == ([200], [], True)
            assert bed.herd.origin.total_bytes == PIECE
            await bed.sent(sent_bytes + PIECE)
            assert bed.sent_bytes == sent_bytes + PIECE
            return
    pytest.fail("it was found before it was handed on, each time")


async def test_wrong_bytes_of_one_among_many_are_not_passed_on() -> None:
    """Four hosts fetch from one good and one bad source, and from each other."""
    async with herd(0, BLOB) as bed:
        await bed.host(BLOB, middleware=Meddling(BLOB, Meddle.WRONG_BYTES).middleware)
        await bed.host(BLOB)
        hosts = [await bed.host(verify_always=True) for _ in range(4)]
        async with pulling(hosts, BLOB) as pulls:
            results = await asyncio.gather(*pulls.tasks, return_exceptions=True)
        for pull, result in zip(pulls, results, strict=True):
            assert isinstance(result, PullFailed) or pull.data == BLOB, result
            assert all(pull.was_discarded)
