"""What every watch over downloads does, whatever downloads: one suite on the fake, on a folder laid out as
containerd's, and on real containerds."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path

import pytest
import pytest_asyncio

from mirror.errors import ContentNotFound
from mirror.ingest.base import Born, Committed, IngestFile, Vanished
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.ingest.signs import PolledSigns
from mirror.oci.digest import Digest
from tests.support.bed_containerds import VERSIONS, Containerds
from tests.support.ingest_beds import (
    IngestBed,
    Listener,
    containerd_bed,
    folder_bed,
    memory_bed,
)
from tests.support.store_beds import eventually

STEP_BYTES = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def containerds() -> AsyncIterator[Containerds]:
    # The path of a Unix socket is short, pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="peili-") as folder:
        async with AsyncExitStack() as stack:
            yield Containerds(Path(folder), stack)


@pytest.fixture(
    params=[
        "memory",
        "folder",
        "folder-polled",
        *(pytest.param(f"containerd-{version}", marks=pytest.mark.containerd) for version in VERSIONS),
    ]
)
async def bed(
    request: pytest.FixtureRequest, tmp_path: Path, containerds: Containerds
) -> AsyncIterator[IngestBed]:
    name: str = request.param
    namespaces = ("one", "two")
    made: AbstractAsyncContextManager[IngestBed]
    if name == "memory":
        made = memory_bed()
    elif name == "folder":
        made = folder_bed(tmp_path, ContainerdIngests(lambda: tmp_path, namespaces=namespaces))
    elif name == "folder-polled":
        polled = ContainerdIngests(
            lambda: tmp_path,
            namespaces=namespaces,
            open_signs=lambda *_: nullcontext(PolledSigns("the test wants it", waits_for_folders=False)),
        )
        made = folder_bed(tmp_path, polled)
    else:
        made = containerd_bed(await containerds.get(name.removeprefix("containerd-")))
    async with made as bed:
        yield bed


@pytest.fixture
def data() -> bytes:
    """Three steps and a bit, never seen before."""
    return secrets.token_bytes(3 * STEP_BYTES + 7)


def read(file: IngestFile) -> bytes:
    return os.pread(file.descriptor, file.size_bytes(), 0)


async def test_a_birth_is_told_and_is_no_progress(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await listener.until(lambda: digest in listener.known)
    assert listener.heard == [Born(bed.namespaces[0], f"layer-{digest}", digest, len(data))]
    assert bed.watch.size_bytes(digest) == 0
    await draft.write(data[:STEP_BYTES])
    await listener.until_size(digest, STEP_BYTES)


async def test_growth_is_told_and_every_prefix_is_exact(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await listener.until(lambda: digest in listener.known)
    file = bed.watch.open(digest)
    for start in range(0, len(data), STEP_BYTES):
        await draft.write(data[start : start + STEP_BYTES])
        size_bytes = min(start + STEP_BYTES, len(data))
        await listener.until_size(digest, size_bytes)
        assert bed.watch.size_bytes(digest) == size_bytes
        assert file.size_bytes() == size_bytes
        assert read(file) == data[:size_bytes]
    assert listener.of(digest) == listener.heard[:1], "no more than one birth"
    file.close()


async def test_what_was_opened_stays_readable_through_its_commit(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await listener.until(lambda: digest in listener.known)
    early = bed.watch.open(digest)
    await draft.write(data)
    await draft.commit()
    await listener.until(lambda: digest in listener.committed)
    assert bed.watch.size_bytes(digest) is None, "nothing is downloaded any more"
    late = bed.watch.open(digest)
    assert read(early) == read(late) == data
    early.close()
    late.close()
    assert [type(event) for event in listener.of(digest)] == [Born, Committed]


async def test_a_cancelled_download_vanishes_and_stays_readable(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await draft.write(data[:STEP_BYTES])
    await listener.until_size(digest, STEP_BYTES)
    early = bed.watch.open(digest)
    await draft.cancel()
    await listener.until(lambda: Vanished(digest) in listener.heard)
    late = bed.watch.open(digest)
    assert read(early) == read(late) == data[:STEP_BYTES]
    early.close()
    late.close()
    assert bed.watch.size_bytes(digest) is None


async def test_a_download_that_begins_again_is_another_one(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    first = await bed.begin(digest, len(data))
    await first.write(data[: 2 * STEP_BYTES])
    await listener.until_size(digest, 2 * STEP_BYTES)
    old = bed.watch.open(digest)
    await first.cancel()
    second = await bed.begin(digest, len(data))
    await listener.until(lambda: bed.watch.size_bytes(digest) == 0 and listener.size_bytes(digest) is None)
    new = bed.watch.open(digest)
    assert (read(old), read(new)) == (data[: 2 * STEP_BYTES], b"")
    await second.write(data)
    await second.commit()
    await listener.until(lambda: digest in listener.committed)
    assert read(new) == data
    assert read(old) == data[: 2 * STEP_BYTES]
    old.close()
    new.close()


async def test_one_that_listens_late_hears_what_goes_on(bed: IngestBed, data: bytes) -> None:
    early, digest, other = Listener(bed.watch), Digest.of(data), Digest.of(data[1:])
    draft, idle = await bed.begin(digest, len(data)), await bed.begin(other, len(data) - 1)
    await draft.write(data[:STEP_BYTES])
    await early.until(lambda: other in early.known and early.size_bytes(digest) == STEP_BYTES)
    late = Listener(bed.watch)
    await late.until(lambda: other in late.known and late.size_bytes(digest) == STEP_BYTES)
    assert len(late.heard) == 3, "two births, and one has grown"
    await idle.cancel()
    await draft.cancel()
    for listener in (early, late):
        await listener.until(lambda listener=listener: not listener.known)  # type: ignore[misc]


async def test_downloads_are_not_mixed_up(bed: IngestBed) -> None:
    listener = Listener(bed.watch)
    contents = [secrets.token_bytes(5 + number) for number in range(8)]
    digests = [Digest.of(content) for content in contents]
    drafts = [
        await bed.begin(digest, len(content)) for digest, content in zip(digests, contents, strict=True)
    ]
    for number, (draft, content) in enumerate(zip(drafts, contents, strict=True)):
        await draft.write(content[: 1 + number // 2])
    await listener.until(
        lambda: [listener.size_bytes(digest) for digest in digests] == [1, 1, 2, 2, 3, 3, 4, 4]
    )
    files = [bed.watch.open(digest) for digest in digests]
    for number, (draft, content) in enumerate(zip(drafts, contents, strict=True)):
        if number % 2:
            await draft.write(content[1 + number // 2 :])
            await draft.commit()
        else:
            await draft.cancel()
    await listener.until(lambda: not listener.known)
    assert listener.committed == set(digests[1::2])
    for number, (file, content) in enumerate(zip(files, contents, strict=True)):
        assert read(file) == (content if number % 2 else content[: 1 + number // 2])
        file.close()


async def test_a_commit_too_quick_to_be_seen_is_told(bed: IngestBed) -> None:
    listener = Listener(bed.watch)
    marker = await bed.begin(Digest.of(secrets.token_bytes(8)), 8)
    await listener.until(lambda: marker.digest in listener.known)
    contents = [secrets.token_bytes(100) for _ in range(5)]
    for content in contents:
        draft = await bed.begin(Digest.of(content), len(content))
        await draft.write(content)
        await draft.commit()
    await listener.until(lambda: listener.committed == {Digest.of(content) for content in contents})
    assert not any(isinstance(event, Vanished) for event in listener.heard)


async def test_full_size_is_not_complete(bed: IngestBed, data: bytes) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await draft.write(data[:-1] + bytes([data[-1] ^ 1]))
    await listener.until_size(digest, len(data))
    await draft.commit()
    assert bed.watch.size_bytes(digest) == len(data)
    await draft.cancel()
    await listener.until(lambda: not listener.known)
    assert [type(event) for event in listener.of(digest)] == [Born, Vanished]


async def test_of_two_downloads_of_a_digest_one_counts_as_long_as_it_lasts(
    bed: IngestBed, data: bytes
) -> None:
    listener, digest = Listener(bed.watch), Digest.of(data)
    first = await bed.begin(digest, len(data))
    await first.write(data[: 2 * STEP_BYTES])
    await listener.until_size(digest, 2 * STEP_BYTES)
    second = await bed.begin(digest, len(data), namespace=bed.namespaces[1])
    await second.write(data[:STEP_BYTES])
    await first.write(data[2 * STEP_BYTES : 3 * STEP_BYTES])
    await listener.until_size(digest, 3 * STEP_BYTES)
    assert listener.of(digest) == [Born(bed.namespaces[0], first_ref := f"layer-{digest}", digest, len(data))]
    await first.cancel()
    await listener.until_size(digest, STEP_BYTES)
    assert listener.of(digest)[1:] == [Born(bed.namespaces[1], first_ref, digest, len(data))]
    file = bed.watch.open(digest)
    await second.write(data[STEP_BYTES:])
    await second.commit()
    await listener.until(lambda: digest in listener.committed)
    assert read(file) == data
    file.close()


async def test_what_nobody_downloads_cannot_be_opened(bed: IngestBed) -> None:
    absent = Digest.of(b"nobody downloads this")
    assert bed.watch.size_bytes(absent) is None
    with pytest.raises(ContentNotFound, match=str(absent)):
        bed.watch.open(absent)


async def test_readers_do_not_close_each_other_s_files(bed: IngestBed, data: bytes) -> None:
    digest = Digest.of(data)
    draft = await bed.begin(digest, len(data))
    await eventually(lambda: bed.watch.size_bytes(digest) == 0)
    first, second = bed.watch.open(digest), bed.watch.open(digest)
    first.close()
    first.close()
    await draft.write(data)
    await eventually(lambda: second.size_bytes() == len(data))
    assert read(second) == data
    second.close()
    bed.watch.open(digest).close()
    await draft.commit()
