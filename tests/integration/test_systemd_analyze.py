"""What systemd's own reader says of the unit: that it knows every line, and how much the daemon is exposed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.host.unit import ServiceFacts, service
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.slow]

# Of ten. What is left is the network and sockets (1.2), to be root (0.4), and what has no effect here: ProtectProc=,
# which hides nothing from root's group, and PrivateMounts=, which others imply.
EXPOSURE_MAX = 2.0


@pytest.fixture(params=["plain", "at home"])
def unit_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    home = "/home/me/" if request.param == "at home" else "/opt/"
    change = service(
        ServiceFacts(
            # It looks whether the program is there.
            program=(sys.executable, "-m", "mirror"),
            serve_flags=("--bootstrap=lan", "--filter=^a b$"),
            data_dir=f"{home}data" if request.param == "at home" else "/var/lib/peili",
            hosts_dirs=("/etc/containerd/certs.d", "/etc/docker/certs.d"),
            after=(
                "containerd.service",
                "k3s.service",
                "docker.service",
                "snap.microk8s.daemon-containerd.service",
            ),
            reads=(f"{home}peili", sys.prefix),
            environment={"HTTPS_PROXY": "http://proxy:3128"},
            working_dir="/opt",
        )
    )
    file = tmp_path / "peili.service"
    file.write_bytes(change.content)
    return file


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool_bin("systemd") / "systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )


def test_it_knows_every_line(unit_file: Path) -> None:
    """A line that it does not know is only a warning, and so is one that it leaves out."""
    done = analyzed("verify", "--man=no", "--recursive-errors=no", unit_file)
    ours = [line for line in done.stderr.splitlines() if "peili.service" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_daemon_is_exposed_no_more_than_it_must(unit_file: Path) -> None:
    done = analyzed("security", "--offline=true", f"--threshold={round(EXPOSURE_MAX * 10)}", unit_file)
    told = re.search(r"Overall exposure level for peili\.service: ([\d.]+)", done.stdout)
    assert told is not None, done.stderr
    exposed = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert float(told[1]) <= EXPOSURE_MAX, "\n".join(exposed)
    assert done.returncode == 0
