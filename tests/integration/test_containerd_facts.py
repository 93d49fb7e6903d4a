"""What Peili relies on when containerd fetches, shown on real ones: a version that differs fails here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from containerd.client import Client
from tests.support.bed_containerds import VERSIONS, Containerds
from tests.support.bed_hosts_toml import install, mirror_layout
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import (
    Answer,
    Asked,
    Cut,
    End,
    Hold,
    Journal,
    Pause,
    RecordingHost,
    Serve,
    Shelf,
    Status,
    refused_address,
)

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

NOT_HERE = Status(404)


@dataclass(frozen=True, slots=True)
class Chain:
    """A registry (origin) with our layout around it, one image on all, and nothing going wrong yet."""

    containerd: RealContainerd
    mirror: RecordingHost
    origin: RecordingHost
    journal: Journal
    image: Image

    @property
    def tag(self) -> str:
        return f"{self.origin.authority}/lib/small:v1"

    @property
    def by_digest(self) -> str:
        return f"{self.origin.authority}/lib/small@{self.image.manifest.digest}"

    @property
    def layer(self) -> str:
        """The larger layer's digest."""
        return self.image.layers[0].digest

    @property
    def layer_bytes(self) -> int:
        return len(self.image.layers[0].content)

    async def pull(self, name: str = "") -> Pulled | PullFailed:
        return await cri_pull(self.containerd, name or self.tag)

    def layer_trace(self) -> list[str]:
        """As "mirror GET bytes=5-", without the digest."""
        return [
            " ".join(filter(None, [exchange.asked.host, exchange.asked.method, exchange.asked.range]))
            for exchange in self.journal.of(reference=self.layer)
        ]


@pytest_asyncio.fixture
async def chain(containerd: RealContainerd, fresh_image: Image) -> AsyncIterator[Chain]:
    shelf, journal = Shelf(), Journal()
    shelf.add(fresh_image, "lib/small", "v1")
    async with (
        RecordingHost("mirror", shelf, journal) as mirror,
        RecordingHost("origin", shelf, journal) as origin,
    ):
        install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, mirror.url))
        yield Chain(containerd, mirror, origin, journal, fresh_image)


# --- Who is asked for what, in which order


async def test_tags_go_straight_to_the_origin_and_digests_to_the_mirror(chain: Chain) -> None:
    assert isinstance(await chain.pull(), Pulled)
    digests = [chain.image.manifest, chain.image.config, *chain.image.layers]
    tag, *rest = chain.journal.exchanges
    assert (tag.asked.short, tag.asked.ns) == ("origin HEAD manifests v1", None)
    assert [exchange.asked.reference for exchange in rest][:2] == [blob.digest for blob in digests[:2]]
    assert {exchange.asked.reference for exchange in rest} == {blob.digest for blob in digests}
    assert {(exchange.asked.host, exchange.asked.method) for exchange in rest} == {("mirror", "GET")}
    assert {exchange.asked.ns for exchange in rest} == {chain.origin.authority}
    assert {exchange.asked.range for exchange in rest} == {""}
    assert len(rest) == len(digests)


async def test_a_pull_by_digest_heads_the_mirror_first(chain: Chain) -> None:
    chain.mirror.answer = lambda asked: NOT_HERE if asked.method == "HEAD" else Serve()
    assert isinstance(await chain.pull(chain.by_digest), Pulled)
    manifest = chain.journal.trace(reference=chain.image.manifest.digest)
    assert [line.rsplit(" ", 1)[0] for line in manifest] == [
        "mirror HEAD manifests",
        "origin HEAD manifests",
        "mirror GET manifests",
    ]


@pytest.mark.parametrize("failure", [401, 403, 404, 429, 500, 503, "end", "stopped"])
async def test_every_failure_of_the_origin_reaches_the_fallback_host(
    chain: Chain, failure: int | str
) -> None:
    def origin_answer(asked: Asked) -> Answer:
        if asked.is_tag:
            return Serve()
        return Status(failure) if isinstance(failure, int) else End()

    def mirror_answer(asked: Asked) -> Answer:
        return Serve() if asked.host == "fallback" else NOT_HERE

    chain.mirror.answer = mirror_answer
    chain.origin.answer = origin_answer
    if failure == "stopped":
        await chain.origin.stop()
    assert isinstance(await chain.pull(chain.by_digest if failure == "stopped" else chain.tag), Pulled)
    # 429 is tried six times without a pause; an ended connection twice, where it had been used before.
    tries = {429: 6, "end": 2, "stopped": 0}.get(failure, 1)
    trace = chain.layer_trace()
    origin_count = trace.count("origin GET")
    assert trace == ["mirror GET", *["origin GET"] * origin_count, "fallback GET"]
    assert origin_count == tries or (failure == "end" and origin_count == 1)


async def test_a_dead_daemon_costs_nothing(containerd: RealContainerd, fresh_image: Image) -> None:
    shelf, journal = Shelf(), Journal()
    shelf.add(fresh_image, "lib/small", "v1")
    async with RecordingHost("origin", shelf, journal) as origin:
        with refused_address() as nobody:
            install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, f"http://{nobody}"))
            pulled = await cri_pull(containerd, f"{origin.authority}/lib/small:v1")
    assert isinstance(pulled, Pulled)
    assert len(journal.exchanges) == 5
    # Far from the 30 s of a host that does not answer at all.
    assert pulled.took_s < 5


# --- How bodies may end


@pytest.mark.parametrize("resumed_by", ["mirror", "origin"])
async def test_a_body_ended_by_fin_is_resumed_and_nothing_is_sent_twice(
    chain: Chain, resumed_by: str
) -> None:
    half = chain.layer_bytes // 2

    def answer(asked: Asked) -> Answer:
        if asked.reference != chain.layer:
            return Serve()
        if not asked.range:
            return Cut(half)
        return Serve() if resumed_by == "mirror" else NOT_HERE

    chain.mirror.answer = answer
    assert isinstance(await chain.pull(), Pulled)
    assert chain.layer_trace() == [
        "mirror GET",
        f"mirror GET bytes={half}-",
        *([f"origin GET bytes={half}-"] if resumed_by == "origin" else []),
    ]
    assert (
        sum(exchange.sent_bytes for exchange in chain.journal.of(reference=chain.layer)) == chain.layer_bytes
    )


async def test_when_the_origin_drops_a_body_the_mirror_is_asked_for_the_rest(chain: Chain) -> None:
    half = chain.layer_bytes // 2
    chain.mirror.answer = lambda asked: Serve() if asked.range else NOT_HERE
    chain.origin.answer = lambda asked: Cut(half) if asked.reference == chain.layer else Serve()
    assert isinstance(await chain.pull(), Pulled)
    assert chain.layer_trace() == ["mirror GET", "origin GET", f"mirror GET bytes={half}-"]


async def test_a_body_ended_by_rst_fails_the_pull_at_once(chain: Chain) -> None:
    half = chain.layer_bytes // 2
    chain.mirror.answer = lambda asked: Cut(half, "rst") if asked.reference == chain.layer else Serve()
    failed = await chain.pull()
    assert isinstance(failed, PullFailed)
    assert "connection reset by peer" in failed.message
    assert chain.layer_trace() == ["mirror GET"]


async def test_headers_without_a_byte_are_asked_again_from_the_start_and_four_fail_the_pull(
    chain: Chain,
) -> None:
    chain.mirror.answer = lambda asked: Cut(0) if asked.reference == chain.layer else Serve()
    assert isinstance(await chain.pull(), PullFailed)
    trace = chain.layer_trace()
    assert set(trace) == {"mirror GET"}
    assert len(trace) == 4


async def test_one_close_without_a_byte_is_harmless(chain: Chain) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.reference != chain.layer:
            return Serve()
        return Cut(0) if asked.times == 1 else NOT_HERE

    chain.mirror.answer = answer
    assert isinstance(await chain.pull(), Pulled)
    assert chain.layer_trace() == ["mirror GET", "mirror GET", "origin GET"]


@pytest.mark.matrix
async def test_waits_within_the_timer_ladder_are_survived(containerds: Containerds) -> None:
    # The longest waits that a host may get: 25 s for headers (fallback host), 20 s within a body.
    hold_s, pause_s = 25.0, 20.0
    image = build_image(78, [2_000_000, 2_000_001])
    held, paused = (layer.digest for layer in image.layers)
    shelf, journal = Shelf(), Journal()
    shelf.add(image, "lib/small", "v1")
    headers_released, body_released = asyncio.Event(), asyncio.Event()

    def answer(asked: Asked) -> Answer:
        if asked.reference == held:
            return Hold(headers_released, Serve())
        return Pause(1_000_000, body_released) if asked.reference == paused else Serve()

    running = [await containerds.get(version) for version in VERSIONS]
    async with (
        RecordingHost("mirror", shelf, journal, answer) as mirror,
        RecordingHost("origin", shelf, journal) as origin,
        asyncio.TaskGroup() as group,
    ):
        pulls = []
        for containerd in running:
            install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, mirror.url))
            pulls.append(group.create_task(cri_pull(containerd, f"{origin.authority}/lib/small:v1")))
        loop = asyncio.get_running_loop()
        loop.call_later(hold_s, headers_released.set)
        loop.call_later(pause_s, body_released.set)
    for version, pull in zip(VERSIONS, pulls, strict=True):
        assert isinstance(pull.result(), Pulled), version
        assert pull.result().took_s > hold_s
    assert journal.trace(host="origin", reference=held) == []
    assert len(journal.trace(reference=paused)) == len(VERSIONS)


# --- What an answer must hold


async def test_a_head_without_the_manifests_media_type_fails_the_pull(chain: Chain) -> None:
    octets = Serve(content_type="application/octet-stream")
    chain.mirror.answer = lambda asked: octets if asked.method == "HEAD" else Serve()
    failed = await chain.pull(chain.by_digest)
    assert isinstance(failed, PullFailed)
    assert chain.journal.trace(host="origin") == []


async def test_a_wrong_byte_fails_the_pull_and_an_abort_of_the_ingest_mends_it(chain: Chain) -> None:
    blob = chain.image.layers[0]
    good = chain.mirror.shelf
    bad_content = blob.content[:-1] + bytes([blob.content[-1] ^ 1])
    chain.mirror.shelf = replace(good, blobs=good.blobs | {blob.digest: replace(blob, content=bad_content)})
    failed = await chain.pull()
    assert isinstance(failed, PullFailed)
    assert "unexpected commit digest" in failed.message
    assert chain.layer_trace() == ["mirror GET"]
    async with Client(chain.containerd.socket) as client:
        content = client.content("k8s.io")
        ref = f"layer-{blob.digest}"
        if any(status.ref == ref for status in await content.list_statuses()):
            await content.abort(ref)
    chain.mirror.shelf = good
    assert isinstance(await chain.pull(), Pulled)


async def test_parallel_layer_fetch_asks_open_ranges_and_leaves_early(containerds: Containerds) -> None:
    chunk_bytes, chunk_count = 2 << 20, 4
    # Off by default, and effective in this table only.
    setting = f"[plugins.'io.containerd.transfer.v1.local']\nconcurrent_layer_fetch_buffer = {chunk_bytes}\n"
    containerd = await containerds.get("2.1", variant="-parallel", extra_config=setting)
    image = build_image(77, [chunk_bytes * chunk_count - 1_000_000])
    shelf, journal = Shelf(), Journal()
    shelf.add(image, "lib/small", "v1")
    async with (
        # Slow enough that the body is not in the socket's buffers when the client leaves.
        RecordingHost("mirror", shelf, journal, lambda _: Serve(bytes_per_s=40e6)) as mirror,
        RecordingHost("origin", shelf, journal) as origin,
    ):
        install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, mirror.url))
        assert isinstance(await cri_pull(containerd, f"{origin.authority}/lib/small:v1"), Pulled)
    layer = image.layers[0]
    asked = journal.of(host="mirror", reference=layer.digest)
    assert sorted(exchange.asked.range for exchange in asked) == [
        f"bytes={number * chunk_bytes}-" for number in range(chunk_count)
    ]
    first = next(exchange for exchange in asked if exchange.asked.range == "bytes=0-")
    assert (first.status, first.client_left) == (206, True)
    assert chunk_bytes <= first.sent_bytes < len(layer.content)
    small = [
        exchange for blob in (image.manifest, image.config) for exchange in journal.of(reference=blob.digest)
    ]
    assert [exchange.asked.range for exchange in small] == ["bytes=0-", "bytes=0-"]
