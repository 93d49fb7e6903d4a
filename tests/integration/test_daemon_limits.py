"""A daemon stays within the memory and the disk that it is given, and pulls go on where it is given too little."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from mirror.store.disk_room import DiskRoom
from tests.support.bed_hosts import BedHost
from tests.support.herd_bed import HerdBed, HerdPlan, herd_bed
from tests.support.memory_group import groups_or_missing
from tests.support.skips import require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow, pytest.mark.matrix]

MIB = 1 << 20
# As in the chart.
MEMORY_MAX_BYTES = 128 * MIB
# What the kernel cannot take back: the rest of the limit is page cache, of which it can.
ANON_MAX_BYTES = 80 * MIB
LINK_BITS_PER_S = 400_000_000
# Where kubelet begins to throw images away.
DISK_MAX_RATIO = 0.85
DISK_BYTES = 32 * MIB
# Small ones, so that what is used comes near to the bound.
LAYERS_BYTES = (3_000_000,) * 14
SAMPLE_S = 0.02


@asynccontextmanager
async def herd(
    layers_bytes: tuple[int, ...], *, memory_max_bytes: int | None = None, keeps_layers: bool = True
) -> AsyncIterator[HerdBed]:
    plan = HerdPlan(
        host_count=3,
        link_bits_per_s=LINK_BITS_PER_S,
        origin_bits_per_s=LINK_BITS_PER_S,
        layer_sizes_bytes=layers_bytes,
        stagger_s=0.0,
        discard_unpacked_layers=not keeps_layers,
        memory_max_bytes=memory_max_bytes,
    )
    async with herd_bed(
        plan,
        containerd_binaries=tool_bin("containerd-2.1"),
        registry_binaries=tool_bin("docker-registry"),
        image_count=1,
    ) as bed:
        yield bed


async def test_a_herd_in_the_charts_memory_limit_ends_without_a_kill() -> None:
    """Twice the limit is pulled, and each byte passes the page cache of the daemon's cgroup."""
    if (missing := groups_or_missing()) is not None:
        require(missing)
    async with herd((60_000_000, 90_000_000, 120_000_000), memory_max_bytes=MEMORY_MAX_BYTES) as bed:
        await bed.start_daemons()
        pids = [host.daemon.pid for host in bed.hosts]
        run, costs = await bed.pull_with_daemons(bed.images[0])
        assert run.failures == ()
        assert [host.daemon.pid for host in bed.hosts if host.daemon.running] == pids
        peaks = [cost.memory for cost in costs if cost.memory is not None]
        assert len(peaks) == len(bed.hosts)
        for peak in peaks:
            print(
                f"peak {peak.all_bytes / MIB:.1f} MiB of {MEMORY_MAX_BYTES / MIB:.0f}, of it seen: "
                f"anonymous {peak.anon_bytes / MIB:.1f}, files {peak.file_bytes / MIB:.1f}"
            )
            assert peak.oom_kill_count == 0
            assert peak.anon_bytes <= ANON_MAX_BYTES
        # Those who were fed wrote their spool, and the kernel had to take pages back.
        assert max(peak.all_bytes for peak in peaks) > MEMORY_MAX_BYTES * 0.9


@contextmanager
def small_disk(host: BedHost) -> Iterator[Path]:
    """The data directory on a file system of its own, of DISK_BYTES."""
    folder = host.folder / "data"
    folder.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "peili", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def used_ratio(folder: Path) -> float:
    room = DiskRoom.of(folder)
    return 1 - room.free_bytes / room.capacity_bytes


async def test_spool_and_cache_stop_before_the_disk_is_full() -> None:
    """Containerd keeps no layers, so that the daemon would: more than the disk has room for."""
    async with herd(LAYERS_BYTES, keeps_layers=False) as bed:
        with ExitStack() as stack:
            folders = [stack.enter_context(small_disk(host)) for host in bed.hosts]
            assert sum(LAYERS_BYTES) > DISK_BYTES
            seen = dict.fromkeys(folders, 0.0)

            async def watch() -> None:
                while True:
                    for folder in folders:
                        seen[folder] = max(seen[folder], used_ratio(folder))
                    await asyncio.sleep(SAMPLE_S)

            watching = asyncio.ensure_future(watch())
            try:
                await bed.start_daemons()
                run, _ = await bed.pull_with_daemons(bed.images[0])
            finally:
                watching.cancel()
                with suppress(
                    asyncio.CancelledError
                ):  # What else ended it is told: nobody would have looked.
                    await watching
            assert run.failures == ()
            print(f"at most used: {[round(ratio, 3) for ratio in seen.values()]}")
            assert max(seen.values()) <= DISK_MAX_RATIO
            assert max(seen.values()) >= DISK_MAX_RATIO / 2, "nothing was kept: the test says nothing"
            for host in bed.hosts:
                await host.daemon.stop()


async def test_on_a_disk_without_a_byte_left_pulls_go_on() -> None:
    async with herd(LAYERS_BYTES) as bed:
        with ExitStack() as stack:
            folders = [stack.enter_context(small_disk(host)) for host in bed.hosts]
            await bed.start_daemons()
            for folder in folders:
                fill(folder / "somebody-else-s")
                assert DiskRoom.of(folder).free_bytes == 0
            run, _ = await bed.pull_with_daemons(bed.images[0])
            assert run.failures == ()
            for host in bed.hosts:
                assert host.daemon.running
                assert "Traceback" not in host.daemon.log(), host.daemon.log()[-3000:]
                await host.daemon.stop()
            assert any("would fill the spool's disk over 84%" in host.daemon.log() for host in bed.hosts)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return
