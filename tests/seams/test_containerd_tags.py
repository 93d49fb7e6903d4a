"""ContainerdTags on a containerd that is none, for what a test cannot ask of a real one at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.origin.base import Repository
from mirror.store.containerd_tags import ContainerdTags
from mirror.tags.base import TagName
from tests.support.fake_containerd import FakeContainerd
from tests.support.oci_image import build_image
from tests.support.tag_beds import following

NAME = TagName(Repository("reg.test:5000", "lib/app"), "v1")
REFERENCE = str(NAME)
ONE, TWO = (build_image(seed, [10]) for seed in (1, 2))


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeContainerd]:
    async with FakeContainerd(tmp_path) as fake:
        yield fake


def tags(fake: FakeContainerd, *namespaces: str) -> ContainerdTags:
    return ContainerdTags(fake.socket, namespaces=namespaces)


async def test_of_two_namespaces_the_one_that_wrote_last_is_told(fake: FakeContainerd) -> None:
    async with following(tags(fake, "a", "b")) as follower:

        def has(digest: str) -> bool:
            tag = follower.tags.get(NAME)
            return tag is not None and str(tag.digest) == digest

        fake.state.pull("a", REFERENCE, ONE)
        await follower.until(lambda: has(ONE.manifest.digest))
        fake.state.pull("b", REFERENCE, TWO)
        await follower.until(lambda: has(TWO.manifest.digest))
        async with following(tags(fake, "b", "a")) as late:
            assert late.tags == follower.tags
        fake.state.delete_image("b", REFERENCE)
        await follower.until(lambda: has(ONE.manifest.digest))
        fake.state.delete_image("a", REFERENCE)
        await follower.until(lambda: not follower.tags)


async def test_other_namespaces_are_not_heard(fake: FakeContainerd) -> None:
    fake.state.pull("other", REFERENCE, ONE)
    async with following(tags(fake, "a")) as follower:
        assert follower.tags == {}
        fake.state.pull("other", str(NAME) + "-other", ONE)
        fake.state.pull("a", str(NAME) + "-ours", ONE)
        await follower.until(lambda: bool(follower.tags))
        assert {name.tag for name in follower.tags} == {"v1-ours"}


async def test_containerd_may_come_later_than_the_watch(tmp_path: Path) -> None:
    fake = FakeContainerd(tmp_path)
    fake.state.pull("a", REFERENCE, ONE)
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(start_when_asked(fake))
        async with following(tags(fake, "a")) as follower:
            assert set(follower.tags) == {NAME}
            assert follower.lost_count == 0, "nothing is lost of what was never known"
        await starting
    await fake.stop()


async def start_when_asked(fake: FakeContainerd) -> None:
    # The watch has begun, and found nobody there.
    for _ in range(10):
        await asyncio.sleep(0)
    await fake.start()


async def test_what_changed_while_containerd_was_away_is_in_the_next_list(fake: FakeContainerd) -> None:
    fake.state.pull("a", REFERENCE, ONE)
    async with following(tags(fake, "a")) as follower:
        await fake.kill()
        await follower.until_lost()
        fake.state.delete_image("a", REFERENCE)
        fake.state.pull("a", str(NAME) + "-new", TWO)
        assert set(follower.tags) == {NAME}
        await fake.start()
        await follower.until(lambda: {name.tag for name in follower.tags} == {"v1-new"})


async def test_an_image_whose_content_is_gone_is_no_record(fake: FakeContainerd) -> None:
    fake.state.pull("a", REFERENCE, ONE)
    fake.state.delete_blob("a", ONE.manifest.digest)
    fake.state.pull("a", str(NAME) + "-whole", TWO)
    async with following(tags(fake, "a")) as follower:
        assert {name.tag for name in follower.tags} == {"v1-whole"}
