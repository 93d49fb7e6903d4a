"""Podman pulls through daemons with a relay, each on a host of its own. It stays with the mirror that gave it the
manifest.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from gzip import decompress
from itertools import count
from pathlib import Path

import pytest

from tests.support import wicked_daemon
from tests.support.netns import Network
from tests.support.oci_image import Image, build_image
from tests.support.podman_host import PodmanHost
from tests.support.podman_root import podman_root
from tests.support.skips import netns_or_missing, require, tool_bin
from tests.support.token_origin import TokenOrigin

pytestmark = [pytest.mark.netns, pytest.mark.slow]

VERSIONS = ["4.3", pytest.param("5.4", marks=pytest.mark.matrix)]
_SEEDS = count(680_000)


@dataclass(frozen=True, slots=True)
class Bed:
    origin: TokenOrigin
    first: PodmanHost
    second: PodmanHost

    def add(self, image: Image, repository: str) -> str:
        self.origin.add(image, repository, "v1")
        return f"{self.origin.authority}/{repository}:v1"

    async def known(self, image: Image) -> None:
        """Returns when both hosts know that the first one keeps all of it."""
        count = len(list(image))
        await self.first.wait(lambda: self.first.counted("announced_digests") == count)
        await self.first.wait(lambda: self.second.counted("records") >= count)

    def asked(self, agent: str, since: int = 0) -> list[str]:
        return [
            exchange.asked.short
            for exchange in self.origin.journal[since:]
            if agent in exchange.asked.headers.get("user-agent", "")
            and exchange.asked.kind not in ("ping", "token")
        ]


@asynccontextmanager
async def bed(folder: Path, version: str) -> AsyncIterator[Bed]:
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    root = require(podman_root()) if version == "5.4" else None
    binaries = () if root else (tool_bin("podman"), tool_bin("conmon"), tool_bin("runc"))
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(2))
        origin = await stack.enter_async_context(TokenOrigin(auth="bearer", address=network.address))
        bootstrap = network.hosts[0].address
        hosts = [
            PodmanHost(link, folder / f"p{next(_SEEDS)}", bootstrap, binaries=binaries, root=root)
            for link in network.hosts
        ]
        for host in hosts:
            host.install_registry(origin.authority, origin.url)
            host.configure(origin.authority)
            await stack.enter_async_context(host)
        code, said = await hosts[0].podman("--version")
        assert code == 0 and f" {version}." in said, said
        await hosts[0].wait(lambda: all(host.counted("members") == 1 for host in hosts))
        yield Bed(origin, *hosts)


def files_of(image: Image) -> list[bytes]:
    """One in each layer, bottom first; named by its number."""
    found = []
    for number, layer in enumerate(image.layers):
        with tarfile.open(fileobj=io.BytesIO(decompress(layer.content))) as tar:
            file = tar.extractfile(str(number))
            assert file is not None
            found.append(file.read())
    return found


def has(host: PodmanHost, image: Image) -> bool:
    return all(content in host.layer_files(str(number)) for number, content in enumerate(files_of(image)))


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_one_host_pulled_the_next_one_has_from_it(short_folder: Path, version: str) -> None:
    """The registry is asked for the manifest alone. Without a daemon, Podman goes there itself."""
    image, alone = (build_image(next(_SEEDS), [1_500_000, 90_000]) for _ in range(2))
    async with bed(short_folder, version) as it:
        name = it.add(image, "lib/app")
        assert (await it.first.podman("pull", name))[0] == 0
        assert has(it.first, image)
        assert it.asked("containers/") == [], "all of it came from the mirror"
        await it.known(image)
        since = len(it.origin.journal)
        assert (await it.second.podman("pull", name))[0] == 0
        assert has(it.second, image)
        assert it.asked("containers/", since) == []
        assert [line for line in it.asked("peili", since) if "blob" in line] == []
        assert it.second.counted("bytes_received_from_peers") == image.size_bytes

        # All of it is kept there, and nobody has to be asked.
        by_digest = f"{it.origin.authority}/lib/app@{image.manifest.digest}"
        await it.first.podman("rmi", "--all", "--force")
        assert not has(it.first, image)
        await it.origin.refuse()
        code, said = await it.first.podman("pull", by_digest)
        assert code == 0, said
        await it.origin.listen_again()

        name = it.add(alone, "lib/alone")
        await it.second.daemon.kill()
        since = len(it.origin.journal)
        assert (await it.second.podman("pull", name))[0] == 0
        assert has(it.second, alone)
        assert len(it.asked("containers/", since)) == 1 + len(alone.layers) + 1


@pytest.mark.matrix
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_peer_that_lies_spoils_one_pull_at_most(short_folder: Path, version: str) -> None:
    image = build_image(next(_SEEDS), [1_500_000, 90_000])
    async with bed(short_folder, version) as it:
        name = it.add(image, "lib/app")
        assert (await it.first.podman("pull", name))[0] == 0
        await it.first.turn_wicked(wicked_daemon.CORRUPT_LAYERS)
        await it.second.wait(lambda: it.second.counted("members") == 1)
        await it.known(image)
        code, said = await it.second.podman("pull", name)
        if code:
            assert "sha256" in said or "digest" in said.lower()
            assert not has(it.second, image)
            code, said = await it.second.podman("pull", name)
        assert code == 0, said
        assert has(it.second, image)
        assert it.second.counted("bytes_received_from_peers") > 0, "the liar was not asked"
