"""A herd: hosts that have nothing pull one image at once, from a registry behind a link of its own.

Answers how long each pull took, what left the registry, and what it cost, without a mirror and with daemons. Every host
has a real containerd and, once started, a real daemon, in a namespace with a shaped link. It judges nothing, and prints
nothing: `tests.bench.herd` does. Needs root: `tests.support.skips.netns_or_missing`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from containerd.client import Client
from containerd.errors import ContainerdError
from tests.support.bed_hosts import BedHost
from tests.support.bed_registry import RealRegistry
from tests.support.containerd_calls import collect_garbage
from tests.support.machine_cost import CpuClock, cpu_s, peak_rss_bytes, rss_bytes
from tests.support.memory_group import MemoryGroup, MemoryPeak, memory_group, watched
from tests.support.netns import Network
from tests.support.oci_image import build_image

REGISTRY_PORT: Final = 5000
# CRI's.
NAMESPACE: Final = "k8s.io"
# Ten times what the slowest herd of a usual plan takes; one that stands still ends.
PULL_DEADLINE_S: Final = 600.0
# A layer that is large enough to tell what the registry gives.
WARM_LAYER_BYTES: Final = 12_000_000
# Of a host that shall be the claimant of all.
HEAD_START_S: Final = 0.5
# Of all daemons to know each other: a daemon takes a second of CPU to start, and twenty share two cores.
MEET_LIMIT_S: Final = 60.0
# A process that was just killed may write its last file while its folder is removed.
REMOVE_LIMIT_S: Final = 5.0
# The name carries the pid of the run, so that the next one can tell whose the folder is.
_FOLDER: Final = re.compile(r"peili-herd-(?P<pid>\d+)-\w+")


@dataclass(frozen=True, slots=True)
class HerdPlan:
    """`layer_sizes_bytes` before each is packed: the blobs are some KiB larger. `stagger_s` lies between the start of
    one host's pull and the next one's. `slow_first`: the first host's way from the registry is so many times slower
    than its link. `memory_max_bytes`: each daemon is in a cgroup that may have so much, page cache included."""

    host_count: int
    link_bits_per_s: int
    origin_bits_per_s: int
    layer_sizes_bytes: tuple[int, ...]
    stagger_s: float
    discard_unpacked_layers: bool = False
    slow_first: float = 1.0
    memory_max_bytes: int | None = None
    daemon_environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HerdImage:
    """One that is in the registry and nowhere else. `size_bytes` is that of all its blobs, the manifest included."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HostPull:
    """`started_s` after the first host's start. `failure` is empty, or containerd's words."""

    started_s: float
    took_s: float
    failure: str


@dataclass(frozen=True, slots=True)
class HerdRun:
    """`pulls` and `containerd_cpu_s` in the hosts' order. `origin_bytes` left the registry's interface, headers
    included. `idle_cpu_percent` is the machine's, from the first start to the last end."""

    pulls: tuple[HostPull, ...]
    origin_bytes: int
    idle_cpu_percent: float
    containerd_cpu_s: tuple[float, ...]

    @property
    def slowest_s(self) -> float:
        return max(pull.took_s for pull in self.pulls)

    @property
    def last_end_s(self) -> float:
        return max(pull.started_s + pull.took_s for pull in self.pulls)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(pull.failure for pull in self.pulls if pull.failure)


@dataclass(frozen=True, slots=True)
class DaemonCost:
    """Of one daemon, over one run; `peak_rss_bytes` and `memory` since it started, the latter where it is limited. Of
    one that did not live to the end only `memory` is told."""

    cpu_s: float
    rss_bytes: int
    peak_rss_bytes: int
    received_from_peers_bytes: int
    memory: MemoryPeak | None


class HerdBed:
    """Containerds run, and no daemon until `start_daemons`. Images are given in the order in which they were asked for
    at the making, each to be pulled in one run."""

    def __init__(
        self,
        plan: HerdPlan,
        network: Network,
        registry: RealRegistry,
        hosts: Sequence[BedHost],
        images: Sequence[HerdImage],
        warm_images: Sequence[HerdImage] = (),
        groups: Sequence[MemoryGroup] = (),
    ) -> None:
        self.plan = plan
        self.network = network
        self.registry = registry
        self.hosts = tuple(hosts)
        self.images = tuple(images)
        self._warm_images = tuple(warm_images)
        self._groups = tuple(groups)
        self._is_first_slow = False

    async def pull(self, image: HerdImage, host_count: int) -> HerdRun:
        """By the first so many hosts, each at its turn. Afterwards the image is on none of them."""
        origin = self.network.hosts[0]
        hosts = self.hosts[:host_count]
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(host.containerd.socket)) for host in hosts]
            for client in clients:
                await client.version()  # The connection is not part of a pull.
            # One run does not pay for what another has still to write.
            await asyncio.to_thread(os.sync)
            spent_before_s = [cpu_s(host.containerd.pid) for host in hosts]
            sent_before_bytes, clock = origin.tx_bytes(), CpuClock.now()
            first_s = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                pulling = [
                    tasks.create_task(_pull(client, image.name, first_s, self._starts_after_s(number)))
                    for number, client in enumerate(clients)
                ]
            run = HerdRun(
                pulls=tuple(task.result() for task in pulling),
                idle_cpu_percent=CpuClock.now().idle_percent_since(clock),
                origin_bytes=origin.tx_bytes() - sent_before_bytes,
                containerd_cpu_s=tuple(
                    cpu_s(host.containerd.pid) - before_s
                    for host, before_s in zip(hosts, spent_before_s, strict=True)
                ),
            )
            for client in clients:
                await client.cri.remove_image(image.name)
                await collect_garbage(client, NAMESPACE)
        return run

    def _starts_after_s(self, number: int) -> float:
        if self._is_first_slow:
            # It shall be the claimant.
            return HEAD_START_S if number else 0.0
        return number * self.plan.stagger_s

    async def slow_first(self) -> None:
        """The other hosts get a small image each through their daemons, so that they know what this registry gives;
        then the first one's way from it becomes slow, and it pulls a moment before the others."""
        for host, image in zip(self.hosts[1:], self._warm_images, strict=True):
            async with Client(host.containerd.socket) as client:
                await client.cri.pull_image(image.name, deadline_s=PULL_DEADLINE_S)
                await client.cri.remove_image(image.name)
                await collect_garbage(client, NAMESPACE)
        link_bits_per_s = self.plan.link_bits_per_s
        slow_bits_per_s = round(link_bits_per_s / self.plan.slow_first)
        origin, first = self.network.hosts[0], self.hosts[0].link
        self.network.limit_from(first, origin, slow_bits_per_s, link_bits_per_s)
        self._is_first_slow = True

    async def start_daemons(self) -> None:
        """Returns when every daemon is ready and knows all others, and containerds ask it, as `peili configure` sets
        them up. Raises: TimeoutError with the end of a daemon's log."""
        for host in self.hosts:
            host.daemon.start()
        for host in self.hosts:
            await host.wait(_ready(host), limit_s=MEET_LIMIT_S)
        others_count = len(self.hosts) - 1
        for host in self.hosts:
            await host.wait(_knows(host, others_count), limit_s=MEET_LIMIT_S)
            host.configure(self.registry.name)

    async def pull_with_daemons(self, image: HerdImage) -> tuple[HerdRun, tuple[DaemonCost, ...]]:
        """By all hosts, and what it cost the daemon of each."""
        pids = [host.daemon.pid for host in self.hosts]
        cpu_before_s = [cpu_s(pid) for pid in pids]
        received_before_bytes = [host.counted("bytes_received_from_peers") for host in self.hosts]
        async with watched(self._groups) as peaks:
            run = await self.pull(image, len(self.hosts))
        costs = tuple(
            _cost(host, pid, spent_s, received_bytes, peaks[number] if peaks else None)
            for number, (host, pid, spent_s, received_bytes) in enumerate(
                zip(self.hosts, pids, cpu_before_s, received_before_bytes, strict=True)
            )
        )
        return run, costs


@asynccontextmanager
async def herd_bed(
    plan: HerdPlan, *, containerd_binaries: Path, registry_binaries: Path, image_count: int
) -> AsyncIterator[HerdBed]:
    """Links are shaped when the images are in the registry. Raises: NetworkError, BedProcessError, PushError,
    ContainerdDidNotStart. Nothing is left of it, and what a killed run left is removed first."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(plan.host_count + 1))
        folder = stack.enter_context(_folder())
        at, *links = network.hosts
        registry = RealRegistry(
            registry_binaries, folder / "registry", address=at.address, port=REGISTRY_PORT, netns=at.netns
        )
        await stack.enter_async_context(registry)
        images = [await _push(registry, plan.layer_sizes_bytes, number) for number in range(image_count)]
        warm_count = plan.host_count - 1 if plan.slow_first > 1 else 0
        warm_images = [
            await _push(registry, (WARM_LAYER_BYTES,), image_count + number) for number in range(warm_count)
        ]
        hosts = [
            BedHost(link, folder / f"h{number}", containerd_binaries, links[0].address)
            for number, link in enumerate(links)
        ]
        groups: list[MemoryGroup] = []
        for number, host in enumerate(hosts):
            # A line for each request would be part of what is measured.
            host.daemon.command = [
                "--log-level=info" if word == "--log-level=debug" else word for word in host.daemon.command
            ]
            host.daemon.environment.update(plan.daemon_environment)
            if plan.memory_max_bytes is not None:
                group = stack.enter_context(memory_group(f"h{number}", plan.memory_max_bytes))
                host.daemon.command = group.entering(host.daemon.command)
                groups.append(group)
            host.install_registry(registry.name, registry.url)
            if plan.discard_unpacked_layers:
                host.containerd.extra_config = discarding(host.containerd.version())
            stack.push_async_callback(host.containerd.stop)
            stack.push_async_callback(host.daemon.stop)
        async with asyncio.TaskGroup() as tasks:
            for host in hosts:
                tasks.create_task(host.containerd.start())
        network.limit(at, plan.origin_bits_per_s)
        for link in links:
            network.limit(link, plan.link_bits_per_s)
        yield HerdBed(plan, network, registry, hosts, images, warm_images, groups)


def sweep_folders() -> None:
    """Remove what runs left that are no longer alive. Their processes ended with them, or with their namespaces."""
    for folder in Path(tempfile.gettempdir()).iterdir():
        found = _FOLDER.fullmatch(folder.name)
        if found is not None and not Path(f"/proc/{found['pid']}").exists():
            _remove(folder)


@contextmanager
def _folder() -> Iterator[Path]:
    """Short: Unix sockets are below it."""
    sweep_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"peili-herd-{os.getpid()}-"))
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    deadline_s = time.monotonic() + REMOVE_LIMIT_S
    while True:
        try:
            _unmount_below(folder)
            shutil.rmtree(folder)
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)


def _unmount_below(folder: Path) -> None:
    """A pull that was cut while unpacking leaves its overlay mounted."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1].encode().decode("unicode_escape")
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", target], check=True)


async def _push(registry: RealRegistry, layer_sizes_bytes: tuple[int, ...], number: int) -> HerdImage:
    image = await asyncio.to_thread(build_image, number, layer_sizes_bytes)
    return HerdImage(await registry.push(image, f"herd/{number}", "v1"), image.size_bytes)


async def _pull(client: Client, image: str, first_s: float, after_s: float) -> HostPull:
    await asyncio.sleep(first_s + after_s - time.monotonic())
    started_s = time.monotonic()
    failure = ""
    try:
        await client.cri.pull_image(image, deadline_s=PULL_DEADLINE_S)
    except ContainerdError as error:
        failure = str(error)
    return HostPull(started_s - first_s, time.monotonic() - started_s, failure)


def _cost(
    host: BedHost, pid: int, spent_s: float, received_bytes: int, memory: MemoryPeak | None
) -> DaemonCost:
    if not host.daemon.running:  # Killed: what is left to tell is why.
        return DaemonCost(0.0, 0, 0, 0, memory)
    return DaemonCost(
        cpu_s=cpu_s(pid) - spent_s,
        rss_bytes=rss_bytes(pid),
        peak_rss_bytes=peak_rss_bytes(pid),
        received_from_peers_bytes=host.counted("bytes_received_from_peers") - received_bytes,
        memory=memory,
    )


def _ready(host: BedHost) -> Callable[[], bool]:
    def is_ready() -> bool:
        # One that ended will not become ready.
        assert host.daemon.running, host.daemon.log()
        return host.is_ready()

    return is_ready


def _knows(host: BedHost, count: int) -> Callable[[], bool]:
    return lambda: host.counted("members") == count


def discarding(version: tuple[int, int]) -> str:
    """From 2.1 on, this setting brings the local pull with it."""
    if version >= (2, 0):
        return "[plugins.'io.containerd.cri.v1.images']\ndiscard_unpacked_layers = true\n"
    return "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndiscard_unpacked_layers = true\n"
