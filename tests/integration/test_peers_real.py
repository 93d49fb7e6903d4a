"""Real containerds pull from each other through real daemons, each on a host of its own, with a real registry."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from containerd.client import Client
from dht.endpoints import Endpoint
from dht.ids import key_of
from dht.service import DHT
from dht.settings import Settings, StaticBootstrap
from dht.wire.envelope import Key
from mirror.discovery.dht_settings import DHT_USE
from mirror.discovery.peer_info import PeerInfo, encode
from mirror.peer.connection import WAKE_MAX_BYTES
from mirror.secret import ClusterSecret
from mirror.swarm.pieces import PieceLayout
from tests.support.bed_hosts import PEER_PORT, SECRET, BedHost
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.netns import HostLink, Network
from tests.support.oci_image import Image, build_image, build_index
from tests.support.skips import netns_or_missing, require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

REGISTRY_PORT = 5000
# A link that a layer of LARGE_BYTES fills for about two seconds: room to do something meanwhile.
RATE_BITS_PER_S = 100_000_000
LARGE_BYTES = 24_000_000
_FOLDERS = itertools.count()
_SEEDS = itertools.count(50_000)


@dataclass(frozen=True, slots=True)
class Bed:
    """`hosts` run and know each other; `registry` is on a host of its own and has a name that containerd takes for
    plain HTTP."""

    network: Network
    registry: RealRegistry
    hosts: Sequence[BedHost]

    async def push(self, image: Image, repository: str = "lib/app") -> tuple[str, str]:
        """The image's name by tag and by digest."""
        await self.registry.push(image, repository, "v1")
        name = f"{self.registry.name}/{repository}"
        return f"{name}:v1", f"{name}@{image.manifest.digest}"

    async def known(self, held: dict[BedHost, int]) -> None:
        """Returns when these hosts hold so many blobs each and every host knows of all of them: where there are fewer
        hosts than replicas, everybody keeps every record."""

        running = [host for host in self.hosts if host.daemon.running]

        def all_is_known() -> bool:
            told = {host: host.counted("announced_digests") for host in running}
            records_count = sum(told.values())
            return all(told[host] >= count for host, count in held.items()) and all(
                host.counted("records") >= records_count for host in running
            )

        await running[0].wait(all_is_known)


@contextlib.asynccontextmanager
async def bed(
    folder: Path,
    version: str,
    host_count: int,
    *,
    rate_bits_per_s: int | None = None,
    use_local_image_pull: bool = False,
    extra_config: str = "",
    wire_versions: Sequence[int | None] = (),
    daemon_flags: Sequence[str] = (),
) -> AsyncIterator[Bed]:
    """All hosts find each other by the first one's address."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    home = folder / f"bed{next(_FOLDERS)}"
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(host_count + 1, rate_bits_per_s=rate_bits_per_s))
        at, *links = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"),
            home / "registry",
            address=at.address,
            port=REGISTRY_PORT,
            netns=at.netns,
        )
        await stack.enter_async_context(registry)

        def make(number: int, link: HostLink) -> BedHost:
            host = BedHost(
                link,
                home / f"h{number}",
                tool_bin(f"containerd-{version}"),
                links[0].address,
                use_local_image_pull=use_local_image_pull,
                extra_config=extra_config,
                wire_version=wire_versions[number] if wire_versions else None,
                daemon_flags=daemon_flags,
            )
            host.install_registry(registry.name, registry.url)
            return host

        hosts = [make(number, link) for number, link in enumerate(links)]
        async with asyncio.TaskGroup() as starts:
            started = [starts.create_task(stack.enter_async_context(host)) for host in hosts]
        assert all(task.done() for task in started)
        for host in hosts:
            host.configure(registry.name)
        await hosts[0].wait(lambda: all(host.counted("members") == host_count - 1 for host in hosts))
        yield Bed(network, registry, hosts)


@contextlib.asynccontextmanager
async def stranger(it: Bed, http_port: int, digest: str) -> AsyncIterator[None]:
    """A node at the test's own address that says it holds this digest; whoever believes it asks `http_port` there."""
    address, cluster = it.network.address, "peili"
    subkeys = ClusterSecret((SECRET,)).subkeys(DHT_USE, cluster)
    settings = Settings(
        node=random.randbytes(20),
        epoch=1,
        cluster=cluster,
        keys=tuple(Key(bytes.fromhex(one.key_id), one.key) for one in subkeys),
        listen=(Endpoint(address, 0),),
        info=encode(PeerInfo(http_port)),
        bootstrap=(StaticBootstrap(it.hosts[0].link.address, PEER_PORT),),
    )
    async with DHT(settings) as dht:
        dht.provide([key_of(digest)])
        # Also to itself: it may be the arbiter.
        await dht.flush()
        await it.hosts[0].wait(lambda: all(host.counted("records") == 1 for host in it.hosts))
        yield


async def pulled(host: BedHost, image: str) -> Pulled:
    outcome = await cri_pull(host.containerd, image)
    assert isinstance(outcome, Pulled), f"{outcome}\n" + "\n".join(host.daemon.log().splitlines()[-20:])
    return outcome


@pytest.mark.parametrize(
    ("version", "use_local_image_pull"),
    [
        pytest.param("1.6", False, marks=pytest.mark.matrix),
        ("1.7", False),
        ("2.1", False),
        pytest.param("2.1", True, marks=pytest.mark.matrix),
    ],
)
async def test_hosts_pull_by_digest_from_each_other_when_the_registry_is_gone(
    short_folder: Path, version: str, use_local_image_pull: bool
) -> None:
    image = build_image(next(_SEEDS), [3_000_000, 700_000, 50_000])
    async with bed(short_folder, version, 3, use_local_image_pull=use_local_image_pull) as it:
        by_tag, by_digest = await it.push(image)
        first, second, third = it.hosts
        first_pull = await pulled(first, by_tag)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        for host in (second, third):
            assert (await pulled(host, by_digest)).image_id == first_pull.image_id
        assert second.counted("bytes_received_from_peers") == image.size_bytes
        # One takes over the end of what the other sends, piece by piece at worst: each time a buffer comes twice.
        take_overs_max_count = sum(PieceLayout.of(len(layer.content)).count - 1 for layer in image.layers)
        twice_bytes = third.counted("bytes_received_from_peers") - image.size_bytes
        assert 0 <= twice_bytes <= take_overs_max_count * WAKE_MAX_BYTES
        assert first.counted("bytes_served_to_peers") >= image.size_bytes


async def test_an_image_of_several_platforms_comes_from_peers(short_folder: Path) -> None:
    index = build_index(next(_SEEDS), [400_000])
    async with bed(short_folder, "2.1", 2) as it:
        await it.registry.push(index, "lib/multi", "v1")
        first, second = it.hosts
        name = f"{it.registry.name}/lib/multi"
        await pulled(first, f"{name}:v1")
        await it.known({first: 1 + len(list(index.images[0]))})
        await it.registry.stop()
        await pulled(second, f"{name}@{index.manifest.digest}")


async def test_parallel_ranges_of_containerd_come_from_peers(short_folder: Path) -> None:
    """2.1 sends open-ended ranges on many connections and resets each after a chunk."""
    image = build_image(next(_SEEDS), [20_000_000])
    config = "[plugins.'io.containerd.transfer.v1.local']\nconcurrent_layer_fetch_buffer = 8388608\n"
    async with bed(short_folder, "2.1", 2, extra_config=config) as it:
        by_tag, by_digest = await it.push(image)
        first, second = it.hosts
        await pulled(first, by_tag)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        await pulled(second, by_digest)
        assert " 206" in second.daemon.log(), "the ranges were not used"


@pytest.mark.parametrize(
    "version", [*(pytest.param(one, marks=pytest.mark.matrix) for one in ("1.6", "1.7")), "2.1"]
)
async def test_a_peer_killed_mid_blob_costs_nothing_but_itself(short_folder: Path, version: str) -> None:
    image = build_image(next(_SEEDS), [LARGE_BYTES])
    async with bed(short_folder, version, 3, rate_bits_per_s=RATE_BITS_PER_S) as it:
        by_tag, by_digest = await it.push(image)
        first, second, third = it.hosts
        for host in (first, second):
            await pulled(host, by_tag)
        await it.known({first: len(list(image)), second: len(list(image))})
        await it.registry.stop()
        before = [host.link.tx_bytes() for host in (first, second)]
        # The second host had the image from the first.
        served_before = {host: host.counted("bytes_served_to_peers") for host in (first, second)}
        pull = asyncio.ensure_future(pulled(third, by_digest))
        serving: list[BedHost] = []

        def someone_serves() -> bool:
            serving[:] = [
                host
                for host, sent_bytes in zip((first, second), before, strict=True)
                if host.link.tx_bytes() - sent_bytes > LARGE_BYTES // 4
            ]
            return bool(serving)

        await third.wait(someone_serves)
        assert len(serving) == 1, "one peer serves the whole layer"
        await serving[0].daemon.kill()
        await pull
        assert third.counted("bytes_received_from_peers") == image.size_bytes, "a byte was fetched twice"
        (survivor,) = {first, second} - set(serving)
        assert 0 < survivor.counted("bytes_served_to_peers") - served_before[survivor] < image.size_bytes


@pytest.mark.parametrize("version", ["1.6", "1.7", "2.1"])
async def test_a_peer_that_lies_spoils_one_pull_at_most_and_no_later_one(
    short_folder: Path, version: str
) -> None:
    """Without `Content.Abort` the wrong ingest stays, and containerd refuses every later pull of the image. A streamed
    layer is found wrong a moment after containerd refused it."""
    image = build_image(next(_SEEDS), [3_000_000])
    layer = image.layers[0].content
    async with contextlib.AsyncExitStack() as stack:
        it = await stack.enter_async_context(bed(short_folder, version, 1))
        lying = faulty_peer(layer, Fault.WRONG_BYTE, 1000, address=it.network.address)
        liar = await stack.enter_async_context(lying)
        await stack.enter_async_context(stranger(it, liar.peer.port, image.layers[0].digest))
        (host,) = it.hosts
        by_tag, _ = await it.push(image)
        first = await cri_pull(host.containerd, by_tag)
        assert liar.gets, "the liar was not asked"
        if isinstance(first, PullFailed):
            await host.wait(lambda: "holds no unfinished" in host.daemon.log())
            await pulled(host, by_tag)
        async with Client(host.containerd.socket) as client:
            held = [chunk async for chunk in client.content("k8s.io").read(image.layers[0].digest)]
        assert b"".join(held) == layer


@pytest.mark.parametrize("version", ["1.6", "1.7", "2.1"])
async def test_with_the_daemon_killed_pulls_are_as_without_it(short_folder: Path, version: str) -> None:
    one, two = (build_image(next(_SEEDS), [900_000]) for _ in range(2))
    async with bed(short_folder, version, 1) as it:
        (host,) = it.hosts
        by_tag, _ = await it.push(one, "lib/one")
        _, by_digest = await it.push(two, "lib/two")
        await host.daemon.kill()
        await pulled(host, by_tag)
        await pulled(host, by_digest)
        absent = f"{it.registry.name}/lib/one:no-such-tag"
        with_ours = await cri_pull(host.containerd, absent)
        host.peili("cleanup", f"--hosts-dir={host.certs_dir}")
        without = await cri_pull(host.containerd, absent)
        assert isinstance(with_ours, PullFailed)
        assert isinstance(without, PullFailed)
        assert with_ours.message == without.message


@pytest.mark.parametrize("version", ["1.7", "2.1"])
async def test_the_daemon_recovers_by_itself_when_containerd_restarts(
    short_folder: Path, version: str
) -> None:
    one, two = (build_image(next(_SEEDS), [900_000]) for _ in range(2))
    async with bed(short_folder, version, 2) as it:
        first, second = it.hosts
        tag_one, digest_one = await it.push(one, "lib/one")
        tag_two, digest_two = await it.push(two, "lib/two")
        await pulled(first, tag_one)
        await first.containerd.stop()
        await first.wait(lambda: first.ready()[0] == 503)
        assert str(first.containerd.socket) in first.ready()[1], "the reason names what is away"
        await first.containerd.start()
        await first.wait(lambda: first.ready()[0] == 200)
        await pulled(first, tag_two)
        await it.known({first: len(list(one)) + len(list(two))})
        await it.registry.stop()
        for name in (digest_one, digest_two):
            await pulled(second, name)


async def test_a_daemon_may_start_before_containerd(short_folder: Path) -> None:
    image = build_image(next(_SEEDS), [900_000])
    async with bed(short_folder, "1.7", 2) as it:
        first, second = it.hosts
        by_tag, by_digest = await it.push(image)
        await pulled(first, by_tag)
        await first.daemon.stop()
        await first.containerd.stop()
        first.daemon.start()
        await first.wait(lambda: first.ready()[0] == 503)
        await first.containerd.start()
        await first.wait(lambda: first.ready()[0] == 200)
        await second.wait(lambda: second.counted("members") == 1)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        await pulled(second, by_digest)


async def test_a_deleted_image_is_no_longer_served(short_folder: Path) -> None:
    """Garbage collection tells nobody; the daemon notices."""
    image = build_image(next(_SEEDS), [900_000])
    async with bed(short_folder, "1.7", 2) as it:
        first, second = it.hosts
        by_tag, by_digest = await it.push(image)
        await pulled(first, by_tag)
        await it.known({first: 3})
        async with Client(first.containerd.socket) as client:
            await client.cri.remove_image(by_tag)
        await first.wait(lambda: first.counted("announced_digests") == 0)
        await first.wait(lambda: all(host.counted("records") == 0 for host in it.hosts))
        await it.registry.stop()
        assert isinstance(await cri_pull(second.containerd, by_digest), PullFailed)


async def test_cleanup_restores_the_hosts_directory_byte_for_byte(short_folder: Path) -> None:
    async with bed(short_folder, "1.7", 1) as it:
        (host,) = it.hosts
        found = host.certs_dir / it.registry.name / "hosts.toml"
        assert "# >>> peili" in found.read_text()
        done = host.peili("cleanup", f"--hosts-dir={host.certs_dir}")
        assert done.returncode == 0, done.stderr
        expected = f'# ours\nserver = "{it.registry.url}"\n\n[host."{it.registry.url}"]\n'
        files = {
            str(path.relative_to(host.certs_dir)): path.read_text()
            for path in host.certs_dir.rglob("*")
            if path.is_file()
        }
        assert files == {f"{it.registry.name}/hosts.toml": expected}
        assert [path.name for path in host.certs_dir.iterdir()] == [it.registry.name]


async def test_a_peer_of_another_release_is_left_aside_and_named_once(short_folder: Path) -> None:
    image = build_image(next(_SEEDS), [900_000])
    async with bed(short_folder, "1.7", 3, wire_versions=(9, None, None)) as it:
        newer, second, third = it.hosts
        by_tag, by_digest = await it.push(image)
        await pulled(newer, by_tag)
        await it.known({newer: len(list(image))})
        await pulled(second, by_tag)
        await it.known({second: len(list(image))})
        await it.registry.stop()
        await pulled(third, by_digest)
        assert newer.counted("bytes_served_to_peers") == 0
        for host, other in ((third, newer), (newer, third)):
            lines = [json.loads(line) for line in host.daemon.log().splitlines()]
            named = [
                line["msg"]
                for line in lines
                if line["level"] == "warning" and other.link.address in line["msg"]
            ]
            assert len(named) == 1, named
            assert "wire version" in named[0]
