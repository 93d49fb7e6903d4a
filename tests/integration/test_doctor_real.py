"""peili doctor on hosts with real containerds: in order, and with one thing wrong at a time, found and mended."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from containerd.client import Client
from containerd.types import Descriptor
from tests.support.bed_containerds import VERSIONS
from tests.support.bed_process import BedProcess
from tests.support.doctor_bed import DoctorBed, Seen, doctor_bed, run, without_rights
from tests.support.free_ports import free_port
from tests.support.netns import Network
from tests.support.recording_mirror import Journal, RecordingHost, Shelf
from tests.support.skips import netns_or_missing, require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

REGISTRY = "reg.test"
# The uid of somebody else.
OTHER = 65_534


@pytest_asyncio.fixture
async def bed(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[DoctorBed]:
    version = getattr(request, "param", "1.7")
    async with doctor_bed(tool_bin(f"containerd-{version}"), folder) as bed:
        yield bed


on_2_1 = pytest.mark.parametrize("bed", ["2.1"], indirect=True)


async def found(
    bed: DoctorBed, code: str, *prefix: str, also: frozenset[str] = frozenset(), **other: str
) -> Seen:
    """This problem, and no other but what comes with it."""
    seen = await bed.doctor(*prefix, **other)
    assert seen.code == 3 and seen.problems - also == {code}, seen
    return seen


async def healthy(bed: DoctorBed, *prefix: str, **other: str) -> Seen:
    seen = await bed.doctor(*prefix, **other)
    assert seen.code == 0 and not seen.problems, seen
    return seen


# --- The smoke of make test


async def test_a_host_in_order_then_without_config_path(bed: DoctorBed) -> None:
    assert set((await healthy(bed)).findings) == {"no-bootstrap"}
    line = f"config_path = '{bed.certs}'"
    bed.edit_config(line, "config_path = ''")
    code, out, _ = await run(sys.executable, "-m", "mirror", "doctor", *bed.flags())
    assert code == 3 and out.startswith("problem config-path-unset: ")
    assert f"    mend: in {bed.config} set" in out
    bed.edit_config("config_path = ''", line)
    await healthy(bed)


# --- In order


@pytest.mark.matrix
@pytest.mark.parametrize("bed", VERSIONS, indirect=True)
async def test_a_host_in_order_has_no_problem_also_after_a_pull(bed: DoctorBed) -> None:
    await healthy(bed)
    shelf = Shelf()
    async with RecordingHost("origin", shelf, Journal()) as origin:
        bed.registry_behind(REGISTRY, origin.url)
        await bed.configure(f"--mirror={REGISTRY}")
        await bed.pull(REGISTRY, shelf, 1)
        await healthy(bed)


# --- containerd


@pytest.mark.matrix
async def test_no_socket_there(bed: DoctorBed) -> None:
    seen = await found(bed, "containerd-absent", containerd_sock=str(bed.folder / "none.sock"))
    assert seen.mend("containerd-absent")
    await healthy(bed)


@pytest.mark.matrix
async def test_a_containerd_that_crashed(bed: DoctorBed) -> None:
    await bed.containerd.kill()
    seen = await bed.doctor()
    assert "containerd-silent" in seen.problems
    assert seen.mend("containerd-silent") == ["systemctl restart containerd"]
    await bed.containerd.start()
    await bed.until_healthy()


@pytest.mark.matrix
async def test_a_containerd_that_stands_still(bed: DoctorBed) -> None:
    os.kill(bed.containerd.pid, signal.SIGSTOP)
    try:
        assert "containerd-silent" in (await bed.doctor()).problems
    finally:
        os.kill(bed.containerd.pid, signal.SIGCONT)
    await bed.until_healthy()


@pytest.mark.matrix
async def test_another_program_at_the_socket(bed: DoctorBed) -> None:
    seen = await found(bed, "containerd-silent", containerd_sock=str(bed.containerd.socket) + ".ttrpc")
    assert seen.mend("containerd-silent")


@pytest.mark.matrix
async def test_a_socket_of_somebody_else(bed: DoctorBed) -> None:
    sock = bed.containerd.socket
    was = sock.stat()
    os.chown(sock, OTHER, OTHER)
    sock.chmod(0o600)
    await found(bed, "containerd-forbidden", *without_rights())
    os.chown(sock, was.st_uid, was.st_gid)
    await healthy(bed, *without_rights())


@pytest.mark.matrix
@pytest.mark.netns
async def test_a_containerd_in_another_network(folder: Path) -> None:
    if (missing := netns_or_missing()) is not None:
        require(missing)
    network = Network(1)
    network.open()
    with contextlib.closing(network):
        netns = network.hosts[0].netns
        async with doctor_bed(tool_bin("containerd-1.7"), folder, netns=netns) as bed:
            seen = await found(bed, "containerd-other-network")
            assert "nsenter" in seen.mend("containerd-other-network")[0]


@pytest.mark.matrix
async def test_content_that_cannot_be_read(bed: DoctorBed) -> None:
    root = bed.containerd.content_root
    # containerd makes it with the first image.
    root.mkdir(exist_ok=True)
    was = root.stat()
    os.chown(root, OTHER, OTHER)
    root.chmod(0o700)
    await found(bed, "content-unreadable", *without_rights())
    os.chown(root, was.st_uid, was.st_gid)
    await healthy(bed, *without_rights())


# --- containerd's configuration


@pytest.mark.matrix
@pytest.mark.parametrize("bed", VERSIONS, indirect=True)
async def test_config_path_elsewhere(bed: DoctorBed) -> None:
    elsewhere = bed.folder / "elsewhere"
    bed.edit_config(f"config_path = '{bed.certs}'", f"config_path = '{elsewhere}'")
    seen = await found(bed, "config-path-elsewhere")
    assert f"--hosts-dir {elsewhere}" in seen.mend("config-path-elsewhere")[0]
    bed.edit_config(f"config_path = '{elsewhere}'", f"config_path = '{bed.certs}'")
    await healthy(bed)


@pytest.mark.matrix
async def test_an_import_that_takes_config_path_away(bed: DoctorBed) -> None:
    dropped = bed.folder / "drop.toml"
    dropped.write_text("version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nmax_concurrent_downloads = 5\n")
    bed.edit_config("version = 2\n", f"version = 2\nimports = ['{dropped}']\n")
    await found(bed, "config-path-unset")
    with dropped.open("a") as file:
        file.write(f"[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '{bed.certs}'\n")
    await healthy(bed)


@on_2_1
@pytest.mark.matrix
async def test_a_list_that_is_one_path(bed: DoctorBed) -> None:
    bed.edit_config(f"config_path = '{bed.certs}'", f"config_path = '{bed.certs}:/etc/docker/certs.d'")
    seen = await found(bed, "config-path-list")
    await bed.follow(seen.mend("config-path-list")[0])
    await healthy(bed)


@pytest.mark.matrix
@pytest.mark.parametrize("bed", ["1.6", "1.7"], indirect=True)
async def test_tables_that_exclude_config_path(bed: DoctorBed) -> None:
    table = "[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'x.example']\nendpoint = ['http://y']\n"
    bed.config.write_text(bed.config.read_text() + table)
    seen = await found(bed, "legacy-registry-tables")
    assert "registry.mirrors" in seen.mend("legacy-registry-tables")[0]
    bed.edit_config(table, "")
    await healthy(bed)


@pytest.mark.matrix
@pytest.mark.parametrize("bed", VERSIONS, indirect=True)
async def test_discarded_layers_are_a_note(bed: DoctorBed) -> None:
    is_new = bed.containerd.version() >= (2, 0)
    plugin = "io.containerd.cri.v1.images" if is_new else "io.containerd.grpc.v1.cri'.'containerd"
    bed.config.write_text(f"{bed.config.read_text()}[plugins.'{plugin}']\ndiscard_unpacked_layers = true\n")
    seen = await healthy(bed)
    assert "layers-discarded" in seen.findings


@pytest.mark.matrix
async def test_a_configuration_that_is_not_toml(bed: DoctorBed) -> None:
    bed.edit_config("version = 2\n", "version = \n")
    assert "config-unknown" in (await healthy(bed)).findings


@pytest.mark.matrix
async def test_a_configuration_that_waits_for_a_restart(bed: DoctorBed) -> None:
    later = bed.config.stat().st_mtime + 3600
    os.utime(bed.config, (later, later))
    seen = await healthy(bed)
    assert seen.mend("restart-pending") == ["systemctl restart containerd"]


# --- hosts.toml


Break = Callable[[DoctorBed], Awaitable[None]]


async def never_configured(bed: DoctorBed) -> None:
    code, _, _ = await run(sys.executable, "-m", "mirror", "cleanup", f"--hosts-dir={bed.certs}")
    assert code == 0


async def shadowed(bed: DoctorBed) -> None:
    (bed.certs / "quay.example").mkdir()


async def edited(bed: DoctorBed) -> None:
    file = bed.certs / "ghcr.io" / "hosts.toml"
    file.write_text(file.read_text() + '[host."https://proxy.example"]\n')


async def removed(bed: DoctorBed) -> None:
    (bed.certs / "ghcr.io" / "hosts.toml").unlink()


async def other_address(bed: DoctorBed) -> None:
    await run(
        *(sys.executable, "-m", "mirror", "configure", f"--hosts-dir={bed.certs}"),
        f"--registry-addr=127.0.0.1:{free_port()}",
    )


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("break_it", "code", "also"),
    [
        (never_configured, "hosts-absent", frozenset()),
        (shadowed, "hosts-shadowed", frozenset()),
        (edited, "hosts-changed", frozenset()),
        # An empty directory hides _default.
        (removed, "hosts-changed", frozenset({"hosts-shadowed"})),
        (other_address, "hosts-other-address", frozenset()),
    ],
    ids=lambda it: getattr(it, "__name__", None),
)
async def test_what_configure_mends_by_the_line_that_is_printed(
    bed: DoctorBed, break_it: Break, code: str, also: frozenset[str]
) -> None:
    await break_it(bed)
    seen = await found(bed, code, also=also)
    await bed.follow(seen.mend(code)[0])
    await healthy(bed)


@pytest.mark.matrix
async def test_a_file_that_is_not_toml(bed: DoctorBed) -> None:
    file = bed.certs / "quay.example" / "hosts.toml"
    file.parent.mkdir()
    file.write_text("server = \n")
    seen = await found(bed, "hosts-invalid")
    file.write_text('server = "https://quay.example"\n')
    await bed.follow(seen.mend("hosts-invalid")[1])
    await healthy(bed)


@pytest.mark.matrix
async def test_a_directory_that_cannot_be_written(bed: DoctorBed) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    await found(bed, "hosts-unwritable", "unshare", "--mount", "sh", "-c", script, str(bed.certs))
    await healthy(bed)


# --- The ports


@pytest.mark.matrix
async def test_no_daemon(bed: DoctorBed) -> None:
    await bed.stop()
    seen = await found(bed, "registry-closed")
    assert seen.mend("registry-closed")[0].startswith("peili serve")
    await bed.serve()
    await healthy(bed)


@pytest.mark.matrix
async def test_another_program_at_the_registry_port(bed: DoctorBed, folder: Path) -> None:
    await bed.stop()
    command = (sys.executable, "-u", "-m", "http.server", "--bind=127.0.0.1", str(bed.registry_port))
    async with BedProcess([*command, f"--directory={bed.certs}"], folder / "other.log") as other:
        await other.said("Serving HTTP")
        seen = await found(bed, "registry-taken")
        assert f"(process {other.pid})" in str(seen.findings["registry-taken"]["evidence"])
    await bed.serve()
    await healthy(bed)


@pytest.mark.matrix
async def test_a_registry_port_that_others_reach(bed: DoctorBed) -> None:
    await bed.serve(registry_addr=f"0.0.0.0:{bed.registry_port}")
    await found(bed, "registry-routable")
    await bed.serve()
    await healthy(bed)


@pytest.mark.matrix
async def test_a_port_that_a_service_may_take(bed: DoctorBed) -> None:
    peer_addr = "127.0.0.1:30021"
    await healthy(bed, peer_addr=peer_addr)
    async with Client(bed.containerd.socket) as client:
        # As the first image of a kubelet makes the namespace.
        target = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'0' * 64}", 1, {})
        await client.images("k8s.io").create("x.example/y:1", target)
    await found(bed, "port-in-nodeport-range", peer_addr=peer_addr)
    await healthy(bed)


@pytest.mark.matrix
async def test_another_admin_address(bed: DoctorBed) -> None:
    await found(bed, "admin-silent", admin_addr=f"127.0.0.1:{free_port()}")
    await healthy(bed)


# --- The daemon


@pytest.mark.matrix
async def test_a_daemon_without_its_containerd(bed: DoctorBed) -> None:
    await bed.serve(containerd_sock=str(bed.folder / "none.sock"))
    seen = await bed.until("daemon-not-ready")
    assert "none.sock" in str(seen.findings["daemon-not-ready"]["evidence"])
    await bed.serve()
    await bed.until_healthy()


@pytest.mark.matrix
async def test_a_daemon_whose_first_peer_is_away(bed: DoctorBed) -> None:
    await bed.serve(f"--bootstrap=static:127.0.0.1:{free_port()}")
    seen = await bed.until("no-peers")
    assert "--bootstrap" in seen.mend("no-peers")[2]
    await bed.serve()
    await bed.until_healthy()


@pytest.mark.matrix
async def test_hosts_with_different_secrets(bed: DoctorBed, folder: Path) -> None:
    ours, theirs = (secret(folder / name) for name in ("ours", "theirs"))
    await bed.serve(f"--cluster-secret-file={ours}")

    def other(key: Path) -> BedProcess:
        return BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", "--store=directory"),
                *("--registry-addr=127.0.0.1:0", "--peer-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"),
                *(f"--data-dir={folder / 'other'}", f"--bootstrap=static:127.0.0.1:{bed.peer_port}"),
                f"--cluster-secret-file={key}",
            ],
            folder / "other.log",
        )

    async with other(theirs):
        seen = await bed.until("secret-mismatch")
        assert "--cluster-secret-file" in seen.mend("secret-mismatch")[0]
    async with other(ours):
        # With a member it is somebody else's affair.
        await bed.until("strangers-refused")
        await healthy(bed)


@pytest.mark.matrix
@pytest.mark.parametrize("bed", VERSIONS, indirect=True)
async def test_images_that_were_pulled_past_the_daemon(bed: DoctorBed) -> None:
    shelf = Shelf()
    async with RecordingHost("origin", shelf, Journal()) as origin:
        bed.registry_behind(REGISTRY, origin.url)
        await bed.pull(REGISTRY, shelf, 2)
        seen = await found(bed, "nobody-asked", also=frozenset({"hosts-shadowed"}))
        assert f"{REGISTRY}/lib/small" in str(seen.findings["nobody-asked"]["evidence"])
        await bed.follow(seen.mend("hosts-shadowed")[0])
        await bed.pull(REGISTRY, shelf, 3)
        await healthy(bed)


@pytest.mark.matrix
async def test_another_name_for_what_was_here_is_no_pull(bed: DoctorBed) -> None:
    shelf = Shelf()
    async with RecordingHost("origin", shelf, Journal()) as origin:
        bed.registry_behind(REGISTRY, origin.url)
        await bed.configure(f"--mirror={REGISTRY}")
        await bed.pull(REGISTRY, shelf, 4)
        await bed.serve()
        async with Client(bed.containerd.socket) as client:
            images = client.images("k8s.io")
            pulled = next(one for one in await images.list() if one.name == f"{REGISTRY}/lib/small:v4")
            await images.create(f"{REGISTRY}/lib/other:v4", pulled.target)
        await healthy(bed)


def secret(path: Path) -> Path:
    path.write_bytes(base64.b64encode(path.name.encode().ljust(32, b".")))
    path.chmod(0o600)
    return path
