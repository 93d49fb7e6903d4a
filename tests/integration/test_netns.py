"""The network bed itself: links, limits, and that nothing is left, not even by a session that was killed."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bed_process import BedProcess
from tests.support.netns import Network, NetworkError, sweep

pytestmark = [pytest.mark.netns, pytest.mark.slow]

_ROOT = Path(__file__).resolve().parents[2]
_SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(bytes(int(sys.argv[3])))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
"""
_ACCEPT = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print("port", server.getsockname()[1], flush=True)
    server.accept()
"""
_CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print("reached by", open("/proc/sys/net/ipv4/tcp_congestion_control").read())
"""
_KILLED_SESSION = """
import asyncio, os, signal
from tests.support.netns import Network
async def main():
    network = Network(1)
    network.open()
    print(network.hosts[0].netns, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def _namespaces() -> set[str]:
    sweep()  # what an earlier session left is not this one's
    return {path.name for path in Path("/run/netns").iterdir()} if Path("/run/netns").is_dir() else set()


def _links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("pl")}


async def _receive(network: Network, netns: str, size_bytes: int, folder: Path) -> float:
    """Seconds from the first byte to the last, sent by a process in `netns` to a server of the test."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[float] = loop.create_future()

    async def count_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        remaining = size_bytes - len(await reader.readexactly(1))
        started = loop.time()
        while remaining:
            remaining -= len(await reader.read(1 << 20))
        arrived.set_result(loop.time() - started)
        writer.close()

    async with await asyncio.start_server(count_bytes, network.address, 0) as server:
        port = server.sockets[0].getsockname()[1]
        command = [sys.executable, "-c", _SEND, network.address, str(port), str(size_bytes)]
        async with BedProcess(command, folder / f"{netns}.log", netns=netns):
            return await asyncio.wait_for(arrived, 20)


async def test_links_are_limited_and_counted(tmp_path: Path) -> None:
    before = _namespaces(), _links()
    size_bytes = 4_000_000
    async with Network(2, rate_bits_per_s=80_000_000) as network:
        host = network.hosts[0]
        sent_before = host.tx_bytes()
        seconds = await _receive(network, host.netns, size_bytes, tmp_path)
        # 10 MB/s less the burst that the bucket lets through at once.
        assert 0.3 < seconds < 2
        assert 1 <= (host.tx_bytes() - sent_before) / size_bytes < 1.1
        assert network.hosts[1].tx_bytes() < 100_000
    assert (_namespaces(), _links()) == before


async def test_hosts_reach_each_other_and_use_a_plain_congestion_control(tmp_path: Path) -> None:
    async with Network(3) as network:
        near, _, far = network.hosts
        async with BedProcess(
            [sys.executable, "-c", _ACCEPT, far.address], tmp_path / "far.log", netns=far.netns
        ) as server:
            port = (await server.said(r"port (\d+)"))[1]
            command = [sys.executable, "-c", _CONNECT, far.address, port]
            async with BedProcess(command, tmp_path / "near.log", netns=near.netns) as client:
                assert (await client.said(r"reached by (\w+)"))[1] in ("cubic", "reno")


async def test_a_killed_session_is_swept_with_its_processes(tmp_path: Path) -> None:
    session = subprocess.run(
        [sys.executable, "-c", _KILLED_SESSION], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert session.returncode == -signal.SIGKILL, session.stderr
    netns = session.stdout.strip()
    assert (Path("/run/netns") / netns).exists()
    left = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{netns}", "sh", "-c", "echo inside; exec sleep 60"],
        stdout=subprocess.PIPE,
    )
    assert left.stdout is not None
    assert left.stdout.readline() == b"inside\n"
    left.stdout.close()
    async with Network(1) as ours:
        sweep()
        assert netns not in _namespaces()
        assert ours.hosts[0].netns in _namespaces()
        assert await asyncio.to_thread(left.wait, 5) == -signal.SIGKILL
    assert not any(name.startswith(netns.rpartition("-")[0]) for name in _namespaces() | _links())


def test_a_failed_setup_leaves_nothing() -> None:
    before = _namespaces(), _links()
    network = Network(1, rate_bits_per_s=0)
    with pytest.raises(NetworkError, match="tbf"):
        network.open()
    assert (_namespaces(), _links()) == before
