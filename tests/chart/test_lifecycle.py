"""One host's life with the chart: its containers with the mounts, variables and rights that the chart gives them, and
the host afterwards as it was before.

The processes are real, their confinement too (tests/support/pod_sandbox.py); containerd is the fake.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bed_process import READY_TIMEOUT_S, BedProcess
from tests.support.fake_containerd import FakeContainerd
from tests.support.free_ports import free_ports
from tests.support.helm_chart import Object, one, rendered
from tests.support.mirror_host import ask
from tests.support.pod_sandbox import container_process, make_host_paths
from tests.support.skips import netns_or_missing, require

# Mount namespaces need what network namespaces do.
pytestmark = [pytest.mark.netns, pytest.mark.slow]

USER_FILE = 'server = "https://reg.example"\n[host."https://mirror.example"]\ncapabilities = ["pull"]\n'


@pytest.fixture
def host() -> Iterator[Path]:
    """The root of a host, not below a folder that another user cannot pass."""
    require(netns_or_missing())
    with tempfile.TemporaryDirectory(prefix="peili-host-") as name:
        root = Path(name)
        for folder in ("etc/containerd", "var/lib/kubelet", "run/containerd"):
            (root / folder).mkdir(parents=True)
        (root / "etc/containerd/config.toml").write_text("version = 2\n")
        (root / "var/lib/kubelet/precious").write_text("of another pod")
        yield root


@pytest.fixture
async def containerd(host: Path) -> AsyncIterator[FakeContainerd]:
    async with FakeContainerd(host / "run/containerd") as fake:
        yield fake


def with_user_file(host: Path) -> None:
    folder = host / "etc/containerd/certs.d/reg.example"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(USER_FILE)
    (folder / "hosts.toml").chmod(0o640)
    os.utime(folder / "hosts.toml", ns=(10**18, 10**18))


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes, int]]:
    """Each path with its mode, owner, content, and of a file its time."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        time_ns = status.st_mtime_ns if path.is_file() else 0
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, content, time_ns)
    return found


def values_for(host: Path, fake: FakeContainerd) -> dict[str, Any]:
    registry, peer, admin, metrics = free_ports(4, "0.0.0.0")
    return {
        "service": {
            "registry": {"port": registry},
            "peer": {"port": peer},
            "admin": {"port": admin},
            "metrics": {"port": metrics},
        },
        "peili": {
            "containerdSock": str(fake.socket),
            "containerdContentPath": str(fake.content_root),
            "containerdRegistryConfigPath": str(host / "etc/containerd/certs.d"),
            "dataDir": str(host / "var/lib/peili"),
        },
    }


def spec_of(found: list[Object], suffix: str) -> Object:
    spec: Object = one(found, "DaemonSet", suffix)["spec"]["template"]["spec"]
    return spec


@asynccontextmanager
async def daemon_of(found: list[Object], folder: Path) -> AsyncIterator[BedProcess]:
    """The daemon of a render, once it serves. Its log is daemon.log."""
    spec = spec_of(found, "peili")
    make_host_paths(spec)
    (folder / "secret").write_bytes(base64.b64decode(one(found, "Secret")["data"]["secret"]))
    (folder / "secret").chmod(0o400)
    async with container_process(
        spec, "daemon", folder / "daemon.log", {"cluster-secret": folder}
    ) as process:
        await process.said("serving containerd")
        yield process


@pytest.mark.parametrize("before", [with_user_file, lambda host: None], ids=["a-user's-file", "no-hosts-dir"])
@pytest.mark.parametrize("config_path", ["", "{0}:/etc/docker/certs.d"], ids=["", "colon"])
async def test_a_host_is_afterwards_what_it_was(
    host: Path, containerd: FakeContainerd, home: Path, before: Any, config_path: str, tmp_path: Path
) -> None:
    before(host)
    fake = containerd
    values = values_for(host, fake)
    hosts_dir = Path(values["peili"]["containerdRegistryConfigPath"])
    values["peili"]["containerdConfigPath"] = config_path.format(hosts_dir)
    was = snapshot(host / "etc") | snapshot(host / "var")
    found = rendered(home, values)
    ports = {name: it["port"] for name, it in values["service"].items()}

    daemon = spec_of(found, "peili")
    make_host_paths(daemon)
    async with container_process(daemon, "configuration", tmp_path / "configure.log", {}) as configure:
        await configure.said(r"written .*/_default/hosts\.toml")
    assert f"http://127.0.0.1:{ports['registry']}" in (hosts_dir / "docker.io/hosts.toml").read_text()
    if config_path:
        assert (Path(config_path.format(hosts_dir)) / "docker.io/hosts.toml").exists()

    data_dir = host / "var/lib/peili"
    async with daemon_of(found, tmp_path) as process:
        # What the probes ask.
        assert (await ask(f"http://127.0.0.1:{ports['admin']}/livez")).status == 200
        assert (await ask(f"http://127.0.0.1:{ports['registry']}/v2/")).status == 200
        assert (await ask(f"http://127.0.0.1:{ports['metrics']}/metrics")).status == 200
        assert (data_dir / "node.json").exists() and data_dir.stat().st_mode & 0o777 == 0o700
        assert await process.stop() == 0
        log = (tmp_path / "daemon.log").read_text()
    assert "Traceback" not in log and '"level": "warning"' not in log.replace('":"', '": "'), log

    cleanup = spec_of(found, "peili-cleanup")
    make_host_paths(cleanup)
    async with container_process(cleanup, "cleanup", tmp_path / "cleanup.log", {}) as process:
        await process.said("this host is clean")
        assert (await ask(f"http://127.0.0.1:{ports['peer']}/cleaned")).status == 200
        assert snapshot(host / "etc") | snapshot(host / "var") == was
        assert await process.stop() == 0


async def test_with_the_smaller_mounts_empty_directories_stay(
    host: Path, containerd: FakeContainerd, home: Path, tmp_path: Path
) -> None:
    """What values.yaml says of them, and nothing else."""
    values = values_for(host, containerd)
    values["peili"]["mountHostsDirParent"] = False
    values["cleanup"] = {"mountDataDirParent": False}
    was = snapshot(host / "etc") | snapshot(host / "var")
    found = rendered(home, values)
    daemon, cleanup = spec_of(found, "peili"), spec_of(found, "peili-cleanup")
    make_host_paths(daemon)
    async with container_process(daemon, "configuration", tmp_path / "configure.log", {}) as configure:
        await configure.said(r"written .*/_default/hosts\.toml")
    async with daemon_of(found, tmp_path):
        assert (host / "var/lib/peili/node.json").exists()
    async with container_process(cleanup, "cleanup", tmp_path / "cleanup.log", {}) as process:
        await process.said("this host is clean")
    now = snapshot(host / "etc") | snapshot(host / "var")
    assert now.keys() - was.keys() == {"containerd/certs.d", "lib/peili"}
    assert {name: now[name] for name in was} == was


async def helm_test(found: list[Object]) -> tuple[int | None, str]:
    """What the container of the test's pod says, of the image's Python."""
    (container,) = one(found, "Pod", "test")["spec"]["containers"]
    python, *rest = container["command"]
    assert python == "python3"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *rest,
        *container["args"],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text, _ = await process.communicate()
    return process.returncode, text.decode()


async def test_the_test_of_the_chart_says_what_the_daemon_does(
    host: Path, containerd: FakeContainerd, home: Path, tmp_path: Path
) -> None:
    values = values_for(host, containerd)
    found = rendered(home, values)
    url = f"http://127.0.0.1:{values['service']['admin']['port']}"
    async with daemon_of(found, tmp_path) as process:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                before = await ask(f"{url}/readyz")
                code, text = await helm_test(found)
                ready = await ask(f"{url}/readyz")
                if ready.body == before.body:
                    break
        # Its Service has no name here: it may say that no other node was reached.
        assert (code == 0) is (ready.status == 200) and text.startswith(ready.body.decode())
        assert '"peer_wire_version"' in text
        await containerd.stop()
        await process.said("containerd socket .* not there")
        code, text = await helm_test(found)
        assert code == 1 and text.startswith("containerd socket ")
    code, text = await helm_test(found)
    assert code == 1 and text.startswith(f"{url} does not answer: ")


async def test_a_restart_of_containerd_does_not_lose_the_socket(
    host: Path, containerd: FakeContainerd, home: Path, tmp_path: Path
) -> None:
    """A socket that were mounted itself would be the old one for ever."""
    values = values_for(host, containerd)
    found = rendered(home, values)
    url = f"http://127.0.0.1:{values['service']['admin']['port']}/readyz"
    async with daemon_of(found, tmp_path) as process:
        await containerd.stop()
        await process.said("containerd socket .* not there")
        assert "containerd socket" in (await ask(url)).body.decode()
        await containerd.start()
        async with asyncio.timeout(READY_TIMEOUT_S):
            while "containerd socket" in (await ask(url)).body.decode():
                pass
