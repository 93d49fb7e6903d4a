"""The whole bed without Peili: containerds in namespaces pull from a real registry in another one."""

import asyncio
from pathlib import Path

import pytest

from tests.support.bed_containerds import VERSIONS
from tests.support.bed_hosts_toml import HostEntry, hosts_toml, install
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.netns import HostLink, Network
from tests.support.oci_image import Flavour, build_image, build_index
from tests.support.real_containerd import RealContainerd
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]


@pytest.mark.parametrize("flavour", ["oci", "docker"])
async def test_a_pushed_image_is_pulled_through_a_limited_link(
    short_folder: Path, version: str, flavour: Flavour
) -> None:
    index = build_index(7, [2_000_000, 500_000], flavour=flavour)
    size_bytes = index.images[0].size_bytes
    home = short_folder / f"bed-{version}-{flavour}"
    async with Network(2, rate_bits_per_s=100_000_000) as network:
        far, near = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"), home / "registry", address=far.address, port=5000, netns=far.netns
        )
        containerd = _containerd(version, home, near)
        async with registry, containerd:
            name = await registry.push(index, "lib/several", "v1")
            install(containerd.certs_dir, registry.name, _only(registry))
            sent_before = far.tx_bytes()
            assert isinstance(await cri_pull(containerd, name), Pulled)
            # This machine's platform only, and once.
            assert 1 <= (far.tx_bytes() - sent_before) / size_bytes < 1.15


async def test_hosts_share_the_registrys_link_and_a_registry_can_go_and_come_back(short_folder: Path) -> None:
    image = build_image(8, [3_000_000])
    home = short_folder / "bed-many"
    async with Network(1 + len(VERSIONS), rate_bits_per_s=100_000_000) as network:
        far, *rest = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"), home / "registry", address=far.address, port=5000, netns=far.netns
        )
        containerds = [_containerd(version, home, host) for version, host in zip(VERSIONS, rest, strict=True)]
        try:
            await registry.start()
            name = await registry.push(image, "lib/one", "v1")
            for containerd in containerds:
                await containerd.start()
                install(containerd.certs_dir, registry.name, _only(registry))
            await registry.stop()
            failed = await cri_pull(containerds[0], name)
            assert isinstance(failed, PullFailed)
            assert "connection refused" in failed.message
            await registry.start()
            sent_before = far.tx_bytes()
            async with asyncio.TaskGroup() as group:
                pulls = [group.create_task(cri_pull(containerd, name)) for containerd in containerds]
            assert all(isinstance(pull.result(), Pulled) for pull in pulls)
            copies = (far.tx_bytes() - sent_before) / image.size_bytes
            assert len(VERSIONS) <= copies < len(VERSIONS) * 1.15
        finally:
            for containerd in containerds:
                await containerd.stop()
            await registry.stop()


def _containerd(version: str, home: Path, host: HostLink) -> RealContainerd:
    folder = home / version
    return RealContainerd(
        tool_bin(f"containerd-{version}"), folder, certs_dir=folder / "certs", netns=host.netns
    )


def _only(registry: RealRegistry) -> str:
    """Plain HTTP must be told: only loopback registries get it by default."""
    return hosts_toml(HostEntry(registry.url), HostEntry(registry.url))
