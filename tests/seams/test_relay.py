"""The relay with the real origin client and a spool on disk, against an origin that fails as it is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mirror.oci.byterange import ByteRange, RangeInvalid
from mirror.oci.digest import Digest
from mirror.origin.addresses import Place
from mirror.origin.base import Repository
from mirror.relay.errors import RelayGaveUp, RelayMismatch, SpoolFull
from mirror.relay.limits import RelayLimits
from mirror.relay.ranges import FIRST_RANGE_BYTES
from mirror.relay.spool import KEEP_S
from mirror.relay.transfer import LAST_PIECE_BYTES
from tests.support.oci_image import Blob
from tests.support.relay_bed import RelayBed, assert_sent_once, relay_bed, spans_sent
from tests.support.token_origin import (
    RESET,
    Answer,
    Asked,
    Cut,
    FileContent,
    Good,
    Redirect,
    Stall,
    Status,
    TokenOrigin,
    rate_limited,
)

REPOSITORY = Repository("registry.example", "team/app")
OTHER = Repository("registry.example", "team/other")
# The failing cases end within a second.
QUICK = RelayLimits(
    connections_max_count=6,
    first_byte_patience_s=4.0,
    patience_s=1.0,
    pause_min_s=0.02,
    linger_s=0.3,
    give_up_s=0.4,
    failed_s=0.2,
)
LAYER_BYTES = 12 * 1024 * 1024


def blob(seed: int, size_bytes: int) -> Blob:
    return Blob.of("application/octet-stream", random.Random(seed).randbytes(size_bytes))


LAYER = blob(1, LAYER_BYTES)
SMALL = blob(2, 70_000)


def digest_of(held: Blob) -> Digest:
    return Digest.parse(held.digest)


@pytest.fixture
async def origin() -> AsyncIterator[TokenOrigin]:
    async with TokenOrigin() as origin:
        origin.add_blob(REPOSITORY.name, LAYER)
        origin.add_blob(REPOSITORY.name, SMALL)
        yield origin


@pytest.fixture
async def bed(origin: TokenOrigin, tmp_path: Path) -> AsyncIterator[RelayBed]:
    places = [Place("127.0.0.1", origin.cdn_port)]
    async with relay_bed(tmp_path, f"{origin.url}/v2", limits=QUICK, redirect_places=places) as bed:
        yield bed


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


# --- what arrives


@pytest.mark.parametrize("size_bytes", [1, 70_000, 1024 * 1024, 1024 * 1024 + 1, 3_000_000, LAYER_BYTES])
async def test_every_size_comes_whole(origin: TokenOrigin, bed: RelayBed, size_bytes: int) -> None:
    held = blob(3, size_bytes)
    origin.add_blob(REPOSITORY.name, held)
    assert await bed.relay.size_bytes(REPOSITORY, digest_of(held)) == size_bytes
    assert await bed.read(REPOSITORY, digest_of(held)) == held.content


async def test_an_empty_blob_is_known_without_asking(origin: TokenOrigin, bed: RelayBed) -> None:
    empty = Digest.of(b"")
    assert await bed.relay.size_bytes(REPOSITORY, empty) == 0
    assert await bed.read(REPOSITORY, empty) == b""
    with pytest.raises(RangeInvalid):
        await bed.read(REPOSITORY, empty, "bytes=0-")
    assert origin.journal == []


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=5-9", 5, 10),
        ("bytes=7000000-", 7_000_000, LAYER_BYTES),
        ("bytes=7000000-99999999", 7_000_000, LAYER_BYTES),
        ("bytes=-10", LAYER_BYTES - 10, LAYER_BYTES),
        (f"bytes=0-{LAYER_BYTES - 1}", 0, LAYER_BYTES),
    ],
)
async def test_ranges(origin: TokenOrigin, bed: RelayBed, header: str, start: int, stop: int) -> None:
    async with bed.relay.blob(REPOSITORY, digest_of(LAYER), ByteRange.parse(header)) as reading:
        assert (reading.span.start, reading.span.stop) == (start, stop)
        assert reading.size_bytes == LAYER_BYTES
        data = b"".join([chunk async for chunk in reading.chunks])
    assert data == LAYER.content[start:stop]


async def test_a_range_of_a_small_blob(origin: TokenOrigin, bed: RelayBed) -> None:
    assert await bed.read(REPOSITORY, digest_of(SMALL), "bytes=5-9") == SMALL.content[5:10]


async def test_a_range_outside_the_blob(origin: TokenOrigin, bed: RelayBed) -> None:
    with pytest.raises(RangeInvalid) as caught:
        await bed.read(REPOSITORY, digest_of(LAYER), f"bytes={LAYER_BYTES}-")
    assert caught.value.size_bytes == LAYER_BYTES


async def test_a_resuming_client_does_not_cost_a_second_copy(origin: TokenOrigin, bed: RelayBed) -> None:
    """The daemon was restarted: what the client has is not fetched for the hash."""
    start = 9_000_000
    data = await bed.read(REPOSITORY, digest_of(LAYER), f"bytes={start}-")
    assert data == LAYER.content[start:]
    assert sum(stop - first for first, stop in spans_sent(origin)) <= LAYER_BYTES - start


# --- one fetch, many readers


async def test_many_readers_share_one_copy(origin: TokenOrigin, bed: RelayBed) -> None:
    headers = [None, None, "bytes=3000000-", "bytes=0-4999999", "bytes=5000000-", "bytes=-2000000"]
    got = await asyncio.gather(*(bed.read(REPOSITORY, digest_of(LAYER), header) for header in headers))
    content = LAYER.content
    assert got == [
        content,
        content,
        content[3_000_000:],
        content[:5_000_000],
        content[5_000_000:],
        content[-2_000_000:],
    ]
    assert_sent_once(origin, LAYER_BYTES)


async def test_what_is_in_the_spool_is_not_fetched_again(origin: TokenOrigin, bed: RelayBed) -> None:
    await bed.read(REPOSITORY, digest_of(LAYER))
    count = len(origin.journal)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert await bed.read(REPOSITORY, digest_of(LAYER), "bytes=-5") == LAYER.content[-5:]
    assert await bed.relay.size_bytes(REPOSITORY, digest_of(LAYER)) == LAYER_BYTES
    assert len(origin.journal) == count


async def test_a_reader_that_leaves_does_not_end_the_fetch_of_another(
    origin: TokenOrigin, bed: RelayBed
) -> None:
    origin.behave(Good(bytes_per_s=8e6), "blob")
    leaving = asyncio.ensure_future(bed.read(REPOSITORY, digest_of(LAYER), at_most_bytes=100_000))
    staying = asyncio.ensure_future(bed.read(REPOSITORY, digest_of(LAYER)))
    assert len(await leaving) >= 100_000
    assert await staying == LAYER.content
    assert_sent_once(origin, LAYER_BYTES)


async def test_with_nobody_left_the_fetch_stops_and_goes_on_where_it_was(
    origin: TokenOrigin, bed: RelayBed
) -> None:
    origin.behave(Good(bytes_per_s=4e6), "blob")
    await bed.read(REPOSITORY, digest_of(LAYER), at_most_bytes=10_000)
    await until(lambda: all(exchange.ended_s for exchange in origin.journal))
    stopped_at_bytes = bed.received_bytes
    assert 10_000 < stopped_at_bytes < LAYER_BYTES
    origin.behave_well()
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert bed.received_bytes == LAYER_BYTES


# --- what is wrong


async def test_wrong_bytes_are_never_completed(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Good(is_corrupt=True), "blob")
    got = bytearray()
    with pytest.raises(RelayMismatch):
        async with bed.relay.blob(REPOSITORY, digest_of(LAYER), None) as reading:
            async for chunk in reading.chunks:
                got += chunk
    assert len(got) <= LAYER_BYTES - LAST_PIECE_BYTES
    assert bed.discarded == [digest_of(LAYER)]
    assert bed.spool.find(digest_of(LAYER)) is None
    count = len(origin.journal)
    with pytest.raises(RelayMismatch):
        await bed.read(REPOSITORY, digest_of(LAYER), "bytes=5-")
    assert len(origin.journal) == count
    origin.behave_well()
    bed.clock.skip(QUICK.give_up_s)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content


async def test_a_slow_reader_gets_nothing_more_of_wrong_bytes(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Good(is_corrupt=True), "blob")
    async with bed.relay.blob(REPOSITORY, digest_of(LAYER), None) as reading:
        assert await anext(reading.chunks)
        await until(lambda: bool(bed.discarded))
        with pytest.raises(RelayMismatch):
            await anext(reading.chunks)


async def test_of_a_small_blob_with_wrong_bytes_nothing_is_given(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Good(is_corrupt=True), "blob")
    for header in (None, "bytes=5-9"):
        with pytest.raises(RelayMismatch):
            async with bed.relay.blob(REPOSITORY, digest_of(SMALL), ByteRange.parse(header)):
                pytest.fail("headers left")


async def test_an_origin_that_ignores_ranges(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Good(ignore_range=True), "blob")
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert len(origin.journal) == 1
    assert bed.received_bytes == LAYER_BYTES


async def test_an_origin_that_begins_to_ignore_ranges(origin: TokenOrigin, bed: RelayBed) -> None:
    """It sends the beginning again, which is passed over."""
    whole = Good(ignore_range=True)
    answers: Iterator[Answer] = iter([Cut(1_000_000), *[whole] * 9])
    origin.answer = lambda _: next(answers)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert LAYER_BYTES <= bed.received_bytes <= LAYER_BYTES + 1_000_000


@pytest.mark.parametrize(
    "fault",
    [Cut(0), Cut(100_000), Cut(3_000_000, "rst"), RESET, Status(503), Status(500), rate_limited("0")],
    ids=["cut at once", "cut", "reset in mid-body", "reset", "503", "500", "429"],
)
async def test_a_fault_now_and_then_is_overcome(origin: TokenOrigin, bed: RelayBed, fault: Answer) -> None:
    count = 0

    def every_other(_: Asked) -> Answer | None:
        nonlocal count
        count += 1
        return fault if count in (1, 2, 4, 5, 8) else None

    origin.answer = every_other
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content


async def test_a_redirect_to_a_cdn(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Redirect(), "blob")
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert_sent_once(origin, LAYER_BYTES)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_is_told_at_once(origin: TokenOrigin, bed: RelayBed, status: int) -> None:
    origin.behave(Status(status), "blob")
    started_s = asyncio.get_running_loop().time()
    with pytest.raises(RelayGaveUp):
        await bed.read(REPOSITORY, digest_of(LAYER))
    assert asyncio.get_running_loop().time() - started_s < QUICK.first_byte_patience_s / 2
    count = len(origin.journal)
    with pytest.raises(RelayGaveUp):
        await bed.read(REPOSITORY, digest_of(LAYER))
    assert len(origin.journal) == count
    # Another repository may have it, and is asked although the first refused just now.
    origin.behave_well()
    origin.add_blob(OTHER.name, LAYER)
    origin.answer = lambda asked: Status(status) if asked.repository == REPOSITORY.name else None
    assert await bed.read(OTHER, digest_of(LAYER)) == LAYER.content


async def test_an_origin_that_stays_broken_is_given_up(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Status(503), "blob")
    with pytest.raises(RelayGaveUp, match="503"):
        await bed.read(REPOSITORY, digest_of(LAYER))
    # Each attempt is two requests of the client.
    assert len(origin.journal) == 2 * QUICK.attempts_without_byte_max_count
    origin.behave_well()
    bed.clock.skip(QUICK.failed_s)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content


async def test_a_long_retry_after_is_not_waited_for(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(rate_limited("3600"), "blob")
    with pytest.raises(RelayGaveUp, match="limits the rate"):
        await bed.read(REPOSITORY, digest_of(LAYER))
    assert len(origin.journal) == 1
    for _ in range(100):
        await asyncio.sleep(0)  # the run ends
    await bed.relay.sweep()
    with pytest.raises(RelayGaveUp, match="limits the rate"):
        await bed.read(REPOSITORY, digest_of(LAYER))
    assert len(origin.journal) == 1


async def test_what_came_before_the_origin_died_is_given(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Cut(1_000_000), "blob", times=1)
    origin.behave(Status(503), "blob")
    got = bytearray()
    with pytest.raises(RelayGaveUp):
        async with bed.relay.blob(REPOSITORY, digest_of(LAYER), None) as reading:
            async for chunk in reading.chunks:
                got += chunk
    assert bytes(got) == LAYER.content[:1_000_000]
    origin.behave_well()
    bed.clock.skip(QUICK.failed_s)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content
    assert_sent_once(origin, LAYER_BYTES)


async def test_an_origin_that_falls_silent_ends_the_body_in_time(origin: TokenOrigin, bed: RelayBed) -> None:
    origin.behave(Stall(1_000_000), "blob")
    async with asyncio.timeout(3):
        with pytest.raises(RelayGaveUp, match=r"no byte that is asked for within 1 s"):
            await bed.read(REPOSITORY, digest_of(LAYER))


async def test_a_size_that_changes(origin: TokenOrigin, bed: RelayBed, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LAYER.content + b"x")
    await bed.read(REPOSITORY, digest_of(LAYER), "bytes=0-99999")
    origin.add_blob(REPOSITORY.name, FileContent(tmp_path / "file", LAYER_BYTES + 1), LAYER.digest)
    with pytest.raises(RelayGaveUp, match="says 12582913 bytes"):
        await bed.read(REPOSITORY, digest_of(LAYER))
    origin.add_blob(REPOSITORY.name, LAYER)
    bed.clock.skip(QUICK.failed_s)
    assert await bed.read(REPOSITORY, digest_of(LAYER)) == LAYER.content


async def test_without_room_the_mirror_steps_aside(origin: TokenOrigin, tmp_path: Path) -> None:
    async with relay_bed(tmp_path, f"{origin.url}/v2", limits=QUICK, quota_bytes=LAYER_BYTES - 1) as bed:
        with pytest.raises(SpoolFull):
            await bed.read(REPOSITORY, digest_of(LAYER))
        assert await bed.read(REPOSITORY, digest_of(SMALL)) == SMALL.content


async def test_the_size_alone_costs_one_request(origin: TokenOrigin, bed: RelayBed) -> None:
    assert await bed.relay.size_bytes(REPOSITORY, digest_of(LAYER)) == LAYER_BYTES
    assert [exchange.asked.range for exchange in origin.journal] == ["bytes=0-0"]


async def test_connections_to_the_origin_are_few(origin: TokenOrigin, bed: RelayBed) -> None:
    held = [blob(seed, FIRST_RANGE_BYTES + 1) for seed in range(10, 25)]
    for one in held:
        origin.add_blob(REPOSITORY.name, one)
    most = 0

    def slowly(_: Asked) -> Answer | None:
        nonlocal most
        most = max(most, sum(exchange.ended_s == 0 for exchange in origin.journal))
        return Good(bytes_per_s=20e6)

    origin.answer = slowly
    got = await asyncio.gather(*(bed.read(REPOSITORY, digest_of(one)) for one in held))
    assert got == [one.content for one in held]
    assert 4 < most <= QUICK.connections_max_count


async def test_before_it_runs_it_has_nothing(tmp_path: Path, origin: TokenOrigin) -> None:
    async with relay_bed(tmp_path, f"{origin.url}/v2", limits=QUICK) as bed:
        await bed.read(REPOSITORY, digest_of(SMALL))
        relay = bed.relay
    with pytest.raises(RelayGaveUp, match="the relay does not run"):
        await relay.size_bytes(REPOSITORY, digest_of(LAYER))


async def test_what_is_of_no_use_is_forgotten(origin: TokenOrigin, tmp_path: Path) -> None:
    async with relay_bed(tmp_path, f"{origin.url}/v2", limits=QUICK) as bed:
        await bed.read(REPOSITORY, digest_of(LAYER))
        assert len(list(bed.spool_folder.iterdir())) == 1
        async with asyncio.timeout(10):
            while list(bed.spool_folder.iterdir()):
                await asyncio.sleep(0.01)
                bed.clock.skip(KEEP_S)
                await bed.relay.sweep()
