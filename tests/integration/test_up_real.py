"""peili up and down on hosts with roots of their own and real containerds: they meet, images cross, nothing stays."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.bed_containerds import VERSIONS
from tests.support.bed_process import BedProcess
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.netns import Network
from tests.support.oci_image import build_image
from tests.support.plain_host import Outcome, PlainHost, Value, containerd_config
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
# As a user has it in his PATH.
PEILI = ROOT / ".venv" / "bin" / "peili"
CONFIG_PATH = 'config_path = "/etc/containerd/certs.d"'
LAYERS_BYTES = [3_000_000, 50_000]
# The beacon of a host that has just come is sent within a second.
WAIT_S = 30.0
# mirror.host.plan: no systemd runs here.
NO_UNIT = "containerd is no unit of systemd here: restart it the way it was started"


@dataclass(slots=True)
class Bed:
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


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short: a Unix socket is below it.
    made = Path(tempfile.mkdtemp(prefix="peili-"))
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def beds(folder: Path, versions: list[str], config: Callable[[str], str]) -> AsyncIterator[Bed]:
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
        yield bed
        # Most were ended by down.
        for process in bed.running:
            await process.stop()


def ready(version: str) -> str:
    return containerd_config(version, CONFIG_PATH)


def join_line(running: BedProcess) -> str:
    found = re.search(r"peili up --join (peili-\S+)", running.log())
    assert found is not None, running.log()
    return found[1]


async def test_two_hosts_meet_by_themselves_a_third_joins_by_the_line_and_nothing_stays(folder: Path) -> None:
    async with beds(folder, ["2.1", "1.7", "1.6"], ready) as bed:
        first = await bed.up(0)
        await bed.up(1)
        await bed.until_peers(1, 1)
        image = await bed.image(1)
        await bed.pull(0, image)

        # Beacons do not reach it.
        subprocess.run(
            ["ip", "-n", bed.network.hosts[2].netns, "link", "set", "eth0", "multicast", "off"], check=True
        )
        await bed.up(2, "--join", join_line(first))
        await bed.until_peers(2, 2)
        await bed.registry.stop()
        await asyncio.gather(bed.pull(1, image), bed.pull(2, image))

        for number in range(3):
            assert bed.left(number)
            told = await bed.down(number)
            assert "stopped" in told.out
            assert bed.left(number) == [], told


@pytest.mark.matrix
async def test_a_closed_cluster_is_joined_by_the_line_and_no_other_way(folder: Path) -> None:
    async with beds(folder, ["1.7", "1.7", "2.1"], ready) as bed:
        first = await bed.up(0, "--closed", "--cluster=home")
        await bed.up(1)  # on the same LAN, and not asked in
        line = join_line(first)
        for text in (line, "a line that is none"):
            told = await bed.peili(1, "up", "--join", text)
            assert told.code == 1 and "runs on this host already" in told.err
        third = bed.hosts[2]
        # The secret is in no list of processes.
        third.path("/root/line").write_text(line + "\n")
        joined = BedProcess(
            third.words("sh", "-c", f"exec {PEILI} up --join - </root/line"),
            third.folder / "up.log",
            environment=third.environment,
        )
        await bed.start(joined, "serving containerd")
        await bed.until_peers(2, 1)
        await bed.until_peers(0, 1)
        assert await bed.peers(1) == 0

        # Started again without a word, it is where it was.
        await joined.stop()
        await bed.up(2)
        await bed.until_peers(2, 1)
        third.path("/root/line").unlink()
        for number in range(3):
            await bed.down(number)
            assert bed.left(number) == []


def unset(version: str) -> str:
    return containerd_config(version)


@pytest.mark.matrix
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_containerd_that_reads_no_hosts_toml_is_told_to(folder: Path, version: str) -> None:
    async with beds(folder, [version, version], unset) as bed:
        image = await bed.image(2)
        own = containerd_config(version)
        for number, host in enumerate(bed.hosts):
            running = await bed.up(number)
            assert NO_UNIT in running.log()
            assert 'config_path = "/etc/containerd/certs.d"' in bed.config(number)
            await host.containerd.stop()
            await host.start_containerd()
        await bed.until_peers(1, 1)
        await bed.pull(0, image)
        await bed.registry.stop()
        await bed.pull(1, image)
        for number, host in enumerate(bed.hosts):
            await bed.down(number)
            assert bed.left(number) == []
            assert bed.config(number) == own
            await host.containerd.stop()
            await host.start_containerd()


@pytest.mark.matrix
async def test_what_was_killed_is_undone_too(folder: Path) -> None:
    """At points of time that differ from host to host, as the machine will have it."""
    async with beds(folder, ["2.1", "2.1", "2.1"], unset) as bed:
        for number, written in enumerate(("found", "_default/hosts.toml", "peili up --join")):
            host = bed.hosts[number]
            running = BedProcess(
                host.words(PEILI, "up"), host.folder / "up.log", environment=host.environment
            )
            await bed.start(running, written)
            await running.kill()
            await bed.down(number)
            assert bed.left(number) == []
            told = await bed.down(number)
            assert "nothing to undo" in told.out


@pytest.mark.matrix
async def test_up_again_changes_nothing_and_an_edit_stays(folder: Path) -> None:
    async with beds(folder, ["2.1"], unset) as bed:
        (host,) = bed.hosts
        running = await bed.up(0)
        await running.stop()
        assert "Ctrl-C" in running.log()
        there = host.snapshot()
        running = await bed.up(0)
        assert "written" not in running.log().rpartition("Ctrl-C")[0].partition("Ctrl-C")[2]
        await running.stop()
        # Of the data directory, what the daemon itself keeps.
        assert [path for path in host.changes_since(there) if not path.startswith("var/lib/peili")] == []
        config = host.path("/etc/containerd/config.toml")
        config.write_text(config.read_text() + "# mine\n")
        told = await bed.down(0)
        assert "config.toml was edited after peili up" in told.err
        assert bed.left(0) == ["etc/containerd/config.toml"]
        assert config.read_text().endswith("# mine\n")


@pytest.mark.matrix
async def test_a_port_that_is_taken_is_told_and_undone(folder: Path) -> None:
    async with beds(folder, ["2.1"], ready) as bed:
        (host,) = bed.hosts
        taken = BedProcess(
            host.words("python3", "-m", "http.server", "--bind", "127.0.0.1", "29020"),
            folder / "taken.log",
            environment=host.environment,
        )
        taken.start()
        async with asyncio.timeout(WAIT_S):
            while (told := await bed.peili(0, "up")).code == 0 or "in use" not in told.err:
                await asyncio.sleep(0.1)
        assert told.code == 1 and "--registry-addr 127.0.0.1:29020 cannot be bound" in told.err
        await taken.stop()
        await bed.down(0)
        assert bed.left(0) == []
