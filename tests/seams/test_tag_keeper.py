"""Hosts that keep their tags: what of them the cluster is told, and how often registries are asked for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from mirror.discovery.base import Peer
from mirror.origin.base import Repository, Standing
from mirror.origin.errors import OriginAbsent, OriginError, OriginFailing, OriginRateLimited, OriginRefused
from mirror.origin.memory import WINDOW_S
from mirror.tags.base import TagName
from mirror.tags.keeper import PROBE_PAUSE_S
from mirror.tags.publicity import FIRST_MAX_S, FIRST_MIN_S, FRESH_S, SOON_S, STRETCH_MAX
from mirror.tags.rules import TagPolicy
from tests.support.tag_hosts import DIGEST, QUESTION_S, TagSite
from tests.support.virtual_time import VirtualLoop, run_virtual

R = Repository("reg.test", "lib/app")
NAME = TagName(R, "v1")
DAY_S = 24 * 3600.0
# The first question and its answer are over by then.
SETTLED_S = FIRST_MAX_S + 5.0


def loop_to_unix(loop: VirtualLoop, at: float) -> int:
    return int(loop.wall()() - loop.time() + at + QUESTION_S)


def test_a_public_tag_is_announced_once_it_is_known_to_be_public() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host() as host:
            host.pull(NAME)
            await asyncio.sleep(FIRST_MIN_S / 2)
            own = host.keeper.own(NAME)
            assert own is not None and own.digest == DIGEST
            assert host.keeper.told(NAME) is None
            assert site.announcers(NAME) == set()
            assert site.registries.asked == []
            await asyncio.sleep(SETTLED_S)
            assert site.announcers(NAME) == {host.peer}
            told = host.keeper.told(NAME)
            assert told is not None and told.digest == DIGEST
            assert told.public_at_s is not None
            assert abs(told.public_at_s - loop.wall()()) < SETTLED_S
            assert [name for _, _, name in site.registries.asked] == ["v1"]
            assert host.gauge[-1] == host.keeper.announced_count == 1

    run_virtual(main)


@pytest.mark.parametrize(
    "failure",
    [
        OriginRefused("reg.test", "says 401"),
        OriginAbsent("reg.test", "says 404"),
        OriginRateLimited("reg.test", "says 429"),
        OriginFailing("reg.test", "says 500"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_is_not_known_to_be_public_is_told_to_nobody(failure: OriginError) -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        site.registries.failures[R] = failure
        async with site.host() as host:
            host.pull(NAME)
            await asyncio.sleep(2 * DAY_S)
            assert site.registries.asked, "it was asked"
            assert host.keeper.told(NAME) is None
            assert site.announcers(NAME) == set()
            assert host.keeper.own(NAME) is not None

    run_virtual(main, limit_s=3 * DAY_S)


def test_a_named_repository_is_told_without_asking() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host(is_named=lambda repository: repository == R) as host:
            host.pull(NAME)
            await asyncio.sleep(DAY_S / 2)
            assert site.announcers(NAME) == {host.peer}
            told = host.keeper.told(NAME)
            assert told is not None and told.public_at_s is None
            assert site.registries.asked == []

    run_virtual(main)


@pytest.mark.parametrize(("policy", "is_told"), [(TagPolicy.PEERS, True), (TagPolicy.OFF, False)])
def test_other_policies_ask_nobody(policy: TagPolicy, is_told: bool) -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host(policy=policy) as host:
            host.pull(NAME)
            await asyncio.sleep(DAY_S / 2)
            assert (site.announcers(NAME) == {host.peer}) is is_told
            assert (host.keeper.told(NAME) is not None) is is_told
            assert site.registries.asked == []

    run_virtual(main)


def test_under_origin_off_no_registry_is_asked_and_other_hosts_are() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(site.host()) for _ in range(2)]
            for host in hosts:
                host.pull(NAME)
            await asyncio.sleep(SETTLED_S)
            asked_count = len(site.registries.asked)
            silent = await stack.enter_async_context(site.host(probes=False))
            silent.pull(NAME)
            other = TagName(Repository("reg.test", "lib/nobody-else"), "v1")
            silent.pull(other)
            await asyncio.sleep(SETTLED_S)
            assert site.announcers(NAME) == {host.peer for host in [*hosts, silent]}
            told = silent.keeper.told(NAME)
            found = {loop_to_unix(loop, at) for at, _, _ in site.registries.asked}
            assert told is not None and told.public_at_s in found, "what others found, and when they did"
            assert site.announcers(other) == set()
            assert len(site.registries.asked) == asked_count

    run_virtual(main)


def test_a_repository_that_becomes_private_is_told_no_more() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host() as host:
            host.pull(NAME)
            await asyncio.sleep(SETTLED_S)
            assert site.announcers(NAME) == {host.peer}
            # Found by another part of the daemon: the same memory.
            host.memory.note(R, "v1", Standing.REFUSED, loop.wall()())
            assert host.keeper.told(NAME) is None, "at once, whatever the DHT says"
            await asyncio.sleep(SETTLED_S)
            assert site.announcers(NAME) == set()

    run_virtual(main)


def test_through_an_outage_a_tag_is_told_for_the_window_and_not_longer() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host() as host:
            host.pull(NAME)
            await asyncio.sleep(SETTLED_S)
            found_at = site.registries.asked[-1][0]
            site.registries.failures[R] = OriginFailing("reg.test", "is away")
            await asyncio.sleep(found_at + WINDOW_S - 60.0 - loop.time())
            assert site.announcers(NAME) == {host.peer}
            await asyncio.sleep(120.0)
            assert host.keeper.told(NAME) is None
            assert site.announcers(NAME) == set()
            del site.registries.failures[R]
            await asyncio.sleep(SOON_S * (1 + STRETCH_MAX) + 5.0)
            assert site.announcers(NAME) == {host.peer}

    run_virtual(main, limit_s=9 * DAY_S)


def test_a_registry_is_asked_again_each_day_and_no_oftener() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host() as host:
            for number in range(5):
                host.pull(TagName(R, f"v{number}"))
                await asyncio.sleep(1.0)
            await asyncio.sleep(6 * DAY_S)
            times = [at for at, _, _ in site.registries.asked]
            assert 5 <= len(times) <= 6, "one question for all tags of a repository"
            pauses = [after - before for before, after in pairwise(times)]
            assert all(pause >= FRESH_S for pause in pauses)

    run_virtual(main, limit_s=7 * DAY_S)


def test_a_host_with_hundreds_of_images_asks_slowly() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with site.host() as host:
            for number in range(300):
                host.pull(TagName(Repository("reg.test", f"lib/app{number}"), "v1"))
            await asyncio.sleep(300 * (PROBE_PAUSE_S + 1.0))
            times = [at for at, _, _ in site.registries.asked]
            assert len(times) == 300
            assert min(after - before for before, after in pairwise(times)) >= PROBE_PAUSE_S
            assert host.keeper.announced_count == 300

    run_virtual(main)


def test_a_herd_asks_the_registry_a_few_times_and_all_of_it_tells() -> None:
    """Two hundred hosts pull one image at the same moment: without hearing from each other they would ask as often."""

    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(site.host()) for _ in range(200)]
            for host in hosts:
                host.pull(NAME)
            await asyncio.sleep(2 * SETTLED_S)
            assert len(site.registries.asked) <= 5
            assert site.announcers(NAME) == {host.peer for host in hosts}
            # Hearsay grows no younger on its way.
            last_s = max(loop_to_unix(loop, at) for at, _, _ in site.registries.asked)
            told = [host.keeper.told(NAME) for host in hosts]
            assert all(one is not None and (one.public_at_s or last_s + 1) <= last_s for one in told)

    run_virtual(main)


def test_hosts_that_hear_from_each_other_ask_again_when_it_is_old() -> None:
    """Hearsay must not keep itself alive: each day somebody asks the registry, and when it refuses, all fall silent."""

    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        async with AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(site.host()) for _ in range(4)]
            for host in hosts:
                host.pull(NAME)
            await asyncio.sleep(2 * DAY_S)
            asked_count = len(site.registries.asked)
            assert 4 <= asked_count <= 4 * 3
            site.registries.failures[R] = OriginRefused("reg.test", "says 401")
            await asyncio.sleep(WINDOW_S + 2 * DAY_S)
            assert site.announcers(NAME) == set()

    run_virtual(main, limit_s=12 * DAY_S)


def test_what_is_removed_is_withdrawn_and_a_host_that_stops_withdraws_nothing() -> None:
    async def main(loop: VirtualLoop) -> None:
        site = TagSite(loop)
        other = TagName(R, "v2")
        async with site.host() as host:
            host.pull(NAME)
            host.pull(other)
            await asyncio.sleep(SETTLED_S)
            host.source.remove(NAME)
            await asyncio.sleep(1.0)
            assert site.announcers(NAME) == set()
            host.source.go_away("containerd restarts")
            await asyncio.sleep(1.0)
            assert site.announcers(other) == {host.peer}
            host.source.come_back()
            await asyncio.sleep(1.0)
            assert site.announcers(other) == {host.peer}
        assert site.announcers(other) == {Peer("10.0.0.1", 29021)}
        assert host.source.watchers_count == 0

    run_virtual(main)
