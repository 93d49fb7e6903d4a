"""containerd's events, restarts and CRI, asked of the fake and of real containerd 1.6, 1.7 and 2.1."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from containerd import errors, filters
from containerd.client import Client
from containerd.types import (
    ContentCreated,
    ContentDeleted,
    Descriptor,
    ImageCreated,
    ImageDeleted,
    OtherEvent,
)
from tests.support.containerd_calls import GC_ROOT, Publish, Runtime, add_blob, digests, image_of, take
from tests.support.oci_image import build_image, digest_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUIET_S = 0.1
"""How long nothing may come; a wrong event comes at once."""
RECOVERY_S = 3.0
"""Six times the longest pause between two tries of the channel."""


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
