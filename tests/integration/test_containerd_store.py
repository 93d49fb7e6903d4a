"""The containerd store where containerds differ, and where they are away, blind or shared: on real ones."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from containerd.client import Client
from containerd.errors import FailedPrecondition
from containerd.types import Descriptor
from mirror.errors import ContentNotFound, SettingsError, StoreUnavailable
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.base import Snapshot, StreamLost
from mirror.store.containerd_store import RETRY_S, ContainerdStore
from tests.support.bed_containerds import Containerds
from tests.support.fake_containerd import FakeContainerd
from tests.support.real_containerd import RealContainerd
from tests.support.store_beds import (
    DEADLINE_S,
    Follower,
    content_of,
    eventually,
    read,
    running,
    started,
    write_content,
)

real = pytest.mark.containerd


@pytest_asyncio.fixture
async def breakable(containerds: Containerds, version: str) -> AsyncIterator[RealContainerd]:
    """A containerd that no other file uses."""
    containerd = await containerds.get(version, variant="-stores")
    yield containerd
    if not containerd.running:
        await containerd.start()


@pytest.fixture
def namespace() -> str:
    return f"store-{secrets.token_hex(4)}"


@pytest.fixture
def look_alike(tmp_path: Path) -> Path:
    """A content root that is another containerd's: no file of ours is in it, and nothing ever changes
    there."""
    (tmp_path / "content" / "ingest").mkdir(parents=True)
    return tmp_path / "content"


@asynccontextmanager
async def store_of(
    containerd: RealContainerd | FakeContainerd, namespaces: Sequence[str], content_path: Path | None = None
) -> AsyncIterator[tuple[ContainerdStore, Client]]:
    store = ContainerdStore(containerd.socket, namespaces=namespaces, content_path=content_path)
    async with Client(containerd.socket) as client, running(store):
        yield store, client


async def make_image(client: Client, namespace: str, target: Digest, size_bytes: int) -> str:
    """As CRI names it, and like every image that a build has loaded: without a label that says where it is
    from."""
    name = f"built.local/{secrets.token_hex(4)}:latest"
    descriptor = Descriptor("application/vnd.oci.image.manifest.v1+json", str(target), size_bytes, {})
    await client.images(namespace).create(name, descriptor)
    return name


@real
async def test_blobs_of_all_watched_namespaces_and_of_no_other(containerd: RealContainerd) -> None:
    first, second, other = (f"store-{secrets.token_hex(4)}" for _ in range(3))
    async with store_of(containerd, [first, second]) as (store, client):
        follower = Follower(store)
        here = {
            await write_content(client, namespace, data := secrets.token_bytes(size_bytes)): len(data)
            for size_bytes, namespace in ((10, first), (20, second))
        }
        both = secrets.token_bytes(30)
        for namespace in (first, second, other):
            here[await write_content(client, namespace, both)] = len(both)
        foreign = await write_content(client, other, secrets.token_bytes(40))
        assert (containerd.content_root / "blobs" / "sha256" / foreign.encoded).exists()
        await follower.take_until(lambda known: known == here)
        for _ in range(2):
            with pytest.raises(ContentNotFound):
                await store.open(foreign)
        assert store.size_bytes(foreign) is None
        # A blob of two namespaces is here until both have lost it.
        digest = Digest.of(both)
        await client.content(first).delete(str(digest))
        gone = await write_content(client, first, secrets.token_bytes(50))
        await follower.take_until(lambda known: gone in known)
        assert await content_of(store, digest) == both
        await client.content(second).delete(str(digest))
        await follower.take_until(lambda known: digest not in known)
        with pytest.raises(ContentNotFound):
            await store.open(digest)


@real
@pytest.mark.parametrize("sees_files", [True, False], ids=["files", "blind"])
async def test_what_garbage_collection_removes_is_withdrawn(
    containerd: RealContainerd, namespace: str, look_alike: Path, sees_files: bool
) -> None:
    """No version announces it. The image has no source label; its layer hangs on it by containerd's own
    label."""
    async with store_of(containerd, [namespace], None if sees_files else look_alike) as (store, client):
        follower = Follower(store)
        lease = await client.leases(namespace).create("pull", ttl_s=60)
        layer_data, manifest_data = secrets.token_bytes(10), secrets.token_bytes(20)
        layer = await write_content(client, namespace, layer_data, no="root")
        manifest = await write_content(
            client, namespace, manifest_data, **{"containerd.io/gc.ref.content.l.0": str(layer)}
        )
        for digest in (layer, manifest):
            await client.leases(namespace).add_resource(lease.id, str(digest))
        name = await make_image(client, namespace, manifest, len(manifest_data))
        await client.leases(namespace).delete(lease.id, sync=True)
        await follower.take_until(lambda known: known == {layer: 10, manifest: 20})
        await client.images(namespace).delete(name, sync=True)
        with pytest.raises(ContentNotFound):
            await store.open(layer)
        await follower.take_until(lambda known: known == {})


@real
async def test_without_files_an_image_is_the_sign(
    containerd: RealContainerd, namespace: str, look_alike: Path
) -> None:
    """1.6 and 1.7 send nothing about content; on all versions an image event makes the store look."""
    async with store_of(containerd, [namespace], look_alike) as (store, client):
        follower = Follower(store)
        here: dict[Digest, int] = {}
        # More than one: the first may be found by the walk that follows the start.
        for _ in range(3):
            digest = await write_content(client, namespace, secrets.token_bytes(10))
            await make_image(client, namespace, digest, 10)
            here[digest] = 10
            await follower.take_until(here.__eq__)


@real
async def test_bytes_that_another_namespace_has_are_found_when_asked_for(
    containerd: RealContainerd, namespace: str
) -> None:
    """containerd shares the file, so 1.6 and 1.7 give no sign at all that this namespace has it now."""
    async with store_of(containerd, [namespace]) as (store, client):
        data = secrets.token_bytes(10)
        digest = await write_content(client, f"{namespace}-other", data)
        with pytest.raises(ContentNotFound):
            await store.open(digest)
        assert await write_content(client, namespace, data) == digest
        await until_it_opens(store, digest)
        assert store.size_bytes(digest) == 10


@real
@pytest.mark.parametrize("is_mounted", [True, False], ids=["another-folder", "no-folder"])
async def test_without_files_bytes_come_over_grpc_and_the_log_says_what_to_mount(
    containerd: RealContainerd,
    namespace: str,
    look_alike: Path,
    caplog: pytest.LogCaptureFixture,
    is_mounted: bool,
) -> None:
    async with store_of(containerd, [namespace], look_alike) as (store, client):
        data = secrets.token_bytes(2 * 1024 * 1024 + 7)
        digest = await write_content(client, namespace, data)
        await make_image(client, namespace, digest, len(data))
        await Follower(store).take_until(lambda known: digest in known)
        if not is_mounted:
            shutil.rmtree(look_alike)
        for _ in range(2):
            blob = await store.open(digest)
            assert blob.descriptor is None
            assert await read(blob) == data
            assert await read(blob, ByteSpan(7, 1024 * 1024 + 8)) == data[7 : 1024 * 1024 + 8]
            assert await read(blob, ByteSpan(5, 5)) == b""
            blob.close()
    (record,) = [record for record in caplog.records if "gRPC" in record.message]
    assert str(look_alike) in record.message
    assert "--containerd-content-path" in record.message


@real
async def test_without_a_folder_a_new_blob_is_asked_for_and_a_lost_one_is_no_short_body(
    containerd: RealContainerd, namespace: str, look_alike: Path
) -> None:
    async with store_of(containerd, [namespace], look_alike) as (store, client):
        shutil.rmtree(look_alike)
        digest = await write_content(client, namespace, secrets.token_bytes(10))
        blob = await store.open(digest)
        await client.content(namespace).delete(str(digest))
        with pytest.raises(StoreUnavailable, match=str(digest)):
            await read(blob)
        with pytest.raises(ContentNotFound):
            await store.open(Digest.of(secrets.token_bytes(1)))


@real
async def test_a_restart_is_told_and_got_over(
    breakable: RealContainerd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_of(breakable, [namespace]) as (store, client):
        data = secrets.token_bytes(100)
        digest = await write_content(client, namespace, data)
        follower = Follower(store)
        await follower.take_until(lambda known: known == {digest: 100})
        await breakable.stop()
        lost = await follower.take()
        assert isinstance(lost, StreamLost)
        assert str(breakable.socket) in lost.reason
        assert str(breakable.socket) in str(store.unavailable)
        assert await content_of(store, digest) == data, "what is known is still served from its file"
        absent = Digest.of(secrets.token_bytes(1))
        with pytest.raises(ContentNotFound):
            await store.open(absent)
        with pytest.raises(StoreUnavailable):
            await store.discard_ingest(absent)
        await breakable.start()
        later = await write_content(client, namespace, secrets.token_bytes(50))
        await follower.take_until(lambda known: known == {digest: 100, later: 50})
        assert store.unavailable is None
        assert follower.lost_count == 1
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) <= 3, "one line for each reason, not for each try"


@real
async def test_a_crash_is_got_over(breakable: RealContainerd, namespace: str) -> None:
    async with store_of(breakable, [namespace]) as (store, client):
        data = secrets.token_bytes(100)
        digest = await write_content(client, namespace, data)
        follower = Follower(store)
        await follower.take_until(lambda known: digest in known)
        await breakable.kill()
        assert isinstance(await follower.take(), StreamLost)
        await breakable.start()
        assert await follower.take() == Snapshot({digest: 100})
        assert await content_of(store, digest) == data


@real
async def test_a_start_before_containerd(breakable: RealContainerd, namespace: str) -> None:
    async with Client(breakable.socket) as client:
        digest = await write_content(client, namespace, secrets.token_bytes(10))
    await breakable.stop()
    store = ContainerdStore(breakable.socket, namespaces=[namespace], content_path=None)
    async with started(store):
        await eventually(lambda: "has not answered yet" not in str(store.unavailable))
        assert str(breakable.socket) in str(store.unavailable)
        with pytest.raises(StoreUnavailable):
            await store.open(digest)
        await breakable.start()
        await Follower(store).take_until(lambda known: known == {digest: 10})
        assert store.unavailable is None


@pytest.mark.slow
async def test_a_containerd_that_stays_away_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ContainerdStore(tmp_path / "c.sock", namespaces=["k8s.io"], content_path=None)
    async with started(store):
        await asyncio.sleep(2.5 * RETRY_S)  # Not to wait for something: several tries must happen.
        assert "not there" in str(store.unavailable)
    # grpc's poller complains to asyncio of the loops of tests before.
    told = [record.levelname for record in caplog.records if record.name.startswith("mirror.")]
    assert told == ["WARNING"]


@real
async def test_a_wrong_ingest_is_thrown_away_and_no_other(containerd: RealContainerd, namespace: str) -> None:
    other = f"{namespace}-other"
    async with store_of(containerd, [namespace]) as (store, client):
        right, wrong = secrets.token_bytes(10), secrets.token_bytes(10)
        digest, unconcerned = Digest.of(right), Digest.of(secrets.token_bytes(1))
        content = client.content(namespace)
        with pytest.raises(FailedPrecondition):
            async with content.writer(f"layer-{digest}", digest=str(digest), size_bytes=10) as writer:
                await writer.write(wrong)
                await writer.commit()
        for where, ref, of in ((namespace, "manifest-x", unconcerned), (other, f"layer-{digest}", digest)):
            async with client.content(where).writer(ref, digest=str(of), size_bytes=10) as writer:
                await writer.write(wrong[:5])
        # From containerd 1.7 on, this ingest would make every later pull of the image fail.
        assert len(await content.list_statuses()) == 2
        await store.discard_ingest(digest)
        assert [status.ref for status in await content.list_statuses()] == ["manifest-x"]
        assert len(await client.content(other).list_statuses()) == 1
        assert await write_content(client, namespace, right) == digest
        for where in (namespace, other):
            for status in await client.content(where).list_statuses():
                await client.content(where).abort(status.ref)


async def test_misses_are_quick_and_soon_forgotten(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeContainerd(tmp_path, version="1.7.0"))
        data = b"of another namespace"
        fake.state.add_blob("other", data, {})
        store, _ = await stack.enter_async_context(store_of(fake, ["watched"]))
        digest = Digest.of(data)
        with pytest.raises(ContentNotFound):
            await store.open(digest)
        # No sign, no event: only asking again would tell, and the store has just asked.
        fake.state.add_blob("watched", data, {})
        with pytest.raises(ContentNotFound):
            await store.open(digest)
        await until_it_opens(store, digest)


async def until_it_opens(store: ContainerdStore, digest: Digest) -> None:
    """A miss is remembered for a moment."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                (await store.open(digest)).close()
            except ContentNotFound:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_record_that_comes_well_after_its_file_is_noticed(tmp_path: Path) -> None:
    """On a slow disk containerd notes the blob after the walk that its file has caused, and says nothing."""
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeContainerd(tmp_path, version="1.7.0"))
        late = b"written down late"
        fake.state.add_blob("other", late, {})
        store, client = await stack.enter_async_context(store_of(fake, ["watched"]))
        follower = Follower(store)
        first = await write_content(client, "watched", b"a sign")
        await follower.take_until(lambda known: known == {first: 6})
        fake.state.add_blob("watched", late, {})
        await follower.take_until(lambda known: Digest.of(late) in known)


async def test_a_file_of_another_size_is_not_served(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeContainerd(tmp_path))
        fake.state.add_blob("watched", b"0123456789", {})
        digest = Digest.of(b"0123456789")
        store, _ = await stack.enter_async_context(store_of(fake, ["watched"]))
        path = fake.state.blob_path(str(digest))
        path.chmod(0o644)
        os.truncate(path, 5)
        with pytest.raises(ContentNotFound):
            await store.open(digest)


async def test_a_grpc_read_that_ends_early_is_an_error_and_not_an_end(
    tmp_path: Path, look_alike: Path
) -> None:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeContainerd(tmp_path))
        fake.state.add_blob("watched", b"0123456789", {})
        store, _ = await stack.enter_async_context(store_of(fake, ["watched"], look_alike))
        blob = await store.open(Digest.of(b"0123456789"))
        path = fake.state.blob_path(str(Digest.of(b"0123456789")))
        path.chmod(0o644)
        os.truncate(path, 5)
        with pytest.raises(StoreUnavailable, match="at 5, not at 10"):
            await read(blob)


async def test_content_whose_digest_is_not_of_a_known_kind_is_left_out(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeContainerd(tmp_path))
        good = b"good"
        fake.state.add_blob("watched", good, {})
        content = fake.state.namespaces["watched"].content
        odd = type(content[str(Digest.of(good))])(digest="sha384:" + "a" * 96, size=1)
        content["sha384:" + "a" * 96] = odd
        store, _ = await stack.enter_async_context(store_of(fake, ["watched"]))
        follower = Follower(store)
        await follower.take_until(lambda known: known == {Digest.of(good): 4})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: path / "nothing", "is not a folder"),
        (lambda path: _file(path / "file"), "is not a folder"),
        (lambda path: path, "neither blobs/ nor ingest/"),
    ],
    ids=["absent", "file", "other"],
)
async def test_a_content_path_that_cannot_be_right_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    store = ContainerdStore(tmp_path / "c.sock", namespaces=["k8s.io"], content_path=make(tmp_path))
    with pytest.raises(SettingsError, match=complaint) as caught:
        await store.run()
    assert caught.value.setting == "--containerd-content-path"


@pytest.mark.parametrize(
    "namespaces", [[], [""], ["a b"], ["k8s.io", "-x"], ["x" * 77], ["k8s.io\n"]], ids=repr
)
def test_a_namespace_that_cannot_be_is_refused(namespaces: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        ContainerdStore(Path("/c.sock"), namespaces=namespaces, content_path=None)
    assert caught.value.setting == "--containerd-namespace"


async def test_a_socket_path_that_cannot_be_is_refused() -> None:
    store = ContainerdStore(Path("/" + "x" * 200), namespaces=["k8s.io"], content_path=None)
    with pytest.raises(SettingsError) as caught:
        await store.run()
    assert caught.value.setting == "--containerd-sock"


def _file(path: Path) -> Path:
    path.touch()
    return path
