"""What every tag source tells, whatever is behind it: a fake beside containerd, faked and real."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from mirror.oci.digest import Digest
from mirror.tags.base import TagName
from tests.support.bed_containerds import VERSIONS, Containerds
from tests.support.fake_containerd import FakeContainerd
from tests.support.memory_tags import MemoryTags
from tests.support.oci_image import Image, build_image
from tests.support.tag_beds import MemoryTagBed, TagBed, TagFollower, containerd_tag_bed, following, tag_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def containerds() -> AsyncIterator[Containerds]:
    # The path of a Unix socket is short, pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="peili-") as folder:
        async with AsyncExitStack() as stack:
            yield Containerds(Path(folder), stack)


@pytest_asyncio.fixture(
    loop_scope="module",
    params=[
        "memory",
        "fake-1.6",
        "fake-2.1",
        *(pytest.param(version, marks=pytest.mark.containerd) for version in VERSIONS),
    ],
)
async def bed(
    request: pytest.FixtureRequest, tmp_path: Path, containerds: Containerds
) -> AsyncIterator[TagBed]:
    name: str = request.param
    if name == "memory":
        yield MemoryTagBed(MemoryTags())
        return
    async with AsyncExitStack() as stack:
        if name.startswith("fake-"):
            version = f"{name.removeprefix('fake-')}.9"
            fake = await stack.enter_async_context(FakeContainerd(tmp_path, version=version))
            yield await stack.enter_async_context(containerd_tag_bed(fake))
        else:
            yield await stack.enter_async_context(containerd_tag_bed(await containerds.get(name)))


@pytest.fixture
def repository() -> str:
    """Containerds are shared: no other test has this one."""
    return f"lib/{secrets.token_hex(6)}"


def image() -> Image:
    return build_image(secrets.randbits(40), [100])


def digest(of: Image) -> Digest:
    return Digest.parse(of.manifest.digest)


def digests_of(follower: TagFollower) -> dict[TagName, Digest]:
    """Without times: 1.6 writes a name twice for a pull."""
    return {name: tag.digest for name, tag in follower.tags.items()}


async def test_a_pull_makes_a_record(bed: TagBed, repository: str) -> None:
    name, pulled = f"{repository}:V1.0", image()
    async with following(bed.source) as follower:
        await bed.pull(name, pulled)
        await follower.until(lambda: tag_of(bed, name) in follower.tags)
        assert follower.tags[tag_of(bed, name)].digest == digest(pulled)
    async with following(bed.source) as late:
        assert digests_of(late) == digests_of(follower), "the list tells what the events told"


async def test_a_tag_that_moves_has_the_new_digest(bed: TagBed, repository: str) -> None:
    name, before, after = f"{repository}:v1", image(), image()
    async with following(bed.source) as follower:
        await bed.pull(name, before)
        await follower.until(lambda: tag_of(bed, name) in follower.tags)
        pulled_at_s = follower.tags[tag_of(bed, name)].pulled_at_s
        await bed.pull(name, after)
        await follower.until(lambda: follower.tags[tag_of(bed, name)].digest == digest(after))
        assert follower.tags[tag_of(bed, name)].pulled_at_s > pulled_at_s


async def test_an_image_that_is_removed_leaves_no_record(bed: TagBed, repository: str) -> None:
    async with following(bed.source) as follower:
        for tag in ("v1", "v2"):
            await bed.pull(f"{repository}:{tag}", image())
        await follower.until(lambda: tag_of(bed, f"{repository}:v2") in follower.tags)
        await bed.remove(f"{repository}:v1")
        await follower.until(lambda: tag_of(bed, f"{repository}:v1") not in follower.tags)
        assert tag_of(bed, f"{repository}:v2") in follower.tags


async def test_no_record_of_what_did_not_come_from_there(bed: TagBed, repository: str) -> None:
    """Builds, imports and renames; each would let this host say what a registry's tag is."""
    pulled = f"{repository}:v1"
    elsewhere = f"elsewhere.test/{repository}:v1"
    other_repository = f"{bed.registry}/{repository}-other:v1"
    async with following(bed.source) as follower:
        await bed.build(f"{repository}-built:v1", image())
        await bed.pull(pulled, image())
        await bed.rename(pulled, elsewhere)
        await bed.rename(pulled, other_repository)
        # What comes after them shows that they were passed over.
        await bed.pull(f"{repository}:last", image())
        await follower.until(lambda: tag_of(bed, f"{repository}:last") in follower.tags)
        ours = {name.tag for name in follower.tags if name.repository.name.startswith(repository)}
        names = {name.repository.name for name in follower.tags if repository in name.repository.name}
        assert ours == {"v1", "last"}
        assert names == {repository}
        assert not any(name.repository.registry == "elsewhere.test" for name in follower.tags)
    async with following(bed.source) as late:
        assert digests_of(late) == digests_of(follower), "the list passes them over, too"


async def test_what_an_operator_imported_is_told_as_that(bed: TagBed, repository: str) -> None:
    name = f"{repository}:v1"
    brought, pulled = image(), image()
    async with following(bed.source) as follower:
        await bed.bring(name, brought)
        await follower.until(lambda: tag_of(bed, name) in follower.tags)
        tag = follower.tags[tag_of(bed, name)]
        assert (tag.digest, tag.is_imported) == (digest(brought), True)
        await bed.pull(f"{repository}:v2", pulled)
        await follower.until(lambda: tag_of(bed, f"{repository}:v2") in follower.tags)
        # Of what came from the registry, an import says nothing new.
        await bed.bring(f"{repository}:v3", pulled)
        await bed.pull(f"{repository}:last", image())
        await follower.until(lambda: tag_of(bed, f"{repository}:last") in follower.tags)
        assert not follower.tags[tag_of(bed, f"{repository}:v2")].is_imported


async def test_a_name_that_was_moved_after_its_import_is_none(bed: TagBed, repository: str) -> None:
    if isinstance(bed, MemoryTagBed):
        return  # What is behind it has no names to move.
    name = f"{repository}:v1"
    async with following(bed.source) as follower:
        await bed.bring(name, image())
        await follower.until(lambda: tag_of(bed, name) in follower.tags)
        # By a local build, which knows nothing of our label.
        await bed.build(name, image())
        await follower.until(lambda: tag_of(bed, name) not in follower.tags)


async def test_a_restart_is_told_and_what_is_here_is_told_again(bed: TagBed, repository: str) -> None:
    async with following(bed.source) as follower:
        await bed.pull(f"{repository}:v1", image())
        await follower.until(lambda: tag_of(bed, f"{repository}:v1") in follower.tags)
        before = digests_of(follower)
        await bed.restart()
        await follower.until(lambda: follower.lost_count == 1)
        assert digests_of(follower) == before
        await bed.pull(f"{repository}:v2", image())
        await follower.until(lambda: tag_of(bed, f"{repository}:v2") in follower.tags)
