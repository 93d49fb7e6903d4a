"""What is seen of hosts that are planted as directory trees: sockets that answer, files, units, Docker's own words."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from containerd.api.services.leases.v1 import leases_pb2
from mirror.host import look_docker as docker_module
from mirror.host.distribution import DOCKER_SOCK, K3S_SOCK, MICROK8S_SOCK, STOCK_SOCK
from mirror.host.errors import HostError
from mirror.host.facts import Answer, DockerFacts
from mirror.host.found import choose
from mirror.host.look_docker import look_docker
from mirror.host.look_host import look_host
from mirror.host.plan import plan
from tests.support.fake_containerd import FakeContainerd
from tests.support.fake_containerd_state import Lease

URL = "http://127.0.0.1:29020"
CONFIG = "/etc/containerd/config.toml"
K3S = "/var/lib/rancher/k3s/agent/etc/containerd"


@pytest.fixture
def root() -> Iterator[Path]:
    # Short: Unix sockets are below it.
    made = Path(tempfile.mkdtemp(prefix="peili-"))
    yield made
    shutil.rmtree(made)


def put(root: Path, path: str, text: str | bytes) -> Path:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@asynccontextmanager
async def containerd_at(root: Path, sock: str, version: str = "2.1.9") -> AsyncIterator[FakeContainerd]:
    fake = FakeContainerd(Path(tempfile.mkdtemp(dir=root)), version=version)
    fake.socket = root / sock.lstrip("/")
    fake.socket.parent.mkdir(parents=True, exist_ok=True)
    async with fake:
        yield fake


@asynccontextmanager
async def docker_at(
    sock: Path, *, body: bytes = b"", status: int = 200, waits: bool = False
) -> AsyncIterator[None]:
    async def info(request: web.Request) -> web.Response:
        if waits:
            await asyncio.Event().wait()
        return web.Response(body=body, status=status)

    app = web.Application()
    app.router.add_get("/info", info)
    sock.parent.mkdir(parents=True, exist_ok=True)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(sock)).start()
        yield
    finally:
        await runner.cleanup()


INFO = {
    "ServerVersion": "28.5.2",
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "Containerd": {
        "Address": "/var/run/docker/containerd/containerd.sock",
        "Namespaces": {"Containers": "mine"},
    },
}


async def test_an_empty_tree_has_nothing(root: Path) -> None:
    found = await look_host(root=root)
    assert found.sockets == () and found.docker is None and found.os_id == "" and found.files == {}
    asked = await look_host(Path("/run/x.sock"), root=root)
    assert [(one.sock, one.answer) for one in asked.sockets] == [("/run/x.sock", Answer.ABSENT)]


async def test_the_systems_containerd(root: Path) -> None:
    put(root, "/usr/lib/os-release", '# it\nID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    (root / "etc").mkdir()
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    put(root, CONFIG, 'version = 3\nimports = ["conf.d/*.toml"]\n')
    put(root, "/etc/containerd/conf.d/1.toml", "[debug]\n")
    put(root, "/usr/lib/systemd/system/containerd.service", "[Unit]\n")
    put(root, "/etc/systemd/system/multi-user.target.wants/containerd.service", "[Unit]\n")
    async with containerd_at(root, STOCK_SOCK) as fake:
        fake.state.namespaces["k8s.io"].leases["x"] = Lease(leases_pb2.Lease(id="x"))
        found = await look_host(root=root)
    assert (found.os_id, found.os_name) == ("debian", "Debian GNU/Linux 12")
    (one,) = found.sockets
    assert (one.sock, one.answer, one.version, one.release) == (STOCK_SOCK, Answer.ANSWERS, "2.1.9", (2, 1))
    assert "k8s.io" in one.namespaces
    assert one.config_files == (CONFIG, "/etc/containerd/conf.d/1.toml")
    assert one.config is not None and one.config.file == CONFIG and one.config.effective is not None
    assert found.files == {
        CONFIG: 'version = 3\nimports = ["conf.d/*.toml"]\n',
        one.config_files[1]: "[debug]\n",
    }
    assert "containerd.service" in found.units & found.enabled_units
    assert found.read_only == ()
    made = plan(found, choose(found).chosen, URL)
    assert [change.path for change in made.changes] == [CONFIG] and made.restart is not None


async def test_a_file_system_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the nearest directory that is there."""
    (root / "etc").mkdir()
    writable = os.statvfs(root)

    def statvfs(path: Path) -> os.statvfs_result:
        flags = os.ST_RDONLY if path == root / "etc" else 0
        return os.statvfs_result((*writable[:8], flags, *writable[9:]))

    monkeypatch.setattr("mirror.host.look_host.os.statvfs", statvfs)
    async with containerd_at(root, STOCK_SOCK):
        found = await look_host(root=root)
    assert set(found.read_only) == {"/etc/containerd", "/etc/containerd/certs.d"}
    with pytest.raises(HostError, match="cannot be written"):
        plan(found, choose(found).chosen, URL)


async def test_a_file_that_cannot_be_read_is_not_taken_for_none(root: Path) -> None:
    put(root, CONFIG, b"version = 2\n# \xff\n")
    async with containerd_at(root, STOCK_SOCK):
        found = await look_host(root=root)
    assert found.files == {} and CONFIG in found.unreadable
    put(root, CONFIG, b"#" * 2**20 + b"\n")
    async with containerd_at(root, STOCK_SOCK):
        assert "too large" in (await look_host(root=root)).unreadable[CONFIG]


async def test_k3s_with_all_its_files(root: Path) -> None:
    put(
        root,
        f"{K3S}/config.toml",
        f"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{K3S}/certs.d'\n",
    )
    put(root, f"{K3S}/certs.d/_default/hosts.toml", "server = ''\n")
    put(root, "/etc/rancher/k3s/registries.yaml", "mirrors:\n")
    put(root, "/etc/rancher/k3s/config.yaml", "debug: true\n")
    put(root, "/etc/rancher/k3s/config.yaml.d/9.yaml", "disable-default-registry-endpoint: true\n")
    put(root, "/etc/systemd/system/k3s.service", "[Service]\n")
    async with containerd_at(root, K3S_SOCK, "2.1.4-k3s1"), containerd_at(root, STOCK_SOCK):
        found = await look_host(root=root)
    assert [one.sock for one in found.sockets] == [K3S_SOCK, STOCK_SOCK]
    assert not found.has_rke2
    choice = choose(found)
    assert len(choice.others) == 1 and STOCK_SOCK in choice.notes[0]
    made = plan(found, choice.chosen, URL)
    assert made.changes == () and '"*"' in made.notes[0]
    assert made.serve.hosts_dir == f"{K3S}/certs.d"
    put(root, "/etc/rancher/k3s/config.yaml.d/9.yaml", "")
    async with containerd_at(root, K3S_SOCK, "2.1.4-k3s1"):
        found = await look_host(root=root)
    assert [change.path for change in plan(found, choose(found).chosen, URL).changes] == [
        "/etc/rancher/k3s/registries.yaml"
    ]


async def test_rke2_and_microk8s(root: Path) -> None:
    (root / "var/lib/rancher/rke2").mkdir(parents=True)
    folder = K3S.replace("k3s", "rke2")
    put(root, f"{folder}/config.toml", "version = 3\n")
    put(root, "/etc/rancher/rke2/registries.yaml", "mirrors:\n")
    put(root, "/var/snap/microk8s/current/args/containerd.toml", "version = 2\n")
    async with containerd_at(root, K3S_SOCK), containerd_at(root, MICROK8S_SOCK):
        found = await look_host(root=root)
    assert found.has_rke2 and "/etc/rancher/rke2/registries.yaml" in found.files
    assert [one.config_files[0] for one in found.sockets] == [
        f"{folder}/config.toml",
        "/var/snap/microk8s/current/args/containerd.toml",
    ]


async def test_docker_names_its_containerd(root: Path) -> None:
    async with (
        docker_at(root / "run/docker.sock", body=json.dumps(INFO).encode()),
        containerd_at(root, DOCKER_SOCK),
    ):
        found = await look_host(root=root)
    assert found.docker == DockerFacts("28.5.2", "overlayfs", True, DOCKER_SOCK, "mine")
    assert plan(found, choose(found).chosen, URL).serve.namespaces == ("mine",)


async def test_a_containerd_that_only_docker_knows(root: Path) -> None:
    info = INFO | {"Containerd": {"Address": "/srv/c.sock"}}
    async with (
        docker_at(root / "run/docker.sock", body=json.dumps(info).encode()),
        containerd_at(root, "/srv/c.sock"),
    ):
        found = await look_host(root=root)
    assert [one.sock for one in found.sockets] == ["/srv/c.sock"]
    assert choose(found).chosen.docker == found.docker != None  # noqa: E711


async def test_one_that_is_silent_is_a_fact(root: Path) -> None:
    async with containerd_at(root, STOCK_SOCK) as fake:
        await fake.kill()
        found = await look_host(root=root)
    assert [one.answer for one in found.sockets] == [Answer.SILENT] and found.sockets[0].trouble


# --- Docker's socket

OLDER = {"ServerVersion": "20.10.24", "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}


@pytest.mark.parametrize(
    ("info", "facts"),
    [
        (OLDER, DockerFacts("20.10.24", "overlay2", False, STOCK_SOCK)),
        (INFO, DockerFacts("28.5.2", "overlayfs", True, DOCKER_SOCK, "mine")),
        # Podman answers there, too.
        (OLDER | {"BuildahVersion": "1.33"}, None),
        ({"message": "x"}, None),
        ([], None),
    ],
)
async def test_what_docker_says(root: Path, info: object, facts: DockerFacts | None) -> None:
    async with docker_at(root / "d.sock", body=json.dumps(info).encode()):
        assert await look_docker(root / "d.sock", default_sock=STOCK_SOCK) == (facts, "")


async def test_no_docker(root: Path) -> None:
    assert await look_docker(root / "d.sock", default_sock=STOCK_SOCK) == (None, "")


@pytest.mark.parametrize(
    ("body", "status", "waits", "said"),
    [
        (b"{", 200, False, "d.sock"),
        (b"", 500, False, "500"),
        (b" " * (docker_module.INFO_MAX_BYTES + 1), 200, False, "no end"),
        (b"{}", 200, True, "does not answer"),
    ],
)
async def test_a_docker_that_does_not_say_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, status: int, waits: bool, said: str
) -> None:
    if waits:
        monkeypatch.setattr(docker_module, "ANSWER_LIMIT_S", 0.2)
    async with docker_at(root / "d.sock", body=body, status=status, waits=waits):
        facts, trouble = await look_docker(root / "d.sock", default_sock=STOCK_SOCK)
    assert facts is None and said in trouble
