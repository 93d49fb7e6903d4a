"""A herd (`herd_bed`) that faults strike half way: who the claimant is, how far each host is, and what it cost.

A fault is triggered by what is seen in the hosts' content folders, never by time. Between two faults the bed is healed,
so that one bed serves many. It judges one thing only: that no image is left unpullable (`check_pullable`).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final, Self

from containerd.client import Client
from dht.ids import NodeId, distance, key_of
from tests.support.bed_hosts import BedHost
from tests.support.containerd_calls import collect_garbage
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.herd_bed import MEET_LIMIT_S, NAMESPACE, HerdBed, HerdPlan, herd_bed
from tests.support.oci_image import Image, Index, build_image
from tests.support.skips import netns_or_missing, require, tool_bin

# Beyond every wait of a daemon, on a loaded machine.
PULL_DEADLINE_S: Final = 70.0
# Of what must be seen of a pull that runs.
SEEN_LIMIT_S: Final = 60.0
# No limit, in effect.
_FREE_BITS_PER_S: Final = 2_000_000_000
_POLL_S: Final = 0.01
# The registry by a name for which containerd asks no daemon: pulls by it are as without a mirror.
DIRECT: Final = "direct.bed:5000"
_SEEDS: Final = count(910_000)
# Its routes lead to an address where nobody is: what is sent there is lost in silence.
_LOST_TABLE: Final = 47_111

# After a pull that was cancelled, 1.6 collects the ingest's folder under the next one, also without a mirror (3 of 16
# pulls). The kubelet tries again, and so it is done here.
_COLLECTED: Final = re.compile(r"failed commit on ref .*: rename .*/ingest/.*: no such file or directory")

Outcome = Pulled | PullFailed


@dataclass(frozen=True, slots=True)
class BedImage:
    """In a registry, and on no host. `layer`: of its largest. `origin_bytes`: what that registry has sent."""

    name: str
    image: Image
    layer: str
    layer_bytes: int
    origin_bytes: Callable[[], int]

    @classmethod
    def of(cls, name: str, image: Image, origin_bytes: Callable[[], int]) -> Self:
        largest = max(image.layers, key=lambda layer: len(layer.content))
        return cls(name, image, largest.digest, len(largest.content), origin_bytes)

    @property
    def size_bytes(self) -> int:
        return self.image.size_bytes

    def by_digest(self) -> Self:
        """The same, as pods name it that do not trust tags: each pull of it begins with a HEAD of its manifest."""
        return replace(self, name=f"{self.name.rpartition(':')[0]}@{self.image.manifest.digest}")


class Pulls:
    """One image, by some hosts at once."""

    def __init__(self, bed: FaultBed, image: BedImage, hosts: Sequence[BedHost]) -> None:
        self.image = image
        self.bed = bed
        self.started_s = time.monotonic()
        self._sent_bytes = image.origin_bytes()
        self.tasks: dict[BedHost, asyncio.Task[Outcome]] = {}
        for host in hosts:
            self.join(host)

    def join(self, host: BedHost) -> None:
        pulling = cri_pull(host.containerd, self.image.name, deadline_s=PULL_DEADLINE_S)
        self.tasks[host] = asyncio.create_task(pulling)

    async def cancel(self, host: BedHost) -> None:
        """As a pod that is deleted does it."""
        task = self.tasks.pop(host)
        task.cancel()
        await asyncio.wait([task])

    async def outcomes(self, *hosts: BedHost) -> list[Outcome]:
        return [await self.tasks[host] for host in hosts or self.tasks]

    async def claimant(self, *, at_bytes: int = 1 << 20) -> BedHost:
        """Whose file of the largest layer grows first: the others have their bytes from it. Returns when it is so
        far."""
        hosts = list(self.tasks)
        await self._seen(lambda: any(self.bed.have_bytes(host, self.image) for host in hosts))
        found = max(hosts, key=lambda host: self.bed.have_bytes(host, self.image))
        await self.until(found, at_bytes)
        return found

    async def until(self, host: BedHost, at_bytes: int) -> None:
        """Its file of the largest layer is so far."""
        await self._seen(lambda: self.bed.have_bytes(host, self.image) >= at_bytes)

    @property
    def copies(self) -> float:
        """Of the image, as they left the registry since the start: its link, headers included."""
        return (self.image.origin_bytes() - self._sent_bytes) / self.image.size_bytes

    async def _seen(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + SEEN_LIMIT_S
        while not is_so():
            if time.monotonic() > deadline_s:
                sizes = [self.bed.have_bytes(host, self.image) for host in self.tasks]
                raise TimeoutError(f"hosts are at {sizes} of {self.image.layer_bytes}\n{self.bed.logs()}")
            await asyncio.sleep(_POLL_S)


class FaultBed:
    """`direct_s`: of one host's pull of `layer_sizes_bytes` without a mirror, when the bed was made."""

    def __init__(self, herd: HerdBed, layer_sizes_bytes: tuple[int, ...]) -> None:
        self.herd = herd
        self.hosts = herd.hosts
        self.layer_sizes_bytes = layer_sizes_bytes
        self.direct_s = 0.0
        self._lost: list[tuple[BedHost, str]] = []

    # -- images ----------------------------------------------------------------------------------------------------

    async def image(self, *sizes_bytes: int) -> BedImage:
        """A new one, of the bed's layer sizes where none are said."""
        return await self.add(build_image(next(_SEEDS), sizes_bytes or self.layer_sizes_bytes))

    async def add(self, image: Image, index: Index | None = None) -> BedImage:
        """`index`: what is pushed in its place."""
        network, registry = self.herd.network, self.herd.registry
        network.limit(network.hosts[0], _FREE_BITS_PER_S)
        name = await registry.push(index or image, f"fault/{next(_SEEDS)}", "v1")
        network.limit(network.hosts[0], self.herd.plan.origin_bits_per_s)
        return BedImage.of(name, image, self.origin_bytes)

    def direct(self, image: BedImage) -> BedImage:
        """The same, as it is pulled without a mirror."""
        name = f"{DIRECT}/{image.name.partition('/')[2]}"
        return BedImage.of(name, image.image, self.origin_bytes)

    # -- what is seen ----------------------------------------------------------------------------------------------

    def origin_bytes(self) -> int:
        return self.herd.network.hosts[0].tx_bytes()

    def have_bytes(self, host: BedHost, image: BedImage) -> int:
        """Of its largest layer."""
        root = host.containerd.content_root
        if (root / "blobs" / "sha256" / image.layer.partition(":")[2]).exists():
            return image.layer_bytes
        sizes = [0]
        for ref in root.glob("ingest/*/ref"):
            try:
                if image.layer in ref.read_text():
                    sizes.append((ref.parent / "data").stat().st_size)
            except OSError:  # it ended meanwhile
                continue
        return max(sizes)

    def arbiter(self, image: BedImage) -> BedHost:
        """Of its largest layer's claims."""
        key = key_of(image.layer)
        return min(
            self.hosts, key=lambda host: distance(NodeId.parse(str(host.status()["node_id"])).value, key)
        )

    def logs(self) -> str:
        """The ends of all daemons' logs."""
        tails = []
        for number, host in enumerate(self.hosts):
            text = host.daemon.log_path.read_text(errors="replace").splitlines()
            tails.append("\n".join([f"-- host {number} ({host.link.address})", *text[-40:]]))
        return "\n".join(tails)

    # -- pulls -----------------------------------------------------------------------------------------------------

    def pull(self, image: BedImage, hosts: Sequence[BedHost] | None = None) -> Pulls:
        return Pulls(self, image, self.hosts if hosts is None else hosts)

    async def took_s(self, host: BedHost, image: BedImage) -> float:
        """Of one pull by this host, which must succeed. Afterwards the image is not there."""
        outcome = await cri_pull(host.containerd, image.name, deadline_s=PULL_DEADLINE_S)
        assert isinstance(outcome, Pulled), f"{outcome}\n{self.logs()}"
        await self.forget(host, image)
        return outcome.took_s

    async def known(self, image: BedImage, holders: Sequence[BedHost]) -> None:
        """Returns when every host knows that these have it: fewer hosts than replicas, so everybody keeps every
        record."""
        digests_count = len(list(image.image))

        def is_known() -> bool:
            told = [host.counted("announced_digests") for host in self.hosts]
            return all(host.counted("announced_digests") >= digests_count for host in holders) and all(
                host.counted("records") >= sum(told) for host in self.hosts
            )

        await self.hosts[0].wait(is_known)

    async def forget(self, host: BedHost, image: BedImage) -> None:
        async with Client(host.containerd.socket) as client:
            await client.cri.remove_image(image.name)
            await collect_garbage(client, NAMESPACE)

    async def check_pullable(self, image: BedImage) -> None:
        """On every host, with the links as wide as they can be: where it is not, as it was left; then, removed from
        all, once more on all of them."""
        await self.heal()
        for link in self.herd.network.hosts:
            self.herd.network.limit(link, _FREE_BITS_PER_S)
        try:
            await self._pull_all(image, "as it was left")
            await self._pull_all(image, "pulled anew")
        finally:
            self._shape()

    async def _pull_all(self, image: BedImage, how: str) -> None:
        pulls = self.pull(image)
        for host, task in list(pulls.tasks.items()):
            outcome = await task
            if isinstance(outcome, PullFailed) and _COLLECTED.search(outcome.message):
                pulls.join(host)
        failed = [outcome for outcome in await pulls.outcomes() if not isinstance(outcome, Pulled)]
        assert not failed, f"{how}: {failed}\n{self.logs()}"
        await together(self.forget(host, image) for host in self.hosts)

    # -- faults ----------------------------------------------------------------------------------------------------

    def freeze(self, host: BedHost) -> None:
        os.kill(host.daemon.pid, signal.SIGSTOP)

    def thaw(self, host: BedHost) -> None:
        os.kill(host.daemon.pid, signal.SIGCONT)

    def part(self, host: BedHost) -> None:
        """From now on datagrams and streams between this host and all others are lost, but not those to the
        registry."""
        for other in self.hosts:
            if other is not host:
                self._lose(host, other.link.address)
                self._lose(other, host.link.address)

    async def heal(self) -> None:
        """All run, reach each other, and know each other."""
        for host, address in self._lost:
            _ip(host, f"rule del to {address}/32 table {_LOST_TABLE}")
        self._lost.clear()
        if not self.herd.registry.process.running:
            await self.herd.registry.start()
        for host in self.hosts:
            if not host.containerd.running:
                await host.containerd.start()
            if host.daemon.running:
                self.thaw(host)
            else:
                host.daemon.start()
        others_count = len(self.hosts) - 1
        for host in self.hosts:
            await host.wait(_is_ready(host, others_count), limit_s=MEET_LIMIT_S)

    def _lose(self, host: BedHost, address: str) -> None:
        _ip(host, f"rule add to {address}/32 table {_LOST_TABLE}")
        self._lost.append((host, address))

    def _shape(self) -> None:
        network, plan = self.herd.network, self.herd.plan
        network.limit(network.hosts[0], plan.origin_bits_per_s)
        for host in self.hosts:
            network.limit(host.link, plan.link_bits_per_s)

    def lay_dead_end(self) -> None:
        """To be called once, before the first `part`."""
        gate = f"{self.hosts[0].link.address.rpartition('.')[0]}.9"
        for host in self.hosts:
            _ip(host, f"neigh add {gate} lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
            _ip(host, f"route add default via {gate} dev eth0 table {_LOST_TABLE}")


@asynccontextmanager
async def fault_bed(
    version: str, host_count: int, bits_per_s: int, layer_sizes_bytes: tuple[int, ...]
) -> AsyncIterator[FaultBed]:
    """Daemons run and know each other, and one direct pull was measured. All links are of one width. Skips where the
    machine cannot."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    binaries: list[Path] = [tool_bin(f"containerd-{version}"), tool_bin("docker-registry")]
    plan = HerdPlan(host_count, bits_per_s, bits_per_s, layer_sizes_bytes, 0.0)
    async with herd_bed(
        plan, containerd_binaries=binaries[0], registry_binaries=binaries[1], image_count=0
    ) as herd:
        bed = FaultBed(herd, layer_sizes_bytes)
        bed.lay_dead_end()
        for host in herd.hosts:
            host.install_registry(DIRECT, herd.registry.url)
            host.daemon.command = [
                "--log-level=debug" if word == "--log-level=info" else word for word in host.daemon.command
            ]
        bed.direct_s = await bed.took_s(bed.hosts[0], bed.direct(await bed.image()))
        await herd.start_daemons()
        for host in herd.hosts:
            # `peili configure` put the mirror before this one, too.
            host.install_registry(DIRECT, herd.registry.url)
        yield bed


async def together(works: Iterable[Coroutine[object, object, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(work)


def _is_ready(host: BedHost, others_count: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        # One that ended will not become ready.
        assert host.daemon.running, host.daemon.log()
        return host.is_ready() and host.counted("members") == others_count

    return is_ready


def _ip(host: BedHost, command: str) -> None:
    subprocess.run(["ip", "-n", host.link.netns, *command.split()], check=True, capture_output=True)
