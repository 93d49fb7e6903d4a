"""Whether the daemons are one cluster: name, secret, wire version, clocks, and who knows whom. Pure.

Only what daemons said is compared. One that was started a moment ago has not met the others yet, and is left out of the
checks of membership.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final, TypeVar

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterCode, ClusterFinding, counted, finding, listed
from mirror.doctor.cluster.told import Told
from mirror.doctor.daemon_checks import SKEW_MAX_S

Key = TypeVar("Key", bound=Hashable)

# A daemon joins within seconds and hears of all others within one comparison of members; a minute is ample.
SETTLED_S: Final = 60.0
# A daemon speaks its own wire version and the one before.
WIRE_VERSIONS_SPOKEN: Final = 2
# Groups in a line of evidence.
_GROUPS_MAX_COUNT: Final = 4


def check(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    told = dict(sorted(facts.told().items()))
    yield from _names(told)
    yield from _secrets(told)
    yield from _wire(told)
    yield from _membership(told)
    yield from _clocks(told)
    yield from _releases(facts, told)


def _names(told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    groups = _groups(told, lambda one: one.cluster)
    if len(groups) > 1:
        yield finding(
            ClusterCode.CLUSTER_NAMES_DIFFER,
            "the daemons do not have the same cluster name: those with another one do not know each other",
            _described(groups, repr),
            "one release of the chart for each cluster (peili.cluster)",
            "pods of an old revision: kubectl rollout restart of the DaemonSet",
            hosts=_fewer(groups),
        )


def _secrets(told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    """The first key signs, all are accepted; so two hosts hear each other where each has the other's first."""
    # With other cluster names the same secret gives other keys.
    if len({one.cluster for one in told.values()}) > 1:
        return
    known = {host: one for host, one in told.items() if one.key_ids is not None}
    groups = _groups(known, lambda one: one.key_ids or ())
    apart = any(not _hear(one, other) for one in groups for other in groups)
    if apart:
        yield finding(
            ClusterCode.SECRETS_DIFFER,
            "the daemons do not have the same cluster secret: those with another one do not hear each other",
            _described(groups, lambda ids: f"key {' and '.join(ids)}" if ids else "no secret"),
            "a daemon reads its secret when it starts: kubectl rollout restart of the DaemonSet gives all the same",
            "where the chart is rendered without the cluster (Argo CD, helm template): clusterSecret.existingSecret",
            hosts=_fewer(groups),
        )
        return
    mute = {host: one for host, one in told.items() if one.key_ids is None and one.refused.get("mac")}
    if mute:
        yield finding(
            ClusterCode.SECRETS_DIFFER,
            f"{counted(len(mute), 'host')} refused datagrams that were sealed with another secret",
            f"{sum(one.refused['mac'] for one in mute.values())} datagrams on {listed(mute)}",
            "kubectl rollout restart of the DaemonSet: all daemons read the secret of now",
            hosts=mute,
        )


def _hear(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether `other` takes what `one` signs."""
    return one[0] in other if one else not other


def _wire(told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    groups = _groups(
        {host: one for host, one in told.items() if one.wire_version}, lambda one: one.wire_version
    )
    if groups and max(groups) - min(groups) >= WIRE_VERSIONS_SPOKEN:
        yield finding(
            ClusterCode.WIRE_VERSIONS_APART,
            "the daemons' wire versions are further apart than one: those do not speak to each other",
            _described(groups, lambda version: f"version {version}"),
            "bring all hosts to one release (kubectl rollout status of the DaemonSet says what it waits for)",
            hosts=_fewer(groups),
        )


def _membership(told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    settled = {host: one for host, one in told.items() if one.uptime_s >= SETTLED_S}
    if len(settled) < 2:
        return
    alone = [host for host, one in settled.items() if one.members == 0]
    if alone:
        yield finding(
            ClusterCode.HOSTS_ALONE,
            f"{counted(len(alone), 'host')} of {len(told)} know no other: all they pull comes from registries",
            listed(alone),
            "open the peer port between hosts, TCP and UDP: security groups, firewalls of the hosts",
            "see that the pods resolve the name of the Service for peers (dnsPolicy, CoreDNS)",
            hosts=alone,
        )
    met = {host: one for host, one in settled.items() if one.members and one.peers is not None}
    islands = _components(met)
    if len(islands) > 1:
        yield finding(
            ClusterCode.ISLANDS,
            f"the hosts are {len(islands)} clusters that do not know each other: each fetches every image for itself",
            "; ".join(f"{counted(len(one), 'host')}: {listed(one)}" for one in islands[:_GROUPS_MAX_COUNT]),
            "open the peer port between all hosts, TCP and UDP; often it is closed between zones or pools of nodes",
            hosts=[host for one in islands[1:] for host in one],
        )
        return
    yield from _gaps(met)


def _gaps(met: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    nodes = {one.node for one in met.values()}
    gaps = {
        host: count
        for host, one in met.items()
        # The list of a very large cluster is cut.
        if one.peers is not None
        and len(one.peers) >= one.members
        and (count := len(nodes - one.peers - {one.node}))
    }
    if gaps:
        worst = max(gaps, key=lambda host: gaps[host])
        yield finding(
            ClusterCode.MEMBERS_DIFFER,
            f"{counted(len(gaps), 'host')} of {len(met)} do not know all others",
            f"{worst} lacks {gaps[worst]}; {listed(gaps)}",
            "nothing while hosts come and go; if it stays, the peer port is closed between some of them, or for UDP",
            hosts=gaps,
        )


def _components(met: Mapping[str, Told]) -> list[list[str]]:
    """Who knows whom, either way, as connected groups of hosts; the largest first. Two that know the same third one are
    together, also where that one was not asked."""
    host_of = {one.node: host for host, one in met.items()}
    near: dict[str, set[str]] = {}
    for one in met.values():
        for node in one.peers or ():
            near.setdefault(one.node, set()).add(node)
            near.setdefault(node, set()).add(one.node)
    left, found = dict.fromkeys(host_of), []
    while left:
        reached, edge = set[str](), [next(iter(left))]
        while edge:
            node = edge.pop()
            if node not in reached:
                reached.add(node)
                edge += near.get(node, set()) - reached
        found.append(sorted(host_of[node] for node in reached if node in host_of))
        left = dict.fromkeys(node for node in left if node not in reached)
    return sorted(found, key=lambda group: (-len(group), group))


def _clocks(told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    """Each says how far the cluster is ahead of it; one that knows nobody does not know."""
    off = {host: one.clock_offset_s for host, one in told.items() if one.members}
    if not off or max(off.values()) - min(off.values()) <= SKEW_MAX_S:
        return
    middle_s = sorted(off.values())[len(off) // 2]
    far = {host: offset_s - middle_s for host, offset_s in off.items()}
    wrong = [host for host, offset_s in far.items() if abs(offset_s) > SKEW_MAX_S / 2]
    worst = max(wrong, key=lambda host: abs(far[host]))
    word = "behind" if far[worst] > 0 else "ahead"
    yield finding(
        ClusterCode.CLOCKS_DIFFER,
        f"the clocks of {counted(len(wrong), 'host')} are not those of the others; the daemons bear it, "
        "certificates and tokens of registries do not",
        f"{worst} is {abs(far[worst]):.0f} s {word}; {listed(wrong)}",
        "on these hosts: timedatectl set-ntp true (and see that the time server answers: timedatectl timesync-status)",
        hosts=wrong,
    )


def _releases(facts: ClusterFacts, told: Mapping[str, Told]) -> Iterator[ClusterFinding]:
    groups = _groups(told, lambda one: one.version)
    if len(groups) > 1:
        yield finding(
            ClusterCode.RELEASES_DIFFER,
            "the daemons are not of one release",
            _described(groups, str),
            f"nothing during an upgrade: kubectl -n {facts.namespace} rollout status daemonset/{facts.name}",
            hosts=_fewer(groups),
        )


def _groups(told: Mapping[str, Told], key: Callable[[Told], Key]) -> dict[Key, list[str]]:
    """Hosts by what they said; the largest group first."""
    found: dict[Key, list[str]] = {}
    for host, one in told.items():
        found.setdefault(key(one), []).append(host)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _fewer(groups: Mapping[Key, list[str]]) -> list[str]:
    """All hosts that are not of the largest group."""
    return [host for hosts in list(groups.values())[1:] for host in hosts]


def _described(groups: Mapping[Key, list[str]], name: Callable[[Key], str]) -> str:
    shown = [
        f"{name(key)} on {counted(len(hosts), 'host')} ({listed(hosts)})"
        for key, hosts in list(groups.items())[:_GROUPS_MAX_COUNT]
    ]
    more = len(groups) - _GROUPS_MAX_COUNT
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
