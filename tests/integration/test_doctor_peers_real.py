"""peili doctor on a host with a real containerd, where others are in the way: firewalls, clocks, releases, forwarded
ports. Each found alone, and gone when it is mended."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.bed_process import BedProcess
from tests.support.doctor_bed import DoctorBed, Seen, doctor_bed
from tests.support.free_ports import free_port
from tests.support.netns import HostLink, Network
from tests.support.skips import netns_or_missing, require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.matrix]

PEER_PORT = 29021
# What a clock is moved by; members of a cluster still take each other's datagrams for fresh.
AHEAD_S = 90
CLOCK_AHEAD = f"import time; real = time.time; time.time = lambda: real() + {AHEAD_S}; "
OLDER_RELEASE = "import mirror.version; mirror.version.VERSION = '0.0.9'; "
MAIN = "import sys; from mirror.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest_asyncio.fixture
async def bed(short_folder: Path) -> AsyncIterator[DoctorBed]:
    async with doctor_bed(tool_bin("containerd-1.7"), short_folder) as bed:
        yield bed


async def healthy(bed: DoctorBed, **other: str) -> Seen:
    seen = await bed.doctor(**other)
    assert seen.code == 0 and not seen.problems, seen
    return seen


# --- A firewall


@pytest.fixture
def network() -> Iterator[Network]:
    if (missing := netns_or_missing()) is not None:
        require(missing)
    made = Network(1)
    made.open()
    with contextlib.closing(made):
        yield made


def drop(host: HostLink, *protocols: str) -> None:
    """From now on the host drops what comes to its peer port by these, and nothing else."""
    rules = "".join(f"{protocol} dport {PEER_PORT} drop\n" for protocol in protocols)
    chain = f"chain input {{\ntype filter hook input priority 0;\n{rules}}}"
    script = f"table inet peili\ndelete table inet peili\ntable inet peili {{\n{chain}\n}}\n"
    nft = tool_bin("nftables") / "nft"
    command = ["nsenter", f"--net=/run/netns/{host.netns}", str(nft), "-f", "-"]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)


def other_host(folder: Path, host: HostLink, *more: str) -> BedProcess:
    return BedProcess(
        [
            *(sys.executable, "-m", "mirror", "serve", "--store=directory"),
            *(f"--peer-addr={host.address}:{PEER_PORT}", f"--data-dir={folder / 'other'}", *more),
        ],
        folder / "other.log",
        netns=host.netns,
    )


@pytest.mark.netns
async def test_a_firewall_that_drops_tcp_to_a_host_that_is_known(
    bed: DoctorBed, network: Network, short_folder: Path
) -> None:
    host = network.hosts[0]
    async with other_host(short_folder, host) as other:
        await other.said("serving")
        own = f"{network.address}:{bed.peer_port}"
        await bed.serve(f"--bootstrap=static:{host.address}:{PEER_PORT}", peer_addr=own)
        await bed.until_healthy()
        assert not (await healthy(bed)).findings
        drop(host, "tcp")
        seen = await bed.doctor()
        assert seen.problems == {"peer-port-blocked"}
        assert f"no answer from {host.address}:{PEER_PORT}; 1 of 1 tried" in str(seen.findings)
        drop(host)
        await healthy(bed)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("protocols", "problems", "evidence"),
    [
        (("tcp", "udp"), {"no-peers", "peer-port-blocked"}, "no answer from "),
        (("udp",), {"no-peers"}, "accept TCP: UDP is dropped on the way"),
    ],
)
async def test_a_firewall_before_the_first_peer(
    bed: DoctorBed,
    network: Network,
    short_folder: Path,
    protocols: tuple[str, ...],
    problems: set[str],
    evidence: str,
) -> None:
    host = network.hosts[0]
    drop(host, *protocols)
    async with other_host(short_folder, host) as other:
        await other.said("serving")
        own = f"{network.address}:{bed.peer_port}"
        await bed.serve(f"--bootstrap=static:{host.address}:{PEER_PORT}", peer_addr=own)
        seen = await bed.until_problems(problems)
        assert evidence in str(seen.findings)
        drop(host)
        await bed.until_healthy()


async def test_a_first_peer_where_no_daemon_listens(bed: DoctorBed) -> None:
    away = f"127.0.0.1:{free_port()}"
    await bed.serve(f"--bootstrap=static:{away}")
    seen = await bed.until_problems({"no-peers"})
    assert f"{away} refuse TCP: no daemon listens" in str(seen.findings)


# --- A network that carries multicast


@pytest.mark.netns
async def test_a_neighbour_with_another_secret_who_is_heard_by_beacons_alone(
    bed: DoctorBed, network: Network, short_folder: Path
) -> None:
    host = network.hosts[0]
    ours, theirs = (secret(short_folder / name, fill) for name, fill in (("ours", 0), ("theirs", 1)))
    own = f"{network.address}:{bed.peer_port}"
    await bed.serve("--bootstrap=lan", f"--cluster-secret-file={ours}", peer_addr=own)
    assert set((await healthy(bed)).findings) == {"alone-on-lan"}
    async with other_host(short_folder, host, "--bootstrap=lan", f"--cluster-secret-file={theirs}") as other:
        await other.said("serving")
        seen = await bed.until_problems({"secret-mismatch"})
        assert set(seen.findings) == {"secret-mismatch"}
    theirs.write_bytes(ours.read_bytes())
    async with other_host(short_folder, host, "--bootstrap=lan", f"--cluster-secret-file={theirs}"):
        assert "strangers-refused" in (await bed.until_healthy()).findings


# --- Clocks and releases


async def test_a_clock_that_is_not_that_of_its_peers(bed: DoctorBed, short_folder: Path) -> None:
    bed.program = (sys.executable, "-c", CLOCK_AHEAD + MAIN)
    # Without one, nobody's word about the time counts.
    sealed = f"--cluster-secret-file={secret(short_folder / 'secret')}"
    others = [
        BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", "--store=directory"),
                *("--registry-addr=127.0.0.1:0", "--peer-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"),
                *(f"--data-dir={short_folder / name}", f"--bootstrap=static:127.0.0.1:{bed.peer_port}"),
                sealed,
            ],
            short_folder / f"{name}.log",
        )
        for name in ("one", "two")
    ]
    await bed.serve(sealed)
    async with contextlib.AsyncExitStack() as stack:
        for other in others:
            await stack.enter_async_context(other)
        seen = await bed.until("clock-skew")
        assert seen.problems == {"clock-skew"}
        assert "ahead of that of its peers" in str(seen.findings["clock-skew"]["what"])
        assert f"{AHEAD_S} s" in str(seen.findings["clock-skew"]["evidence"])
        assert "timedatectl" in seen.mend("clock-skew")[0]
        bed.program = (sys.executable, "-c", MAIN)
        await bed.serve(sealed)
        await bed.until_healthy()


async def test_a_daemon_of_another_release(bed: DoctorBed) -> None:
    bed.program = (sys.executable, "-c", OLDER_RELEASE + MAIN)
    await bed.serve()
    seen = await healthy(bed)
    assert "the daemon is 0.0.9" in str(seen.findings["other-release"]["evidence"])
    bed.program = (sys.executable, "-c", MAIN)
    await bed.serve()
    assert "other-release" not in (await healthy(bed)).findings


async def test_datagrams_of_another_wire_version(bed: DoctorBed) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        # The version is the first byte.
        stranger.sendto(b"\xee" + bytes(200), ("127.0.0.1", bed.peer_port))
        seen = await bed.until("wire-version-skew")
    assert not seen.problems and "same release" in seen.mend("wire-version-skew")[0]


# --- A forwarded port, as in the chart's modes hostPort and nodePort


async def test_a_port_that_is_forwarded_to_the_daemon(bed: DoctorBed) -> None:
    forwarded = free_port()
    at = f"127.0.0.1:{forwarded}"
    registry = f"0.0.0.0:{bed.registry_port}"
    await bed.serve(registry_addr=registry)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", forwarded)
    async with server:
        await bed.configure(f"--registry-addr={at}")
        # It knew the daemon's own address alone.
        seen = await bed.doctor(registry_addr=registry)
        assert seen.problems == {"hosts-other-address", "registry-routable"}
        assert "--configured-addr" in seen.mend("hosts-other-address")[2]
        await healthy(bed, registry_addr=registry, configured_addr=at)
        # And still sees files that lead elsewhere.
        other = f"127.0.0.1:{free_port()}"
        seen = await bed.doctor(registry_addr=registry, configured_addr=other)
        assert seen.problems == {"hosts-other-address"}
        assert f"--registry-addr {other}" in seen.mend("hosts-other-address")[0]


def secret(path: Path, fill: int = 0) -> Path:
    path.write_bytes(base64.b64encode(bytes([fill]) * 32))
    path.chmod(0o600)
    return path
