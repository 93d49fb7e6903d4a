"""Docker with containerd's image store on one host: its own settings, its words, and its own containerd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from containerd.client import Client
from tests.support.docker_host import NAMESPACE, DockerHost
from tests.support.netns import Network
from tests.support.oci_image import build_image
from tests.support.skips import netns_or_missing, require, tool_bin
from tests.support.token_origin import Status, TokenOrigin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

_SEEDS = count(660_000)


@asynccontextmanager
async def bed(
    folder: Path, settings: Mapping[str, object], *, owns_containerd: bool = False
) -> AsyncIterator[tuple[TokenOrigin, DockerHost]]:
    """ORIGIN in a list of the settings is the origin's name, URL its address."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    async with Network(1) as network, TokenOrigin(auth="none", address=network.address) as origin:
        said = {
            key: [{"ORIGIN": origin.authority, "URL": origin.url}.get(item, item) for item in value]
            if isinstance(value, list)
            else value
            for key, value in settings.items()
        }
        (link,) = network.hosts
        host = DockerHost(
            link,
            folder / f"d{next(_SEEDS)}",
            tool_bin("containerd-2.1"),
            (tool_bin("docker"), tool_bin("runc")),
            link.address,
            docker_settings=said,
            owns_containerd=owns_containerd,
        )
        async with host:
            yield origin, host


def add(origin: TokenOrigin, repository: str) -> None:
    origin.add(build_image(next(_SEEDS), [90_000]), repository, "v1")


@pytest.mark.matrix
async def test_what_daemon_json_says_of_registries_keeps_working(short_folder: Path) -> None:
    """dockerd itself leaves it out where a hosts.toml names more than one host."""
    settings = {"insecure-registries": ["ORIGIN"], "registry-mirrors": ["URL"]}
    async with bed(short_folder, settings) as (origin, host):
        for repository in ("lib/one", "lib/two", "lib/three", "lib/four"):
            add(origin, repository)
        assert await host.docker_pull(f"{origin.authority}/lib/one:v1") == ""
        assert await host.docker_pull("lib/two:v1") == ""
        host.configure("ghcr.io")
        assert await host.docker_pull(f"{origin.authority}/lib/three:v1") == ""
        assert await host.docker_pull("lib/four:v1") == ""
        for name in (f"{origin.authority}/lib/three", "docker.io/lib/four"):
            assert f"GET blob {name}@" in host.daemon.log(), "the daemon was not asked"
        assert host.peili("cleanup", f"--hosts-dir={host.certs_dir}").returncode == 0
        assert list(host.certs_dir.iterdir()) == []


@pytest.mark.matrix
async def test_a_user_reads_the_registrys_words(short_folder: Path) -> None:
    async with bed(short_folder, {"insecure-registries": ["ORIGIN"]}) as (origin, host):

        async def words() -> list[str]:
            told = []
            for code in (404, 401, 403, 429, 503):
                origin.behave(Status(code))
                told.append(await host.docker_pull(f"{origin.authority}/lib/app:v1"))
            origin.behave_well()
            await origin.refuse()
            told.append(await host.docker_pull(f"{origin.authority}/lib/app:v1"))
            await origin.listen_again()
            return told

        host.install_registry(origin.authority, origin.url)
        without = await words()
        host.configure(origin.authority)
        assert await words() == without
        assert all(without) and len(set(without)) == len(without)
        await host.daemon.kill()
        assert (await words())[1:] == without[1:]


@pytest.mark.matrix
async def test_a_containerd_of_dockers_own(short_folder: Path) -> None:
    """As docs/clients/docker.md names its socket and its content."""
    async with bed(short_folder, {"insecure-registries": ["ORIGIN"]}, owns_containerd=True) as (origin, host):
        image = build_image(next(_SEEDS), [90_000])
        origin.add(image, "lib/app", "v1")
        told = await host.docker_asked("/info")
        assert isinstance(told, dict)
        assert told["Containerd"]["Namespaces"]["Containers"] == NAMESPACE
        assert told["Containerd"]["Address"] == str(host.containerd_socket)
        assert ["driver-type", "io.containerd.snapshotter.v1"] in told["DriverStatus"]
        host.configure(origin.authority)
        assert await host.docker_pull(f"{origin.authority}/lib/app:v1") == ""
        await host.wait(lambda: host.counted("announced_digests") == len(list(image)))
        async with Client(host.containerd_socket) as client:
            assert (await client.version()).release >= (2, 1)
        root = host.folder / "dockerd/data/containerd/daemon/io.containerd.content.v1.content"
        assert (root / "blobs/sha256" / image.manifest.digest.partition(":")[2]).exists()
