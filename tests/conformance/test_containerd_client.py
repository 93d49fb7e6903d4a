"""What the client promises of containerd, asked of the fake and of real containerd 1.6, 1.7 and 2.1."""

from __future__ import annotations

import os
from contextlib import aclosing
from dataclasses import replace

import pytest

from containerd import errors, filters
from containerd.client import Client
from containerd.types import ContentInfo, Descriptor, ImageCreated, ImageDeleted
from tests.support.containerd_calls import (
    GC_ROOT,
    MANIFEST,
    Runtime,
    add_blob,
    collect_garbage,
    digests,
    image_of,
    read,
    take,
)
from tests.support.oci_image import digest_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_labels_are_added_to_those_of_a_blob(client: Client, namespace: str) -> None:
    content = client.content(namespace)
    digest = await add_blob(content, os.urandom(100), GC_ROOT | {"test/kept": "1", "test/changed": "1"})
    added = {"test/changed": "2", "containerd.io/gc.ref.content.l.0": digest_of(b"x")}
    await content.set_labels(digest, added)
    assert (await content.info(digest)).labels == {**GC_ROOT, "test/kept": "1", **added}
    with pytest.raises(errors.NotFound):
        await content.set_labels(digest_of(namespace.encode()), added)


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


async def test_a_name_gets_another_target(client: Client, namespace: str) -> None:
    images = client.images(namespace)
    before = Descriptor(MANIFEST, digest_of(b"before"), 100, {"a": "b"})
    after = Descriptor(MANIFEST, digest_of(b"after"), 200, {})
    created = await images.create("reg.test/lib/a:v1", before, {"test/kept": "1", "test/changed": "1"})
    updated = await images.update("reg.test/lib/a:v1", after, {"test/changed": "2"})
    assert (updated.target, updated.labels) == (after, {"test/kept": "1", "test/changed": "2"})
    assert (updated.created_at, updated.updated_at > created.updated_at) == (created.created_at, True)
    assert await images.get("reg.test/lib/a:v1") == updated
    with pytest.raises(errors.NotFound, match=r"reg\.test/lib/b:v1"):
        await images.update("reg.test/lib/b:v1", after, {})


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
