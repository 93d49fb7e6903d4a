"""`peili demo` as a user runs it: what it prints, what it moves, and that nothing of it is left, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.demo.errors import DemoFailed
from mirror.demo.lines import LinesView
from mirror.demo.plan import DemoPlan
from mirror.demo.run import run

pytestmark = pytest.mark.slow

MIB = 2**20
HOSTS_COUNT = 3
SMALL = ("--hosts", str(HOSTS_COUNT), "--image-size", "4MiB", "--link-rate", "8MiB")
# Eight seconds a copy: it does not end before it is ended.
LONG = ("--hosts", "2", "--image-size", "64MiB", "--link-rate", "8MiB")
# The whole of it takes about five seconds; a loaded machine gets the demo's own limit.
END_TIMEOUT_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Ran:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the demo puts its files, and what its processes are known by."""
    yield tmp_path
    for pid in processes_of(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes_of(place: Path) -> list[int]:
    """Whatever inherited the place as its folder for temporary files: the demo and its children."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"TMPDIR={place}".encode() in (
                folder / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mirror", "demo", *arguments],
        # As a user has it: with buffers.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        | {"TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def end(process: subprocess.Popen[str]) -> Ran:
    stdout, stderr = await asyncio.to_thread(process.communicate, timeout=END_TIMEOUT_S)
    return Ran(process.returncode, stdout, stderr)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(END_TIMEOUT_S):
        while not condition():
            await asyncio.sleep(POLL_S)


def daemons_of(place: Path) -> list[int]:
    """Those that have begun to run their own code."""
    started = {path.parents[1].name for path in place.glob("peili-demo-*/host-*/data/node.json")}
    found = []
    for pid in processes_of(place):
        # A child of another kind may have ended meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = (Path("/proc") / str(pid) / "cmdline").read_text()
            found += [pid for name in started if f"/{name}/store" in command]
    return found


async def test_the_origin_sends_one_copy_and_peers_the_rest(place: Path) -> None:
    ran = await end(start(place, "--json", *SMALL))
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.count("\n") == 1
    found = json.loads(ran.stdout)
    image_bytes = found["image_bytes"]
    assert found["ok"] is True
    assert (found["hosts"], found["layers"], found["link_bytes_per_s"]) == (HOSTS_COUNT, 6, 8 * MIB)
    assert 4 * MIB < image_bytes < 4.1 * MIB

    direct, mirrored = found["without"], found["with"]
    assert (direct["origin_bytes"], direct["peer_bytes"]) == (HOSTS_COUNT * image_bytes, 0)
    for phase in (direct, mirrored):
        assert [host["name"] for host in phase["hosts"]] == ["host 1", "host 2", "host 3"]
        # The origin's own count is what the hosts say that they got from it.
        assert phase["origin_bytes"] == sum(host["origin_bytes"] for host in phase["hosts"])
        assert phase["peer_bytes"] == sum(host["peer_bytes"] for host in phase["hosts"])
        for host in phase["hosts"]:
            assert host["origin_bytes"] + host["peer_bytes"] == image_bytes
            assert 0 < host["seconds"] <= phase["seconds"] + 0.001
    # The link is no faster than it says: it lets 50 ms at once, no more.
    assert direct["seconds"] >= direct["origin_bytes"] / found["link_bytes_per_s"] - 0.1
    # An arbiter that a loaded machine lets answer too late costs a layer more: not one byte more is promised.
    assert mirrored["origin_bytes"] < 1.5 * image_bytes
    assert mirrored["peer_bytes"] > 1.5 * image_bytes
    # A pull that goes on at the origin would begin a request more.
    assert mirrored["origin_requests"] < direct["origin_requests"]
    assert found["origin_bytes_factor"] == round(direct["origin_bytes"] / mirrored["origin_bytes"], 2)

    # What goes on is told on the other stream.
    assert "Without Peili" in ran.stderr
    assert not list(place.iterdir())
    assert processes_of(place) == []


async def test_lines_for_a_pipe_fit_into_80_columns(place: Path) -> None:
    ran = await end(start(place, "--hosts", "2", "--image-size", "1MiB", "--link-rate", "8MiB"))
    assert (ran.exit_code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert ran.stdout.isascii() and "\x1b" not in ran.stdout
    assert [
        line
        for line in lines
        if re.match(r"  host 2 .* 1\.0 MiB from the origin .* 0\.0 MiB from peers", line)
    ]
    assert [line for line in lines if re.match(r"  from the origin +2\.[01] MiB", line)]
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_a_signal_in_the_middle_leaves_nothing_behind(
    place: Path, number: signal.Signals, exit_code: int
) -> None:
    process = start(place, "--json", *LONG)
    await until(lambda: len(daemons_of(place)) == 2)
    process.send_signal(number)
    process.send_signal(number)  # whoever presses Ctrl-C presses it twice
    ran = await end(process)
    assert ran.exit_code == exit_code
    assert ran.stderr.splitlines()[-1].startswith(f"peili: ended by {number.name}")
    assert "Traceback" not in ran.stderr
    assert json.loads(ran.stdout)["ok"] is False
    assert not list(place.iterdir())
    assert processes_of(place) == []


async def test_all_daemons_find_each_other_by_the_address_of_the_first(place: Path) -> None:
    process = start(place, *LONG)
    await until(lambda: len(daemons_of(place)) == 2)
    told = []
    for pid in daemons_of(place):
        words = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
        flags = dict(itertools.pairwise(words))
        assert words.count("--bootstrap") == 1
        told.append((flags["--bootstrap"], f"static:{flags['--peer-addr']}"))
    process.send_signal(signal.SIGTERM)
    await end(process)
    assert len({bootstrap for bootstrap, _ in told}) == 1
    assert told[0][0] in [own for _, own in told]


async def test_no_process_outlives_a_demo_that_is_killed(place: Path) -> None:
    process = start(place, *LONG)
    await until(lambda: len(daemons_of(place)) == 2)
    assert len(processes_of(place)) == 4, "the demo, its origin, its daemons"
    process.kill()
    await end(process)
    await until(lambda: processes_of(place) == [])


async def test_a_daemon_that_dies_fails_the_demo_in_one_line(place: Path) -> None:
    process = start(place, "--json", *LONG)
    await until(lambda: len(daemons_of(place)) == 2)
    os.kill(daemons_of(place)[0], signal.SIGKILL)
    ran = await end(process)
    assert ran.exit_code == 1
    assert re.fullmatch(r"peili: the daemon of host \d ended with code -9: .*", ran.stderr.splitlines()[-1])
    assert "the daemon of host" in json.loads(ran.stdout)["error"]
    assert not list(place.iterdir())
    assert processes_of(place) == []


async def test_a_reader_that_goes_away_ends_the_demo(place: Path) -> None:
    process = start(place, *LONG)
    assert process.stdout is not None and process.stderr is not None
    assert await asyncio.to_thread(process.stdout.readline)
    process.stdout.close()
    assert await asyncio.to_thread(process.stderr.read) == "peili: its output was closed by whoever read it\n"
    process.stderr.close()
    assert await asyncio.to_thread(process.wait, END_TIMEOUT_S) == 1
    assert not list(place.iterdir())


async def test_a_demo_that_is_not_done_in_time_says_so_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    view = LinesView(io.StringIO())
    with pytest.raises(DemoFailed, match="not done after 1 s"):
        await run(DemoPlan(2, 64 * MIB, 8 * MIB), view, deadline_s=1.0)
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--hosts", "1"), "--hosts: 1 is out of range: expected 2 to 10"),
        (("--image-size", "5MB"), "--image-size: '5MB' is not a size"),
        (("--link-rate", "0"), "--link-rate: "),
        (("--image-size", "1GiB"), "--image-size: 6 copies of 1024.0 MiB need 512 s"),
    ],
)
async def test_a_wrong_flag_is_a_usage_error(place: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = await end(start(place, *arguments))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"peili: {says}")
    assert ran.stderr.count("\n") == 1
