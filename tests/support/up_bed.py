"""Plain hosts of one network with a real containerd and a real registry, on which `peili up` and `down` are to run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.bed_process import BedProcess
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.netns import Network
from tests.support.oci_image import build_image
from tests.support.plain_host import Outcome, PlainHost, Value, containerd_config
from tests.support.skips import tool_bin

ROOT: Final = Path(__file__).resolve().parents[2]
# As a user has it in his PATH.
PEILI: Final = ROOT / ".venv" / "bin" / "peili"
CONFIG_PATH: Final = 'config_path = "/etc/containerd/certs.d"'
LAYERS_BYTES: Final = [3_000_000, 50_000]
# The beacon of a host that has just come is sent within a second.
WAIT_S: Final = 30.0


@dataclass(slots=True)
class Bed:
    """`before`: each host's snapshot. `running`: what is ended with the bed."""

    network: Network
    hosts: list[PlainHost]
    registry: RealRegistry
    before: list[dict[str, Value]]
    running: list[BedProcess] = field(default_factory=list)

    async def up(self, number: int, *flags: str) -> BedProcess:
        """In a terminal that stays open."""
        host = self.hosts[number]
        running = BedProcess(
            host.words(PEILI, "up", *flags), host.folder / "up.log", environment=host.environment
        )
        await self.start(running, "serving containerd")
        return running

    async def start(self, running: BedProcess, until: str) -> None:
        self.running.append(running)
        running.start()
        await running.said(until)

    async def peili(self, number: int, *words: str) -> Outcome:
        return await self.hosts[number].run(PEILI, *words)

    async def down(self, number: int) -> Outcome:
        outcome = await self.peili(number, "down")
        assert outcome.code == 0, outcome
        return outcome

    async def image(self, seed: int) -> str:
        """Its name, by digest: no registry is asked what a tag means."""
        built = build_image(seed, LAYERS_BYTES)
        name = await self.registry.push(built, f"lib/app{seed}", "v1")
        return f"{name.rpartition(':')[0]}@{built.manifest.digest}"

    async def pull(self, number: int, image: str) -> None:
        outcome = await cri_pull(self.hosts[number], image)
        assert isinstance(outcome, Pulled), outcome

    async def peers(self, number: int) -> int:
        told = await self.peili(number, "peers", "--json")
        return len(json.loads(told.out)["peers"]) if told.code == 0 else -1

    async def until_peers(self, number: int, count: int) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while (seen := await self.peers(number)) != count:
            assert time.monotonic() < deadline_s, f"host {number} knows {seen} peers, not {count}"
            await asyncio.sleep(0.1)

    def config(self, number: int) -> str:
        return self.hosts[number].path("/etc/containerd/config.toml").read_text()

    def left(self, number: int) -> list[str]:
        return self.hosts[number].changes_since(self.before[number])


@asynccontextmanager
async def beds(folder: Path, versions: list[str], config: Callable[[str], str]) -> AsyncIterator[Bed]:
    """A host for each version of containerd, with the config.toml that `config` says for it. `folder`: a short path."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(len(versions)))
        registry = RealRegistry(tool_bin("docker-registry"), folder / "registry", address=network.address)
        await registry.start()
        stack.push_async_callback(registry.stop)
        hosts = []
        for number, (version, link) in enumerate(zip(versions, network.hosts, strict=True)):
            host = PlainHost(link, folder / f"h{number}", tool_bin(f"containerd-{version}"), config(version))
            await stack.enter_async_context(host)
            hosts.append(host)
            # The user's own file: the registry speaks plain HTTP.
            own = host.path(f"/etc/containerd/certs.d/{registry.name}/hosts.toml")
            own.parent.mkdir(parents=True)
            own.write_text(f'server = "{registry.url}"\n')
        bed = Bed(network, hosts, registry, [host.snapshot() for host in hosts])
        try:
            yield bed
        finally:
            # Most were ended by down.
            for process in bed.running:
                await process.stop()


def ready(version: str) -> str:
    """A containerd that reads hosts.toml files already."""
    return containerd_config(version, CONFIG_PATH)
