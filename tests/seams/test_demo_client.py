"""The demo's client against its real origin and against mirrors that misbehave; its sink against the real store."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mirror.demo.client import PARALLEL_LAYERS_COUNT, Client, Endpoint, session
from mirror.demo.errors import PullFailed
from mirror.demo.image import DemoBlob, build_image
from mirror.demo.origin import FACTS_PATH, REPOSITORY, TAG, Origin
from mirror.demo.progress import HostProgress
from mirror.demo.sink import Nowhere, Sink, StoreFolder
from mirror.herding import ingests_of
from mirror.ingest.base import Born, Committed, Grew, IngestEvent
from mirror.oci.digest import Digest
from mirror.settings import resolve
from mirror.settings.load import read
from mirror.settings.resolve import Surroundings
from mirror.settings.setting import Command
from mirror.store.base import Snapshot
from mirror.store.directory_store import DirectoryStore
from mirror.store.ingest_file import DigestMismatch
from mirror.store.oci_layout import OciLayout
from mirror.web.body import cut
from mirror.web.listener import Listener, bind

MIB = 2**20
FAST_BYTES_PER_S = 2**33
IMAGE = build_image(MIB)
LARGEST = IMAGE.layers[0]

Handler = Callable[[web.Request, DemoBlob], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Yields host:port."""
    listener = Listener(app, bind("test", "127.0.0.1", 0), drain_s=0.1)
    await listener.start()
    try:
        host, port = listener.address
        yield f"{host}:{port}"
    finally:
        await listener.stop()


@contextlib.asynccontextmanager
async def mirror(handler: Handler) -> AsyncIterator[Endpoint]:
    """`handler` gets every request that is for a blob of the image, its manifest included."""
    blobs = {str(blob.digest): blob for blob in IMAGE}

    async def answer(request: web.Request) -> web.StreamResponse:
        return await handler(request, blobs[request.path.rpartition("/")[2]])

    app = web.Application()
    app.router.add_get("/v2/{rest:.+}", answer, allow_head=False)
    async with listening(app) as address:
        yield Endpoint(address, is_mirror=True)


async def whole(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
    return web.Response(body=blob.content)


async def absent(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
    return web.Response(status=404)


class Bed:
    """An origin that notes the ranges it is asked for, and one host."""

    def __init__(self, origin: Endpoint, http: aiohttp.ClientSession) -> None:
        self.origin = origin
        self.http = http
        self.progress = HostProgress("host 1")

    async def pull(self, *mirrors: Endpoint, sink: Sink | None = None) -> None:
        client = Client(
            self.http, mirrors, self.origin, REPOSITORY, sink or Nowhere(), self.progress, time.monotonic
        )
        await client.pull(TAG)

    async def origin_counts(self) -> tuple[int, int]:
        """Bytes sent and requests."""
        async with self.http.get(f"http://{self.origin.address}{FACTS_PATH}") as response:
            facts = await response.json()
            return facts["sent_bytes"], facts["request_count"]


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with listening(Origin(IMAGE, FAST_BYTES_PER_S).app) as address, session("127.0.0.9") as http:
        yield Bed(Endpoint(address, is_mirror=False), http)


@pytest.mark.parametrize(
    ("method", "path", "byte_range", "status", "body_bytes"),
    [
        ("HEAD", f"manifests/{TAG}", None, 200, 0),
        ("GET", f"manifests/{TAG}", None, 200, len(IMAGE.manifest.content)),
        ("GET", f"manifests/{IMAGE.manifest.digest}", None, 200, len(IMAGE.manifest.content)),
        ("GET", f"blobs/{LARGEST.digest}", "bytes=10-19", 206, 10),
        ("GET", f"blobs/{LARGEST.digest}", "bytes=99999999-", 416, 0),
        ("GET", f"blobs/{IMAGE.manifest.digest}", None, 404, 0),
        ("GET", "manifests/other", None, 404, 0),
    ],
)
async def test_the_origin_counts_the_bytes_of_what_it_has(
    bed: Bed, method: str, path: str, byte_range: str | None, status: int, body_bytes: int
) -> None:
    url = f"http://{bed.origin.address}/v2/{REPOSITORY}/{path}"
    headers = {"Range": byte_range} if byte_range else {}
    async with bed.http.request(method, url, headers=headers) as response:
        body = await response.read()
        assert response.status == status
        if response.ok:
            assert len(body) == body_bytes
            assert response.headers["Docker-Content-Digest"] in {str(blob.digest) for blob in IMAGE}
    assert await bed.origin_counts() == (body_bytes, 1)


async def test_without_a_mirror_all_of_it_comes_from_the_origin(bed: Bed) -> None:
    await bed.pull()
    assert (bed.progress.origin_bytes, bed.progress.peer_bytes) == (IMAGE.size_bytes, 0)
    assert bed.progress.total_bytes == IMAGE.size_bytes
    assert bed.progress.is_done
    # The tag, the manifest, the config and the layers.
    assert await bed.origin_counts() == (IMAGE.size_bytes, 3 + len(IMAGE.layers))


async def test_with_a_mirror_the_origin_only_resolves_the_tag(bed: Bed) -> None:
    asked: list[tuple[str, str]] = []

    async def noting(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        asked.append((request.query["ns"], str(request.remote)))
        return await whole(request, blob)

    async with mirror(noting) as endpoint:
        await bed.pull(endpoint)
    assert (bed.progress.origin_bytes, bed.progress.peer_bytes) == (0, IMAGE.size_bytes)
    assert await bed.origin_counts() == (0, 1)
    assert set(asked) == {(bed.origin.address, "127.0.0.9")}


async def test_every_request_asks_the_mirror_first_whatever_it_said_before(bed: Bed) -> None:
    asked: list[Digest] = []

    async def all_but_the_largest(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        asked.append(blob.digest)
        return await (absent if blob is LARGEST else whole)(request, blob)

    async with mirror(all_but_the_largest) as endpoint:
        await bed.pull(endpoint)
    assert sorted(asked) == sorted(blob.digest for blob in IMAGE)
    assert bed.progress.origin_bytes == len(LARGEST.content)


async def test_a_mirror_that_is_not_there_costs_nothing(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    await bed.pull(Endpoint(f"127.0.0.1:{port}", is_mirror=True))
    assert bed.progress.origin_bytes == IMAGE.size_bytes


@pytest.mark.parametrize("kept_bytes", [0, 1, 100_000, len(LARGEST.content) - 1])
async def test_a_cut_body_goes_on_at_the_origin_with_no_byte_twice(bed: Bed, kept_bytes: int) -> None:
    async def cutting(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        if blob is not LARGEST:
            return await whole(request, blob)
        assert "Range" not in request.headers
        response = web.StreamResponse(headers={"Content-Length": str(len(blob.content))})
        await response.prepare(request)
        await response.write(blob.content[:kept_bytes])
        cut(request, response)
        return response

    async with mirror(cutting) as endpoint:
        await bed.pull(endpoint)
    assert bed.progress.origin_bytes == len(LARGEST.content) - kept_bytes
    assert bed.progress.done_bytes == IMAGE.size_bytes
    assert (await bed.origin_counts())[0] == len(LARGEST.content) - kept_bytes


async def test_a_wrong_byte_fails_the_pull_and_is_not_kept(bed: Bed, tmp_path: Path) -> None:
    async def wrong(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        return web.Response(body=blob.content[:-1] + b"!" if blob is LARGEST else blob.content)

    OciLayout(tmp_path).prepare()
    async with mirror(wrong) as endpoint:
        with pytest.raises(PullFailed, match=f"host 1: .*{LARGEST.digest}"):
            await bed.pull(endpoint, sink=StoreFolder(tmp_path))
    assert not OciLayout(tmp_path).blob_path(LARGEST.digest).exists()
    assert not list((tmp_path / "ingest").iterdir())
    assert not bed.progress.is_done


@pytest.mark.parametrize("extra", [b"", b"x"])
async def test_a_mirror_of_another_size_is_passed_over(bed: Bed, extra: bytes) -> None:
    async def odd(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        return web.Response(body=blob.content[: -1 if not extra else None] + extra)

    async with mirror(odd) as endpoint:
        await bed.pull(endpoint)
    assert bed.progress.origin_bytes == IMAGE.size_bytes


async def test_no_more_than_three_layers_come_at_once(bed: Bed) -> None:
    layers = {layer.digest for layer in IMAGE.layers}
    held_count = 0
    crowded, released = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request, blob: DemoBlob) -> web.StreamResponse:
        nonlocal held_count
        if blob.digest in layers:
            held_count += 1
            if held_count == PARALLEL_LAYERS_COUNT:
                crowded.set()
            await released.wait()
        return await whole(request, blob)

    async with asyncio.timeout(5), mirror(held) as endpoint, asyncio.TaskGroup() as tasks:
        tasks.create_task(bed.pull(endpoint))
        await crowded.wait()
        # A fourth would have been sent with the third: it would be here before the answers to these.
        async with session("127.0.0.9") as http:
            for _ in range(10):
                async with http.get(f"http://{endpoint.address}/v2/x/{IMAGE.config.digest}") as response:
                    assert response.status == 200
        assert held_count == PARALLEL_LAYERS_COUNT
        released.set()
    assert held_count == len(layers)


@contextlib.asynccontextmanager
async def shaky_origin(bytes_a_time: int) -> AsyncIterator[str]:
    """Ends every body after `bytes_a_time`."""
    origin = Origin(IMAGE, FAST_BYTES_PER_S)

    @web.middleware
    async def shorten(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.rpartition("/")[2] != str(LARGEST.digest):
            return await handler(request)
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        rest = LARGEST.content[start:]
        response = web.StreamResponse(
            status=206 if "Range" in request.headers else 200, headers={"Content-Length": str(len(rest))}
        )
        await response.prepare(request)
        await response.write(rest[:bytes_a_time])
        if len(rest) > bytes_a_time:
            cut(request, response)
        return response

    origin.app.middlewares.append(shorten)
    async with listening(origin.app) as address:
        yield address


async def test_the_last_in_the_list_is_asked_again_while_it_makes_progress(bed: Bed) -> None:
    async with shaky_origin(150_000) as address:
        bed.origin = Endpoint(address, is_mirror=False)
        await bed.pull()
    assert bed.progress.origin_bytes == IMAGE.size_bytes


async def test_a_pull_that_makes_no_progress_fails_and_says_why(bed: Bed) -> None:
    async with shaky_origin(0) as address, mirror(absent) as endpoint:
        bed.origin = Endpoint(address, is_mirror=False)
        with pytest.raises(PullFailed, match=f"{LARGEST.digest} cannot be had: .* answered 404; .* failed"):
            await bed.pull(endpoint)


async def test_an_origin_without_the_tag_fails_the_pull() -> None:
    async with listening(web.Application()) as address, session("127.0.0.9") as http:
        with pytest.raises(PullFailed, match="host 1: the origin answered 404 for the tag latest"):
            await Bed(Endpoint(address, is_mirror=False), http).pull()


async def test_what_is_committed_is_served_by_the_daemons_store(bed: Bed, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, quota_bytes=None)
    running = asyncio.ensure_future(store.run())
    try:
        async with asyncio.timeout(5):
            assert isinstance(await anext(aiter(store.watch())), Snapshot)
            await bed.pull(sink=StoreFolder(tmp_path))
            for blob in IMAGE:
                opened = await store.open(blob.digest)
                assert opened.size_bytes == len(blob.content)
                opened.close()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_the_daemon_sees_a_download_grow_and_end(tmp_path: Path) -> None:
    OciLayout(tmp_path).prepare()
    data = b"as long as it takes"
    digest = Digest.of(data)
    flags = {"store": "directory", "store_dir": str(tmp_path)}
    around = Surroundings(working_dir=tmp_path, has_ipv6=True, is_terminal=False)
    settings = resolve.serve(read(Command.SERVE, flags, {}), around, tmp_path / "data").settings
    ingests = ingests_of(settings, lambda: None)
    running = asyncio.ensure_future(ingests.run())
    watch = aiter(ingests.watch())

    async def told() -> IngestEvent:
        event = await anext(watch)
        assert isinstance(event, IngestEvent)
        return event

    try:
        async with asyncio.timeout(5):
            while ingests.unavailable:
                await asyncio.sleep(0.01)
            async with StoreFolder(tmp_path).ingest(digest, len(data)) as writer:
                assert await told() == Born("default", f"layer-{digest}", digest, len(data))
                await writer.write(data[:7])
                assert await told() == Grew(digest, 7)
                file = ingests.open(digest)
                await writer.write(data[7:])
                await writer.commit()
            while not isinstance(event := await told(), Committed):
                assert isinstance(event, Grew)
            assert event == Committed(digest)
            assert file.size_bytes() == len(data)
            file.close()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert not list((tmp_path / "ingest").iterdir())


@pytest.mark.parametrize("sink_of", [lambda folder: Nowhere(), StoreFolder], ids=["nowhere", "folder"])
@pytest.mark.parametrize("data", [b"short", b"as long ah", b"as long as it takes"])
async def test_sinks_refuse_what_is_not_the_blob(
    sink_of: Callable[[Path], Sink], data: bytes, tmp_path: Path
) -> None:
    OciLayout(tmp_path).prepare()
    digest = Digest.of(b"as long as")
    with pytest.raises(DigestMismatch):
        async with sink_of(tmp_path).ingest(digest, len(b"as long as")) as writer:
            await writer.write(data)
            await writer.commit()
    assert not OciLayout(tmp_path).blob_path(digest).exists()


@pytest.mark.parametrize("sink_of", [lambda folder: Nowhere(), StoreFolder], ids=["nowhere", "folder"])
async def test_no_byte_too_many_is_written(sink_of: Callable[[Path], Sink], tmp_path: Path) -> None:
    OciLayout(tmp_path).prepare()
    async with sink_of(tmp_path).ingest(Digest.of(b"short"), 5) as writer:
        await writer.write(b"shor")
        with pytest.raises(DigestMismatch):
            await writer.write(b"ts")
        assert [path.stat().st_size for path in tmp_path.glob("ingest/*/data")] in ([], [4])
