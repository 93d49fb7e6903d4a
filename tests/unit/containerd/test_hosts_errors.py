"""What cannot be done is said, and changes nothing: bad files, bad names, refusing disks, two runs at once."""

import fcntl
import multiprocessing
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containerd.hosts import disk
from containerd.hosts.cleanup import cleanup
from containerd.hosts.errors import (
    HostsDirBusy,
    HostsDirUnusable,
    HostsFileInvalid,
    RegistryNameInvalid,
)
from tests.support.containerd_hosts import hosts_asked
from tests.support.hosts_runs import (
    MIRROR,
    NAMED,
    run_add,
    run_configure,
    write,
)
from tests.support.hosts_trees import snapshot
from tests.support.skips import require, root_or_missing


class TestBadInput:
    @pytest.mark.parametrize("content", [b"server = \n", b"# \xff\n", b"server = 1\n"])
    def test_one_bad_file_and_nothing_is_written_anywhere(self, certs: Path, content: bytes) -> None:
        write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        write(certs / "ghcr.io/hosts.toml", "")
        (certs / "ghcr.io/hosts.toml").write_bytes(b"\n" + content)
        before = snapshot(certs)
        with pytest.raises(HostsFileInvalid, match=r"ghcr\.io/hosts\.toml.*nothing was changed") as caught:
            run_configure(certs)
        assert caught.value.line == (None if content == b"server = 1\n" else 2)
        assert snapshot(certs) == before

    def test_the_line_is_that_of_the_file_with_our_blocks_in_it(self, certs: Path) -> None:
        write(certs / "docker.io/hosts.toml", 'server = "https://s"\n')
        run_configure(certs)
        text = (certs / "docker.io/hosts.toml").read_text() + "nonsense\n"
        (certs / "docker.io/hosts.toml").write_text(text)
        with pytest.raises(HostsFileInvalid) as caught:
            run_configure(certs)
        assert caught.value.line == text.count("\n")

    def test_a_file_that_is_to_be_undone_and_cannot_be(self, certs: Path) -> None:
        run_configure(certs)
        file = certs / "_default/hosts.toml"
        file.write_text(file.read_text().replace("# <<< peili\n", ""))
        before = snapshot(certs)
        with pytest.raises(HostsFileInvalid, match="without its partner"):
            run_configure(certs, registries=[*NAMED, "quay.io"], default=False)
        assert snapshot(certs) == before

    def test_a_bad_file_and_no_hosts_directory_yet(self, folder: Path) -> None:
        write(folder / "b/docker.io/hosts.toml", "x")
        with pytest.raises(HostsFileInvalid):
            run_configure(folder / "a", config_path=f"{folder}/a:{folder}/b")
        assert [path.name for path in folder.iterdir()] == ["b"]

    def test_a_directory_in_the_place_of_the_file(self, certs: Path) -> None:
        (certs / "docker.io/hosts.toml").mkdir(parents=True)
        with pytest.raises(HostsFileInvalid, match="not a file"):
            run_configure(certs)

    def test_a_file_in_the_place_of_the_directory(self, certs: Path) -> None:
        (certs / "docker.io").write_text("")
        with pytest.raises(HostsDirUnusable, match=r"docker\.io/hosts\.toml: Not a directory"):
            run_configure(certs)

    def test_a_file_of_unreasonable_size(self, certs: Path) -> None:
        write(certs / "docker.io/hosts.toml", "#" * (256 * 1024 + 1))
        with pytest.raises(HostsFileInvalid, match="larger than 262144 bytes"):
            run_configure(certs)

    def test_a_certificate_whose_name_cannot_be_written(self, certs: Path) -> None:
        (certs / "docker.io").mkdir()
        Path(os.fsdecode(os.fsencode(certs) + b"/docker.io/\xff.crt")).touch()
        with pytest.raises(HostsFileInvalid, match="a name that no hosts"):
            run_configure(certs)

    def test_a_bad_name_among_good_ones(self, certs: Path) -> None:
        with pytest.raises(RegistryNameInvalid, match="'a/b'"):
            run_configure(certs, registries=["docker.io", "a/b"])
        assert list(certs.iterdir()) == []

    def test_no_parent_directory(self, folder: Path) -> None:
        with pytest.raises(HostsDirUnusable, match="not there: no such directory; make it"):
            run_configure(folder / "not there/certs.d")

    def test_a_file_in_the_place_of_the_hosts_directory(self, folder: Path) -> None:
        (folder / "certs.d").write_text("")
        with pytest.raises(HostsDirUnusable):
            run_configure(folder / "certs.d")
        assert [path.name for path in folder.iterdir()] == ["certs.d"]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of root's in which this process, for the time of the test, is somebody else."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    certs = folder / "certs.d"
    certs.mkdir()
    was_root = os.geteuid() == 0
    try:
        yield certs
    finally:
        if was_root:
            os.seteuid(0)
        certs.chmod(0o755)
        shutil.rmtree(folder)


def _become_nobody(certs: Path) -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        certs.chmod(0o555)


def test_a_directory_that_may_not_be_written(unprivileged: Path) -> None:
    write(unprivileged / "docker.io/hosts.toml", 'server = "https://s"\n')
    before = snapshot(unprivileged)
    _become_nobody(unprivileged)
    with pytest.raises(
        HostsDirUnusable, match="Permission denied; peili must be able to read and write below"
    ):
        run_configure(unprivileged)
    assert snapshot(unprivileged) == before


def test_a_file_that_may_not_be_read(unprivileged: Path) -> None:
    write(unprivileged / "docker.io/hosts.toml", 'server = "https://s"\n', 0o000)
    unprivileged.chmod(0o777)
    _become_nobody(unprivileged)
    with pytest.raises(HostsDirUnusable, match=r"docker\.io/hosts\.toml: Permission denied"):
        run_configure(unprivileged)
    assert {path.name for path in unprivileged.iterdir()} == {"docker.io"}


def test_a_second_directory_that_may_not_be_written_leaves_the_first_untouched(unprivileged: Path) -> None:
    require(root_or_missing("giving a file to another owner"))
    for name in ("docker.io", "ghcr.io"):
        write(unprivileged / name / "hosts.toml", 'server = "https://s"\n')
    unprivileged.chmod(0o777)
    (unprivileged / "docker.io").chmod(0o777)
    os.chown(unprivileged / "docker.io/hosts.toml", 65534, os.getegid())
    before = snapshot(unprivileged)
    _become_nobody(unprivileged)
    with pytest.raises(HostsDirUnusable, match=r"ghcr\.io"):
        run_configure(unprivileged)
    assert snapshot(unprivileged) == before


@pytest.mark.parametrize("limit_bytes", [0, 100, 1000, 3300])
@pytest.mark.parametrize("second_run", [False, True])
def test_a_disk_that_takes_no_more_leaves_all_as_it_was(
    certs: Path, limit_bytes: int, second_run: bool
) -> None:
    """At 3300 bytes the original and the manifest are written, and the new file is too long."""
    write(certs / "docker.io/hosts.toml", "#" * 3000 + "\n")
    if second_run:
        run_configure(certs, registries=["docker.io"], tags="off")
    before = snapshot(certs)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(HostsDirUnusable, match="File too large"):
            run_configure(certs, registries=["docker.io"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = snapshot(certs)
    # The manifest may be a new file that says the same again.
    state = "_peili/manifest.json"
    assert before.pop(state, ())[:4] == after.pop(state, ())[:4]
    assert after == before
    cleanup(certs)
    assert (certs / "docker.io/hosts.toml").read_text() == "#" * 3000 + "\n"


def test_a_run_waits_for_another_and_not_for_ever(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.open(certs, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    for run in (run_configure, cleanup):
        monkeypatch.setattr(disk, "LOCK_WAIT_S", 0.0)
        with pytest.raises(HostsDirBusy, match="another process is changing it"):
            run(certs)
    assert list(certs.iterdir()) == []
    monkeypatch.undo()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(run_configure, certs)
        os.close(other)
        assert waiting.result(10).changed


@pytest.mark.slow
def test_processes_that_run_at_once_do_not_lose_each_others_entries(certs: Path) -> None:
    names = [f"reg{number}.example" for number in range(8)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.starmap(run_add, [(certs, name) for name in names])
    for name in names:
        assert hosts_asked([certs], name, (2, 1))[0] == MIRROR
    cleanup(certs)
    assert list(certs.iterdir()) == []
