"""A network of namespaces on one machine: N hosts on one switch, each with its own address and link.

The switch is a bridge in a namespace of its own, so that no firewall of the machine sees its traffic; the
test process itself is on it through one more link. Nothing outlives the session: `close` removes everything,
and the next network made removes what a killed session left. Runs no daemons (`bed_process`,
`real_containerd`).
Needs root: `tests.support.skips.netns_or_missing`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_NAMESPACES: Final = Path("/run/netns")
# Names carry the pid of the session that made them, so that the next one can tell whose they are.
_NAME: Final = re.compile(r"peili-(?P<pid>\d+)-\d+-\w+")
_LINK: Final = re.compile(r"pl(?P<pid>\d+)\.\d+")
_RANGE: Final = ipaddress.IPv4Network("10.77.0.0/16")
_SERIAL: Final = count()
# BBR paces by measured bandwidth, which distorts links that are really queues in one kernel.
_SET_CONGESTION_CONTROL: Final = (
    "for name in cubic reno; do"
    " echo $name 2>/dev/null > /proc/sys/net/ipv4/tcp_congestion_control && exit; done; exit 1"
)
# tbf: a burst of several of veth's offloaded packets, and a queue that does not drop at a full window.
_BURST_BYTES: Final = 256 * 1024
_QUEUE_LATENCY_MS: Final = 100


class NetworkError(Exception):
    """A command of the set-up failed; the message holds its words."""


@dataclass(frozen=True, slots=True)
class HostLink:
    """One host's end: the namespace's name (below /run/netns) and its IPv4 address."""

    netns: str
    address: str

    def tx_bytes(self) -> int:
        """Bytes this host has sent, as its interface counted them, headers included."""
        (link,) = json.loads(_run("ip", "-n", self.netns, "-j", "-s", "link", "show", "dev", "eth0"))
        return int(link["stats64"]["tx"]["bytes"])


class Network:
    """`async with Network(5, rate_bits_per_s=200_000_000) as network: network.hosts[0].netns`."""

    def __init__(self, host_count: int, *, rate_bits_per_s: int | None = None) -> None:
        """rate_bits_per_s limits each host's link, each way on its own; None leaves links unlimited."""
        self._host_count = host_count
        self._rate_bits_per_s = rate_bits_per_s
        self._prefix = f"peili-{os.getpid()}-{next(_SERIAL)}"
        self._switch = f"{self._prefix}-switch"
        self._made: list[str] = []
        self._open_link = ""
        # The test process's own address in the network: hosts reach servers of the test here.
        self.address = ""
        self.hosts: tuple[HostLink, ...] = ()

    def open(self) -> None:
        """Raises: NetworkError. Nothing is left then."""
        sweep()
        try:
            subnet = _free_subnet()
            addresses = [str(address) for address in subnet.hosts()]
            self.address = addresses[0]
            self._make_switch()
            self._join_ourselves()
            self.hosts = tuple(
                self._make_host(number, addresses[9 + number]) for number in range(self._host_count)
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends every process that still runs in these namespaces, and removes them. Idempotent."""
        if self._open_link:
            subprocess.run(["ip", "link", "del", self._open_link], capture_output=True, check=False)
        for name in self._made:
            _remove(name)
        self._made.clear()
        self._open_link = ""

    def limit(self, host: HostLink, rate_bits_per_s: int) -> None:
        """From now on this host's link carries so much, each way on its own. Raises: NetworkError."""
        for where, device in ((self._switch, f"v{self.hosts.index(host)}"), (host.netns, "eth0")):
            _limit(where, device, rate_bits_per_s)

    def limit_from(
        self, host: HostLink, source: HostLink, rate_bits_per_s: int, link_bits_per_s: int
    ) -> None:
        """From now on what comes from that one host is slower than the rest of this host's link. Raises:
        NetworkError."""
        device = f"v{self.hosts.index(host)}"
        _run("tc", "-n", self._switch, *f"qdisc replace dev {device} root handle 1: htb default 10".split())
        for number, rate in ((10, link_bits_per_s), (20, rate_bits_per_s)):
            words = f"class add dev {device} parent 1: classid 1:{number} htb rate {rate}bit quantum 30000"
            _run("tc", "-n", self._switch, *words.split())
        words = f"filter add dev {device} protocol ip parent 1: prio 1 u32 match ip src {source.address}/32"
        _run("tc", "-n", self._switch, *words.split(), "flowid", "1:20")

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_switch(self) -> None:
        self._make_namespace(self._switch)
        _batch(self._switch, ["link set lo up", "link add br0 type bridge", "link set br0 up"])

    def _make_namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._made.append(name)
        # These settings are seen, and set, from inside only.
        _run("nsenter", f"--net={_NAMESPACES / name}", "sh", "-c", _SET_CONGESTION_CONTROL)

    def _make_host(self, number: int, address: str) -> HostLink:
        netns = f"{self._prefix}-h{number}"
        self._make_namespace(netns)
        port = f"v{number}"
        _batch(
            self._switch,
            [f"link add {port} type veth peer name eth0 netns {netns}", f"link set {port} master br0 up"],
        )
        _batch(netns, ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"])
        if self._rate_bits_per_s is not None:
            for where, device in ((self._switch, port), (netns, "eth0")):
                _limit(where, device, self._rate_bits_per_s)
        return HostLink(netns, address)

    def _join_ourselves(self) -> None:
        ours = f"pl{os.getpid()}.{self._prefix.rpartition('-')[2]}"
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "up0", "netns", self._switch)
        self._open_link = ours
        _batch(self._switch, ["link set up0 master br0 up"])
        _batch(None, [f"addr add {self.address}/24 dev {ours}", f"link set {ours} up"])


def sweep() -> None:
    """Remove what sessions left that are no longer alive, whatever processes still run there included."""
    names = [path.name for path in _NAMESPACES.iterdir()] if _NAMESPACES.is_dir() else []
    for name in names:
        if (found := _NAME.fullmatch(name)) and not _alive(int(found["pid"])):
            _remove(name)
    for link in Path("/sys/class/net").iterdir():
        if (found := _LINK.fullmatch(link.name)) and not _alive(int(found["pid"])):
            subprocess.run(["ip", "link", "del", link.name], capture_output=True, check=False)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _remove(name: str) -> None:
    for pid in _run("ip", "netns", "pids", name).split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    _run("ip", "netns", "del", name)


def _free_subnet() -> ipaddress.IPv4Network:
    """A /24 of 10.77.0.0/16 that no interface of the machine has; other sessions' networks included."""
    taken = {
        ipaddress.IPv4Interface(text).network.supernet(new_prefix=24)
        for text in re.findall(r"inet (\S+/(?:2[4-9]|3[0-2]))", _run("ip", "-4", "-o", "addr"))
    }
    for subnet in list(_RANGE.subnets(new_prefix=24))[os.getpid() % 200 :]:
        if subnet not in taken:
            return subnet
    raise NetworkError(f"no free /24 in {_RANGE}; old interfaces are left over, see `ip -4 addr`")


def _limit(netns: str, device: str, rate_bits_per_s: int) -> None:
    words = f"qdisc replace dev {device} root tbf rate {rate_bits_per_s}bit burst {_BURST_BYTES}"
    _run("tc", "-n", netns, *words.split(), "latency", f"{_QUEUE_LATENCY_MS}ms")


def _batch(netns: str | None, commands: Sequence[str]) -> None:
    place = ("-n", netns) if netns is not None else ()
    _run("ip", *place, "-batch", "-", stdin="\n".join(commands) + "\n")


def _run(*command: str, stdin: str = "") -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {result.stderr.strip()} {stdin}")
    return result.stdout
