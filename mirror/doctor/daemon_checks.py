"""What the daemon itself knows to be wrong, and what its counters give away. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.doctor.facts import DaemonFacts, Facts, Port, Reach
from mirror.doctor.finding import Code, Finding

# The daemon bears two minutes, and corrects for more; certificates and logs do not.
SKEW_MAX_S = 5.0
# Of images, in a line of evidence.
_NAMED_MAX_COUNT = 3
# No address and no name was given.
LAN_ALONE = ("lan",)
# Not sealed with a key that we have, or sealed for another cluster name.
_STRANGE = ("foreign", "mac", "tag")


def check(facts: Facts) -> Iterator[Finding]:
    daemon = facts.daemon
    if daemon is None:
        if facts.listen.port is Port.OURS:
            yield Finding(
                Code.ADMIN_SILENT,
                f"the daemon serves, but its admin address {facts.asked.admin_addr} does not answer: its state is not "
                "known",
                facts.admin_trouble,
                ("give doctor the daemon's own --admin-addr; if it is the same, restart the daemon",),
            )
        return
    if daemon.unready:
        yield Finding(
            Code.DAEMON_NOT_READY,
            "the daemon says that it is not ready",
            "; ".join(daemon.unready),
            ("mend what it names; findings above may say how",),
        )
    yield from _peers(facts, daemon)
    yield from _reach(facts, daemon)
    yield from _strangers(daemon)
    yield from _skew(facts, daemon)
    yield from _unasked(facts, daemon)


def _peers(facts: Facts, daemon: DaemonFacts) -> Iterator[Finding]:
    is_alone = daemon.members == 0
    if is_alone and daemon.bootstrap == LAN_ALONE:
        # The first host of a home has no other one to know, and nothing is wrong with that.
        if not (daemon.trouble or _strange(daemon)):
            yield Finding(
                Code.ALONE_ON_LAN,
                "no other host is heard on the local network yet",
                "no members by lan",
                (
                    "peili up on another host of this network",
                    "where one runs: with the line that peili up printed (--join), since multicast does not get "
                    "through",
                    "open the port of --peer-addr between the hosts, TCP and UDP, and UDP port 29024 for multicast",
                ),
            )
    elif is_alone and daemon.bootstrap:
        yield Finding(
            Code.NO_PEERS,
            "the daemon knows no other host: everything comes from the registries",
            "; ".join(
                [daemon.trouble or f"no members by {', '.join(daemon.bootstrap)}", *_first_peers(facts)]
            ),
            (
                "on another host, see that peili serve runs with the same --cluster and --cluster-secret-file",
                "open the port of --peer-addr between the hosts, TCP and UDP",
                "see that --bootstrap names one of them; this host's own name or address finds nobody",
            ),
        )
        return
    if is_alone and daemon.bootstrap == ():
        yield Finding(
            Code.NO_BOOTSTRAP,
            "the daemon is not told of other hosts; it is alone until one finds it",
            "--bootstrap is not given",
            ("peili serve --bootstrap static:HOST:29021, or dns:NAME, or lan",),
        )
    if daemon.trouble:
        yield Finding(
            Code.DAEMON_TROUBLE,
            "the daemon says that something is in its way",
            daemon.trouble,
            ("mend what it names",),
        )


def _first_peers(facts: Facts) -> Iterator[str]:
    """What TCP tells of them, since UDP told nothing."""
    means = {
        Reach.REACHED: "accept TCP: UDP is dropped on the way, or they have another secret or cluster name",
        Reach.REFUSED: "refuse TCP: no daemon listens at that port there",
    }
    for reach, meaning in means.items():
        found = [one.address for one in facts.peers if not one.is_member and one.reach is reach]
        if found:
            yield f"{', '.join(found[:_NAMED_MAX_COUNT])} {meaning}"


def _reach(facts: Facts, daemon: DaemonFacts) -> Iterator[Finding]:
    """A first peer that is away is no fault where others are known; a member that answers by UDP alone is one."""
    members = [one for one in facts.peers if one.is_member]
    tried = members or ([one for one in facts.peers if not one.is_member] if daemon.members == 0 else [])
    dropped = [one.address for one in tried if one.reach is Reach.DROPPED]
    if not dropped or (not members and len(dropped) < len(tried)):
        return
    more = len(dropped) - _NAMED_MAX_COUNT
    named = ", ".join(dropped[:_NAMED_MAX_COUNT]) + (f" and {more} more" if more > 0 else "")
    yield Finding(
        Code.PEER_PORT_BLOCKED,
        "hosts that the daemon knows do not answer at their peer port by TCP: a firewall drops it"
        if members
        else "no first peer answers at its peer port: a firewall drops what is sent there, or it is down",
        f"no answer from {named}; {len(dropped)} of {len(tried)} tried",
        (
            "open the port of --peer-addr on these hosts, TCP and UDP (nft list ruleset, or iptables -S, shows what is "
            "dropped there)",
            "open it in what is between the hosts: security groups, routers",
        ),
    )


def _strange(daemon: DaemonFacts) -> dict[str, int]:
    return {reason: daemon.refused[reason] for reason in _STRANGE if daemon.refused.get(reason)}


def _strangers(daemon: DaemonFacts) -> Iterator[Finding]:
    strange = _strange(daemon)
    if not strange:
        return
    counted = ", ".join(f"{count} {reason}" for reason, count in strange.items())
    if daemon.members == 0:
        yield Finding(
            Code.SECRET_MISMATCH,
            "hosts that speak to this one have another cluster secret or cluster name, and no host has the same",
            f"datagrams refused: {counted}",
            (
                "give all hosts the same --cluster and the same --cluster-secret-file (compare by sha256sum), or none "
                "of them a secret; then restart the daemons",
            ),
        )
    else:
        yield Finding(
            Code.STRANGERS_REFUSED,
            "some host with another cluster secret or cluster name speaks to this one, and is refused",
            f"datagrams refused: {counted}; {daemon.members} members have the same",
            ("nothing, if it is of another cluster; else give it the same secret and name",),
        )


def _skew(facts: Facts, daemon: DaemonFacts) -> Iterator[Finding]:
    offset_s = daemon.clock_offset_s
    if abs(offset_s) > SKEW_MAX_S:
        word = "behind" if offset_s > 0 else "ahead of"
        yield Finding(
            Code.CLOCK_SKEW,
            f"this host's clock is {word} that of its peers; the daemon bears it, certificates and tokens of "
            "registries do not",
            f"{abs(offset_s):.0f} s",
            ("timedatectl set-ntp true (and see that the time server answers: timedatectl timesync-status)",),
        )
    if count := daemon.refused.get("version", 0):
        yield Finding(
            Code.WIRE_VERSION_SKEW,
            "datagrams of another wire version came, and were refused",
            f"{count} datagrams",
            ("nothing, if something else sends to this port; else bring all hosts to the same release",),
        )
    if daemon.version != facts.release:
        yield Finding(
            Code.OTHER_RELEASE,
            "the running daemon is of another release than this command",
            f"the daemon is {daemon.version}, doctor is {facts.release}",
            ("restart the daemon with the new release",),
        )


def _unasked(facts: Facts, daemon: DaemonFacts) -> Iterator[Finding]:
    pulled = [
        image
        for image in facts.containerd.pulled
        if not facts.asked.mirrors or image.registry in facts.asked.mirrors
    ]
    if daemon.requests == 0 and pulled:
        names = ", ".join(image.name for image in pulled[:_NAMED_MAX_COUNT])
        yield Finding(
            Code.NOBODY_ASKED,
            "images were pulled since the daemon was started, and containerd did not ask it once",
            f"{len(pulled)} pulled in {daemon.uptime_s:.0f} s: {names}",
            (
                "mend what stands above of config_path and hosts.toml, then pull an image that is not here yet",
                "if nothing stands there: restart containerd, so that it reads its configuration anew",
            ),
        )
