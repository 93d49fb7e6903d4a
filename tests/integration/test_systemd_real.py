"""The unit under a real systemd: PID 1 of a host of its own, with a real containerd as a service beside it.

What is not seen here: another systemd than the machine's (Debian 12's 252, where the machine has none), and version 2's
memory controller where the machine's is version 1's (MemoryMax= is then enforced by that).
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.daemon import DRAIN_S
from mirror.host.unit import MEMORY_MAX_MIB, STOP_TIMEOUT_S
from tests.support.bed_hosts import ADMIN_PORT
from tests.support.oci_image import Image, build_image
from tests.support.systemd_bed import (
    SECRET,
    SECRET_FILE,
    START,
    STOP,
    UNIT,
    Bed,
    bed,
    install,
    pulled,
    started,
    status,
)
from tests.support.systemd_host import CERTS_DIR, CONTENT_ROOT, PROGRAM, SystemdHost
from tests.support.token_origin import TokenOrigin, server_tls

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

# Headers, manifests and tags: far below a layer.
NO_COPY_RATIO = 0.1
_SEEDS = itertools.count(120_000)


def in_its_files(host: SystemdHost, *command: str) -> bool:
    """Whether a command with root's capabilities succeeds among the files that the daemon sees."""
    pid = host.property(UNIT, "MainPID")
    done = host.run("nsenter", f"--target={pid}", "--mount", "--", *command, is_checked=False)
    return done.returncode == 0


async def only_its_own_files(host: SystemdHost) -> None:
    """What the daemon may write, and what it sees of others."""
    probe = 'touch "$0/probe"'
    for folder in ("/var/lib/peili", CERTS_DIR):
        assert in_its_files(host, "sh", "-c", probe, folder), folder
        assert host.path(f"{folder}/probe").exists()
        host.path(f"{folder}/probe").unlink()
    closed = (
        "/",
        "/etc",
        "/etc/containerd",
        "/etc/peili",
        "/usr",
        "/opt",
        "/var/lib",
        "/var/log",
        CONTENT_ROOT,
    )
    for folder in (*closed, "/run", "/run/containerd", "/run/lock", "/dev", "/dev/shm", "/sys", "/proc/sys"):
        assert not in_its_files(host, "sh", "-c", probe, folder), folder
    for folder in ("/tmp", "/var/tmp", "/root", "/home"):
        host.write(f"{folder}/of-others", "")
        assert not in_its_files(host, "test", "-e", f"{folder}/of-others"), folder
        # What it writes there goes nowhere.
        in_its_files(host, "sh", "-c", probe, folder)
        assert not host.path(f"{folder}/probe").exists(), folder
    assert in_its_files(host, "test", "-e", "/dev/null") and not in_its_files(host, "test", "-e", "/dev/tty1")
    assert in_its_files(host, "test", "-e", "/proc/self") and not in_its_files(
        host, "test", "-e", "/proc/kcore"
    )


async def pulls_one_copy(it: Bed, image: Image, repository: str) -> None:
    """By the first host from the registry, then by the second from the first."""
    first, second = it.hosts
    name = await it.registry.push(image, repository, "v1")
    known_count, received_bytes = status(second, "records"), status(second, "bytes_received_from_peers")
    await pulled(first, name)
    await second.wait(
        lambda: status(second, "records") >= known_count + len(list(image)), "the records do not come"
    )
    # hosts[0] is the registry's.
    before_bytes = it.network.hosts[0].tx_bytes()
    await pulled(second, name)
    assert it.network.hosts[0].tx_bytes() - before_bytes < NO_COPY_RATIO * image.size_bytes
    received_bytes = status(second, "bytes_received_from_peers") - received_bytes
    assert received_bytes >= sum(len(layer.content) for layer in image.layers)


async def test_the_daemon_lives_as_a_service(short_folder: Path) -> None:
    """Starts, is ready when it serves, may do what it must and nothing else, is started anew for a new unit, ends."""
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        assert started(host) == "started"
        shown = host.run("systemctl", "status", "peili").stdout
        assert 'Status: "serving containerd at 127.0.0.1:29020"' in shown
        assert host.property(UNIT, "UnitFileState") == "enabled"
        assert started(host) == "runs already"
        await pulled(host, await it.registry.push(build_image(next(_SEEDS), [300_000]), "one/app", "v1"))
        journal = host.journal()
        assert "info    mirror.daemon: serving containerd address=127.0.0.1:29020" in journal
        assert ": miss" in journal, "the pull went past the daemon"
        assert "WARNING" not in journal.upper(), journal

        rights = host.run("cat", f"/proc/{host.property(UNIT, 'MainPID')}/status").stdout
        for line in ("CapEff:\t0", "CapBnd:\t0", "CapPrm:\t0", "NoNewPrivs:\t1", "Seccomp:\t2"):
            assert line in rights
        await only_its_own_files(host)
        limit = host.memory_limit_bytes(UNIT)
        assert limit in (None, MEMORY_MAX_MIB << 20)

        before = host.property(UNIT, "MainPID")
        install(host, replace(it.facts, serve_flags=(*it.facts.serve_flags, "--log-format=json")))
        # As a package's script would.
        host.run("systemctl", "daemon-reload")
        assert started(host) == "restarted"
        assert host.property(UNIT, "MainPID") != before
        assert '"msg": "serving containerd"' in host.journal()

        host.python(STOP)
        assert host.property(UNIT, "ActiveState") == "inactive"
        assert host.property(UNIT, "Result") == "success"
        assert host.property(UNIT, "UnitFileState") == "disabled"
        host.python(STOP)
        host.path("/etc/systemd/system/peili.service").unlink()
        host.python(STOP)
        assert host.property(UNIT, "LoadState") == "not-found"


@pytest.mark.matrix
async def test_it_says_why_it_does_not_start(short_folder: Path) -> None:
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        host.path(SECRET_FILE).write_text("no secret")
        done = host.python(START, is_checked=False)
        assert "peili.service does not run: failed" in done.stderr, done.stderr
        assert f"{SECRET_FILE} is not base64" in done.stderr, done.stderr
        # A wrong setting is not tried again.
        assert host.property(UNIT, "NRestarts") == "0"
        assert host.property(UNIT, "ActiveState") == "failed"
        host.write(SECRET_FILE, SECRET, 0o600)
        assert started(host) == "started"


@pytest.mark.matrix
@pytest.mark.parametrize("version", ["1.6", "1.7", "2.1"])
async def test_hosts_pull_from_each_other_through_services(short_folder: Path, version: str) -> None:
    async with bed(short_folder, version, 2) as it:
        first, second = it.hosts
        for host in it.hosts:
            assert started(host) == "started"
        await first.wait(
            lambda: status(first, "members") == status(second, "members") == 1, "they do not meet"
        )
        await pulls_one_copy(it, build_image(next(_SEEDS), [3_000_000, 700_000]), "lib/app")

        # A crash: systemd starts it anew, under its old node id.
        node = json.loads(first.ask("/api/v1/status", ADMIN_PORT))["node_id"]
        first.run("systemctl", "kill", "--signal=KILL", UNIT)
        await first.wait(lambda: first.property(UNIT, "NRestarts") == "1", "it is not started anew")
        await first.wait(lambda: first.property(UNIT, "ActiveState") == "active", "it does not come up")
        assert json.loads(first.ask("/api/v1/status", ADMIN_PORT))["node_id"] == node
        await first.wait(
            lambda: status(first, "members") == status(second, "members") == 1, "they do not meet"
        )
        # containerd's restart makes a new socket.
        first.run("systemctl", "restart", "containerd")
        await pulls_one_copy(it, build_image(next(_SEEDS), [2_000_000]), "lib/next")


@pytest.mark.matrix
async def test_a_registry_that_is_new_gets_its_entry_from_the_service(
    short_folder: Path, tmp_path: Path
) -> None:
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        tls, _ = server_tls(tmp_path)
        async with TokenOrigin(auth="bearer", address=it.network.address, tls=tls) as origin:
            origin.add(build_image(next(_SEEDS), [300_000]), "new/app", "v1")
            proxy = (
                f'server = "{origin.url}"\nskip_verify = true\n[host."{origin.url}"]\nskip_verify = true\n'
            )
            host.write(f"{CERTS_DIR}/_default/hosts.toml", proxy)
            host.run(PROGRAM, "configure")
            assert started(host) == "started"
            await pulled(host, "seen.example/new/app:v1")
            entry = host.path(f"{CERTS_DIR}/seen.example/hosts.toml")
            await host.wait(entry.exists, "the entry is not written")
        assert entry.stat().st_mode & 0o777 == 0o644
        assert entry.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.matrix
async def test_open_answers_end_before_the_service_does(short_folder: Path) -> None:
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        assert started(host) == "started"
        image = build_image(next(_SEEDS), [30_000_000])
        await pulled(host, await it.registry.push(image, "long/app", "v1"))
        layer = image.layers[0]
        path = f"/v2/long/app/blobs/{layer.digest}?ns={it.registry.name}"
        reading = host.open_python(_READER, path)
        assert reading.stdin is not None and reading.stdout is not None
        assert reading.stdout.readline() == "begun\n"
        stopping = host.open_python(STOP)
        await host.wait(lambda: "open answers" in host.property(UNIT, "StatusText"), "it is not stopping")
        assert stopping.poll() is None
        told, _ = reading.communicate("go on\n", timeout=DRAIN_S)
        assert int(told) == len(layer.content)
        stopping.communicate(timeout=STOP_TIMEOUT_S)
        assert stopping.returncode == 0
        assert host.property(UNIT, "Result") == "success"


@pytest.mark.matrix
async def test_a_daemon_that_stands_still_is_started_anew(short_folder: Path) -> None:
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        assert started(host) == "started"
        # A setting of the operator's own; also: start sees it.
        host.write("/etc/systemd/system/peili.service.d/short.conf", "[Service]\nWatchdogSec=3\n")
        assert started(host) == "restarted"
        # It beats: it is alive for longer than that.
        alive_at = float(host.run("cat", "/proc/uptime").stdout.split()[0]) + 5
        await host.wait(
            lambda: float(host.run("cat", "/proc/uptime").stdout.split()[0]) > alive_at, "time stands still"
        )
        assert host.property(UNIT, "NRestarts") == "0"
        host.run("systemctl", "kill", "--signal=STOP", UNIT)
        await host.wait(lambda: host.property(UNIT, "NRestarts") == "1", "nobody notices")
        await host.wait(lambda: host.property(UNIT, "ActiveState") == "active", "it does not come up")
        assert "Watchdog timeout" in host.journal()


# Reads the first bytes, and the rest when it is told to.
_READER = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 29020)
connection.request("GET", sys.argv[1])
answer = connection.getresponse()
count = len(answer.read(1000))
print("begun", flush=True)
sys.stdin.readline()
print(count + len(answer.read()))
"""
