"""How systemd's words become outcomes and errors, with a recorder in systemctl's place.

That the real one says so is seen in tests/integration/test_systemd_real.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror import child_process
from mirror.host import systemd
from mirror.host.errors import HostError
from mirror.host.systemd import Started, forget, is_here, start, stop, version

# Answers `show` from facts, and from facts.VERB once that verb was said; fails at verbs that are in fails.
SYSTEMCTL = """#!/bin/sh
[ "$1" = --no-ask-password ] && shift
cd "$(dirname "$0")"
echo "$*" >> calls
case $1 in
--version) echo "systemd 252 (252.38-1~deb12u1)"; echo "+PAM" ;;
show) cat facts ;;
*) [ -e "facts.$1" ] && mv "facts.$1" facts ;;
esac
[ -e "fails.$1" ] && { cat "fails.$1" >&2; exit 1; }
exit 0
"""
JOURNALCTL = """#!/bin/sh
echo "the port is taken"
"""
ENDED = {"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "Result": "success"}
FAILED = {
    **ENDED,
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "ExecMainStatus": "1",
}
ABSENT = {**ENDED, "LoadState": "not-found"}


@dataclass(frozen=True, slots=True)
class Fake:
    folder: Path

    def facts(self, facts: Mapping[str, str], *, after: str = "") -> None:
        name = f"facts.{after}" if after else "facts"
        (self.folder / name).write_text("".join(f"{key}={value}\n" for key, value in facts.items()))

    def running(self, *, started_s_ago: float = 0.0, files: str = "") -> dict[str, str]:
        started_us = int((time.monotonic() - started_s_ago) * 1_000_000)
        return {
            **ENDED,
            "ActiveState": "active",
            "SubState": "running",
            "FragmentPath": str(self.folder / "peili.service"),
            "DropInPaths": files,
            "ExecMainStartTimestampMonotonic": str(started_us),
        }

    def fails(self, verb: str, complaint: str) -> None:
        (self.folder / f"fails.{verb}").write_text(complaint)

    def said(self) -> list[str]:
        """All but questions."""
        calls = (self.folder / "calls").read_text().splitlines()
        return [call for call in calls if not call.startswith("show")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    for name, script in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    unit = tmp_path / "peili.service"
    unit.touch()
    os.utime(unit, (time.time() - 1000,) * 2)
    return Fake(tmp_path)


def test_it_is_here_where_its_directory_is(tmp_path: Path) -> None:
    assert is_here(tmp_path)
    assert not is_here(tmp_path / "system")


def test_it_has_a_version(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version() == 252
    (fake.folder / "systemctl").write_text("#!/bin/sh\necho of another kind\n")
    assert version() == 0
    monkeypatch.setenv("PATH", str(fake.folder / "nowhere"))
    assert version() == 0


async def test_a_unit_that_does_not_run_is_started(fake: Fake) -> None:
    fake.facts(FAILED)
    fake.facts(fake.running(), after="start")
    assert await start() is Started.STARTED
    assert fake.said() == [
        "daemon-reload",
        "enable peili.service",
        "reset-failed peili.service",
        "start peili.service",
    ]


async def test_a_unit_that_runs_is_left_alone(fake: Fake) -> None:
    fake.facts(fake.running())
    assert await start() is Started.RUNS_ALREADY
    assert fake.said() == ["daemon-reload", "enable peili.service"]


@pytest.mark.parametrize("changed", ["unit", "drop-in", "drop-in is gone", "program"])
async def test_a_unit_that_has_changed_is_restarted(fake: Fake, changed: str) -> None:
    drop_in = fake.folder / "more.conf"
    if changed != "drop-in is gone":
        drop_in.touch()
        os.utime(drop_in, (time.time() - 1000,) * 2)
    fake.facts(fake.running(started_s_ago=500, files=str(drop_in)))
    if changed in ("unit", "drop-in"):
        os.utime(drop_in if changed == "drop-in" else fake.folder / "peili.service")
    assert await start(restart=changed == "program") is Started.RESTARTED
    assert fake.said()[-1] == "restart peili.service"


async def test_it_tells_why_a_unit_does_not_start(fake: Fake) -> None:
    fake.facts(ENDED)
    fake.facts(FAILED, after="start")
    fake.fails("start", "Job for peili.service failed.")
    with pytest.raises(
        HostError, match=r"does not run: failed \(failed\), exit-code, exit status 1;(.|\n)*the port is taken"
    ):
        await start()


@pytest.mark.parametrize(
    ("load_state", "words"), [("masked", "systemctl unmask peili.service"), ("not-found", "not-found")]
)
async def test_a_unit_that_cannot_be_loaded_is_not_started(fake: Fake, load_state: str, words: str) -> None:
    fake.facts({**ENDED, "LoadState": load_state})
    with pytest.raises(HostError, match=words):
        await start()
    assert fake.said() == ["daemon-reload"]


async def test_what_systemctl_refuses_is_told_in_its_words(fake: Fake) -> None:
    fake.facts(ENDED)
    fake.fails("enable", "Read-only file system")
    with pytest.raises(HostError, match=r"systemctl enable peili.service failed: Read-only file system"):
        await start()


async def test_a_unit_that_runs_is_stopped_and_forgotten(fake: Fake) -> None:
    fake.facts(fake.running())
    fake.facts(ENDED, after="stop")
    await stop()
    assert fake.said() == [
        "stop peili.service",
        "disable peili.service",
        "daemon-reload",
        "reset-failed peili.service",
    ]


async def test_a_unit_that_is_not_there_is_stopped_already(fake: Fake) -> None:
    fake.facts(ABSENT)
    fake.fails("disable", "Unit file peili.service does not exist.")
    fake.fails("reset-failed", "Unit peili.service not loaded.")
    await stop()
    await forget()
    assert "disable peili.service" not in fake.said()


async def test_a_daemon_whose_unit_is_gone_is_stopped_all_the_same(fake: Fake) -> None:
    fake.facts({**fake.running(), "LoadState": "not-found"})
    fake.facts(ABSENT, after="stop")
    await stop()
    assert "stop peili.service" in fake.said()


async def test_a_unit_that_does_not_end_is_told(fake: Fake) -> None:
    fake.facts(fake.running())
    fake.fails("stop", "canceled")
    with pytest.raises(
        HostError, match=r"does not end: active \(running\) canceled; end it with: systemctl kill"
    ):
        await stop()
    assert "disable peili.service" not in fake.said()


async def test_a_host_without_systemctl_is_told(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake.folder / "nowhere"))
    with pytest.raises(HostError, match="systemctl cannot be run: No such file or directory"):
        await stop()


async def test_one_that_does_not_answer_is_not_waited_for(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake.folder / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(systemd, "COMMAND_TIMEOUT_S", 0.2)
    with pytest.raises(
        HostError, match=r"daemon-reload has not ended after 0\.2 s; look at: systemctl list-jobs"
    ):
        await forget()


async def test_one_whose_child_holds_its_pipes_is_not_waited_for(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = fake.folder / "child"
    (fake.folder / "systemctl").write_text(f"#!/bin/sh\nsleep 60 & echo $! > {child}; wait\n")
    monkeypatch.setattr(systemd, "COMMAND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(child_process, "GONE_MAX_S", 0.2)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(HostError, match="daemon-reload has not ended"):
                await forget()
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)
