"""A process that is killed at any step of configure or cleanup leaves each file old or new, and all can be undone.

The steps are those that Python's audit events name: each open, rename, unlink, mkdir, rmdir, chmod and the like. The
process that is killed is a real one, so that nothing of it can tidy up after itself.
"""

import os
import shutil
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.configure import configure
from tests.support.examples import stride
from tests.support.hosts_runs import memory_folder
from tests.support.hosts_trees import Snapshot, snapshot, write_tree

KILLED = 77

USER = {
    "docker.io/hosts.toml": (0o640, b'# one\nserver = "https://s"\n[host."https://m"]\nca = "a.crt"'),
    "docker.io/a.crt": (0o644, b"PEM"),
    "reg.test_5000_/ca.crt": (0o600, b"PEM"),
    "_default/hosts.toml": (0o600, b'[host."https://d"]\n[host."https://d".header]\na = "secret"\n'),
}


def _configure(certs: Path, port: int = 1) -> None:
    configure(
        certs,
        registry_url=f"http://127.0.0.1:{port}",
        tags="upstream",
        registries=["docker.io", "ghcr.io", "reg.test:5000"],
        config_path=f"{certs}:{certs.parent}/docker/certs.d",
        containerd_version=(2, 1),
    )


def _in_a_process_killed_at(step: int, action: Callable[[], object]) -> bool:
    """True if it was killed, False if it ended before that step."""
    with warnings.catch_warnings():
        # Python 3.12 warns when other tests left threads: the child uses nothing that they could hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        left = step

        def kill_at_the_step(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            changes = event.startswith(("os.", "shutil.", "fcntl.")) or event == "open"
            if changes and event not in ("os.listdir", "os.scandir"):
                left -= 1
                if left < 0:
                    os._exit(KILLED)

        sys.addaudithook(kill_at_the_step)
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), code
    return code == KILLED


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


def _user_directory(folder: Path) -> Path:
    """Always at the same path: a list in config_path makes it part of a file's name."""
    shutil.rmtree(folder / "etc", ignore_errors=True)
    certs = folder / "etc/certs.d"
    certs.mkdir(parents=True)
    write_tree(certs, USER)
    return certs


def _without_times(taken: Snapshot) -> Snapshot:
    return {name: what[:4] for name, what in taken.items()}


def _hosts_files(certs: Path) -> dict[str, bytes]:
    files = certs.parent.rglob("hosts.toml")
    return {str(it.relative_to(certs.parent)): it.read_bytes() for it in files if ".peili" not in str(it)}


def _check(certs: Path, old: dict[str, bytes], new: dict[str, bytes], before: Snapshot) -> None:
    """After a kill: each file is old or new, another run ends what was begun, and cleanup undoes all of it."""
    for name, content in _hosts_files(certs).items():
        assert content in (old.get(name), new.get(name)), name
        tomllib.loads(content.decode())
    for name in old.keys() & new.keys():
        assert name in _hosts_files(certs)
    for directory in [*certs.iterdir(), *certs.parent.glob("certs.d:/**/certs.d/*")]:
        # An empty one would hide the user's `_default`.
        assert directory.name.startswith((".peili", "_peili")) or any(directory.iterdir()), directory
    cleanup(certs)
    assert _without_times(snapshot(certs.parent)) == _without_times(before)


def _steps(run: Callable[[int], bool]) -> int:
    step = 0
    while run(step):
        step += stride()
        assert step < 5000
    return step


@pytest.mark.slow
def test_killed_in_the_first_run(folder: Path) -> None:
    certs = _user_directory(folder)
    old = _hosts_files(certs)
    _configure(certs)
    new = _hosts_files(certs)

    def run(step: int) -> bool:
        certs = _user_directory(folder)
        before = snapshot(certs.parent)
        killed = _in_a_process_killed_at(step, lambda: _configure(certs))
        _check(certs, old, new, before)
        return killed

    assert _steps(run) > 100


@pytest.mark.slow
def test_killed_in_a_later_run_with_other_arguments(folder: Path) -> None:
    def run(step: int) -> bool:
        certs = _user_directory(folder)
        before = snapshot(certs.parent)
        _configure(certs, 2)
        new = _hosts_files(certs)
        _configure(certs, 1)
        old = _hosts_files(certs)
        killed = _in_a_process_killed_at(step, lambda: _configure(certs, 2))
        _check(certs, old, new, before)
        return killed

    assert _steps(run) > 50


@pytest.mark.slow
def test_killed_and_then_run_again(folder: Path) -> None:
    def run(step: int) -> bool:
        certs = _user_directory(folder)
        before = snapshot(certs.parent)
        killed = _in_a_process_killed_at(step, lambda: _configure(certs))
        _configure(certs)
        left = [it.name for it in certs.rglob("*") if it.name.startswith(".") or it.name.endswith(".new")]
        assert left == []
        _check(certs, {}, _hosts_files(certs), before)
        return killed

    assert _steps(run) > 100


@pytest.mark.slow
def test_killed_in_cleanup(folder: Path) -> None:
    def run(step: int) -> bool:
        certs = _user_directory(folder)
        before, old = snapshot(certs.parent), _hosts_files(certs)
        _configure(certs)
        new = _hosts_files(certs)
        killed = _in_a_process_killed_at(step, lambda: cleanup(certs))
        for name, content in _hosts_files(certs).items():
            assert content in (old.get(name), new.get(name)), name
        cleanup(certs)
        assert _without_times(snapshot(certs.parent)) == _without_times(before)
        return killed

    assert _steps(run) > 50


@pytest.mark.slow
def test_killed_where_there_was_no_hosts_directory(folder: Path) -> None:
    def run(step: int) -> bool:
        certs = folder / "certs.d"
        killed = _in_a_process_killed_at(step, lambda: _configure(certs))
        killed_again = _in_a_process_killed_at(step, lambda: cleanup(certs))
        cleanup(certs)
        assert list(folder.iterdir()) == []
        return killed or killed_again

    assert _steps(run) > 100
