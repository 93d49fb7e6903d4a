"""What the client promises of containerd, asked of the fake and of real containerd 1.6, 1.7 and 2.1.

The real ones are started once for the module: every test takes a namespace and contents of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from containerd import errors, filters
from containerd.client import Client
from containerd.content import Content
from containerd.types import (
    ContentCreated,
    ContentDeleted,
    ContentInfo,
    Descriptor,
    Event,
    ImageCreated,
    ImageDeleted,
    OtherEvent,
)
from tests.support.fake_containerd import FakeContainerd
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.skips import tool_bin

Runtime = FakeContainerd | RealContainerd
Publish = Callable[[str, Image], Awaitable[str]]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
GC_ROOT = {"containerd.io/gc.root": "test"}
# One event loop for all: gRPC notes in the log what it has to tell a loop that is closed already.
pytestmark = pytest.mark.asyncio(loop_scope="module")

ARRIVES_S = 5.0
"""How long a test waits for what must come."""
QUIET_S = 0.1
"""How long nothing may come; a wrong event comes at once."""
RECOVERY_S = 3.0
"""Six times the longest pause between two tries of the channel."""

FAKES = ["fake-1.7", "fake-2.1"]
REAL = [pytest.param(version, marks=pytest.mark.containerd) for version in ("1.6", "1.7", "2.1")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*FAKES, *REAL])
async def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str | RealContainerd]:
    """The version of a fake, to be made for each test; or a running containerd."""
    name = str(request.param)
    if name.startswith("fake-"):
        yield f"{name.removeprefix('fake-')}.5"
        return
    workdir = tmp_path_factory.mktemp("containerd")
    binaries = tool_bin(f"containerd-{name}")
    async with RealContainerd(binaries, workdir, certs_dir=workdir / "certs") as containerd:
        yield containerd


@pytest_asyncio.fixture(loop_scope="module")
async def runtime(kind: str | RealContainerd, tmp_path: Path) -> AsyncIterator[Runtime]:
    if isinstance(kind, str):
        async with FakeContainerd(tmp_path, version=kind) as fake:
            yield fake
    else:
        yield kind
        if not kind.running:
            await kind.start()


@pytest_asyncio.fixture(loop_scope="module")
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with Client(runtime.socket) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(loop_scope="module")
async def publish(runtime: Runtime) -> AsyncIterator[Publish]:
    """Makes an image pullable, and gives its reference."""
    if isinstance(runtime, FakeContainerd):
        remote = runtime.state.remote

        async def publish_to_fake(name: str, image: Image) -> str:
            remote[f"reg.test/{name}"] = image
            return f"reg.test/{name}"

        yield publish_to_fake
        return
    objects: dict[str, tuple[str, bytes, str]] = {}

    async def serve(request: web.Request) -> web.Response:
        media_type, content, digest = objects[request.path]
        headers = {"Docker-Content-Digest": digest, "Content-Type": media_type}
        return web.Response(body=content, headers=headers)

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/{path:.*}", serve)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    async def publish_by_http(name: str, image: Image) -> str:
        repository, tag = name.split(":")
        manifest = (image.manifest.media_type, image.manifest.content, image.manifest.digest)
        for reference in (tag, image.manifest.digest):
            objects[f"/v2/{repository}/manifests/{reference}"] = manifest
        for blob in (image.config, *image.layers):
            objects[f"/v2/{repository}/blobs/{blob.digest}"] = (blob.media_type, blob.content, blob.digest)
        return f"127.0.0.1:{port}/{name}"

    yield publish_by_http
    await runner.cleanup()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def add_blob(
    content: Content, data: bytes, labels: dict[str, str] | None = None, *, lease_id: str = ""
) -> str:
    digest = digest_of(data)
    ref = f"test-{digest}"
    async with content.writer(ref, digest=digest, size_bytes=len(data), lease_id=lease_id) as writer:
        await writer.write(data)
        await writer.commit(labels)
    return digest


async def digests(content: Content, *conditions: str) -> set[str]:
    return {info.digest async for info in content.list(*conditions)}


async def read(content: Content, digest: str, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
    chunks = content.read(digest, offset_bytes=offset_bytes, size_bytes=size_bytes)
    return b"".join([chunk async for chunk in chunks])


async def collect_garbage(client: Client, namespace: str) -> None:
    lease_id = secrets.token_hex(4)
    await client.leases(namespace).create(lease_id, ttl_s=60)
    await client.leases(namespace).delete(lease_id, sync=True)


async def take(stream: AsyncIterator[Event], last: Event) -> list[Event]:
    """The events up to `last`."""
    taken: list[Event] = []
    async with asyncio.timeout(ARRIVES_S):
        async for event in stream:
            taken.append(event)
            if event == last:
                return taken
    raise AssertionError(f"the stream ended before {last}: {taken}")


def image_of(digest: str) -> Descriptor:
    return Descriptor(MANIFEST, digest, 100, {})


# Server


async def test_version(client: Client, runtime: Runtime) -> None:
    version = await client.version()
    assert version.release == runtime.version()
    assert version.text.lstrip("v").startswith("{}.{}.".format(*runtime.version()))


async def test_content_root_is_where_the_blobs_are(client: Client, runtime: Runtime, namespace: str) -> None:
    root = await client.content_root()
    assert root == runtime.content_root
    data = os.urandom(100)
    digest = await add_blob(client.content(namespace), data, GC_ROOT)
    path = root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o444


async def test_a_namespace_exists_from_its_first_lease(client: Client, namespace: str) -> None:
    before = await client.namespaces()
    await client.leases(namespace).create("l1", ttl_s=60)
    assert namespace not in before
    assert set(await client.namespaces()) == {*before, namespace}


# Content


async def test_a_written_blob_is_described_and_read(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    data = os.urandom((2 << 20) + 17)
    labels = GC_ROOT | {"containerd.io/distribution.source.reg.test": "lib/a,lib/b"}
    digest = await add_blob(content, data, labels)
    info = await content.info(digest)
    assert info == ContentInfo(digest, len(data), info.created_at, labels)
    assert info.created_at.tzinfo is not None
    assert [each async for each in content.list()] == [info]
    async with aclosing(content.read(digest)) as chunks:
        sizes = [len(chunk) async for chunk in chunks]
    assert sizes == [1 << 20, 1 << 20, 17]
    end = len(data)
    for offset, size in [(0, None), (5, 10), (end - 1, None), (end - 5, 10), (end, None), (end, 5), (7, 0)]:
        expected = data[offset:] if size is None else data[offset : offset + size]
        assert await read(content, digest, offset, size) == expected


async def test_ranges_that_cannot_be(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    digest = await add_blob(content, b"0123456789" + namespace.encode(), GC_ROOT)
    with pytest.raises(errors.OutOfRange):
        await read(content, digest, 1000)
    with pytest.raises(ValueError, match="negative range"):
        await read(content, digest, -1)
    with pytest.raises(ValueError, match="negative range"):
        await read(content, digest, 0, -1)


async def test_a_read_may_be_given_up(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    digest = await add_blob(content, os.urandom(4 << 20), GC_ROOT)
    async with aclosing(content.read(digest)) as chunks:
        assert len(await anext(chunks)) == 1 << 20
    assert (await content.info(digest)).size_bytes == 4 << 20


async def test_absent_content(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    absent = "sha256:" + "0" * 64
    for call in (content.info(absent), content.delete(absent), content.abort("none"), read(content, absent)):
        with pytest.raises(errors.NotFound):
            await call
    assert await digests(content) == set()
    assert await content.list_statuses() == ()


async def test_a_digest_that_is_none(client: Client, namespace: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="garbage"):
        await client.content(namespace).info("garbage")


@pytest.mark.parametrize("name", ["", "a b/c", "-x"])
async def test_a_namespace_that_is_none(client: Client, name: str) -> None:
    with pytest.raises((errors.InvalidArgument, errors.FailedPrecondition)):
        await client.images(name).list()


async def test_delete_takes_a_blob_away(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    digest = await add_blob(content, os.urandom(10), GC_ROOT)
    await content.delete(digest)
    with pytest.raises(errors.NotFound):
        await content.info(digest)
    assert await digests(content) == set()


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "a,b",
        "a==b",
        'say "hi"',
        "back\\slash",
        "tab\tnew\nline\x00\x7f",
        "ümläut 镜",
        " ",
        "/x/",
        "|x|",
    ],
)
async def test_filters_find_exactly_the_label(client: Client, namespace: str, value: str) -> None:
    content = client.content(namespace)
    key = f"test/{value.strip() or 'space'}"
    wanted = await add_blob(content, os.urandom(10), GC_ROOT | {key: value})
    await add_blob(content, os.urandom(10), GC_ROOT | {"test/other": value})
    other = await add_blob(content, os.urandom(10), GC_ROOT | {key: value + "x"})
    assert await digests(content, filters.equals("labels", key, value=value)) == {wanted}
    assert await digests(content, filters.present("labels", key)) == {wanted, other}
    both = filters.all_of(filters.present("labels", key), filters.equals("digest", value=other))
    assert await digests(content, both) == {other}
    either = (filters.equals("digest", value=other), filters.equals("digest", value=wanted))
    assert await digests(content, *either) == {wanted, other}


async def test_filters_by_regular_expression(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    wanted = await add_blob(content, os.urandom(10), GC_ROOT | {"repo": "lib/x.y"})
    await add_blob(content, os.urandom(10), GC_ROOT | {"repo": "lib/xzy"})
    assert await digests(content, filters.matches("labels", "repo", regex=r"^lib/x\.y$")) == {wanted}


async def test_a_filter_that_is_none(client: Client, namespace: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="parse error"):
        await digests(client.content(namespace), "labels.==x")


# Ingests


async def test_an_ingest_is_seen_resumed_and_committed(
    client: Client, runtime: Runtime, namespace: str
) -> None:
    content = client.content(namespace)
    data = os.urandom(3 << 20)
    digest = digest_of(data)
    async with content.writer("layer-1", digest=digest, size_bytes=len(data)) as writer:
        assert writer.offset_bytes == 0
        await writer.write(data[: 2 << 20])
        (status,) = await content.list_statuses()
        assert (status.ref, status.offset_bytes, status.total_bytes) == ("layer-1", 2 << 20, len(data))
        assert status.started_at <= status.updated_at
    (ingest,) = [
        folder
        for folder in (runtime.content_root / "ingest").iterdir()
        if (folder / "ref").read_text().startswith(f"{namespace}/")
    ]
    assert (ingest / "ref").read_text().endswith("/layer-1")
    assert (ingest / "total").read_text() == str(len(data))
    assert (ingest / "data").read_bytes() == data[: 2 << 20]
    async with content.writer("layer-1", digest=digest, size_bytes=len(data)) as writer:
        assert writer.offset_bytes == 2 << 20
        await writer.write(data[writer.offset_bytes :])
        await writer.commit(GC_ROOT)
    assert await read(content, digest) == data
    assert await content.list_statuses() == ()
    assert not ingest.exists()


async def test_a_wrong_digest_is_refused_until_the_ingest_is_aborted(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    data = os.urandom(1000)
    digest = digest_of(data)
    async with content.writer("layer-2", digest=digest, size_bytes=1000) as writer:
        await writer.write(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(errors.FailedPrecondition, match="unexpected commit digest"):
            await writer.commit(GC_ROOT)
    with pytest.raises(errors.NotFound):
        await content.info(digest)
    assert [status.ref for status in await content.list_statuses()] == ["layer-2"]
    await content.abort("layer-2")
    assert await content.list_statuses() == ()
    async with content.writer("layer-2", digest=digest, size_bytes=1000) as writer:
        assert writer.offset_bytes == 0
        await writer.write(data)
        await writer.commit(GC_ROOT)
    assert await read(content, digest) == data


async def test_a_wrong_size_is_refused(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    data = os.urandom(1000)
    async with content.writer("layer-3", digest=digest_of(data), size_bytes=1000) as writer:
        await writer.write(data[:-1])
        with pytest.raises(errors.FailedPrecondition, match="failed size validation"):
            await writer.commit(GC_ROOT)


async def test_a_blob_is_written_once(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    data = os.urandom(1000)
    await add_blob(content, data, GC_ROOT)
    with pytest.raises(errors.AlreadyExists):
        await add_blob(content, data, GC_ROOT)


async def test_another_namespace_gets_the_bytes_for_nothing(client: Client, namespace: str) -> None:
    data = os.urandom(1000)
    digest = await add_blob(client.content(namespace), data, GC_ROOT)
    other = client.content(f"{namespace}-b")
    with pytest.raises(errors.NotFound):
        await other.info(digest)
    async with other.writer("x", digest=digest, size_bytes=1000) as writer:
        assert writer.offset_bytes == 1000
        await writer.commit(GC_ROOT)
    assert await read(other, digest) == data


async def test_an_ingest_has_one_writer(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    digest = digest_of(namespace.encode())
    async with content.writer("layer-4", digest=digest, size_bytes=10):
        with pytest.raises(errors.RefLocked, match="layer-4"):
            async with content.writer("layer-4", digest=digest, size_bytes=10):
                raise AssertionError("two writers")
    async with content.writer("layer-4", digest=digest, size_bytes=10) as writer:
        assert writer.offset_bytes == 0


# Images


async def test_images(client: Client, namespace: str) -> None:
    images = client.images(namespace)
    assert await images.list() == ()
    digest = digest_of(namespace.encode())
    target = Descriptor(MANIFEST, digest, 100, {"a": "b"})
    created = await images.create("reg.test/lib/a:v1", target, {"l": "1"})
    assert created == replace(created, name="reg.test/lib/a:v1", target=target, labels={"l": "1"})
    assert await images.get("reg.test/lib/a:v1") == created
    with pytest.raises(errors.AlreadyExists):
        await images.create("reg.test/lib/a:v1", target)
    other = await images.create("reg.test/lib/b:v1", target)
    assert await images.list() == (created, other)
    assert await images.list(filters.equals("name", value="reg.test/lib/b:v1")) == (other,)
    assert await images.list(filters.equals("target", "digest", value="x")) == ()
    await images.delete("reg.test/lib/a:v1")
    for call in (images.get("reg.test/lib/a:v1"), images.delete("reg.test/lib/a:v1")):
        with pytest.raises(errors.NotFound, match=r"reg\.test/lib/a:v1"):
            await call
    assert await images.list() == (other,)


async def test_a_list_of_images_may_be_large(client: Client, namespace: str) -> None:
    images = client.images(namespace)
    target = Descriptor(MANIFEST, digest_of(b"x"), 1, {"big": "x" * (6 << 20)})
    created = await images.create("reg.test/big:v1", target)
    assert await images.list() == (created,)
    await images.delete("reg.test/big:v1")


# Leases and garbage


async def test_leases(client: Client, namespace: str) -> None:
    leases = client.leases(namespace)
    created = await leases.create("l1", ttl_s=3600, labels={"owner": "test"})
    assert created.id == "l1"
    assert created.labels["owner"] == "test"
    assert created.labels["containerd.io/gc.expire"] > created.created_at.isoformat()
    assert await leases.list() == (created,)
    assert await leases.list(filters.equals("labels", "owner", value="else")) == ()
    with pytest.raises(errors.AlreadyExists):
        await leases.create("l1", ttl_s=1)
    await leases.delete("l1")
    assert await leases.list() == ()
    for call in (leases.delete("l1"), leases.add_resource("l1", digest_of(b""))):
        with pytest.raises(errors.NotFound):
            await call


async def test_a_lease_keeps_what_was_written_under_it(client: Client, namespace: str) -> None:
    content, leases = client.content(namespace), client.leases(namespace)
    await leases.create("l1", ttl_s=3600)
    kept = await add_blob(content, os.urandom(100), lease_id="l1")
    await collect_garbage(client, namespace)
    assert await digests(content) == {kept}
    await leases.delete("l1", sync=True)
    assert await digests(content) == set()


async def test_a_lease_keeps_what_was_added_to_it(client: Client, namespace: str) -> None:
    content, leases = client.content(namespace), client.leases(namespace)
    await leases.create("first", ttl_s=3600)
    digest = await add_blob(content, os.urandom(100), lease_id="first")
    await leases.create("second", ttl_s=3600)
    await leases.add_resource("second", digest)
    await leases.delete("first", sync=True)
    assert await digests(content) == {digest}


async def test_an_expired_lease_keeps_nothing(client: Client, namespace: str) -> None:
    content, leases = client.content(namespace), client.leases(namespace)
    await leases.create("l1", ttl_s=-5)
    # Written without it: containerd may delete an expired lease at any time.
    await leases.create("l2", ttl_s=3600)
    digest = await add_blob(content, os.urandom(100), lease_id="l2")
    await leases.add_resource("l1", digest)
    await leases.delete("l2", sync=True)
    assert await digests(content) == set()


async def test_an_image_keeps_what_its_labels_name(client: Client, namespace: str) -> None:
    content, images, leases = client.content(namespace), client.images(namespace), client.leases(namespace)
    await leases.create("l1", ttl_s=3600)
    layer = await add_blob(content, os.urandom(100), lease_id="l1")
    labels = {"containerd.io/gc.ref.content.l.0": layer}
    manifest = await add_blob(content, os.urandom(100), labels, lease_id="l1")
    await images.create("reg.test/a:v1", image_of(manifest))
    await leases.delete("l1", sync=True)
    assert await digests(content) == {layer, manifest}
    async with client.events.subscribe() as stream:
        await images.delete("reg.test/a:v1", sync=True)
        assert await digests(content) == set()
        await images.create("reg.test/end:v1", image_of(manifest))
        # Garbage collection announces no content.
        assert await take(stream, ImageCreated(namespace, "reg.test/end:v1")) == [
            ImageDeleted(namespace, "reg.test/a:v1"),
            ImageCreated(namespace, "reg.test/end:v1"),
        ]


# Events


async def test_an_open_stream_misses_nothing(client: Client, namespace: str) -> None:
    images = client.images(namespace)
    for number in range(10):
        async with client.events.subscribe() as stream:
            await images.create(f"reg.test/a:v{number}", image_of(digest_of(b"")))
            created = ImageCreated(namespace, f"reg.test/a:v{number}")
            assert await take(stream, created) == [created]


async def test_content_events_depend_on_the_version(client: Client, runtime: Runtime, namespace: str) -> None:
    content, images = client.content(namespace), client.images(namespace)
    async with client.events.subscribe() as stream:
        digest = await add_blob(content, os.urandom(100), GC_ROOT)
        await content.delete(digest)
        await images.create("reg.test/end:v1", image_of(digest))
        events = await take(stream, ImageCreated(namespace, "reg.test/end:v1"))
    created = [ContentCreated(namespace, digest, 100)] if runtime.version() >= (2, 1) else []
    assert events == [*created, ContentDeleted(namespace, digest), events[-1]]


async def test_events_of_all_namespaces_or_by_filter(client: Client, namespace: str) -> None:
    other = f"{namespace}-b"
    target = image_of(digest_of(b""))
    only = filters.all_of(
        filters.equals("namespace", value=other), filters.matches("topic", regex="^/images/")
    )
    async with client.events.subscribe() as everything, client.events.subscribe(only) as filtered:
        await client.images(namespace).create("reg.test/a:v1", target)
        await client.images(other).create("reg.test/b:v1", target)
        ours, theirs = ImageCreated(namespace, "reg.test/a:v1"), ImageCreated(other, "reg.test/b:v1")
        assert await take(everything, theirs) == [ours, theirs]
        assert await take(filtered, theirs) == [theirs]


async def test_two_subscribers_do_not_see_each_others_markers(client: Client, namespace: str) -> None:
    async with client.events.subscribe() as first, client.events.subscribe():
        await client.images(namespace).create("reg.test/a:v1", image_of(digest_of(b"")))
        created = ImageCreated(namespace, "reg.test/a:v1")
        assert await take(first, created) == [created]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await anext(first)


async def test_a_bad_filter_opens_no_stream(client: Client) -> None:
    # No InvalidArgument here: containerd says UNKNOWN.
    with pytest.raises(errors.CallFailed, match="parse error"):
        async with client.events.subscribe("topic=="):
            raise AssertionError("the stream opened")


# Restarts


async def test_a_client_outlives_a_crash(client: Client, runtime: Runtime, namespace: str) -> None:
    images = client.images(namespace)
    await images.create("reg.test/a:v1", image_of(digest_of(b"")))
    async with client.events.subscribe() as stream:
        await runtime.kill()
        with pytest.raises(errors.SocketRefused, match="nobody listens"):
            await anext(stream)
    with pytest.raises(errors.SocketRefused, match=str(runtime.socket)):
        await images.list()
    await runtime.start()
    await client.wait_ready(timeout_s=RECOVERY_S)
    assert [image.name for image in await images.list()] == ["reg.test/a:v1"]
    async with client.events.subscribe() as stream:
        await images.delete("reg.test/a:v1")
        deleted = ImageDeleted(namespace, "reg.test/a:v1")
        assert await take(stream, deleted) == [deleted]


async def test_a_client_may_be_there_before_containerd(runtime: Runtime) -> None:
    await runtime.stop()
    reasons: list[errors.Unavailable] = []
    async with Client(runtime.socket) as client:
        with pytest.raises(errors.SocketMissing):
            await client.version()
        with pytest.raises(errors.SocketMissing, match="not there; start containerd"):
            await client.wait_ready(timeout_s=0.25, report=reasons.append)
        assert [type(reason) for reason in reasons] == [errors.SocketMissing]
        await runtime.start()
        assert (await client.wait_ready(timeout_s=RECOVERY_S)).release == runtime.version()


# CRI


async def test_cri_describes_itself(client: Client) -> None:
    version = await client.cri.version()
    assert version.runtime_name == "containerd"
    assert version.runtime_version == (await client.version()).text
    assert "config" in await client.cri.status_info()


async def test_cri_pulls_and_removes(client: Client, runtime: Runtime, publish: Publish) -> None:
    cri, content = client.cri, client.content("k8s.io")
    image = build_image(secrets.randbits(32), [1000, 2000])
    name = f"lib/{secrets.token_hex(4)}"
    reference = await publish(f"{name}:v1", image)
    registry = reference.partition("/")[0]
    by_digest = f"{registry}/{name}@{image.manifest.digest}"
    blobs = [image.manifest, image.config, *image.layers]
    async with client.events.subscribe() as stream:
        assert await cri.pull_image(reference, deadline_s=30) == image.config.digest
        events = await take(stream, ImageCreated("k8s.io", by_digest))
    names = [event.name for event in events if isinstance(event, ImageCreated)]
    assert names == [reference, image.config.digest, by_digest]
    contents = [(event.digest, event.size_bytes) for event in events if isinstance(event, ContentCreated)]
    announced = blobs if runtime.version() >= (2, 1) else []
    assert sorted(contents) == sorted((blob.digest, len(blob.content)) for blob in announced)
    others = [event.topic for event in events if isinstance(event, OtherEvent)]
    assert sorted(others) == ["/snapshot/commit"] * 2 + ["/snapshot/prepare"] * 2

    target = (await client.images("k8s.io").get(reference)).target
    assert target == Descriptor(image.manifest.media_type, image.manifest.digest, len(blobs[0].content), {})
    source = filters.equals(
        "labels", f"containerd.io/distribution.source.{registry.partition(':')[0]}", value=name
    )
    assert await digests(content, source) == {blob.digest for blob in blobs}
    labels = (await content.info(image.manifest.digest)).labels
    children = {value for key, value in labels.items() if key.startswith("containerd.io/gc.ref.content.")}
    assert children == {blob.digest for blob in blobs[1:]}

    status = await cri.image_status(reference)
    assert status is not None
    assert (status.id, status.tags, status.digests) == (image.config.digest, (reference,), (by_digest,))
    assert status in await cri.list_images()
    await cri.remove_image(reference)
    assert await cri.image_status(reference) is None
    await cri.remove_image(reference)


async def test_cri_says_why_a_pull_failed(client: Client, publish: Publish) -> None:
    reference = await publish("lib/there:v1", build_image(1, []))
    absent = reference.replace("there", "absent")
    with pytest.raises(errors.ContainerdError, match="lib/absent:v1"):
        await client.cri.pull_image(absent, deadline_s=30)
