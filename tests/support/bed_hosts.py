"""A whole host of the bed: a namespace with a real containerd and a real daemon, set up as a user would do it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import wicked_daemon
from tests.support.bed_process import BedProcess
from tests.support.netns import HostLink
from tests.support.real_containerd import RealContainerd

REGISTRY_PORT: Final = 29020
PEER_PORT: Final = 29021
ADMIN_PORT: Final = 29022
# Every wait of a test on something that must happen.
WAIT_S: Final = 20.0
_POLL_S: Final = 0.02
ROOT: Final = Path(__file__).resolve().parents[2]
SECRET: Final = b"the secret of the bed".ljust(32, b".")


class BedHost:
    """`bootstrap` is the address of one host of the bed, the same for all, that host included. `wire_version`: a daemon
    of another release."""

    def __init__(
        self,
        link: HostLink,
        folder: Path,
        binaries: Path,
        bootstrap: str,
        *,
        use_local_image_pull: bool = False,
        extra_config: str = "",
        wire_version: int | None = None,
        daemon_flags: Sequence[str] = (),
    ) -> None:
        self.link = link
        self.folder = folder
        self.certs_dir = folder / "certs.d"
        self.containerd = RealContainerd(
            binaries,
            folder / "containerd",
            certs_dir=self.certs_dir,
            netns=link.netns,
            use_local_image_pull=use_local_image_pull,
            extra_config=extra_config,
        )
        folder.mkdir(parents=True)
        secret = folder / "secret"
        secret.write_bytes(base64.b64encode(SECRET))
        secret.chmod(0o600)
        self.daemon = BedProcess(
            [
                *_program(wire_version),
                "serve",
                f"--containerd-sock={self.containerd.socket}",
                f"--data-dir={folder / 'data'}",
                f"--registry-addr=127.0.0.1:{REGISTRY_PORT}",
                f"--peer-addr=0.0.0.0:{PEER_PORT}",
                f"--admin-addr=127.0.0.1:{ADMIN_PORT}",
                f"--cluster-secret-file={secret}",
                "--log-level=debug",
                f"--bootstrap=static:{bootstrap}:{PEER_PORT}",
                *daemon_flags,
            ],
            folder / "daemon.log",
            netns=link.netns,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            await self.wait(self.is_ready)
            self._stack = stack.pop_all()
        return self

    async def _start(self, stack: AsyncExitStack) -> None:
        """Its programs, in their order. Where one does not start, those before it are ended."""
        await stack.enter_async_context(self.containerd)
        await stack.enter_async_context(self.daemon)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def peili(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of ours on this host."""
        return subprocess.run(
            [*_program(None), *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def install_registry(self, registry: str, url: str) -> None:
        """The user's own file: a registry with plain HTTP. In the place of one that was there."""
        folder = self.certs_dir / registry
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(f'# ours\nserver = "{url}"\n\n[host."{url}"]\n')

    def configure(self, registry: str, *flags: str) -> None:
        done = self.peili(
            "configure",
            f"--hosts-dir={self.certs_dir}",
            f"--registry-addr=127.0.0.1:{REGISTRY_PORT}",
            f"--containerd-sock={self.containerd.socket}",
            f"--containerd-config-path={self.certs_dir}",
            f"--mirror={registry}",
            *flags,
        )
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, object]:
        status, text = self._get("/api/v1/status")
        assert status == 200, text
        told: dict[str, object] = json.loads(text)
        return told

    def counted(self, name: str) -> int:
        value = self.status()[name]
        assert isinstance(value, int)
        return value

    def ready(self) -> tuple[int, str]:
        """Status 0: nobody answers."""
        return self._get("/readyz")

    def is_ready(self) -> bool:
        return self.ready() == (200, "ok\n")

    async def turn_wicked(self, how: str) -> None:
        """Its daemon is another from now on, as `wicked_daemon` names it, and as good as any to its own containerd."""
        command = self.daemon.command
        arguments = command[command.index("serve") :]
        self.daemon.command = [sys.executable, "-m", wicked_daemon.__name__, how, *arguments]
        await self.daemon.stop()
        self.daemon.start()
        await self.wait(self.is_ready)

    async def wait(self, done: Callable[[], bool], *, limit_s: float = WAIT_S) -> float:
        """Seconds it took. Raises: TimeoutError with the end of the daemon's log."""
        started_s = time.monotonic()
        while not done():
            if time.monotonic() - started_s > limit_s:
                raise TimeoutError("\n".join(self.daemon.log().splitlines()[-15:]))
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s

    def _get(self, path: str) -> tuple[int, str]:
        """From inside the namespace: the admin port is on its loopback."""
        script = (
            "import http.client,sys\n"
            "c=http.client.HTTPConnection('127.0.0.1',int(sys.argv[1]),timeout=5)\n"
            "c.request('GET',sys.argv[2]);r=c.getresponse();print(r.status);sys.stdout.write(r.read().decode())"
        )
        command = ["nsenter", f"--net=/run/netns/{self.link.netns}", sys.executable, "-I", "-S", "-c", script]
        done = subprocess.run([*command, str(ADMIN_PORT), path], capture_output=True, text=True, check=False)
        if done.returncode:
            return 0, done.stderr
        status, _, text = done.stdout.partition("\n")
        return int(status), text


def _program(wire_version: int | None) -> list[str]:
    if wire_version is None:
        return [sys.executable, "-m", "mirror"]
    script = (
        "import sys; from mirror.peer import wire; "
        f"wire.PEER_WIRE_VERSION = {wire_version}; wire.SPOKEN_VERSIONS = ({wire_version},); "
        "from mirror.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", script]
