"""peili up on a host where a real Docker 28 keeps its images in the system's containerd: found, served, given back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.bed_process import BedProcess
from tests.support.skips import tool_bin
from tests.support.up_bed import PEILI, beds, ready

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow, pytest.mark.matrix]

DOCKERD = (
    *("--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false"),
    *("--containerd=/run/containerd/containerd.sock", "--host=unix:///run/docker.sock"),
)


async def test_dockers_directory_and_namespace_are_found_and_nothing_stays(folder: Path) -> None:
    async with beds(folder, ["2.1"], ready) as bed:
        (host,) = bed.hosts
        host.path("/etc/docker").mkdir(exist_ok=True)
        host.path("/etc/docker/daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
        path = f"{tool_bin('runc')}:{host.environment['PATH']}"
        dockerd = BedProcess(
            host.words(tool_bin("docker") / "dockerd", *DOCKERD),
            folder / "dockerd.log",
            environment={**host.environment, "PATH": path},
        )
        dockerd.start()
        await dockerd.said("API listen on")
        before = host.snapshot()
        await bed.up(0)
        assert host.path("/etc/docker/certs.d/docker.io/hosts.toml").exists()
        ledger = json.loads(host.path("/var/lib/peili/host.json").read_text())
        assert ledger["flags"]["containerd_namespace"] == ["moby"]
        assert ledger["hosts_dirs"] == ["/etc/docker/certs.d"]
        told = await host.run(PEILI, "doctor")
        assert told.code == 0, told
        await bed.down(0)
        assert host.changes_since(before) == []
        await dockerd.stop()
