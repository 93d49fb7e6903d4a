"""peili down beside real processes and files: what a crash or a daemon that is about to end leaves is gone after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containerd.hosts.configure import configure
from mirror.cli.main import main
from mirror.data_dir import LOCK_FILE
from mirror.host.ledger import LEDGER_FILE, Ledger, save

# Adds a registry that it has heard of as it is told to end.
DAEMON = """
import signal, sys
from pathlib import Path
from containerd.hosts.configure import add_registry
from mirror.data_dir import owned
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with owned(Path(sys.argv[1])):
    print("serving", flush=True)
    signal.sigwait({signal.SIGTERM})
    add_registry(
        Path(sys.argv[2]), "late.test", registry_url="http://127.0.0.1:29020", tags="upstream", config_path=None,
        containerd_version=None,
    )
"""


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # All that it touches here is ours.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = tmp_path / "data"
    made.mkdir()
    return made


def down(data_dir: Path) -> int:
    return main(["down", f"--data-dir={data_dir}"])


def test_a_registry_that_the_daemon_adds_meanwhile_is_taken_out(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts_dir = data_dir.parent / "certs.d"
    configure(
        hosts_dir,
        registry_url="http://127.0.0.1:29020",
        tags="upstream",
        registries=["early.test"],
        config_path=None,
        containerd_version=None,
    )
    save(data_dir, Ledger(hosts_dirs=(str(hosts_dir),)))
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, data_dir, hosts_dir], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline() == "serving\n"
        assert down(data_dir) == 0
        assert daemon.wait() == 0
    told = capsys.readouterr().out
    assert f"stopped    the daemon that ran as process {daemon.pid}" in told and "late.test" in told
    assert not hosts_dir.exists() and not data_dir.exists()


@pytest.mark.parametrize("half_written", [(), (f".{LEDGER_FILE}.x7f_",)])
def test_what_a_killed_up_left_before_its_ledger_was_whole_goes(
    data_dir: Path, half_written: tuple[str, ...]
) -> None:
    for name in (LOCK_FILE, *half_written):
        (data_dir / name).touch()
    assert down(data_dir) == 0
    assert not data_dir.exists()


@pytest.mark.parametrize("names", [(), (LOCK_FILE, "node.json"), (f".{LEDGER_FILE}.x7f_",)])
def test_a_directory_where_up_has_not_been_stays(
    data_dir: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        (data_dir / name).touch()
    assert down(data_dir) == 0
    assert "nothing to undo" in capsys.readouterr().out
    assert sorted(path.name for path in data_dir.iterdir()) == sorted(names)
