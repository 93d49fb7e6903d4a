"""The herd bed measures what it says, and leaves nothing behind, whatever ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.bench.herd import layer_sizes_bytes, lower_bound_s
from tests.support.herd_bed import HerdPlan, sweep_folders
from tests.support.netns import sweep
from tests.support.skips import tool_bin

ROOT = Path(__file__).resolve().parents[2]
IMAGE_BYTES = 5_000_000


def bench(*words: str) -> list[str]:
    for name in ("containerd-2.1", "docker-registry"):
        tool_bin(name)  # or skip
    return [sys.executable, "-m", "tests.bench.herd", *words]


def left_by(pid: int) -> list[str]:
    """Namespaces, links, folders and processes of a run."""
    namespaces = [path.name for path in Path("/run/netns").glob(f"peili-{pid}-*")]
    links = [path.name for path in Path("/sys/class/net").glob(f"pl{pid}.*")]
    folders = [path.name for path in Path(tempfile.gettempdir()).glob(f"peili-herd-{pid}-*")]
    mark = f"peili-herd-{pid}-".encode()
    processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(path)]
    return [*namespaces, *links, *folders, *processes]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


@pytest.mark.containerd
@pytest.mark.netns
@pytest.mark.slow
def test_two_hosts_pull_without_and_with_daemons() -> None:
    """The second starts when the first is done: two copies without daemons, and one with them."""
    words = "--hosts 2 --image-mb 5 --layers 2 --link-mbit 150 --origin-mbit 100 --stagger-s 3"
    done = subprocess.run(bench(*words.split()), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert told["failures"] == []
    assert IMAGE_BYTES < told["image_bytes"] < 1.01 * IMAGE_BYTES
    # The registry's link is the narrow one: 5 MB at 100 Mbit/s, less what its bucket lets through at once.
    assert told["lower_bound_s"] == pytest.approx(0.4, rel=0.01)
    for run, pulls_count, copies_count in (("direct", 1, 1), ("no_mirror", 2, 2), ("mirror", 2, 1)):
        assert told[run]["origin_copies"] == pytest.approx(copies_count, abs=0.05), run
        assert len(told[run]["host_s"]) == pulls_count
        assert told[run]["last_end_s"] > 3 * (pulls_count - 1)
    for seconds in told["direct"]["host_s"] + told["no_mirror"]["host_s"]:
        assert seconds > 0.85 * told["lower_bound_s"]
    # And between hosts, their own.
    assert told["mirror"]["host_s"][1] > 0.85 * 8 * IMAGE_BYTES / 150e6
    assert told["mirror"]["peer_bytes"] == [0, told["image_bytes"]]
    assert len(told["mirror"]["daemon_rss_mib"]) == len(told["mirror"]["daemon_cpu_s"]) == 2
    assert all(mib > 10 for mib in told["mirror"]["daemon_rss_mib"])
    assert told["void"] == (told["idle_cpu_percent"] < 25)


@pytest.mark.containerd
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing(number: signal.Signals) -> None:
    words = bench("--hosts", "1", "--image-mb", "1", "--layers", "1")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        run.send_signal(number)
        text, errors = run.communicate(timeout=20)
    assert said.startswith("direct pull"), said + errors
    assert text == ""
    if number is signal.SIGTERM:
        assert run.returncode == 128 + signal.SIGTERM, errors
    else:
        # The next run does this at its start.
        assert left_by(run.pid)
        sweep()
        sweep_folders()
    assert left_by(run.pid) == []


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_layers_make_up_the_image(count: int) -> None:
    sizes = layer_sizes_bytes(100_000_001, count)
    assert len(sizes) == count
    assert sum(sizes) == 100_000_001
    assert sorted(sizes) == list(sizes)


@pytest.mark.parametrize(
    ("host_count", "link", "origin", "bound_s"),
    [
        (5, 200, 200, 4.0),
        (5, 200, 50, 16.0),
        (5, 50, 200, 16.0),
        # Of 100 copies, those of the hosts' uplinks and the registry's: none of the links alone decides.
        (100, 100, 100, 8.0),
    ],
)
def test_the_lower_bound_is_the_narrowest_way(
    host_count: int, link: int, origin: int, bound_s: float
) -> None:
    plan = HerdPlan(host_count, link * 1_000_000, origin * 1_000_000, (100_000_000,), 0.0)
    assert lower_bound_s(plan, 100_000_000) == pytest.approx(bound_s)
