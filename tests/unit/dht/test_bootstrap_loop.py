"""When which source is asked, in virtual time: back-off, splits that heal, and what an operator is told."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

import pytest

from dht.bootstrap.loop import JITTER, PINGS_PARALLEL_COUNT, TROUBLE_AFTER_COUNT, Bootstrap
from dht.bootstrap.sources import Source, SourceFailed
from dht.endpoints import Endpoint
from dht.params import Params
from tests.support.virtual_time import VirtualLoop, run_virtual

PARAMS = Params()
A, B, C = (Endpoint(f"10.0.0.{n}", 29021) for n in (1, 2, 3))
# A ping that nobody answers.
SILENCE_S = PARAMS.rpc_timeout_s


class Named:
    """A source whose answer the test sets; remembers when it was asked."""

    def __init__(self, name: str, answer: list[Endpoint] | str, *, takes_s: float = 0.0) -> None:
        self.name = name
        self.answer = answer
        self.takes_s = takes_s
        self.asked_at: list[float] = []
        self.known: AbstractSet[Endpoint] = frozenset()

    def __str__(self) -> str:
        return self.name

    async def endpoints(self, known: AbstractSet[Endpoint]) -> list[Endpoint]:
        self.asked_at.append(asyncio.get_running_loop().time())
        self.known = known
        await asyncio.sleep(self.takes_s)
        if isinstance(self.answer, str):
            raise SourceFailed(self.answer)
        return self.answer


class Network:
    """Which endpoints answer. A node that answers is a member until the test takes it away."""

    def __init__(self, *alive: Endpoint) -> None:
        self.alive = set(alive)
        self.members: set[Endpoint] = set()
        self.pinged: list[tuple[float, Endpoint]] = []
        self.under_way_count = 0
        self.most_at_once_count = 0

    async def ping(self, found: Endpoint) -> bool:
        self.pinged.append((asyncio.get_running_loop().time(), found))
        self.under_way_count += 1
        self.most_at_once_count = max(self.most_at_once_count, self.under_way_count)
        await asyncio.sleep(0.001 if found in self.alive else SILENCE_S)
        self.under_way_count -= 1
        if found in self.alive:
            self.members.add(found)
        return found in self.alive


@asynccontextmanager
async def _running(
    network: Network,
    sources: Sequence[Source],
    saved: Sequence[Endpoint] = (),
    *,
    is_own: Callable[[Endpoint], bool] = lambda found: False,
) -> AsyncIterator[Bootstrap]:
    made = Bootstrap(
        sources,
        saved,
        network.ping,
        lambda: len(network.members),
        PARAMS,
        random.Random(1),
        known=lambda: network.members,
        is_own=is_own,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(made.run())
        yield made
        task.cancel()


def _pauses(at: list[float], start: float) -> list[float]:
    return [later - earlier for earlier, later in zip([start, *at], at, strict=False)]


def test_alone_a_source_is_asked_less_and_less_but_never_given_up() -> None:
    async def main(loop: VirtualLoop) -> None:
        source, start = Named("static:a", [A]), loop.time()
        async with _running(Network(), [source]):
            await asyncio.sleep(600)
        first, *pauses = _pauses(source.asked_at, start)
        assert first == 0
        wanted = [0.5, 1, 2, 4, 8, 16] + [30] * (len(pauses) - 6)
        for pause, nominal in zip(pauses, wanted, strict=True):
            assert (1 - JITTER) * nominal <= pause - SILENCE_S <= (1 + JITTER) * nominal
        assert len(set(pauses)) > len(pauses) // 2
        assert 600 / 40 < len(pauses) < 600 / 20

    run_virtual(main)


def test_with_members_every_source_is_asked_for_ever_and_seldom() -> None:
    async def main(loop: VirtualLoop) -> None:
        source, network = Named("dns:all", [A, B]), Network(A)
        async with _running(network, [source]):
            await asyncio.sleep(3600)
            # The other side of a split comes back: nobody restarted anything.
            assert network.members == {A}
            network.alive.add(B)
            await asyncio.sleep(PARAMS.bootstrap_joined_s * (1 + JITTER) + 1)
            assert network.members == {A, B}
            assert source.known is network.members
        assert 3600 / 375 <= len(source.asked_at) <= 3600 / 225 + 2

    run_virtual(main)


def test_who_lost_all_members_asks_again_soon() -> None:
    async def main(loop: VirtualLoop) -> None:
        source, network = Named("static:a", [A]), Network(A)
        async with _running(network, [source]):
            await asyncio.sleep(10)
            assert len(source.asked_at) == 1
            network.alive.clear()
            network.members.clear()
            await asyncio.sleep(PARAMS.bootstrap_alone_s * (1 + JITTER) + SILENCE_S)
            # And from then on as at the start.
            _, again, *after = source.asked_at
            assert after[0] - again < 2 * (PARAMS.bootstrap_backoff_start_s + SILENCE_S)

    run_virtual(main)


def test_a_source_that_hangs_delays_no_other() -> None:
    async def main(loop: VirtualLoop) -> None:
        slow = Named("dns:slow", "cannot resolve slow", takes_s=PARAMS.resolve_timeout_s)
        quick, network = Named("static:a", [A]), Network(A)
        async with _running(network, [slow, quick]) as bootstrap:
            await asyncio.sleep(0.01)
            assert network.members == {A}
            assert not bootstrap.has_asked
            await asyncio.sleep(PARAMS.resolve_timeout_s)
            assert bootstrap.has_asked

    run_virtual(main)


def test_alone_is_known_when_all_were_asked_and_nobody_answered() -> None:
    async def main(loop: VirtualLoop) -> None:
        async with _running(Network(), [Named("static:a", [A])], [B]) as bootstrap:
            start = loop.time()
            await bootstrap.asked()
            assert loop.time() - start == pytest.approx(SILENCE_S)
        async with _running(Network(), []) as bootstrap:
            assert bootstrap.has_asked

    run_virtual(main)


def test_saved_peers_are_asked_only_while_there_is_nobody() -> None:
    async def main(loop: VirtualLoop) -> None:
        saved = [Endpoint(f"10.0.1.{n}", 29021) for n in range(64)]
        network = Network(saved[0])
        async with _running(network, [], saved):
            await asyncio.sleep(3600)
            # The first few at once; the first of them answered, and that was it.
            assert [found for _, found in network.pinged] == saved[:PINGS_PARALLEL_COUNT]
            network.alive = {saved[-1]}
            network.members.clear()
            await asyncio.sleep(PARAMS.bootstrap_alone_s * (1 + JITTER) + 64 * SILENCE_S)
            assert network.members == {saved[-1]}
        assert network.most_at_once_count == PINGS_PARALLEL_COUNT

    run_virtual(main)


def test_no_source_makes_us_ask_more_than_a_few_at_once() -> None:
    async def main(loop: VirtualLoop) -> None:
        many = [Endpoint(f"10.0.1.{n}", 29021) for n in range(100)]
        network = Network()
        async with _running(network, [Named("dns:all", many)]) as bootstrap:
            await bootstrap.asked()
        assert len(network.pinged) == 100
        assert network.most_at_once_count == PINGS_PARALLEL_COUNT

    run_virtual(main)


def test_trouble_is_told_while_it_lasts_and_logged_once_a_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main(loop: VirtualLoop) -> None:
        dns, network = Named("dns:all", "cannot resolve all: there is no such name; check it"), Network()
        async with _running(network, [dns]) as bootstrap:
            await asyncio.sleep(300)
            assert len(dns.asked_at) > 5
            assert bootstrap.trouble == "cannot resolve all: there is no such name; check it"
            dns.answer = [A]
            await asyncio.sleep(60)
            assert str(bootstrap.trouble).startswith("nobody answers at dns:all; check that")
            network.alive.add(A)
            await asyncio.sleep(60)
            assert bootstrap.trouble is None

    run_virtual(main)
    assert [(record.levelname, record.getMessage()[:23]) for record in caplog.records] == [
        ("WARNING", "cannot resolve all: the"),
        ("WARNING", "nobody answers at dns:a"),
        ("INFO", "bootstrap by dns:all is"),
    ]


def test_hosts_that_start_together_are_in_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        dns, network = Named("dns:all", "cannot resolve all"), Network()
        async with _running(network, [dns]) as bootstrap:
            while len(dns.asked_at) < TROUBLE_AFTER_COUNT:
                assert bootstrap.trouble is None
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
            assert bootstrap.trouble == "cannot resolve all"
            dns.answer = [A]
            network.alive.add(A)
            await asyncio.sleep(60)
            dns.answer = "cannot resolve all"
            await asyncio.sleep(PARAMS.bootstrap_joined_s * (1 + JITTER))
            # Once is no trouble again.
            assert bootstrap.trouble is None

    run_virtual(main)


def test_one_of_many_bootstrap_hosts_that_is_down_is_no_trouble() -> None:
    async def main(loop: VirtualLoop) -> None:
        network = Network(A)
        async with _running(network, [Named("static:a", [A]), Named("static:b", [B])]) as bootstrap:
            await asyncio.sleep(3600)
            assert bootstrap.trouble is None
            network.members.clear()
            assert str(bootstrap.trouble).startswith("nobody answers at static:b")
            assert "static:a" not in str(bootstrap.trouble)

    run_virtual(main)


def test_a_cluster_of_one_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        network = Network()
        async with _running(network, [Named("dns:all", [A])], is_own=lambda found: found == A) as bootstrap:
            await asyncio.sleep(300)
            assert bootstrap.trouble is None
            # Still asked: another node may share our address.
            assert len(network.pinged) > 5

    run_virtual(main)
    assert caplog.records == []
