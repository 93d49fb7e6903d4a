"""A cold herd on real containerds: `make bench-herd`, one JSON line on standard output.

Three runs in one bed, each with an image of its own: one host alone without a mirror (the direct pull), all hosts
without a mirror, all hosts with their daemons. For each: seconds by host, bytes that left the registry by its interface
(headers included) and that in copies of the image, the machine's idle CPU. For the daemons: CPU, memory, bytes from
peers.

`lower_bound_s` is what no way to share can beat when all start at once: the image's bytes through the registry's link
or a host's, or all copies through all uplinks together, whichever takes longest. Unpacking and headers come on top.
A run with less idle CPU than IDLE_MIN_PERCENT is void and says so. A failed pull is told and makes the exit code 1.
`--memory-max` puts each daemon in a cgroup with that limit and tells its peak and what was killed.
Rates are 1e6 bits per second, sizes 1e6 bytes. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mirror.settings.values import ValueInvalid, size_bytes
from tests.support.debs import tool, version
from tests.support.herd_bed import DaemonCost, HerdBed, HerdImage, HerdPlan, HerdRun, herd_bed
from tests.support.memory_group import MemoryPeak
from tests.support.missing import Missing
from tests.support.skips import netns_or_missing

# Of a run: with less, the CPU decides and not the links.
IDLE_MIN_PERCENT: Final = 25.0
CONTAINERDS: Final = ("1.6", "1.7", "2.1")
# Addresses of the bed's network, a /24, with room for what else is on it.
HOSTS_MAX_COUNT: Final = 200
EXIT_FAILED: Final = 1
EXIT_SIGNAL_BASE: Final = 128
_MIB: Final = 1 << 20
Fields = dict[str, object]


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    plan = _plan(arguments)
    tools = {name: tool(name) for name in (f"containerd-{arguments.containerd}", "docker-registry")}
    for found in (netns_or_missing(), *tools.values()):
        if isinstance(found, Missing):
            print(f"bench-herd cannot run: {found}", file=sys.stderr)
            return EXIT_FAILED
    binaries = {name: found / "bin" for name, found in tools.items() if isinstance(found, Path)}
    document = asyncio.run(_until_signal(plan, arguments.containerd, binaries))
    if document is None:
        return EXIT_SIGNAL_BASE + signal.SIGTERM
    print(json.dumps(document))
    return EXIT_FAILED if document["failures"] else 0


def layer_sizes_bytes(image_bytes: int, count: int) -> tuple[int, ...]:
    """As 1 : 2 : ... : count, since an image has large layers and small ones; together exactly image_bytes."""
    shares = range(1, count + 1)
    sizes = [image_bytes * share // sum(shares) for share in shares]
    return (*sizes[:-1], image_bytes - sum(sizes[:-1]))


def lower_bound_s(plan: HerdPlan, image_bytes: int) -> float:
    uplinks_bits_per_s = plan.origin_bits_per_s + plan.host_count * plan.link_bits_per_s
    return max(
        8 * image_bytes / plan.origin_bits_per_s,
        8 * image_bytes / plan.link_bits_per_s,
        8 * image_bytes * plan.host_count / uplinks_bits_per_s,
    )


async def _until_signal(plan: HerdPlan, containerd: str, binaries: dict[str, Path]) -> Fields | None:
    """None: SIGTERM came, and the bed is gone. SIGINT ends a run by itself."""
    work = asyncio.current_task()
    assert work is not None
    is_ending = asyncio.Event()

    def end() -> None:
        # Once: the second would cut the cleaning up.
        if not is_ending.is_set():
            is_ending.set()
            work.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        return await _measure(plan, containerd, binaries)
    except asyncio.CancelledError:
        if not is_ending.is_set():
            raise
        return None


async def _measure(plan: HerdPlan, containerd: str, binaries: dict[str, Path]) -> Fields:
    load_before = os.getloadavg()[0]
    async with herd_bed(
        plan,
        containerd_binaries=binaries[f"containerd-{containerd}"],
        registry_binaries=binaries["docker-registry"],
        image_count=3,
    ) as bed:
        alone, without, together = bed.images
        direct = await bed.pull(alone, 1)
        _say(f"direct pull: {direct.slowest_s:.1f} s")
        no_mirror = await bed.pull(without, plan.host_count)
        _say(f"no mirror: slowest of {plan.host_count} hosts {no_mirror.slowest_s:.1f} s")
        await bed.start_daemons()
        if plan.slow_first > 1:
            await bed.slow_first()
        mirror, costs = await bed.pull_with_daemons(together)
        _say(f"mirror: slowest of {plan.host_count} hosts {mirror.slowest_s:.1f} s")
        congestion = _congestion_control(bed)
    runs = (direct, no_mirror, mirror)
    idle_percent = min(run.idle_cpu_percent for run in runs)
    fields = _run_fields(mirror, together, direct) | _daemon_fields(costs)
    if plan.slow_first > 1:
        # A containerd that reads from the registry cannot be stopped: the slow host itself is as slow as its way there.
        others_s = max(pull.took_s for pull in mirror.pulls[1:])
        fields["slowest_other_over_direct"] = round(others_s / direct.slowest_s, 3)
    return {
        "bench": "herd",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "containerd": version(f"containerd-{containerd}"),
        "congestion": congestion,
        "hosts": plan.host_count,
        "link_mbit_per_s": plan.link_bits_per_s / 1e6,
        "origin_mbit_per_s": plan.origin_bits_per_s / 1e6,
        "image_bytes": together.size_bytes,
        "layers_bytes": plan.layer_sizes_bytes,
        "stagger_s": plan.stagger_s,
        "slow_first": plan.slow_first,
        "discard_unpacked_layers": plan.discard_unpacked_layers,
        "memory_max_bytes": plan.memory_max_bytes,
        "daemon_environment": dict(plan.daemon_environment),
        "lower_bound_s": round(lower_bound_s(plan, together.size_bytes), 3),
        "direct": _run_fields(direct, alone, direct),
        "no_mirror": _run_fields(no_mirror, without, direct),
        "mirror": fields,
        "failures": [failure for run in runs for failure in run.failures],
        "load_before": round(load_before, 2),
        "idle_cpu_percent": round(idle_percent, 1),
        "void": idle_percent < IDLE_MIN_PERCENT,
    }


def _run_fields(run: HerdRun, image: HerdImage, direct: HerdRun) -> Fields:
    return {
        "host_s": [round(pull.took_s, 3) for pull in run.pulls],
        "slowest_s": round(run.slowest_s, 3),
        "slowest_over_direct": round(run.slowest_s / direct.slowest_s, 3),
        "last_end_s": round(run.last_end_s, 3),
        "origin_bytes": run.origin_bytes,
        "origin_copies": round(run.origin_bytes / image.size_bytes, 3),
        "containerd_cpu_s": [round(one, 2) for one in run.containerd_cpu_s],
        "idle_cpu_percent": round(run.idle_cpu_percent, 1),
    }


def _daemon_fields(costs: Sequence[DaemonCost]) -> Fields:
    return {
        "peer_bytes": [cost.received_from_peers_bytes for cost in costs],
        "daemon_cpu_s": [round(cost.cpu_s, 2) for cost in costs],
        "daemon_rss_mib": [round(cost.rss_bytes / _MIB, 1) for cost in costs],
        "daemon_peak_rss_mib": [round(cost.peak_rss_bytes / _MIB, 1) for cost in costs],
        **_memory_fields([cost.memory for cost in costs if cost.memory is not None]),
    }


def _memory_fields(peaks: Sequence[MemoryPeak]) -> Fields:
    """Of cgroups: what a limit counts. The parts peak each in its own moment."""
    if not peaks:
        return {}
    return {
        "memory_peak_mib": [round(peak.all_bytes / _MIB, 1) for peak in peaks],
        "memory_anon_peak_mib": [round(peak.anon_bytes / _MIB, 1) for peak in peaks],
        "memory_file_peak_mib": [round(peak.file_bytes / _MIB, 1) for peak in peaks],
        "memory_oom_kills": [peak.oom_kill_count for peak in peaks],
    }


def _congestion_control(bed: HerdBed) -> str:
    """A setting of each namespace, seen from inside only."""
    inside = ["nsenter", f"--net=/run/netns/{bed.hosts[0].link.netns}"]
    command = [*inside, "cat", "/proc/sys/net/ipv4/tcp_congestion_control"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _plan(arguments: argparse.Namespace) -> HerdPlan:
    origin_mbit = arguments.origin_mbit if arguments.origin_mbit is not None else arguments.link_mbit
    return HerdPlan(
        host_count=arguments.hosts,
        link_bits_per_s=round(arguments.link_mbit * 1e6),
        origin_bits_per_s=round(origin_mbit * 1e6),
        layer_sizes_bytes=layer_sizes_bytes(round(arguments.image_mb * 1e6), arguments.layers),
        stagger_s=arguments.stagger_s,
        discard_unpacked_layers=arguments.discard_unpacked_layers,
        slow_first=arguments.slow_first,
        memory_max_bytes=arguments.memory_max,
        daemon_environment=tuple(arguments.daemon_env),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench-herd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=_hosts, default=5, metavar="N")
    parser.add_argument(
        "--link-mbit", type=_positive, default=200.0, metavar="RATE", help="of each host, each way"
    )
    parser.add_argument(
        "--origin-mbit", type=_positive, metavar="RATE", help="of the registry; as the hosts' if left out"
    )
    parser.add_argument("--image-mb", type=_positive, default=100.0, metavar="SIZE")
    parser.add_argument("--layers", type=_count, default=5, metavar="N", help="of sizes as 1 : 2 : ... : N")
    parser.add_argument(
        "--stagger-s",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="between two hosts' starts; 0: all at once",
    )
    parser.add_argument(
        "--slow-first",
        type=_positive,
        default=1.0,
        metavar="FACTOR",
        help="the first host's way from the registry is so many times slower, and it asks first",
    )
    parser.add_argument(
        "--memory-max",
        type=_size,
        metavar="SIZE",
        help="of each daemon's cgroup, page cache included, as 128MiB",
    )
    parser.add_argument(
        "--daemon-env", type=_variable, action="append", default=[], metavar="NAME=VALUE", help="repeatable"
    )
    parser.add_argument("--containerd", choices=CONTAINERDS, default="2.1")
    parser.add_argument("--discard-unpacked-layers", action="store_true", help="as EKS and Talos set it")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _hosts(text: str) -> int:
    number = _count(text)
    if number > HOSTS_MAX_COUNT:
        raise argparse.ArgumentTypeError(f"at most {HOSTS_MAX_COUNT}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError("more than 0")
    return number


def _size(text: str) -> int:
    try:
        return size_bytes(1)(text)
    except ValueInvalid as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("NAME=VALUE")
    return name, value


def _seconds(text: str) -> float:
    number = float(text)
    if number < 0:
        raise argparse.ArgumentTypeError("0 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
