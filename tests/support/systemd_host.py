"""A host whose PID 1 is a real systemd, with a real containerd as a service, in namespaces of its own.

The kernel is the machine's; all else is apart: processes, mounts, cgroups, network. The files are the machine's as
well, with what is written over them in memory (`systemd_host.sh`), so the paths are those of a plain host:
/etc/containerd, /run/containerd, /var/lib. Nothing is left when PID 1 is killed but empty cgroups; `stop` removes
them.

The daemon's code is shown at /opt/peili, and `PROGRAM` runs it with the machine's Python; commands of ours run there,
too. Needs root, and a systemd of 252 or later: the machine's, or what `debs` has unpacked.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.debs import TOOLS, tool
from tests.support.missing import NO_CGROUPS, Missing
from tests.support.skips import netns_or_missing

ROOT: Final = Path(__file__).resolve().parents[2]
_SCRIPT: Final = Path(__file__).with_suffix(".sh")
_MACHINE_SYSTEMD: Final = Path("/lib/systemd/systemd")
_HOME: Final = "/opt/peili"
PROGRAM: Final = f"{_HOME}/bin/peili"
SOCKET: Final = "/run/containerd/containerd.sock"
CERTS_DIR: Final = "/etc/containerd/certs.d"
CONTENT_ROOT: Final = "/var/lib/containerd/io.containerd.content.v1.content"
# Booting takes 2 s on two idle cores.
BOOT_LIMIT_S: Final = 60.0
COMMAND_LIMIT_S: Final = 90.0
WAIT_S: Final = 30.0
_POLL_S: Final = 0.05
# Version 1's cpuset takes no process into a new group without more ado, and systemd does not use it.
_NOT_ENTERED: Final = frozenset({"cpuset"})


def systemd_or_missing() -> Missing | None:
    """Whether a systemd can be PID 1 of a namespace here."""
    if (missing := netns_or_missing()) is not None:
        return missing
    if not _MACHINE_SYSTEMD.exists() and isinstance(found := tool("systemd"), Missing):
        return found
    if not any(kind == "cgroup2" and os.access(at, os.W_OK) for kind, at in _cgroup_mounts()):
        return Missing(NO_CGROUPS, "no cgroup2 that may be written to.", "run as root, outside a container.")
    return None


class SystemdHost:
    """`containerd`: the folder with its binaries. The host's containerd is a service that runs when this is entered."""

    def __init__(self, folder: Path, containerd: Path, *, netns: str) -> None:
        self.folder = folder
        self.netns = netns
        self._containerd = containerd.resolve()
        self._outer: subprocess.Popen[bytes] | None = None
        self._groups: list[Path] = []
        self.init_pid = 0

    @property
    def socket(self) -> Path:
        """containerd's, as the machine sees it."""
        return self.path(SOCKET)

    def path(self, inside: str) -> Path:
        """A file of the host, as the machine sees it."""
        return Path(f"/proc/{self.init_pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        at = self.path(inside)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
        at.chmod(mode)

    def run(
        self, *command: str, is_checked: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command on the host."""
        done = subprocess.run(
            [*self._entering(), *command],
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(environment or {})},
        )
        if is_checked and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def python(
        self, script: str, *arguments: str, is_checked: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A script on the host that may import what the daemon may."""
        path = f"{_HOME}/src:{_HOME}/site"
        return self.run(
            _python(), "-c", script, *arguments, is_checked=is_checked, environment={"PYTHONPATH": path}
        )

    def open_python(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """As `python`, for whoever wants to speak with it. Ends with the host."""
        environment = {"PYTHONPATH": f"{_HOME}/src:{_HOME}/site", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.Popen(
            [*self._entering(), _python(), "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def memory_limit_bytes(self, unit: str) -> int | None:
        """That the kernel holds. None: no memory controller is there."""
        group = self.property(unit, "ControlGroup")
        for place in ("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", "/sys/fs/cgroup{}/memory.max"):
            if (file := self.path(place.format(group))).exists():
                return int(file.read_text())
        return None

    def ask(self, path: str, port: int) -> str:
        """The body of an answer that is 200, from this host's loopback."""
        script = (
            "import http.client,sys\n"
            "c=http.client.HTTPConnection('127.0.0.1',int(sys.argv[1]),timeout=5)\n"
            "c.request('GET',sys.argv[2]);r=c.getresponse();assert r.status==200,r.status\n"
            "sys.stdout.write(r.read().decode())"
        )
        return self.run(_python(), "-I", "-S", "-c", script, str(port), path).stdout

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def journal(self, unit: str = "peili.service") -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    async def wait(self, done: Callable[[], bool], what: str, *, limit_s: float = WAIT_S) -> float:
        """Seconds it took. Raises: TimeoutError with the end of the daemon's log."""
        started_s = time.monotonic()
        while not done():
            if time.monotonic() - started_s > limit_s:
                raise TimeoutError(f"{what}\n" + "\n".join(self.journal().splitlines()[-15:]))
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"peili-{os.getpid()}-{self.folder.name}"
        self._groups = [
            at / name for _, at in _cgroup_mounts() if at.name not in _NOT_ENTERED and os.access(at, os.W_OK)
        ]
        for group in self._groups:
            group.mkdir()
        tools = "" if _MACHINE_SYSTEMD.exists() else str(tool("systemd"))
        shown = {
            ROOT: f"{_HOME}/src",
            Path(sysconfig.get_path("purelib")): f"{_HOME}/site",
            self._containerd.parent: "/opt/containerd",
            TOOLS.resolve(): str(TOOLS.resolve()),
        }
        enter = 'for group in $GROUPS_; do echo $$ >"$group/cgroup.procs"; done; exec "$@"'
        with (self.folder / "boot.log").open("wb") as log:
            self._outer = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "sh", "-c", enter, "sh"),
                    *("nsenter", f"--net=/run/netns/{self.netns}"),
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc"),
                    *("sh", str(_SCRIPT), str(self.folder), tools),
                    *(f"{source}={to}" for source, to in shown.items()),
                ],
                env={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "GROUPS_": " ".join(map(str, self._groups)),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_LIMIT_S
        while not self._is_up():
            if self._outer.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"systemd did not start: {(self.folder / 'boot.log').read_text()}")
            await asyncio.sleep(_POLL_S)
        self._install()

    async def stop(self) -> None:
        """Idempotent."""
        outer, self._outer = self._outer, None
        if outer is None:
            return
        # PID 1 of a namespace takes all of its processes with it.
        outer.kill()
        outer.wait()
        deadline = time.monotonic() + WAIT_S
        for group in self._groups:
            while group.exists() and time.monotonic() < deadline:
                for folder in sorted(group.rglob("*/"), reverse=True):
                    with suppress(OSError):
                        folder.rmdir()
                with suppress(OSError):
                    group.rmdir()
                    break
                await asyncio.sleep(_POLL_S)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            self.run("systemctl", "start", "containerd")
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _is_up(self) -> bool:
        assert self._outer is not None
        with suppress(OSError, ValueError):
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
            self.init_pid = int(children)
            if Path(f"/proc/{self.init_pid}/comm").read_text() == "systemd\n":
                state = self.run("systemctl", "is-system-running", is_checked=False).stdout.strip()
                return state in ("running", "degraded")
        return False

    def _install(self) -> None:
        self.write(
            PROGRAM,
            f"#!{_python()} -I\nimport sys\nsys.path[:0] = ['{_HOME}/src', '{_HOME}/site']\n"
            "from mirror.cli.main import main\nsys.exit(main())\n",
            mode=0o755,
        )
        binary = f"/opt/containerd/{self._containerd.name}"
        self.write(
            "/etc/containerd/config.toml",
            f"version = {_config_version(self._containerd)}\n"
            f"[plugins.'{_images_plugin(self._containerd)}'.registry]\nconfig_path = '{CERTS_DIR}'\n",
        )
        self.path(CERTS_DIR).mkdir()
        self.write(
            "/etc/systemd/system/containerd.service",
            f"[Service]\nType=notify\nExecStart={binary}/containerd\nEnvironment=PATH={binary}:/usr/sbin:/usr/bin\n"
            "Delegate=yes\nKillMode=process\n",
        )

    def _entering(self) -> list[str]:
        return ["nsenter", f"--target={self.init_pid}", "--all", "--root", "--wd"]


def python_reads() -> list[str]:
    """What a unit must show of this host's Python."""
    return [str(Path(_python()).parents[1])]


def _python() -> str:
    return str(Path(sys.executable).resolve())


def _config_version(binaries: Path) -> int:
    return 3 if _is_2(binaries) else 2


def _images_plugin(binaries: Path) -> str:
    return "io.containerd.cri.v1.images" if _is_2(binaries) else "io.containerd.grpc.v1.cri"


def _is_2(binaries: Path) -> bool:
    told = subprocess.run([binaries / "containerd", "--version"], capture_output=True, text=True, check=True)
    return " 2." in told.stdout


def _cgroup_mounts() -> list[tuple[str, Path]]:
    """Type and place of each."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(words[2], Path(words[1])) for words in lines if words[2] in ("cgroup", "cgroup2")]
