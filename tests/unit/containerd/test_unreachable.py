"""Sockets that are no running containerd: each gives an error of its own that says what to do.

Real sockets, no containerd. The missing and the dead socket are in the conformance suite, too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf import empty_pb2

from containerd import errors
from containerd.api.services.content.v1 import content_pb2, content_pb2_grpc
from containerd.api.services.version.v1 import version_pb2_grpc
from containerd.client import Client
from containerd.connection import Connection

REPOSITORY = Path(__file__).parents[3]


async def error_of(path: Path) -> errors.ContainerdError:
    async with Client(path) as client:
        with pytest.raises(errors.ContainerdError) as raised:
            await client.version()
    assert str(path) in str(raised.value)
    return raised.value


@asynccontextmanager
async def listener(
    path: Path, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield


async def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "c.sock", tmp_path / "no-folder" / "c.sock"):
        error = await error_of(path)
        assert type(error) is errors.SocketMissing
        assert "start containerd, or name the path" in str(error)


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert type(await error_of(tmp_path / "file" / "c.sock")) is errors.SocketMissing


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "c.sock"))
    error = await error_of(tmp_path / "c.sock")
    assert type(error) is errors.SocketRefused
    assert "start it again" in str(error)


async def test_no_socket_at_all(tmp_path: Path) -> None:
    (tmp_path / "c.sock").touch()
    for path in (tmp_path / "c.sock", tmp_path):
        error = await error_of(path)
        assert type(error) is errors.NotContainerd
        assert "not a socket" in str(error)


async def test_a_datagram_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "c.sock"))
        error = await error_of(tmp_path / "c.sock")
    assert type(error) is errors.NotContainerd
    assert "datagram" in str(error)


async def test_an_http_server(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with listener(tmp_path / "docker.sock", answer):
        error = await error_of(tmp_path / "docker.sock")
    assert type(error) is errors.NotContainerd
    assert "another protocol" in str(error)


async def test_another_grpc_server(tmp_path: Path) -> None:
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{tmp_path}/crio.sock")
    await server.start()
    error = await error_of(tmp_path / "crio.sock")
    await server.stop(None)
    assert type(error) is errors.NotContainerd
    assert "another gRPC server" in str(error)


async def test_a_server_that_hangs_up(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with listener(tmp_path / "c.sock", answer):
        error = await error_of(tmp_path / "c.sock")
    assert type(error) is errors.Unavailable
    assert "does not answer" in str(error)


async def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listener(path, answer), Connection(path) as connection, Client(path) as client:
        version = version_pb2_grpc.VersionStub(connection.channel).Version
        with pytest.raises(errors.DeadlineExceeded, match=f"{path}: Version: no answer in time"):
            await connection.unary(version, empty_pb2.Empty(), about="Version", deadline_s=0.05)
        content = content_pb2_grpc.ContentStub(connection.channel).List
        request = content_pb2.ListContentRequest()
        with pytest.raises(errors.DeadlineExceeded, match="List: no answer in time"):
            async for _ in connection.stream(content, request, about="List", silence_limit_s=0.05):
                raise AssertionError("an answer")
        with pytest.raises(errors.Unavailable, match="does not answer"):
            await client.wait_ready(timeout_s=0.05)


async def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"108 bytes, but .* 107"):
        async with Client(Path("/" + "x" * 107)):
            raise AssertionError("entered")
    assert type(await error_of(Path("/" + "x" * 106))) is errors.SocketMissing


async def test_a_path_with_the_signs_of_an_address(tmp_path: Path) -> None:
    path = tmp_path / "a b%20#?:@[x].sock"
    server = grpc.aio.server()
    # The same path for the server: through a link, since it reads an address, too.
    server.add_insecure_port(f"unix:{tmp_path}/plain.sock")
    await server.start()
    path.symlink_to(tmp_path / "plain.sock")
    assert "another gRPC server" in str(await error_of(path))
    await server.stop(None)


def test_a_socket_of_somebody_else(tmp_path: Path) -> None:
    """In a process of its own, without root's rights, since root may open everything."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        path.chmod(0)
        drop = (
            "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if os.geteuid() == 0 else ""
        )
        script = (
            "import asyncio, pathlib\n"
            "from containerd.client import Client\n"
            f"{drop}"
            "async def main():\n"
            f"    async with Client(pathlib.Path({str(path)!r})) as client:\n"
            "        await client.version()\n"
            "asyncio.run(main())\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"containerd.errors.SocketForbidden: containerd socket {path}: permission denied")


async def test_the_channel_keeps_trying(tmp_path: Path) -> None:
    """gRPC's own pauses would take 5 s for four tries, and grow to two minutes."""
    tries = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The look at the socket that explains a failed call connects, too, and says nothing.
        if await reader.read(1):
            tries.release()

    path = tmp_path / "c.sock"
    async with (
        listener(path, answer),
        Client(path) as client,
        asyncio.timeout(3),
        asyncio.TaskGroup() as group,
    ):
        waiting = group.create_task(client.wait_ready())
        for _ in range(4):
            await tries.acquire()
        waiting.cancel()


async def test_wait_ready_names_each_new_reason_once(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    reasons: list[str] = []
    seen = asyncio.Event()

    def report(reason: errors.Unavailable) -> None:
        reasons.append(type(reason).__name__)
        seen.set()

    async with Client(path) as client, asyncio.TaskGroup() as group:
        waiting = group.create_task(client.wait_ready(report=report))
        async with asyncio.timeout(5):
            await seen.wait()
            seen.clear()
            path.touch()
            await seen.wait()
        waiting.cancel()
    assert reasons == ["SocketMissing", "NotContainerd"]
