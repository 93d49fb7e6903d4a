"""peili up and down on hosts with roots of their own and real containerds: they meet, images cross, nothing stays."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.bed_containerds import VERSIONS
from tests.support.bed_process import BedProcess
from tests.support.plain_host import containerd_config
from tests.support.up_bed import PEILI, WAIT_S, beds, ready

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

# mirror.host.plan: no systemd runs here.
NO_UNIT = "containerd is no unit of systemd here: restart it the way it was started"


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
