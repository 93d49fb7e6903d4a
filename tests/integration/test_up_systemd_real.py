"""peili up --systemd and down on a host whose PID 1 is a real systemd and whose containerd is its service."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.bed_hosts import ADMIN_PORT
from tests.support.netns import Network
from tests.support.skips import require, tool_bin
from tests.support.systemd_host import PROGRAM, SystemdHost, systemd_or_missing

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow, pytest.mark.matrix]

UNIT = "/etc/systemd/system/peili.service"
CONFIG = "/etc/containerd/config.toml"
# What a user's file says before anybody looked at it.
UNSET = "# mine\nversion = 3\n\n[grpc]\n  max_recv_message_size = 16777216\n"


def files(host: SystemdHost, *folders: str) -> dict[str, tuple[int, bytes]]:
    """Modes and bytes of what is below them."""
    return {
        f"{folder}/{path.relative_to(host.path(folder))}": (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for folder in folders
        for path in sorted(host.path(folder).rglob("*"))
        if not path.is_symlink()
    }


async def test_a_service_is_installed_and_everything_is_undone(folder: Path) -> None:
    require(systemd_or_missing())
    async with Network(1) as network:
        async with SystemdHost(
            folder / "h", tool_bin("containerd-2.1"), netns=network.hosts[0].netns
        ) as host:
            host.write(CONFIG, UNSET)
            host.path("/etc/containerd/certs.d").rmdir()
            host.run("systemctl", "restart", "containerd")
            before = files(host, "/etc", "/var/lib/private")

            told = host.run(PROGRAM, "up", "--systemd", "--closed")
            assert "systemctl restart containerd" in told.stderr
            assert "peili up --join peili-" in told.stdout and "peili.service: started" in told.stdout
            assert host.property("peili.service", "ActiveState") == "active"
            assert host.property("peili.service", "UnitFileState") == "enabled"
            status = json.loads(host.ask("/api/v1/status", ADMIN_PORT))
            assert status["trouble"] is None and status["cluster"] == "peili"
            # containerd has not read the change yet, and a doctor who asks for nothing finds the daemon.
            found = json.loads(host.run(PROGRAM, "doctor", "--json").stdout)["findings"]
            # That a restart is pending shows two seconds after the last one.
            assert {one["code"] for one in found} - {"restart-pending"} == {"alone-on-lan"}, found

            # As if containerd had been started long before.
            later_s = time.time() + 10
            os.utime(host.path(CONFIG), (later_s, later_s))
            pid = host.property("containerd.service", "MainPID")
            told = host.run(PROGRAM, "up", "--systemd", "--restart")
            assert "runs       systemctl restart containerd" in told.stdout
            assert host.property("containerd.service", "MainPID") != pid
            host.run(PROGRAM, "doctor")
            refused = host.run(PROGRAM, "up", is_checked=False)
            assert refused.returncode == 1 and "as a service of systemd" in refused.stderr

            told = host.run(PROGRAM, "down")
            assert "stopped    peili.service" in told.stdout and f"restored   {CONFIG}" in told.stdout
            assert files(host, "/etc", "/var/lib/private") == before
            assert not host.path("/var/lib/peili").exists()
            assert host.property("peili.service", "LoadState") == "not-found"
