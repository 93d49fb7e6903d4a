"""Which process is behind containerd's socket, and what its configuration says. Reads /proc, runs `containerd config
dump`, changes nothing.

The kernel names the process that listens at a socket (SO_PEERCRED); its command line names its config file. Its binary
is run only if it is root's or our own user's, and sees the same files as this process: what another user started
(rootless), or what is in another mount namespace (a container), is read, not run.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from containerd.effective_config import ConfigInvalid, effective, imports
from mirror.host.facts import ConfigFacts

# A dump takes 0.1 s; a loaded host some more.
DUMP_LIMIT_S = 5.0
# A full queue of the socket would hold a connection for ever.
CONNECT_LIMIT_S = 1.0
# containerd's own has some kilobytes.
FILE_LIMIT_BYTES = 2**20
IMPORTS_MAX_COUNT = 64
DEFAULT_CONFIG = "/etc/containerd/config.toml"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    uid: int


def listener(sock: Path) -> Process | None:
    """None where it cannot be told: nobody listens, or the process is in another PID namespace."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_LIMIT_S)
            probe.connect(str(sock))
            told = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    pid, uid, _ = struct.unpack("3i", told)
    return Process(pid, uid) if pid > 0 else None


def namespace_of(pid: int | str, kind: str) -> str | None:
    """`kind`: net or mnt. None where this user may not see it."""
    try:
        return str((_PROC / str(pid) / "ns" / kind).readlink())
    except OSError:
        return None


def config_files(process: Process | None, default: str) -> tuple[str, ...]:
    """The main file, which need not be there, and those that it imports, in order. None where this process does not see
    the same files. What cannot be read, and how it is written, `config_of` tells."""
    if not _is_here(process):
        return ()
    named = _config_argument(_arguments(process)) or default
    try:
        found = [str(path) for path in _imported(Path("/"), Path(named), imports(_text(Path(named))))]
    except (OSError, ValueError):
        found = []
    return (named, *found)


def config_of(
    process: Process | None, release: tuple[int, int], default: str | None = None
) -> ConfigFacts | None:
    """`default`: the file of a process that names none. None where no configuration is found: what containerd takes
    then, its defaults, is not assumed."""
    arguments = _arguments(process)
    named = _config_argument(arguments) or default or DEFAULT_CONFIG
    is_here = _is_here(process)
    root = Path("/") if process is None or is_here else _PROC / str(process.pid) / "root"
    file = root / named.lstrip("/")
    is_newer = process is not None and _is_newer(file, process.pid)
    may_run = process is None or process.uid in (0, os.geteuid())
    if is_here and may_run and (dumped := _dump(process, arguments, named)) is not None:
        source = f"containerd --config {named} config dump"
        return _facts(source, named, [dumped], release, is_newer=is_newer)
    try:
        main = _text(file)
        imported = [_text(path) for path in _imported(root, file, imports(main))]
    except FileNotFoundError:
        # A process that is seen and has no file runs on its defaults.
        return None if process is None else _facts(f"no {named}", named, [""], release, is_newer=False)
    except (OSError, ValueError) as exc:
        # ConfigInvalid is one, and a pattern that is none.
        return ConfigFacts(named, None, str(exc), is_newer, named)
    return _facts(named, named, [main, *imported], release, is_newer=is_newer)


def _facts(
    source: str, file: str, texts: list[str], release: tuple[int, int], *, is_newer: bool
) -> ConfigFacts:
    try:
        return ConfigFacts(source, effective(texts, release), "", is_newer, file)
    except ConfigInvalid as exc:
        return ConfigFacts(source, None, str(exc), is_newer, file)


def _is_here(process: Process | None) -> bool:
    return process is None or namespace_of(process.pid, "mnt") == namespace_of("self", "mnt")


def _arguments(process: Process | None) -> list[str]:
    """Of containerd, by whatever path it was called. Of another program that holds its socket, none."""
    if process is None:
        return []
    try:
        found = (_PROC / str(process.pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return found if "containerd" in found[0].rpartition("/")[2] else []


def _config_argument(arguments: list[str]) -> str:
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("-c", "--config", "-config"):
            return value if equals else next(iter(arguments[index + 1 : index + 2]), "")
    return ""


def _dump(process: Process | None, arguments: list[str], config: str) -> str | None:
    """None where there is no binary, or it fails: then the files are read."""
    if not Path(config).exists():
        return None
    binary: str | None = None
    if process is not None and arguments:
        try:
            binary = str((_PROC / str(process.pid) / "exe").readlink())
        except OSError:
            binary = None
    binary = binary or shutil.which("containerd")
    if binary is None or not os.access(binary, os.X_OK):
        return None
    # k3s is one binary that goes by the name it is called.
    name = next(iter(arguments), "") or "containerd"
    try:
        done = subprocess.run(
            [name, "--config", config, "config", "dump"],
            executable=binary,
            capture_output=True,
            timeout=DUMP_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 and done.stdout.strip() else None


def _imported(root: Path, file: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    count = 0
    for pattern in patterns:
        folder = root if pattern.startswith("/") else file.parent
        for found in sorted(folder.glob(pattern.lstrip("/"))):
            count += 1
            if count > IMPORTS_MAX_COUNT:
                return
            yield found


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(FILE_LIMIT_BYTES).decode(errors="replace")


def _is_newer(file: Path, pid: int) -> bool:
    """The file of the running process was written after the process began. Its imports are not looked at."""
    try:
        ticks = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        booted = next(line for line in (_PROC / "stat").read_text().splitlines() if line.startswith("btime "))
        began_s = int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
        # btime has whole seconds.
        return file.stat().st_mtime > began_s + 2
    except (OSError, ValueError, IndexError, StopIteration):
        return False
