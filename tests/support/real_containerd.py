"""Runs one real containerd in a folder of its own: start, kill, start again, and no trace afterwards.

It answers "give me a containerd that I may break". It does not fetch the binaries, does not know Peili's
client, and shares nothing with a containerd that the machine may run: root, state, sockets, CNI, NRI and /opt
folders are all below `workdir`. (1.7 and 2.1 make an empty /run/containerd besides, shims an empty s/ there; no
setting moves it.) Pulls through CRI work; containers run by `ctr` where `runtime_binaries` holds a runc. Needs root.
"""

import asyncio
import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import grpc.aio

READY_TIMEOUT_S = 30.0
"""A cold containerd answers in about 1 s on two idle cores; the rest is room for a loaded machine."""

STOP_TIMEOUT_S = 10.0
"""SIGTERM is obeyed in under 1 s; a containerd that hangs in a pull gets SIGKILL after this."""

POLL_S = 0.03
"""How often readiness is asked for."""

SOCKET_PATH_LIMIT_BYTES = 107 - len(".ttrpc")
"""A Unix socket path holds 107 bytes, and containerd makes a second socket with this suffix."""

_PROBES = (
    "/containerd.services.version.v1.Version/Version",
    # CRI answers "not initialized" for a moment after the other services do.
    "/runtime.v1.RuntimeService/Version",
)


class ContainerdDidNotStart(Exception):
    """The process ended, or did not answer in time; the message holds the end of its log."""


class RealContainerd:
    """One containerd process. Ready when `start` returns: both the containerd and the CRI services answer.

    `config_path` is the effective registry setting, where that differs from `certs_dir` (the colon list, for
    one). `netns` names a network namespace below /run/netns. `use_local_image_pull` says nothing before 2.1.
    `extra_config` is TOML appended to the config; it must not open a table that `_config_text` writes.
    Start it from the main thread: the kernel ends containerd with the thread that started it.
    """

    def __init__(
        self,
        binaries: Path,
        workdir: Path,
        *,
        certs_dir: Path,
        config_path: str | None = None,
        netns: str | None = None,
        use_local_image_pull: bool = False,
        extra_config: str = "",
        runtime_binaries: Path | None = None,
    ) -> None:
        self.binaries = binaries
        self.runtime_binaries = runtime_binaries
        self.workdir = workdir
        self.certs_dir = certs_dir
        self.config_path = str(certs_dir) if config_path is None else config_path
        self.netns = netns
        self.use_local_image_pull = use_local_image_pull
        self.extra_config = extra_config
        self.socket = workdir / "c.sock"
        self.root = workdir / "root"
        self.content_root = self.root / "io.containerd.content.v1.content"
        self.log_path = workdir / "containerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "containerd is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Raises: ContainerdDidNotStart. Nothing is left running then."""
        assert not self.running, "containerd runs already"
        if len(bytes(self.socket)) > SOCKET_PATH_LIMIT_BYTES:
            raise ContainerdDidNotStart(
                f"{self.socket}: too long for a Unix socket, choose a shorter workdir"
            )
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.certs_dir.mkdir(parents=True, exist_ok=True)
        config = self.workdir / "config.toml"
        config.write_text(self._config_text())
        with self.log_path.open("ab") as log:
            self._process = self._spawn(config, log)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                for method in _PROBES:
                    await self._wait_for(method)
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                raise ContainerdDidNotStart(f"no answer in {READY_TIMEOUT_S} s\n{self._log_end()}") from error
            raise

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after STOP_TIMEOUT_S. Idempotent; leaves no process and no mount."""
        await self._end(signal.SIGTERM)
        self._unmount()

    async def kill(self) -> None:
        """SIGKILL, as a crash would be: sockets and half-written ingests stay behind. Idempotent."""
        await self._end(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def version(self) -> tuple[int, int]:
        """Major and minor version of the binary."""
        line = subprocess.run(
            [self.binaries / "containerd", "--version"], check=True, capture_output=True, text=True
        ).stdout
        match = re.search(r"\s(\d+)\.(\d+)\.\d+", line)
        assert match is not None, f"no version in {line!r}"
        return int(match[1]), int(match[2])

    def _spawn(self, config: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # The kernel ends containerd when the test run dies. nsenter: `ip netns exec` would remount /sys.
        command: list[str | Path] = ["setpriv", "--pdeathsig", "KILL"]
        if self.netns is not None:
            command += ["nsenter", f"--net=/run/netns/{self.netns}"]
        command += [self.binaries / "containerd", "--config", config]
        # Its own environment: no proxy variables of the machine, and its own shims first.
        folders = [self.binaries] if self.runtime_binaries is None else [self.binaries, self.runtime_binaries]
        path = ":".join([*map(str, folders), "/usr/sbin:/usr/bin:/sbin:/bin"])
        return subprocess.Popen(
            command,
            env={"PATH": path, "HOME": str(self.workdir)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    async def _wait_for(self, method: str) -> None:
        # A channel that met a missing socket backs off for a second: a fresh one for each try.
        while True:
            if not self.running:
                raise ContainerdDidNotStart(f"containerd ended at once\n{self._log_end()}")
            if self.socket.exists():
                async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
                    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
                    try:
                        await call(b"", timeout=5)
                        return
                    except grpc.aio.AioRpcError as error:
                        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                            raise ContainerdDidNotStart(f"{method} is missing\n{self._log_end()}") from error
            await asyncio.sleep(POLL_S)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        deadline = time.monotonic() + STOP_TIMEOUT_S
        process.send_signal(number)
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(POLL_S)

    def _unmount(self) -> None:
        # A pull that was cut while unpacking leaves its overlay mounted below root.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            target = line.split()[1].encode().decode("unicode_escape")
            if target.startswith(f"{self.workdir}/"):
                subprocess.run(["umount", "--lazy", target], check=True)

    def _log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])

    def _config_text(self) -> str:
        images, runtime = ("io.containerd.grpc.v1.cri",) * 2
        major, minor = self.version()
        if major >= 2:
            images, runtime = "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
        lines = [
            f"version = {3 if major >= 2 else 2}",
            f"root = '{self.root}'",
            f"state = '{self.workdir}/state'",
            "[grpc]",
            f"address = '{self.socket}'",
            f"[plugins.'{images}'.registry]",
            f"config_path = '{self.config_path}'",
            # Without these, containerd makes folders and sockets outside workdir, and two of them meet there.
            f"[plugins.'{runtime}'.cni]",
            f"conf_dir = '{self.workdir}/cni'",
            "[plugins.'io.containerd.internal.v1.opt']",
            f"path = '{self.workdir}/opt'",
        ]
        if (major, minor) >= (1, 7):
            lines += ["[plugins.'io.containerd.nri.v1.nri']", "disable = true"]
        if self.use_local_image_pull and major >= 2:
            lines += [f"[plugins.'{images}']", "use_local_image_pull = true"]
        return "\n".join([*lines, self.extra_config, ""])
