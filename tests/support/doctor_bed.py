"""One host on loopback, in order until a test breaks it: a real containerd, `peili configure`, a serving daemon; and
`peili doctor`, asked as a user would.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bed_process import BedProcess
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.free_ports import free_port
from tests.support.oci_image import build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Shelf

# Every wait of a test on something that must happen.
WAIT_S = 20.0
_POLL_S = 0.05
PEILI = (sys.executable, "-m", "mirror")


@dataclass(frozen=True, slots=True)
class Seen:
    """What doctor found, by code. `code`: the exit code."""

    code: int
    findings: dict[str, dict[str, object]]

    @property
    def problems(self) -> set[str]:
        return {code for code, finding in self.findings.items() if finding["level"] == "problem"}

    def mend(self, code: str) -> list[str]:
        steps = self.findings[code]["mend"]
        assert isinstance(steps, list)
        return steps


@dataclass(slots=True)
class DoctorBed:
    containerd: RealContainerd
    folder: Path
    registry_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    daemon: BedProcess | None = None
    # What the daemon is started with: a test may change what it takes for granted.
    program: Sequence[str] = PEILI

    @property
    def certs(self) -> Path:
        return self.containerd.certs_dir

    @property
    def config(self) -> Path:
        return self.containerd.workdir / "config.toml"

    def edit_config(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def flags(self, **other: str) -> list[str]:
        """Of doctor; `other` wins."""
        flags = {
            "containerd_sock": str(self.containerd.socket),
            "hosts_dir": str(self.certs),
            "registry_addr": f"127.0.0.1:{self.registry_port}",
            "peer_addr": f"127.0.0.1:{self.peer_port}",
            "admin_addr": f"127.0.0.1:{self.admin_port}",
            **other,
        }
        return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]

    async def doctor(self, *prefix: str, **other: str) -> Seen:
        """`prefix`: a program that runs it, such as setpriv."""
        code, out, err = await run(*prefix, *PEILI, "doctor", "--json", *self.flags(**other))
        assert code in (0, 3), err
        told = json.loads(out)
        seen = Seen(code, {finding["code"]: finding for finding in told["findings"]})
        assert len(seen.findings) == len(told["findings"])
        assert told["healthy"] == (code == 0) == (not seen.problems)
        return seen

    async def configure(self, *more: str) -> None:
        flags = [flag for flag in self.flags() if not flag.startswith(("--peer-addr", "--admin-addr"))]
        code, _, err = await run(*PEILI, "configure", *flags, *more)
        assert code == 0, err

    async def follow(self, step: str) -> None:
        """A step of a mend that is a command of ours, as it stands."""
        words = shlex.split(step)
        assert words[0] == "peili"
        code, _, err = await run(*PEILI, *words[1:])
        assert code == 0, err

    def registry_behind(self, registry: str, url: str) -> None:
        """The user's own file."""
        file = self.certs / registry / "hosts.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'server = "{url}"\n[host."{url}"]\n')

    async def pull(self, registry: str, shelf: Shelf, seed: int) -> None:
        """An image of its own for each `seed`."""
        shelf.add(build_image(700_000 + seed, [50_000]), "lib/small", f"v{seed}")
        outcome = await cri_pull(self.containerd, f"{registry}/lib/small:v{seed}")
        assert isinstance(outcome, Pulled), outcome

    async def serve(self, *more: str, **other: str) -> None:
        """Starts the daemon, in the place of one that runs."""
        await self.stop()
        self.daemon = BedProcess(
            [*self.program, "serve", *self.flags(**other), f"--data-dir={self.folder / 'data'}", *more],
            self.folder / "daemon.log",
        )
        self.daemon.start()
        await self.daemon.said("serving containerd")

    async def stop(self) -> None:
        if self.daemon is not None:
            await self.daemon.kill()

    async def until(self, code: str) -> Seen:
        """Asks doctor until it finds this."""
        deadline_s = time.monotonic() + WAIT_S
        while code not in (seen := await self.doctor()).findings:
            assert time.monotonic() < deadline_s, seen
            await asyncio.sleep(_POLL_S)
        return seen

    async def until_problems(self, problems: set[str]) -> Seen:
        """Asks doctor until it finds these and no others. A daemon that has just begun has one of its own."""
        deadline_s = time.monotonic() + WAIT_S
        while (seen := await self.doctor()).problems != problems:
            assert time.monotonic() < deadline_s, seen
            await asyncio.sleep(_POLL_S)
        return seen

    async def until_healthy(self) -> Seen:
        deadline_s = time.monotonic() + WAIT_S
        while (seen := await self.doctor()).problems:
            assert time.monotonic() < deadline_s, seen
            await asyncio.sleep(_POLL_S)
        return seen


@asynccontextmanager
async def doctor_bed(binaries: Path, folder: Path, *, netns: str | None = None) -> AsyncIterator[DoctorBed]:
    """`netns`: where containerd runs, and nothing else."""
    containerd = RealContainerd(binaries, folder / "c", certs_dir=folder / "certs.d", netns=netns)
    async with containerd:
        bed = DoctorBed(containerd, folder)
        await bed.configure()
        try:
            await bed.serve()
            yield bed
        finally:
            await bed.stop()


async def run(*command: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def without_rights() -> Sequence[str]:
    """Root who must obey the modes of files."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
