"""Hosts that are cleaned and who waits for them, over real sockets and in real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from mirror.cleanup.stay import CLEANED_PATH
from mirror.cleanup.waiting import NotClean, wait
from mirror.settings.model import Address
from tests.support.free_ports import free_port
from tests.support.mirror_host import ask

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 30.0
# Free at every address of loopback: those of one name are asked there.
ANYWHERE = "0.0.0.0"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PEILI_")}


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirror", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env={**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(process: Process, text: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line
    pytest.fail(f"it ended without saying {text!r}")


def stays(hosts_dir: Path, address: str, *more: str) -> contextlib.AbstractAsyncContextManager[Process]:
    return started("cleanup", "--hosts-dir", str(hosts_dir), "--stay-addr", address, *more)


@pytest.mark.slow
async def test_cleanup_stays_and_says_so_until_it_is_stopped(tmp_path: Path) -> None:
    hosts_dir = tmp_path / "certs.d"
    absent = str(tmp_path / "absent")
    async with started("configure", "--hosts-dir", str(hosts_dir), "--containerd-sock", absent) as configure:
        assert await configure.wait() == 0
    assert (hosts_dir / "_default" / "hosts.toml").exists()
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "lock").touch()
    port = free_port(ANYWHERE)
    async with stays(hosts_dir, f"127.0.0.1:{port}", "--remove-data-dir", str(data_dir)) as process:
        said = await line_with(process, "says so")
        assert said == f"this host is clean, and says so at 127.0.0.1:{port} until it is stopped\n"
        assert list(tmp_path.iterdir()) == []
        answer = await ask(f"http://127.0.0.1:{port}{CLEANED_PATH}")
        assert (answer.status, answer.body) == (200, b"this host is clean of peili\n")
        assert (await ask(f"http://127.0.0.1:{port}/")).status == 404
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0


@pytest.mark.slow
async def test_a_host_that_cannot_be_cleaned_never_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    flags = ["--remove-data-dir", str(tmp_path / "data")]
    async with stays(tmp_path / "certs.d", f"127.0.0.1:{free_port(ANYWHERE)}", *flags) as process:
        async with asyncio.timeout(PATIENCE_S):
            _, err = await process.communicate()
        assert process.returncode == 1 and b"not a data directory of peili" in err
    assert (tmp_path / "data" / "precious").exists()


@pytest.mark.slow
async def test_many_hosts_are_waited_for(tmp_path: Path) -> None:
    port, said = free_port(ANYWHERE), list[str]()

    async def resolve(name: str) -> Collection[str]:
        assert name == "peili-cleanup"
        return ["127.0.0.1", "127.0.0.2"]

    async with asyncio.timeout(PATIENCE_S), stays(tmp_path / "a", f"127.0.0.1:{port}") as first:
        await line_with(first, "says so")
        second_begins = asyncio.Event()

        def heard(line: str) -> None:
            said.append(line)
            second_begins.set()

        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                wait(
                    Address("peili-cleanup", port),
                    PATIENCE_S,
                    heard,
                    resolve=resolve,
                    settled_s=0.1,
                    period_s=0.02,
                )
            )
            await second_begins.wait()
            assert said == ["1 of 2 hosts are clean"] and not waiting.done()
            async with stays(tmp_path / "b", f"127.0.0.2:{port}"):
                assert await waiting == 2
    assert said == ["1 of 2 hosts are clean", "2 of 2 hosts are clean"]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A daemon that has not ended answers 404 here; something else may say anything."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
    await writer.drain()
    writer.close()


async def test_who_did_not_answer_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.cleanup.waiting.ASK_TIMEOUT_S", 0.2)
    port = free_port(ANYWHERE)
    async with (
        await asyncio.start_server(silent, "127.0.0.2", port),
        await asyncio.start_server(chatty, "127.0.0.3", port),
    ):

        async def resolve(name: str) -> Collection[str]:
            return ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

        with pytest.raises(NotClean) as failed:
            await wait(Address("x", port), 1.0, lambda line: None, resolve=resolve, period_s=0.02)
    assert str(failed.value).splitlines()[:4] == [
        "gave up after 1 s: 0 of 3 hosts are clean",
        f"  127.0.0.1: port {port} is not open: Connection refused",
        f"  127.0.0.2: no answer in 0.2 s at port {port}",
        f"  127.0.0.3: another program answers at port {port} (the daemon, which has not ended yet?)",
    ]


@pytest.mark.slow
async def test_the_machine_s_resolver_is_asked(tmp_path: Path) -> None:
    port = free_port(ANYWHERE)
    async with stays(tmp_path / "a", f":{port}") as process:
        await line_with(process, "says so")
        address = Address("localhost", port)
        assert await wait(address, PATIENCE_S, lambda line: None, settled_s=0.0, period_s=0.01) >= 1
    with pytest.raises(NotClean, match="leads to no host yet: "):
        await wait(Address("no-such-host.invalid", port), 0.3, lambda line: None, period_s=0.01)


async def test_less_than_a_minute_is_refused_not_lengthened() -> None:
    async with started("cleanup-wait", "--give-up-after", "1") as process:
        async with asyncio.timeout(PATIENCE_S):
            _, err = await process.communicate()
    assert (process.returncode, err) == (
        2,
        b"peili: --give-up-after: '1' is not a time: expected whole seconds, 60 to 86400\n",
    )
