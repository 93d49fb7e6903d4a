"""The daemon as a process: what happens to open answers, to newcomers and to itself when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mirror.discovery.base import Peer
from mirror.settings.model import Address, StaticBootstrap
from mirror.web.watchdog import LATE_S
from tests.support.dht_hosts import dht_host, until
from tests.support.free_ports import free_ports
from tests.support.json_schema import violations
from tests.support.mirror_host import Answer, ask

pytestmark = pytest.mark.slow

BLOB = random.Random(9).randbytes(24_000_000)
DIGEST = hashlib.sha256(BLOB).hexdigest()
DEADLINE_S = 20.0
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "api"


@dataclass(frozen=True, slots=True)
class Running:
    process: asyncio.subprocess.Process
    registry_port: int
    peer_port: int
    admin_port: int
    metrics_port: int

    async def status(self) -> dict[str, object]:
        told: dict[str, object] = json.loads((await self.admin("/api/v1/status")).body)
        return told

    async def peers(self) -> Any:
        return json.loads((await self.admin("/api/v1/peers")).body)["peers"]

    async def admin(self, path: str, **headers: str) -> Answer:
        return await ask(f"http://127.0.0.1:{self.admin_port}{path}", **headers)

    async def told(self, name: str) -> dict[str, object]:
        """By the API, without what is another a moment later."""
        told: dict[str, object] = json.loads((await self.admin(f"/api/v1/{name}")).body)
        told.pop("uptime_s", None)
        return told

    async def printed(self, name: str) -> dict[str, object]:
        """As `told`, by the command."""
        shown = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mirror", name, "--json", f"--admin-addr=127.0.0.1:{self.admin_port}"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await shown.communicate()
        assert shown.returncode == 0
        printed: dict[str, object] = json.loads(out)
        printed.pop("uptime_s", None)
        return printed

    @property
    def blob_request(self) -> bytes:
        return f"GET /v2/a/blobs/sha256:{DIGEST}?ns=reg.example HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def command(folder: Path, ports: list[int]) -> list[str]:
    registry, peer, admin, metrics = ports
    return [
        *(sys.executable, "-m", "mirror", "serve", "--store=directory", f"--store-dir={folder / 'store'}"),
        *(f"--data-dir={folder / 'data'}", f"--registry-addr=127.0.0.1:{registry}"),
        *(f"--peer-addr=127.0.0.1:{peer}", f"--admin-addr=127.0.0.1:{admin}", "--log-format=text"),
        f"--metrics-addr=127.0.0.1:{metrics}",
    ]


@contextlib.asynccontextmanager
async def daemon(folder: Path, *flags: str, has_blob: bool = True) -> AsyncIterator[Running]:
    blobs = folder / "store" / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (folder / "store" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    if has_blob:
        (blobs / DIGEST).write_bytes(BLOB)
    ports = free_ports(4)
    process = await asyncio.create_subprocess_exec(
        *command(folder, ports), *flags, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await is_ready(ports[2]):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield Running(process, *ports)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_ready(admin_port: int) -> bool:
    try:
        return (await ask(f"http://127.0.0.1:{admin_port}/readyz")).status == 200
    except OSError:
        return False


async def is_answering(registry_port: int) -> bool:
    try:
        return (await ask(f"http://127.0.0.1:{registry_port}/v2/")).status == 200
    except OSError:
        return False


async def slow_reader(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client whose answer is under way and cannot be finished before it reads on."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65536)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_open_answer_is_finished_and_newcomers_are_refused(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with daemon(tmp_path) as running:
        reader, writer = await slow_reader(running.registry_port, running.blob_request)
        running.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            while True:  # a refused port costs containerd nothing: it goes on to the next host
                try:
                    _, other = await asyncio.open_connection("127.0.0.1", running.registry_port)
                except ConnectionRefusedError:
                    break
                except ConnectionResetError:
                    continue  # it waited to be accepted when the listener closed
                other.close()
                await asyncio.sleep(0.02)
            ready = await ask(f"http://127.0.0.1:{running.admin_port}/readyz")
            assert (ready.status, ready.body) == (503, b"stopping\n")
            assert await reader.readexactly(len(BLOB)) == BLOB
            writer.close()
            assert await running.process.wait() == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        _, writer = await slow_reader(running.registry_port, running.blob_request)
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            while await is_ready(running.admin_port):
                await asyncio.sleep(0.02)
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            assert await running.process.wait() == 1
        writer.close()


async def test_a_second_daemon_on_the_host_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        taken = command(tmp_path / "other", [running.registry_port, *free_ports(3)])
        shared = [*command(tmp_path, free_ports(4))]
        for arguments, words in ((taken, "--registry-addr"), (shared, "in use by another daemon")):
            second = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
            async with asyncio.timeout(DEADLINE_S):
                _, errors = await second.communicate()
            assert second.returncode == 1
            last = errors.decode().splitlines()[-1]
            assert last.startswith("peili: ") and words in last, errors.decode()
        assert await is_ready(running.admin_port)


async def test_a_daemon_tells_who_it_is_and_whom_it_knows(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        alone = await running.status()
        assert alone["node_id"] == json.loads((tmp_path / "data" / "node.json").read_bytes())["id"]
        assert {name: alone[name] for name in ("members", "isolated", "trouble", "unready")} == {
            "members": 0,
            "isolated": False,
            "trouble": None,
            "unready": [],
        }
        entry = StaticBootstrap(Address("127.0.0.1", running.peer_port))
        async with dht_host(tmp_path / "other", bootstrap=[entry], secret=None, cluster="peili") as other:
            await until(lambda: len(other.dht.members) == 1 and len(other.dht.records) == 1)
            found = {one.peer async for one in other.discovery.find_providers(f"sha256:{DIGEST}")}
            assert found == {Peer("127.0.0.1", running.peer_port)}
            async with asyncio.timeout(DEADLINE_S):
                while (status := await running.status())["records"] != 1:
                    await asyncio.sleep(0.02)
            assert (status["members"], status["announced_digests"]) == (1, 1)
            page = (await ask(f"http://127.0.0.1:{running.metrics_port}/metrics")).body.decode()
            assert "\npeili_dht_members 1.0\n" in page and "\npeili_dht_records 1.0\n" in page
            assert 'peili_dht_rpcs_total{direction="received",outcome="answered",rpc="join"} 1.0' in page
        assert (await running.admin("/readyz")).status == 200


async def test_what_a_daemon_tells_is_what_its_schemas_say_and_what_the_commands_show(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        entry = StaticBootstrap(Address("127.0.0.1", running.peer_port))
        async with dht_host(tmp_path / "other", bootstrap=[entry], secret=None, cluster="peili") as other:
            await until(lambda: len(other.dht.members) == 1)
            async with asyncio.timeout(DEADLINE_S):
                while (
                    not (peers := await running.peers()) or not (await running.status())["announced_digests"]
                ):
                    await asyncio.sleep(0.02)
            assert [(one["address"], one["state"]) for one in peers] == [(str(other.peer), "known")]
            assert other.dht.node.own.node.hex().startswith(peers[0]["node_id"])
            for name in ("status", "peers", "images"):
                answer = await running.admin(f"/api/v1/{name}")
                schema = json.loads((SCHEMAS / f"{name}.json").read_text())
                assert violations(json.loads(answer.body), schema) == []
                assert (await running.admin(f"/api/v1/{name}", Host="evil.example")).status == 421
                async with asyncio.timeout(DEADLINE_S):
                    # Records come and go while one asks.
                    while (told := await running.told(name)) != (printed := await running.printed(name)):
                        assert told.keys() == printed.keys()


async def test_two_daemons_tell_what_went_between_them(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a") as holder:
        bootstrap = f"--bootstrap=static:127.0.0.1:{holder.peer_port}"
        async with daemon(tmp_path / "b", bootstrap, has_blob=False) as puller:
            url = f"http://127.0.0.1:{puller.registry_port}/v2/a/blobs/sha256:{DIGEST}?ns=reg.example"
            async with asyncio.timeout(DEADLINE_S):
                while (answer := await ask(url)).status != 200:  # until the record has arrived
                    await asyncio.sleep(0.1)
            assert answer.body == BLOB
            (seen,) = await puller.peers()
            assert (seen["address"], seen["state"]) == (f"127.0.0.1:{holder.peer_port}", "connected")
            assert (seen["received_bytes"], seen["served_bytes"]) == (len(BLOB), 0)
            (seen,) = await holder.peers()
            assert seen["address"] == f"127.0.0.1:{puller.peer_port}"
            assert (seen["received_bytes"], seen["served_bytes"]) == (0, len(BLOB))


async def test_a_daemon_that_was_stopped_as_a_whole_ends_what_it_had_open_when_it_goes_on(
    tmp_path: Path,
) -> None:
    """Nothing inside can help while it is stopped. Afterwards its clients' sources and claims are elsewhere."""
    async with daemon(tmp_path) as running:
        reader, writer = await slow_reader(running.registry_port, running.blob_request)
        begun = await reader.readexactly(1000)
        running.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(LATE_S * 1.25)
        running.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(DEADLINE_S):
            body = begun + await reader.read(-1)
            assert len(body) < len(BLOB) and BLOB.startswith(body)
            writer.close()
            while not await is_answering(running.registry_port):
                await asyncio.sleep(0.02)
