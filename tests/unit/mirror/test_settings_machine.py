"""What the file system says about settings: each unusable path is named with its flag."""

from __future__ import annotations

import base64
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.errors import SettingsError
from mirror.settings import machine, resolve
from mirror.settings.load import read
from mirror.settings.model import ServeSettings
from mirror.settings.setting import Command

REPOSITORY = Path(__file__).parents[3]
SECRET = base64.b64encode(bytes(32)) + b"\n"


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """pytest's own are private to its user."""
    with tempfile.TemporaryDirectory(prefix="test-peili-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def settings(data_dir: Path, **flags: str) -> ServeSettings:
    flags["data_dir"] = str(data_dir)
    flags.setdefault("containerd_sock", "/absent/containerd.sock")
    return resolve.serve(read(Command.SERVE, flags, {}), machine.surroundings(), data_dir).settings


def refusal(data_dir: Path, **flags: str) -> str:
    with pytest.raises(SettingsError) as caught:
        machine.check_serve(settings(data_dir, **flags))
    assert str(caught.value).startswith(f"{caught.value.setting}: ")
    return str(caught.value)


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield


def test_the_data_directory_is_made_private(data_dir: Path) -> None:
    assert machine.check_serve(settings(data_dir / "deep")) == []
    assert stat.S_IMODE((data_dir / "deep").stat().st_mode) == 0o700
    assert list((data_dir / "deep").iterdir()) == []


def test_a_data_directory_that_others_can_write_is_a_warning(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o777)
    assert machine.check_serve(settings(data_dir)) == [
        f"--data-dir {data_dir} can be written by every user of this host: chmod 700 {data_dir}"
    ]
    data_dir.chmod(0o755)
    assert machine.check_serve(settings(data_dir)) == []


def test_a_data_directory_that_cannot_be_written(data_dir: Path) -> None:
    data_dir.mkdir()
    file = data_dir / "file"
    file.touch()
    for path in (file, file / "below", Path("/proc/self")):
        message = refusal(path)
        assert message.startswith(f"--data-dir: {path} cannot be written: ")


def test_a_good_secret_file(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET * 2)
    path.chmod(0o600)
    assert machine.check_serve(settings(data_dir, cluster_secret_file=str(path))) == []
    path.chmod(0o644)
    assert machine.check_serve(settings(data_dir, cluster_secret_file=str(path))) == [
        f"--cluster-secret-file {path} can be read by every user of this host: chmod 600 {path}"
    ]


def test_a_bad_secret_file(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert refusal(data_dir, cluster_secret_file=str(path)).startswith(
        f"--cluster-secret-file: {path} cannot be read: No such file"
    )
    path.write_bytes(SECRET * 3)
    assert "has 3 lines" in refusal(data_dir, cluster_secret_file=str(path))


def test_a_socket_that_is_there(data_dir: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        assert machine.check_serve(settings(data_dir, containerd_sock=str(tmp_path / "s"))) == []


def test_a_socket_that_is_not_there_yet(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent" / "s", tmp_path / "file" / "s"):
        assert machine.check_serve(settings(data_dir, containerd_sock=str(path))) == []


def test_a_socket_that_is_none(data_dir: Path, tmp_path: Path) -> None:
    assert (
        refusal(data_dir, containerd_sock=str(tmp_path)) == f"--containerd-sock: {tmp_path} is not a socket"
    )


def test_a_socket_below_a_loop_of_links(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    message = refusal(data_dir, containerd_sock=str(tmp_path / "loop" / "s"))
    assert message.startswith("--containerd-sock: ") and "cannot be reached: Too many levels" in message


def test_a_socket_that_this_user_may_not_open(public_dir: Path) -> None:
    path = public_dir / "s"
    # Everything is loaded before root becomes nobody: the checkout may be private to root.
    code = """
import os, sys
from pathlib import Path
from mirror.settings import machine, resolve
from mirror.settings.load import read
from mirror.settings.setting import Command
data_dir = Path(sys.argv[1])
flags = {"data_dir": sys.argv[1], "containerd_sock": sys.argv[2]}
settings = resolve.serve(read(Command.SERVE, flags, {}), machine.surroundings(), data_dir).settings
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
print(machine.can_use(Path("/var/lib")), machine.can_use(data_dir))
try:
    machine.check_serve(settings)
except machine.SettingsError as error:
    print(error)
"""
    with listening(path):
        path.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, str(public_dir), str(path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout == (
        f"False True\n--containerd-sock: {path} cannot be opened: permission denied; "
        "run as root or as a user that may use it\n"
    )


@pytest.mark.parametrize("name", ["blobs", "ingest"])
def test_a_content_store(data_dir: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert machine.check_serve(settings(data_dir, containerd_content_path=str(tmp_path))) == []


def test_a_content_store_that_is_not_there(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    assert refusal(data_dir, containerd_content_path=str(path)) == (
        f"--containerd-content-path: {path} does not exist or is not a directory"
    )


def test_a_directory_that_is_no_content_store(data_dir: Path, tmp_path: Path) -> None:
    message = refusal(data_dir, containerd_content_path=str(tmp_path))
    assert message.startswith(f"--containerd-content-path: {tmp_path} is no content store")


def test_a_directory_store_at_a_file(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    found = resolve.serve(
        read(Command.SERVE, {"store_dir": str(path), "data_dir": str(data_dir)}, {}),
        machine.surroundings(),
        data_dir,
    ).settings
    with pytest.raises(SettingsError, match=rf"^--store-dir: {path} is not a directory$"):
        machine.check_serve(found)


def test_surroundings_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = machine.surroundings()
    assert found.working_dir == tmp_path
    assert found.has_ipv6 is Path("/proc/net/if_inet6").exists()
