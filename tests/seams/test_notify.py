"""What a daemon tells its service manager in the course of its life, over a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from mirror.daemon import DRAIN_S
from tests.support.mirror_host import ask

pytestmark = pytest.mark.slow

DEADLINE_S = 20.0


async def test_it_is_ready_when_it_serves_then_alive_then_stopping(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        async def heard() -> str:
            return (await loop.sock_recv(manager, 4096)).decode()

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mirror", "serve", f"--store-dir={tmp_path / 'store'}"),
            *(f"--data-dir={tmp_path / 'data'}", "--registry-addr=127.0.0.1:0"),
            *("--peer-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"),
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                # The loop may beat before the listeners are there.
                while (told := await heard()) == "WATCHDOG=1":
                    pass
                words, _, address = told.rpartition(" ")
                assert words == "READY=1\nSTATUS=serving containerd at"
                assert (await ask(f"http://{address}/v2/")).status == 200
                assert [await heard(), await heard()] == ["WATCHDOG=1", "WATCHDOG=1"]
                process.send_signal(signal.SIGTERM)
                while (told := await heard()) == "WATCHDOG=1":
                    pass
                assert told == f"STOPPING=1\nSTATUS=open answers have {DRAIN_S:g} s"
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
