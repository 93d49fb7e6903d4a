"""The unit under a real systemd: PID 1 of a host of its own, with a real containerd as a service beside it.

What is not seen here: another systemd than the machine's (Debian 12's 252, where the machine has none), and version 2's
memory controller where the machine's is version 1's (MemoryMax= is then enforced by that).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror.daemon import DRAIN_S
from mirror.host.unit import MEMORY_MAX_MIB, STOP_TIMEOUT_S, ServiceFacts, service
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.netns import Network
from tests.support.oci_image import Image, build_image
from tests.support.skips import require, tool_bin
from tests.support.systemd_host import (
    CERTS_DIR,
    CONTENT_ROOT,
    PROGRAM,
    SystemdHost,
    python_reads,
    systemd_or_missing,
)
from tests.support.token_origin import TokenOrigin, server_tls

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

REGISTRY_PORT = 5000
PEER_PORT = 29021
ADMIN_PORT = 29022
SECRET_FILE = "/etc/peili/secret"
UNIT = "peili.service"
# Headers, manifests and tags: far below a layer.
NO_COPY_RATIO = 0.1
_FOLDERS = itertools.count()
_SEEDS = itertools.count(120_000)

START = "import asyncio; from mirror.host import systemd; print(asyncio.run(systemd.start()))"
STOP = "import asyncio; from mirror.host import systemd; asyncio.run(systemd.stop())"


@dataclass(frozen=True, slots=True)
class Bed:
    network: Network
    registry: RealRegistry
    hosts: Sequence[SystemdHost]
    facts: ServiceFacts


@contextlib.asynccontextmanager
async def bed(short_folder: Path, version: str, host_count: int) -> AsyncIterator[Bed]:
    """Unit and secret are there, and nothing of ours runs."""
    require(systemd_or_missing() or True)
    home = short_folder / f"systemd{next(_FOLDERS)}"
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(host_count + 1))
        at, *links = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"), home / "r", address=at.address, port=REGISTRY_PORT, netns=at.netns
        )
        await stack.enter_async_context(registry)
        facts = ServiceFacts(
            program=(PROGRAM,),
            serve_flags=(
                f"--cluster-secret-file={SECRET_FILE}",
                f"--bootstrap=static:{links[0].address}:{PEER_PORT}",
                "--log-level=debug",
            ),
            data_dir="/var/lib/peili",
            hosts_dirs=(CERTS_DIR,),
            reads=python_reads(),
        )
        hosts = []
        for number, link in enumerate(links):
            host = SystemdHost(home / f"h{number}", tool_bin(f"containerd-{version}"), netns=link.netns)
            hosts.append(await stack.enter_async_context(host))
            host.write(SECRET_FILE, base64.b64encode(b"s" * 32).decode(), 0o600)
            host.write(
                f"{CERTS_DIR}/{registry.name}/hosts.toml",
                f'server = "{registry.url}"\n\n[host."{registry.url}"]\n',
            )
            host.run(PROGRAM, "configure", f"--mirror={registry.name}")
            install(host, facts)
        yield Bed(network, registry, hosts, facts)


def install(host: SystemdHost, facts: ServiceFacts) -> None:
    change = service(facts)
    host.write(change.path, change.content.decode(), change.mode)


def started(host: SystemdHost) -> str:
    return host.python(START).stdout.strip()


def status(host: SystemdHost, name: str) -> int:
    told = json.loads(host.ask("/api/v1/status", ADMIN_PORT))[name]
    assert isinstance(told, int)
    return told


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


async def pulled(host: SystemdHost, image: str) -> None:
    outcome = await cri_pull(host, image)
    assert isinstance(outcome, Pulled), f"{outcome}\n" + "\n".join(host.journal().splitlines()[-20:])


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
        host.write(SECRET_FILE, base64.b64encode(b"s" * 32).decode(), 0o600)
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


@pytest.mark.matrix
async def test_the_kernel_refuses_what_the_daemon_never_does(short_folder: Path) -> None:
    """By a program in the daemon's place."""
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        host.write("/opt/prober", f"#!{python_reads()[0]}/bin/python3 -I\n{_PROBER}", 0o755)
        host.write("/etc/others", "", 0o600)
        host.run("chown", "1000", "/etc/others")
        install(host, replace(it.facts, program=("/opt/prober",)))
        assert started(host) == "started", host.journal()
        told = json.loads(host.path("/var/lib/peili/told").read_text())
        # The same without the unit's rights: each can be done here.
        free = json.loads(host.run("/opt/prober", "here").stdout)
        assert {name: outcome for name, outcome in free.items() if outcome != "done"} == {}
        assert told == {
            "chown": "EPERM",
            "read what is another user's": "EACCES",
            "bind port 80": "EACCES",
            "open a packet socket": "EAFNOSUPPORT",
            "make a namespace": "EPERM",
            "become another user": "EPERM",
            "mount": "EPERM",
            "set the clock": "EPERM",
            "map what is written and run": "EPERM",
            "make a file that runs as its owner": "EPERM",
            "be scheduled in real time": "EPERM",
        }


@pytest.mark.matrix
async def test_systemd_reads_back_every_word(short_folder: Path) -> None:
    """Of command lines and variables; and directories with strange names are shown, and can be written."""
    words = [
        "", " ", "a b", "  two  ", "a\tb", "line\nbreak", "\r", "\x7f", "\x01",
        "%n", "100%", "%%", "$HOME", "${HOME}", "$$", "a$b", "$", ";", "a;b", "#", "\\", "\\\\", "\\n", "\\x41", "a\\",
        '"', "'", "''", '"quoted words"', "it's", '\\"', "`id`", "*", "~", "-", "--flag=a b", "@x", "!", "|",
        "ä€😀", "\u2028", "[section]", "=", "x=y", "{}", ",", "a:b",
    ]  # fmt: skip
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        program, data = "/opt/a b%n\u00e4/peili", '/home/me/data "x" \\ %d $y'
        shown = "/tmp/shown 'y' %t"
        host.write(program, _TELLER, 0o755)
        host.path(data).mkdir(parents=True)
        host.write(f"{shown}/file", "")
        host.write("/tmp/not-shown", "")
        facts = replace(
            it.facts,
            program=(program,),
            serve_flags=words,
            environment={"STRANGE": 'a "b" \\ %n $HOME \t'},
            data_dir=data,
            hosts_dirs=("/etc/strange 'dir' %n",),
            reads=(*it.facts.reads, shown, "/tmp/not/there"),
            working_dir="/opt/a b%n\u00e4",
        )
        host.path(facts.hosts_dirs[0]).mkdir()
        install(host, facts)
        assert started(host) == "started", host.journal()
        told = json.loads(host.path(f"{data}/told").read_text())
        assert told["words"] == ["serve", *words]
        assert told["strange"] == facts.environment["STRANGE"]
        assert told["cwd"] == facts.working_dir
        assert told["wrote"] == [data, facts.hosts_dirs[0]]
        assert told["tmp"] == ["shown 'y' %t"]


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
# A program that tries what the daemon has no need of, and tells what came of it.
_PROBER = """
import ctypes, errno, json, mmap, os, pathlib, socket, sys, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
told = {}
def attempt(name, act):
    pid = os.fork() if here else 0
    if pid:
        # In a child, since it may succeed.
        told[name] = "done" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else "failed"
        return
    try:
        outcome = act()
        if outcome not in (None, 0):
            raise OSError(ctypes.get_errno(), name)
        told[name] = "done"
    except OSError as exc:
        told[name] = errno.errorcode[exc.errno]
    if here:
        os._exit(0 if told[name] == "done" else 1)
def suid():
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.fchmod(file.fileno(), 0o4755)
def chown():
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.chown(file.name, 1, 1)
def bind():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 80))
def run_what_is_written():
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_READ | mmap.PROT_EXEC).close()
def now():
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
here = sys.argv[1:] == ["here"]
folder = "/tmp" if here else "/var/lib/peili"
attempt("chown", chown)
attempt("read what is another user's", lambda: open("/etc/others").close())
attempt("bind port 80", bind)
attempt("open a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("make a namespace", lambda: libc.unshare(0x08000000))
attempt("become another user", lambda: os.setuid(1))
attempt("mount", lambda: libc.mount(b"x", b"/mnt", b"tmpfs", 0, None))
attempt("set the clock", now)
attempt("map what is written and run", run_what_is_written)
attempt("make a file that runs as its owner", suid)
attempt("be scheduled in real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
if here:
    print(json.dumps(told))
    sys.exit()
pathlib.Path(folder, "told").write_text(json.dumps(told))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)
"""
# A program that tells what it was given, in its data directory, which it finds by its own rights.
_TELLER = """#!/usr/bin/python3 -I
import glob, json, os, pathlib, socket, sys, time
wrote = []
for folder in ('/home/me/data "x" \\\\ %d $y', "/etc/strange 'dir' %n"):
    pathlib.Path(folder, "probe").touch()
    wrote.append(folder)
told = {"words": sys.argv[1:], "strange": os.environ["STRANGE"], "cwd": os.getcwd(), "wrote": wrote,
        "tmp": os.listdir("/tmp")}
pathlib.Path(wrote[0], "told").write_text(json.dumps(told))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)
"""
