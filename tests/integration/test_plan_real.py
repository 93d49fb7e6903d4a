"""config_path put into config files, read by the real containerds: it is in effect, and nothing else has changed. And a
host with a real containerd, from the look to the second look, and back.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containerd.effective_config import effective
from containerd.hosts.configure import configure
from containerd.version import parse_release
from mirror.host.changes import FileChange
from mirror.host.config_path import with_config_path
from mirror.host.distribution import STOCK_SOCK
from mirror.host.facts import HostFacts
from mirror.host.found import choose
from mirror.host.ledger import give_back, make
from mirror.host.look_host import look_host
from mirror.host.plan import HostPlan, plan
from tests.support.bed_containerds import VERSIONS
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.oci_image import build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Journal, RecordingHost, Shelf
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

DIR = "/srv/hosts"
URL = "http://127.0.0.1:29020"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
IMAGES = "plugins.'io.containerd.cri.v1.images'"
TEXTS = {
    "empty": "",
    "comments": "# nothing\n",
    "docker's package": '#disabled_plugins = ["cri"]\noom_score = 1\n[grpc]\n  uid = 0\n',
    "version 1": "version = 1\n[plugins.cri]\n  sandbox_image = 'x'\n  [plugins.cri.registry]\n    config_path = ''\n",
    "no version, tables of 2": f"[{CRI}.registry]\n  config_path = '/overlooked'\n",
    "version 2": "version = 2\nroot = '/x' # r\n",
    "version 2, empty": f"version = 2\n[{CRI}.registry] # here\n  config_path = '' # not set\n",
    "version 2, other tables": f"version = 2\n[{CRI}.registry.configs.'x.io'.auth]\n  username = 'u'\n"
    f"[{CRI}]\n  max_concurrent_downloads = 5\n",
    "version 2, dotted": f"version = 2\n{CRI}.registry.config_path = '/x'\n",
    "version 2, empty tables": f"version = 2\n[plugins]\n  [{CRI}]\n    [{CRI}.registry]\n"
    f"      [{CRI}.registry.configs]\n      [{CRI}.registry.mirrors]\n",
    "version 2 with a table of 3": f"version = 2\n[{IMAGES}.registry]\n  config_path = '/x'\n",
    "version 3": "version = 3\n",
    "version 3, tables": f"version = 3\n[{IMAGES}]\n  [{IMAGES}.registry]\n"
    f"  [{IMAGES}.pinned_images]\n    sandbox = 'p'\n",
}


def dump(binaries: Path, file: Path) -> str | None:
    """None where containerd does not take the file."""
    done = subprocess.run(
        [binaries / "containerd", "--config", file, "config", "dump"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def without_config_path(text: str) -> Any:
    document = tomllib.loads(text)
    for plugin in document["plugins"].values():
        if "registry" in plugin:
            plugin["registry"].pop("config_path", None)
    return document


def check(binaries: Path, version: str, text: str, folder: Path) -> None:
    file, release = folder / "config.toml", parse_release(version)
    file.write_text(text)
    was = dump(binaries, file)
    if was is None:
        assert version == "1.7" and text.startswith("version = 3")
        return
    file.write_text(with_config_path(text, DIR, release, "f"))
    now = dump(binaries, file)
    assert now is not None and effective([now], release).config_path == DIR
    assert without_config_path(now) == without_config_path(was)


def test_it_is_in_effect_where_nothing_was(tmp_path: Path, version: str) -> None:
    check(tool_bin(f"containerd-{version}"), version, "", tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize("name", TEXTS)
def test_it_is_in_effect_however_the_file_is_written(tmp_path: Path, version: str, name: str) -> None:
    if version == "1.6" and TEXTS[name].startswith("version = 3"):
        # It takes such a file, with the tables of version 2; nobody has one.
        return
    check(tool_bin(f"containerd-{version}"), version, TEXTS[name], tmp_path)


@pytest.mark.matrix
def test_it_is_in_effect_in_containerds_own_default_file(tmp_path: Path, version: str) -> None:
    binaries = tool_bin(f"containerd-{version}")
    done = subprocess.run(
        [binaries / "containerd", "config", "default"], capture_output=True, text=True, check=True
    )
    check(binaries, version, done.stdout, tmp_path)


# --- A host


class PlannedContainerd(RealContainerd):
    """Its config.toml is written at its first start and then belongs to the host. Its socket is where the system's is,
    below `root`."""

    def __init__(self, binaries: Path, root: Path, *, extra_config: str = "") -> None:
        workdir = root / "etc" / "containerd"
        super().__init__(
            binaries, workdir, certs_dir=workdir / "certs.d", config_path="", extra_config=extra_config
        )
        self.socket = root / STOCK_SOCK.lstrip("/")
        self.socket.parent.mkdir(parents=True)
        self.root = root / "var/lib/containerd"
        self.config = workdir / "config.toml"

    def _config_text(self) -> str:
        return self.config.read_text() if self.config.exists() else super()._config_text()


@pytest.fixture
def root() -> Iterator[Path]:
    # Short: Unix sockets are below it.
    made = Path(tempfile.mkdtemp(prefix="peili-"))
    unit = made / "usr/lib/systemd/system/containerd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    yield made
    shutil.rmtree(made)


async def planned(root: Path) -> tuple[HostFacts, HostPlan]:
    found = await look_host(root=root)
    # The real directory of this machine is not to be read.
    return found, plan(found, choose(found).chosen, URL, hosts_dir=str(root / "etc/containerd/certs.d"))


def below(root: Path, change: FileChange) -> FileChange:
    return FileChange(f"{root}{change.path}", change.content, change.why, change.mode)


async def from_look_to_look(root: Path, version: str, extra_config: str, changed: str) -> None:
    certs = root / "etc/containerd/certs.d"
    data_dir = root / "data"
    data_dir.mkdir()
    shelf, journal = Shelf(), Journal()
    shelf.add(build_image(int(version.replace(".", "")) + 97_000, [50_000]), "lib/small", "v1")
    async with PlannedContainerd(
        tool_bin(f"containerd-{version}"), root, extra_config=extra_config
    ) as containerd:
        found, first = await planned(root)
        assert found.sockets[0].release == parse_release(version)
        assert [change.path for change in first.changes] == [changed]
        assert first.restart == "systemctl restart containerd"
        before = (root / changed.lstrip("/")).read_bytes()
        make(data_dir, [below(root, change) for change in first.changes])
        # Not until it is restarted does containerd know it.
        _, pending = await planned(root)
        assert pending.changes == ()
        await containerd.kill()
        await containerd.start()
        async with (
            RecordingHost("mirror", shelf, journal) as mirror,
            RecordingHost("origin", shelf, journal) as origin,
        ):
            (certs / "reg.test").mkdir(parents=True, exist_ok=True)
            (certs / "reg.test/hosts.toml").write_text(f'server = "{origin.url}"\n[host."{origin.url}"]\n')
            (hosts_dir,) = first.hosts_dirs
            configure(
                Path(hosts_dir.path),
                registry_url=mirror.url,
                tags="upstream",
                registries=["reg.test"],
                config_path=hosts_dir.config_path,
                containerd_version=parse_release(version),
            )
            assert isinstance(await cri_pull(containerd, "reg.test/lib/small:v1"), Pulled)
            assert journal.of(host="mirror")
        _, second = await planned(root)
        assert second.changes == () and second.restart is None and second.serve == first.serve
        give_back(data_dir)
        assert (root / changed.lstrip("/")).read_bytes() == before


async def test_a_host_is_as_it_should_be_after_its_plan(root: Path) -> None:
    await from_look_to_look(root, "1.7", "", "/etc/containerd/config.toml")


@pytest.mark.matrix
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_host_whose_imports_have_the_last_word(root: Path, version: str) -> None:
    imported = root / "etc/containerd/conf.d/9.toml"
    imported.parent.mkdir(parents=True)
    imported.write_text(f"# mine\nversion = 2\n[{CRI}.registry]\n  config_path = '' # none\n")
    config = root / "etc/containerd/config.toml"
    containerd = PlannedContainerd(tool_bin(f"containerd-{version}"), root)
    config.write_text(f"imports = ['{imported.parent}/*.toml']\n{containerd._config_text()}")
    shutil.rmtree(root / "run")
    await from_look_to_look(root, version, "", "/etc/containerd/conf.d/9.toml")
