"""What systemd makes of the unit's words, and of its rights, told by a program in the daemon's place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.systemd_bed import bed, install, started
from tests.support.systemd_host import CERTS_DIR, python_reads

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]


@pytest.mark.matrix
async def test_the_kernel_refuses_what_the_daemon_never_does(short_folder: Path) -> None:
    """By a program in the daemon's place."""
    async with bed(short_folder, "2.1", 1) as it:
        (host,) = it.hosts
        host.write("/opt/prober", f"#!{python_reads()[0]}/bin/python3 -I\n{_PROBER}", 0o755)
        host.write("/etc/others", "", 0o600)
        host.path(f"{CERTS_DIR}/others").mkdir()
        host.run("chown", "1000", "/etc/others", f"{CERTS_DIR}/others")
        install(host, replace(it.facts, program=("/opt/prober",)))
        assert started(host) == "started", host.journal()
        told = json.loads(host.path("/var/lib/peili/told").read_text())
        # The same without the unit's rights: each can be done here.
        free = json.loads(host.run("/opt/prober", "here").stdout)
        assert {name: outcome for name, outcome in free.items() if outcome != "done"} == {}
        assert told == {
            "chown": "EPERM",
            "read what is another user's": "EACCES",
            "write what is another user's": "EACCES",
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
attempt("write what is another user's", lambda: open("/etc/containerd/certs.d/others/new", "w").close())
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
