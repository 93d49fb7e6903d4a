"""The demo from its start to its end: places the machines, lets the hosts pull twice, compares, clears everything away.

Rules
1. Whatever ends it (the end, a failure, the deadline, a signal), the processes are gone and the folder is removed
   before it returns.
2. Both ways of pulling are measured with the same origin, link, image and client. The hosts without Peili write to no
   disk, those with it do: where that matters, it favours the former.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp

from mirror.demo import client, origin
from mirror.demo.children import Children
from mirror.demo.client import Client
from mirror.demo.cluster import Cluster, DemoHost
from mirror.demo.errors import DemoFailed
from mirror.demo.plan import DEADLINE_S, DemoPlan
from mirror.demo.progress import HostProgress, PhaseProgress
from mirror.demo.report import HostResult, PhaseResult, Report
from mirror.demo.sink import Nowhere, StoreFolder
from mirror.demo.together import together
from mirror.demo.units import bytes_text, rate_text
from mirror.demo.view import View, pause
from mirror.errors import MirrorError

# Beside the images: logs, the nodes' identities.
DISK_SLACK_BYTES = 16 * 2**20
# How soon the end of a daemon is noticed.
WATCH_S = 0.5
# What a user may end it with. SIGHUP is a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Pull = Coroutine[None, None, None]


class Interrupted(MirrorError):
    """A signal ended the demo; nothing is left of it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"ended by {number.name}; the daemons are stopped and their files removed")
        self.number = number


async def run(plan: DemoPlan, view: View, deadline_s: float = DEADLINE_S) -> Report:
    """In the main thread, once a process. Raises: DemoFailed, Interrupted."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        # Once: a second one must not cut short the clearing away, which takes a named time at most.
        if not received:
            task.cancel()
        received.append(number)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await _in_time(plan, view, deadline_s)
    except (asyncio.CancelledError, MirrorError):
        if received:
            raise Interrupted(received[0]) from None
        raise
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _in_time(plan: DemoPlan, view: View, deadline_s: float) -> Report:
    deadline = asyncio.timeout(deadline_s)
    try:
        async with deadline:
            return await _run(plan, view)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise DemoFailed(
            f"not done after {deadline_s:.0f} s: this machine is too busy or too slow for it; try a smaller "
            f"--image-size or fewer --hosts"
        ) from None


async def _run(plan: DemoPlan, view: View) -> Report:
    async with AsyncExitStack() as stack:
        # Left in reverse: the processes end before their folder goes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peili-demo-")))
        check_room(plan, folder.parent, shutil.disk_usage(folder).free)
        ports = stack.enter_context(ExitStack())
        children = await stack.enter_async_context(Children(folder))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        cluster = Cluster.place(plan, folder, ports, http)
        view.say(
            f"{plan.hosts_count} hosts pull an image of {bytes_text(plan.image_bytes)}; the link of its origin has "
            f"{rate_text(plan.link_bytes_per_s)}."
        )
        await cluster.start(plan, children, folder)
        facts = await cluster.facts()
        demo = _Demo(cluster, children, view)
        report = Report(
            plan, facts.image_bytes, facts.layer_count, await demo.direct(), await demo.mirrored()
        )
        view.conclude(report)
        return report


class _Demo:
    def __init__(self, cluster: Cluster, children: Children, view: View) -> None:
        self._cluster = cluster
        self._children = children
        self._view = view

    async def direct(self) -> PhaseResult:
        """Every host asks the origin."""
        return await self._all_at_once("Without Peili: all at once", is_mirrored=False)

    async def mirrored(self) -> PhaseResult:
        """Every host asks its daemon, and none of them has any of it: a cold herd."""
        return await self._all_at_once("With Peili: all at once", is_mirrored=True)

    async def _all_at_once(self, title: str, *, is_mirrored: bool) -> PhaseResult:
        phase = PhaseProgress.of(title, len(self._cluster.hosts))

        async def pulls() -> None:
            await together(
                self._pull(host, progress, is_mirrored=is_mirrored)
                for host, progress in zip(self._cluster.hosts, phase.hosts, strict=True)
            )

        return await self._measure(phase, pulls)

    async def _pull(self, host: DemoHost, progress: HostProgress, *, is_mirrored: bool) -> None:
        """Raises: PullFailed."""
        async with client.session(host.address) as http:
            mirrors = [host.mirror] if is_mirrored else []
            sink = StoreFolder(host.store_folder) if is_mirrored else Nowhere()
            puller = Client(
                http, mirrors, self._cluster.origin, origin.REPOSITORY, sink, progress, time.monotonic
            )
            await puller.pull(origin.TAG)

    async def _measure(self, phase: PhaseProgress, pulls: Callable[[], Pull]) -> PhaseResult:
        """Raises: DemoFailed."""
        ended = asyncio.Event()
        before = await self._cluster.facts()
        began_at = time.monotonic()
        seconds_s = 0.0

        async def work() -> None:
            nonlocal seconds_s
            await pulls()
            seconds_s = time.monotonic() - began_at
            ended.set()

        await together([work(), self._view.draw(phase, ended), self._watch(ended)])
        after = await self._cluster.facts()
        return PhaseResult(
            seconds_s,
            after.sent_bytes - before.sent_bytes,
            after.request_count - before.request_count,
            _results(phase.hosts),
        )

    async def _watch(self, ended: asyncio.Event) -> None:
        """A daemon that died would be hidden by its client's way to the origin. Raises: DemoFailed."""
        while not ended.is_set():
            await pause(ended, WATCH_S)
            self._children.check()


def _results(hosts: Sequence[HostProgress]) -> tuple[HostResult, ...]:
    results = []
    for host in hosts:
        assert host.started_at is not None and host.ended_at is not None, f"{host.name} has not ended"
        seconds_s = host.ended_at - host.started_at
        results.append(HostResult(host.name, seconds_s, host.origin_bytes, host.peer_bytes))
    return tuple(results)


def check_room(plan: DemoPlan, place: Path, free_bytes: int) -> None:
    """Raises: DemoFailed."""
    needed_bytes = plan.disk_bytes + DISK_SLACK_BYTES
    if free_bytes < needed_bytes:
        raise DemoFailed(
            f"the demo needs {bytes_text(needed_bytes)} in {place} and {bytes_text(free_bytes)} are free: choose "
            f"another place with TMPDIR, or a smaller --image-size"
        )
