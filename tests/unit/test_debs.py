"""The fetcher of real daemons: what it says when it cannot, and that what it fetched can run."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.apt import Apt
from tests.support.debs import RECIPES, fetch, tool
from tests.support.missing import NO_DEBIAN_SOURCES, NO_TOOLS, Missing
from tests.support.skips import require, tool_bin


def _etc_apt(folder: Path, line: str) -> Path:
    folder.mkdir()
    (folder / "sources.list").write_text(line)
    return folder


def _needs_apt() -> None:
    if shutil.which("apt-get") is None:
        require(Missing(NO_DEBIAN_SOURCES, "this machine has no apt."))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_unpacked_program_finds_its_libraries(name: str) -> None:
    folder = tool_bin(name)
    for executable in RECIPES[name].executables:
        ran = subprocess.run(
            [folder / executable, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        # Not every program knows the flag; the dynamic loader's failure is 127, and a missing file raises.
        assert ran.returncode != 127, ran.stderr


def test_a_tool_that_is_not_there_is_named_with_what_mends_it(tmp_path: Path) -> None:
    _needs_apt()
    debian = _etc_apt(tmp_path / "debian", "deb http://mirror.example/debian bookworm main\n")
    other = _etc_apt(tmp_path / "other", "deb http://mirror.example/ubuntu noble main\n")
    found = [tool("nginx", tmp_path / "tools", etc_apt) for etc_apt in (debian, other)]
    assert [missing.code for missing in found if isinstance(missing, Missing)] == [
        NO_TOOLS,
        NO_DEBIAN_SOURCES,
    ]
    with pytest.raises(ValueError, match=r"no recipe for 'ngnix'; there are conmon, containerd-1\.6"):
        tool("ngnix")


@pytest.mark.slow
def test_a_mirror_that_does_not_answer_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    _needs_apt()
    etc_apt = _etc_apt(tmp_path / "apt", f"deb file:{tmp_path}/no-mirror bookworm main\n")
    failed = fetch(["nginx", "containerd-2.1"], tmp_path / "tools", etc_apt)
    assert "Debian bookworm" in str(failed["nginx"])
    assert "Debian sid" in str(failed["containerd-2.1"])
    assert all("no-mirror" in str(error) for error in failed.values())
    assert sorted(path.name for path in (tmp_path / "tools").iterdir()) == [".lock", "versions.json"]


def test_what_is_there_is_not_fetched_again_and_what_was_half_unpacked_is_removed(tmp_path: Path) -> None:
    require(tool("nginx"))
    tools = tmp_path / "tools"
    shutil.copytree(require(tool("nginx")), tools / "nginx", symlinks=True)
    shutil.copy(require(tool("nginx")).parent / "versions.json", tools)
    (tools / ".unpacking-killed" / "nginx").mkdir(parents=True)
    started = time.monotonic()
    # Without sources: anything fetched would fail.
    assert fetch(["nginx"], tools, tmp_path / "no-apt") == {}
    assert time.monotonic() - started < 5
    assert tool("nginx", tools) == tools / "nginx"
    assert not (tools / ".unpacking-killed").exists()
    # Recorded, yet deleted by somebody: it is missing again.
    shutil.rmtree(tools / "nginx")
    assert isinstance(tool("nginx", tools), Missing)


def test_what_was_downloaded_before_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tools may need the same library; apt-get is silent about a file that is there."""
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nshift 2\nfor one; do [ -e "$one.deb" ] || echo new > "$one.deb"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "downloads").mkdir()
    apt = Apt(tmp_path / "apt.conf", tmp_path / "downloads")
    for _ in range(2):
        assert apt.download("libx").read_text() == "new\n"
        assert [path.name for path in apt.download_all(["libx", "liby"])] == ["libx.deb", "liby.deb"]
