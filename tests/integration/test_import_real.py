"""`peili import` and `peili export` with real containerds: what they leave, and what hosts without a registry get."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import platform
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from containerd.client import Client
from mirror.demo.image import gzip_stored
from tests.support.bed_containerds import Containerds
from tests.support.bed_hosts import BedHost
from tests.support.containerd_calls import add_blob, collect_garbage, digests
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.image_archives import docker_files, layout_files, path_of, tar_of, write_files
from tests.support.netns import Network
from tests.support.oci_image import MEDIA_TYPES, Blob, Image, build_image, build_index, digest_of
from tests.support.real_containerd import RealContainerd
from tests.support.skips import netns_or_missing, require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

REGISTRY = "registry.example"
REPOSITORY = f"{REGISTRY}/team/app"
NAME = f"{REPOSITORY}:v1"
K8S = "k8s.io"
_FOLDERS = itertools.count()
_SEEDS = itertools.count(910_000)
COMMAND_DEADLINE_S = 60


def fresh(*sizes_bytes: int) -> Image:
    return build_image(next(_SEEDS), sizes_bytes or (200_000, 3_000))


def peili(*arguments: str | Path, script: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", script] if script else [sys.executable, "-m", "mirror"]
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        check=False,
    )


def imported(socket: Path, *arguments: str | Path) -> dict[str, Any]:
    done = peili("import", *arguments, f"--containerd-sock={socket}", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ctr(containerd: RealContainerd, *arguments: str | Path, namespace: str = K8S) -> str:
    return subprocess.run(
        [containerd.binaries / "ctr", "-a", containerd.socket, "-n", namespace, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_DEADLINE_S,
        # Its own shims, and no proxy of the machine.
        env={"PATH": ":".join(map(str, [containerd.binaries, *filter(None, [containerd.runtime_binaries])]))},
    ).stdout


@contextlib.asynccontextmanager
async def hosts(
    folder: Path, version: str, *flags: str, tags: str = "peers", first_flags: Sequence[str] = ()
) -> AsyncIterator[list[BedHost]]:
    """Two with a daemon each, and no registry anywhere: its name leads nowhere from their network."""
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    home = folder / f"import{next(_FOLDERS)}"
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(2))
        found = [
            BedHost(
                link,
                home / f"h{number}",
                tool_bin(f"containerd-{version}"),
                network.hosts[0].address,
                daemon_flags=(
                    f"--tags={tags}",
                    "--origin=off",
                    f"--hosts-dir={home / f'h{number}' / 'certs.d'}",
                    *flags,
                    *(() if number else first_flags),
                ),
            )
            for number, link in enumerate(network.hosts)
        ]
        for host in found:
            await stack.enter_async_context(host)
            host.configure(REGISTRY, f"--tags={tags}")
        await found[0].wait(lambda: all(host.counted("members") == 1 for host in found))
        yield found


@pytest.mark.netns
@pytest.mark.parametrize(
    "version",
    ["2.1", *(pytest.param(one, marks=pytest.mark.matrix) for one in ("1.6", "1.7"))],
)
async def test_a_second_host_pulls_what_the_first_imported_without_any_registry(
    short_folder: Path, tmp_path: Path, version: str
) -> None:
    image, other = fresh(), fresh()
    archive = tmp_path / "images"
    archive.write_bytes(tar_of(layout_files((image, NAME, "v1"), (other, f"{REGISTRY}/other:v1", "v1"))))
    async with hosts(short_folder, version) as (first, second):
        failed = await cri_pull(second.containerd, NAME)
        assert isinstance(failed, PullFailed)
        imported(first.containerd.socket, archive)
        # Two manifests, two configs, four layers; and two tags.
        await first.wait(
            lambda: (first.counted("announced_digests"), first.counted("announced_tags")) == (8, 2)
        )
        await second.wait(lambda: second.counted("records") >= 10)
        by_tag = await cri_pull(second.containerd, NAME)
        assert isinstance(by_tag, Pulled) and by_tag.image_id == image.config.digest, by_tag
        by_digest = await cri_pull(second.containerd, f"{REGISTRY}/other@{other.manifest.digest}")
        assert isinstance(by_digest, Pulled) and by_digest.image_id == other.config.digest, by_digest
        # Where it was imported, too: a pull asks for the tag again, and unpacks it.
        assert isinstance(await cri_pull(first.containerd, NAME), Pulled)
        ctr(second.containerd, "images", "check", f"name=={NAME}")


@pytest.mark.netns
@pytest.mark.matrix
async def test_a_host_with_a_directory_store_gives_what_it_imported(
    short_folder: Path, tmp_path: Path
) -> None:
    image = fresh()
    archive, store = tmp_path / "image.tar", tmp_path / "store"
    archive.write_bytes(tar_of(docker_files((image, [NAME]))))
    flags = ("--store=directory", f"--store-dir={store}")
    async with hosts(short_folder, "2.1", first_flags=flags) as (first, second):
        done = peili("import", archive, *flags)
        assert done.returncode == 0, done.stderr
        await first.wait(
            lambda: (first.counted("announced_digests"), first.counted("announced_tags")) == (4, 1)
        )
        await second.wait(lambda: second.counted("records") >= 5)
        by_tag = await cri_pull(second.containerd, NAME)
        assert isinstance(by_tag, Pulled) and by_tag.image_id == image.config.digest, by_tag


@pytest.mark.netns
@pytest.mark.matrix
async def test_with_tags_upstream_an_imported_tag_is_told_to_nobody(
    short_folder: Path, tmp_path: Path
) -> None:
    image = fresh()
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar_of(layout_files((image, NAME, ""))))
    flags = (f"--stale-private={REGISTRY}",)
    async with hosts(short_folder, "2.1", *flags, tags="upstream") as (first, second):
        imported(first.containerd.socket, archive)
        await first.wait(lambda: first.counted("announced_digests") == 4)
        await second.wait(lambda: second.counted("records") >= 4)
        assert isinstance(await cri_pull(second.containerd, NAME), PullFailed)
        assert first.counted("announced_tags") == 0
        by_digest = await cri_pull(second.containerd, f"{REPOSITORY}@{image.manifest.digest}")
        assert isinstance(by_digest, Pulled), by_digest


async def content(containerd: RealContainerd, namespace: str) -> dict[str, dict[str, str]]:
    """The labels of each blob, by digest. Those of unpacking are left out."""
    async with Client(containerd.socket) as client:
        return {
            info.digest: {key: text for key, text in info.labels.items() if "/gc.ref.content." in key}
            async for info in client.content(namespace).list()
        }


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
async def test_it_leaves_what_containerds_own_importer_leaves(
    containerd: RealContainerd, tmp_path: Path, kind: str
) -> None:
    """Digests of what is made of a docker-archive, and the labels of everything."""
    image = build_index(next(_SEEDS), [50_000, 2_000]) if kind == "oci-archive" else fresh()
    archive = tmp_path / "image.tar"
    files = docker_files((image, [NAME])) if isinstance(image, Image) else layout_files((image, NAME, "v1"))
    archive.write_bytes(tar_of(files))
    theirs, ours = (f"{it}-{secrets.token_hex(4)}" for it in ("theirs", "ours"))
    ctr(containerd, "images", "import", "--all-platforms", "--no-unpack", archive, namespace=theirs)
    told = imported(containerd.socket, archive, f"--containerd-namespace={ours}")
    (target,) = [one["digest"] for one in told["images"]]
    assert f" {target} " in " ".join(
        ctr(containerd, "images", "ls", f"name=={NAME}", namespace=theirs).split()
    )
    assert await content(containerd, ours) == await content(containerd, theirs)
    assert "complete (" in ctr(containerd, "images", "check", namespace=ours)
    async with Client(containerd.socket) as client:
        before = await digests(client.content(ours))
        assert await client.leases(ours).list() == ()
        await collect_garbage(client, ours)
        assert await digests(client.content(ours)) == before


def program_image() -> Image:
    """With a program that needs nothing else: every Debian's ldconfig is linked statically."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add("/sbin/ldconfig", "program")
    types = MEDIA_TYPES["docker"]
    config = {
        "architecture": platform.machine().replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Cmd": ["/program", "--version"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(out.getvalue())]},
    }
    layer = Blob.of(types.layer, gzip_stored(out.getvalue()))
    return Image(Blob.of(types.manifest, b"{}"), Blob.of(types.config, json.dumps(config).encode()), (layer,))


@pytest.mark.matrix
async def test_a_container_runs_from_what_came_through_a_pipe(short_folder: Path, version: str) -> None:
    """As `docker save` gives it, and under the name that was asked for."""
    home = short_folder / f"run{next(_FOLDERS)}"
    containerd = RealContainerd(
        tool_bin(f"containerd-{version}"), home, certs_dir=home / "certs", runtime_binaries=tool_bin("runc")
    )
    archive = tar_of(docker_files((program_image(), ["app:v1"])))
    async with containerd:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mirror", "import", "-", "--name=tool"),
                f"--containerd-sock={containerd.socket}",
            ],
            input=archive,
            capture_output=True,
            timeout=COMMAND_DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        ran = ctr(containerd, "run", "--rm", "docker.io/library/tool:latest", f"c{next(_FOLDERS)}")
    assert ran.startswith("ldconfig ")


# The lease of an import is over in this time; until then a killed one has everything.
SHORT_LEASE_S = 2.0
KILLED = f"""
import os, signal, sys
from containerd.writing import Writer
from mirror.archive import into_containerd
into_containerd.LEASE_BASE_S = {SHORT_LEASE_S}
async def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
WHERE
from mirror.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
IN_A_BLOB = """
write = Writer.write
async def once(self, data):
    await write(self, data)
    if len(data) == 1 << 20:
        await die()
Writer.write = once
"""
BEFORE_THE_NAME = "into_containerd._name = die"


@pytest.mark.matrix
@pytest.mark.parametrize("where", [IN_A_BLOB, BEFORE_THE_NAME], ids=["in-a-blob", "before-the-name"])
async def test_the_garbage_collection_takes_what_a_killed_import_left(
    containerd: RealContainerd, tmp_path: Path, where: str
) -> None:
    image = fresh(3_000, 3 << 20)
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar_of(layout_files((image, NAME, "v1"))))
    namespace = f"killed-{secrets.token_hex(4)}"
    flags = (f"--containerd-sock={containerd.socket}", f"--containerd-namespace={namespace}")
    done = peili("import", archive, *flags, script=KILLED.replace("WHERE", where))
    assert done.returncode == -signal.SIGKILL, done.stderr
    async with Client(containerd.socket) as client:
        contents = client.content(namespace)
        (lease,) = await client.leases(namespace).list()
        # Held meanwhile, by nothing else.
        await collect_garbage(client, namespace)
        left = await digests(contents)
        assert bool(await contents.list_statuses()) == (where is IN_A_BLOB)
        assert len(left) == (1 if where is IN_A_BLOB else 4) and await client.images(namespace).list() == ()
        async with asyncio.timeout(10 * SHORT_LEASE_S):
            while await client.leases(namespace).list():
                await asyncio.sleep(0.1)
                await collect_garbage(client, namespace)
        assert lease.labels and await digests(contents) == set()
        assert await contents.list_statuses() == ()


@pytest.mark.matrix
async def test_what_is_there_already_is_kept_and_counted(containerd: RealContainerd, tmp_path: Path) -> None:
    """Blobs without labels that nothing else holds any more, and a name that points elsewhere."""
    older, image = fresh(), fresh()
    archive = tmp_path / "image.tar"
    namespace = f"there-{secrets.token_hex(4)}"
    flag = f"--containerd-namespace={namespace}"
    archive.write_bytes(tar_of(layout_files((older, NAME, "v1"))))
    imported(containerd.socket, archive, flag)
    archive.write_bytes(tar_of(layout_files((image, NAME, "v1"))))
    async with Client(containerd.socket) as client:
        contents, leases = client.content(namespace), client.leases(namespace)
        await leases.create("before", ttl_s=COMMAND_DEADLINE_S)
        for blob in (image.manifest, image.layers[0]):
            await add_blob(contents, blob.content, lease_id="before")
        (told,) = imported(containerd.socket, archive, flag)["images"]
        await leases.delete("before", sync=True)
        assert await digests(contents) == {blob.digest for blob in image}
        assert (await client.images(namespace).get(NAME)).target.digest == image.manifest.digest
    assert (told["already_there_count"], told["blobs_count"]) == (2, 4)


def skopeo(*arguments: str | Path) -> str:
    done = subprocess.run(
        [tool_bin("skopeo") / "skopeo", "--insecure-policy", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(socket: Path, target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return peili("export", *arguments, "-o", target, f"--containerd-sock={socket}")


@pytest.mark.matrix
async def test_an_export_has_the_same_blobs_and_others_read_it(
    containerd: RealContainerd, tmp_path: Path
) -> None:
    index, image = build_index(next(_SEEDS), [50_000, 2_000]), fresh()
    source, archive = tmp_path / "source.tar", tmp_path / "exported.tar"
    other = f"{REGISTRY}/other:v2"
    source.write_bytes(tar_of(layout_files((index, NAME, "v1"), (image, other, "v2"))))
    ours, theirs, again = (f"{it}-{secrets.token_hex(4)}" for it in ("ours", "theirs", "again"))
    flag = f"--containerd-namespace={ours}"
    imported(containerd.socket, source, flag)
    done = exported(containerd.socket, archive, NAME, other, flag)
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as tar:
        names = [entry.name for entry in tar if entry.isfile()]
        for blob in (*index, *image):
            file = tar.extractfile(path_of(blob))
            assert file is not None and file.read() == blob.content
    assert names == sorted(
        {path_of(blob) for blob in (*index, *image)} | {"index.json", "manifest.json", "oci-layout"}
    )
    # The same bytes each time; and as a folder.
    twice = tmp_path / "twice.tar"
    assert exported(containerd.socket, twice, NAME, other, flag).returncode == 0
    assert twice.read_bytes() == archive.read_bytes()
    assert exported(containerd.socket, tmp_path / "folder", NAME, other, flag).returncode == 0
    # containerd, by its own importer; ours; and skopeo, as OCI and as Docker's archive.
    ctr(containerd, "images", "import", "--all-platforms", "--no-unpack", archive, namespace=theirs)
    imported(containerd.socket, archive, f"--containerd-namespace={again}")
    assert (
        await content(containerd, again)
        == await content(containerd, theirs)
        == await content(containerd, ours)
    )
    for namespace in (theirs, again):
        async with Client(containerd.socket) as client:
            named = {it.name: it.target.digest for it in await client.images(namespace).list()}
        assert named == {NAME: index.manifest.digest, other: image.manifest.digest}
    raw = skopeo("inspect", "--raw", f"oci-archive:{archive}:v1")
    assert raw.encode() == index.manifest.content
    told = json.loads(skopeo("inspect", "--config", f"docker-archive:{archive}:{other}"))
    assert told == json.loads(image.config.content)


@pytest.mark.matrix
async def test_what_skopeo_wrote_is_imported(containerds: Containerds, tmp_path: Path) -> None:
    containerd = await containerds.get("2.1")
    image = fresh()
    layout = write_files(layout_files((image, "", "v1")), tmp_path / "layout")
    oci, docker = tmp_path / "oci.tar", tmp_path / "docker.tar"
    skopeo("copy", f"oci:{layout}:v1", f"oci-archive:{oci}:{NAME}")
    skopeo("copy", f"oci:{layout}:v1", f"docker-archive:{docker}:{REPOSITORY}:docker")
    namespace = f"skopeo-{secrets.token_hex(4)}"
    told = imported(containerd.socket, oci, docker, f"--containerd-namespace={namespace}")
    assert [one["name"] for one in told["images"]] == [NAME, f"{REPOSITORY}:docker"]
    assert told["images"][0]["digest"] == image.manifest.digest
    assert ctr(containerd, "images", "check", namespace=namespace).count("complete (") == 2


@pytest.mark.matrix
async def test_what_is_absent_is_named_and_nothing_is_written(
    containerds: Containerds, tmp_path: Path
) -> None:
    """A pull for one platform of two."""
    containerd = await containerds.get("2.1")
    index = build_index(next(_SEEDS), [2_000])
    here, absent = index.images
    files = layout_files((index, NAME, "v1"))
    for blob in absent:
        del files[path_of(blob)]
    archive, target = tmp_path / "image.tar", tmp_path / "exported.tar"
    archive.write_bytes(tar_of(files))
    namespace = f"absent-{secrets.token_hex(4)}"
    flag = f"--containerd-namespace={namespace}"
    (told,) = imported(containerd.socket, archive, flag)["images"]
    assert told["absent"] == ["linux/arm64"] and told["blobs_count"] == 4
    for choice in ("all", "linux/arm64"):
        failed = exported(containerd.socket, target, NAME, f"--platform={choice}", flag)
        assert failed.returncode == 1
        assert all(it in failed.stderr for it in (NAME, "linux/arm64", absent.manifest.digest)), failed.stderr
    assert list(tmp_path.iterdir()) == [archive]
    done = exported(containerd.socket, target, NAME, flag)
    assert done.returncode == 0 and "linux/arm64" in done.stderr
    assert json.loads(skopeo("inspect", "--config", f"docker-archive:{target}")) == json.loads(
        here.config.content
    )
