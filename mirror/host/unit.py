"""The text of `peili.service`: what systemd is told of the daemon on a plain host. Pure: writes nothing, asks nothing.

The daemon runs as root without any capability: containerd's socket, its content store and its hosts directory are
root's alone, and an owner needs no capability. A user of its own (User=, DynamicUser=) would need CAP_DAC_OVERRIDE to
use the socket and to write hosts.toml files, and with that can do more than root without it.

The secret is read from its file. LoadCredential= would let the file belong to somebody else, which a daemon that runs
as root does not need, and would hide from `peili doctor` and from people which file it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mirror.host.changes import FileChange
from mirror.host.unit_words import assignment, bound_path, command_line, path, unit_name, whole_path

UNIT_NAME = "peili.service"
UNIT_DIR = "/etc/systemd/system"

# The first release that knows RestartSteps=; older ones warn of it.
BACK_OFF_SINCE_VERSION = 254
# 1 s on an idle host. One that is booting reads everything from a busy disk.
START_TIMEOUT_S = 60
# Open answers have 10 s, and the daemon leaves within two more (mirror/daemon.py); the rest is for a busy host.
STOP_TIMEOUT_S = 20
# As the chart's liveness probe: six times in a row, 10 s apart.
WATCHDOG_S = 60
# A crash is mended by the first; a port that is taken is asked for ever more seldom.
RESTART_S = 2
RESTART_STEPS_COUNT = 6
RESTART_MAX_S = 120
# As in the chart. In a cold herd 60 MiB are the daemon's own, and the rest page cache that the kernel takes back
# (docs/image.md).
MEMORY_MAX_MIB = 128
# 384 connections of peers, 640 to them, those of containerd, and a file for each. The default of 1,024 is too few.
OPEN_FILES_MAX_COUNT = 16_384
# `mirror.cli.main`: the command line or a setting is wrong.
EXIT_USAGE = 2

_STATE_HOME = "/var/lib/"
_STATE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# Where ProtectHome= and PrivateTmp= put something empty. The first three are those that systemd knows.
_HOMES = ("/home", "/root", "/run/user", "/var/home", "/var/roothome")
_TMPS = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is written there


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the unit depends on. All paths are absolute.

    `program`: the command `peili`, its first word a path: `("/opt/peili/bin/peili",)`, a zipapp, or
    `(sys.executable, "-m", "mirror")` with `working_dir` where the package lies. `serve_flags`: what follows `serve`,
    unquoted, such as `"--bootstrap=lan"`.
    `data_dir`, `hosts_dirs`: what the flags say, or their defaults. A `data_dir` that is not below /var/lib must be
    there before the unit starts, and so must `hosts_dirs`, or the daemon cannot write there.
    `after`: the unit of containerd on this host, such as `("containerd.service",)`, `("k3s.service",)`,
    `("docker.service",)` or `("snap.microk8s.daemon-containerd.service",)`; of several, not all need exist.
    `reads`: what the daemon must see: where Python and its packages lie, containerd's socket and content store, the
    secret file, a docker config.json, and what hosts.toml files name. It matters for what is below /home, /root and
    /tmp: there the daemon sees nothing else but `program` and `working_dir`. What is not there when the unit starts is
    left out.
    `environment`: such as HTTPS_PROXY; every user of the host can read it. `systemd_version`: 0 where it is not known.
    """

    program: Sequence[str]
    serve_flags: Sequence[str]
    data_dir: str
    hosts_dirs: Sequence[str]
    after: Sequence[str] = ("containerd.service",)
    reads: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    systemd_version: int = 0


def service(facts: ServiceFacts) -> FileChange:
    """Raises: HostError where a path is not absolute, or a text cannot stand in a unit."""
    parts = (_head(facts), _life(facts), _files(facts), _SANDBOX, _INSTALL)
    text = "\n\n".join("\n".join(part) for part in parts) + "\n"
    return FileChange(f"{UNIT_DIR}/{UNIT_NAME}", text.encode(), "systemd starts the daemon with this host")


def _head(facts: ServiceFacts) -> Iterator[str]:
    yield "# Written by peili up, taken away by peili down. What you change goes into `systemctl edit peili`."
    yield "[Unit]"
    yield "Description=Peili, a mirror for container images between hosts"
    yield "# Order only: the daemon waits for containerd, and outlives its restarts."
    yield f"After={' '.join(unit_name(name) for name in facts.after)}"
    yield "# --peer-addr may be an address of this host."
    yield "Wants=network-online.target"
    yield "After=network-online.target"
    yield f"RequiresMountsFor={path(facts.data_dir)}"
    yield "# Tried again without end."
    yield "StartLimitIntervalSec=0"


def _life(facts: ServiceFacts) -> Iterator[str]:
    yield "[Service]"
    yield "# Started when it answers containerd."
    yield "Type=notify"
    yield f"ExecStart={command_line(facts.program, ['serve', *facts.serve_flags])}"
    if facts.working_dir is not None:
        yield f"WorkingDirectory={whole_path(facts.working_dir)}"
    yield "# People read the journal; a flag in ExecStart= has precedence."
    yield "Environment=PEILI_LOG_FORMAT=text"
    for name, value in sorted(facts.environment.items()):
        yield f"Environment={assignment(name, value)}"
    yield f"TimeoutStartSec={START_TIMEOUT_S}"
    yield "# Open answers end first."
    yield f"TimeoutStopSec={STOP_TIMEOUT_S}"
    yield "# A daemon whose event loop stands still is ended, and its pulls go on elsewhere."
    yield f"WatchdogSec={WATCHDOG_S}"
    yield "# One that is stopped as a whole obeys no other, and a core file would hold the secret."
    yield "WatchdogSignal=SIGKILL"
    yield "Restart=on-failure"
    yield f"RestartSec={RESTART_S}"
    if facts.systemd_version >= BACK_OFF_SINCE_VERSION:
        yield f"RestartSteps={RESTART_STEPS_COUNT}"
        yield f"RestartMaxDelaySec={RESTART_MAX_S}"
    yield "# A setting that is wrong is not mended by another start."
    yield f"RestartPreventExitStatus={EXIT_USAGE}"
    yield f"LimitNOFILE={OPEN_FILES_MAX_COUNT}"
    yield "LimitCORE=0"
    yield "# With the page cache of what it serves, most of it; a daemon that is killed costs nobody a pull."
    yield f"MemoryMax={MEMORY_MAX_MIB}M"


def _files(facts: ServiceFacts) -> Iterator[str]:
    yield "# Nothing can be written but what is named here."
    yield "ProtectSystem=strict"
    state = facts.data_dir.removeprefix(_STATE_HOME).rstrip("/")
    if facts.data_dir.startswith(_STATE_HOME) and _STATE_NAME.fullmatch(state):
        yield f"StateDirectory={state}"
        yield "# Layers of private images lie there."
        yield "StateDirectoryMode=0700"
    else:
        yield f"{_writable(facts.data_dir)}={_place(facts.data_dir)}"
    yield "# Entries for registries that are new."
    for hosts_dir in dict.fromkeys(facts.hosts_dirs):
        yield f"{_writable(hosts_dir)}=-{_place(hosts_dir)}"
    yield "# strict alone leaves these writable, beside the directives below (seen in 252)."
    yield "ReadOnlyPaths=/run -/dev/shm"
    # What lies in a directory that is shown is shown with it.
    shown: list[str] = []
    needed = [
        *facts.reads,
        *(word for word in facts.program if word.startswith("/")),
        facts.working_dir or "/",
    ]
    for read in sorted({it.rstrip("/") for it in needed if _is_below(_HOMES + _TMPS, it)}):
        if not any(read.startswith(f"{it}/") for it in shown):
            shown.append(read)
    if any(_is_below(_HOMES, it) for it in (*shown, facts.data_dir, *facts.hosts_dirs)):
        yield "# Empty but for what is named below; what is written there is its own memory."
        yield "ProtectHome=tmpfs"
    else:
        yield "ProtectHome=yes"
    yield "PrivateTmp=yes"
    yield from (f"BindReadOnlyPaths=-{bound_path(it)}" for it in shown)


def _writable(place: str) -> str:
    return "BindPaths" if _is_below(_HOMES + _TMPS, place) else "ReadWritePaths"


def _place(place: str) -> str:
    return bound_path(place) if _is_below(_HOMES + _TMPS, place) else path(place)


def _is_below(folders: Iterable[str], place: str) -> bool:
    return any(place.startswith(f"{folder}/") for folder in folders)


_SANDBOX = (
    "# Root without capabilities: reads and writes what is root's, and that is all it does.",
    "CapabilityBoundingSet=",
    "NoNewPrivileges=yes",
    "# The registry listener, peers, and registries; containerd's socket; which interfaces there are.",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "# Of /proc, processes. (ProtectProc= hides nothing from the group root.)",
    "ProcSubset=pid",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "KeyringMode=private",
    "# New files in the data directory are its own alone; hosts.toml files get their mode by name.",
    "UMask=0077",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "# Refused with an error, as by a kernel that lacks them, and not by a signal.",
    "SystemCallFilter=~@privileged @resources @keyring @setuid",
    "SystemCallErrorNumber=EPERM",
)

_INSTALL = ("[Install]", "WantedBy=multi-user.target")
