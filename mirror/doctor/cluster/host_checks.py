"""What the hosts' own doctors found, gathered by code: 500 hosts with one trouble are one finding. Pure.

A host's mend is a command on that host; in a cluster it is a value of the chart, or pods that start anew, where that
mends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mirror.doctor.cluster.facts import Answer, ClusterFacts, NotAsked
from mirror.doctor.cluster.finding import (
    ClusterCode,
    ClusterFinding,
    counted,
    finding,
    listed,
    quoted,
)
from mirror.doctor.cluster.told import HostFinding
from mirror.doctor.finding import Code, Level

# Evidence of different hosts in one finding.
_SAID_MAX_COUNT: Final = 3
# What every pod says: containerd's process and files are not in its view, and it runs what it was told of them.
_OF_EVERY_POD: Final = frozenset({Code.CONFIG_UNKNOWN.value})
# What a check of the cluster says better, where it found it.
_SAID_BY: Final = {
    ClusterCode.SECRETS_DIFFER.value: {Code.SECRET_MISMATCH.value, Code.STRANGERS_REFUSED.value},
    ClusterCode.CLUSTER_NAMES_DIFFER.value: {Code.SECRET_MISMATCH.value, Code.STRANGERS_REFUSED.value},
    ClusterCode.HOSTS_ALONE.value: {Code.NO_PEERS.value, Code.NO_BOOTSTRAP.value},
    ClusterCode.CLOCKS_DIFFER.value: {Code.CLOCK_SKEW.value},
    ClusterCode.POD_NOT_READY.value: {Code.DAEMON_NOT_READY.value},
    ClusterCode.WIRE_VERSIONS_APART.value: {Code.WIRE_VERSION_SKEW.value},
    Code.PORT_IN_NODEPORT_RANGE.value: {Code.PORT_IN_NODEPORT_RANGE.value},
    Code.CONTAINERD_TOO_OLD.value: {Code.CONTAINERD_TOO_OLD.value},
}
_ANEW: Final = (
    "kubectl -n {namespace} rollout restart daemonset/{name} (each pod runs peili configure when it starts)"
)
# In the place of the host's own. A step that depends on the host (its file, its service) stays the host's.
_MEND: Final[dict[Code, tuple[str, ...]]] = {
    Code.CONTAINERD_ABSENT: (
        "set peili.containerdSock to where containerd's socket is (docs/kubernetes.md)",
    ),
    Code.CONTAINERD_FORBIDDEN: (
        "the chart's securityContext must leave the daemon root; SELinux: docs/kubernetes.md",
    ),
    Code.CONTENT_UNREADABLE: (
        "set peili.containerdContentPath to containerd's content store (docs/kubernetes.md)",
    ),
    Code.CONFIG_PATH_ELSEWHERE: (
        "set peili.containerdRegistryConfigPath to the directory of containerd's config_path",
    ),
    Code.CONFIG_PATH_LIST: ("set peili.containerdConfigPath to the list that containerd has", _ANEW),
    Code.HOSTS_ABSENT: ("peili.containerdMirrorAdd: true, then helm upgrade; if it is:", _ANEW),
    Code.HOSTS_SHADOWED: (_ANEW,),
    Code.HOSTS_CHANGED: (_ANEW,),
    Code.HOSTS_INVALID: ("mend the file on the host, or move it away", _ANEW),
    Code.HOSTS_OTHER_ADDRESS: (_ANEW,),
    Code.HOSTS_UNWRITABLE: (
        "choose a peili.containerdRegistryConfigPath that can be written (Talos, Bottlerocket: docs/kubernetes.md)",
    ),
    Code.REGISTRY_TAKEN: ("free the port on the host, or choose another service.registry.port",),
    Code.OTHER_RELEASE: (_ANEW,),
    Code.PEER_PORT_BLOCKED: (
        "open the peer port between hosts, TCP and UDP: security groups, firewalls of the hosts",
    ),
    Code.NO_PEERS: (
        "open the peer port between hosts, TCP and UDP: security groups, firewalls of the hosts",
    ),
    Code.NOBODY_ASKED: (
        "set containerd's config_path on these hosts (docs/kubernetes.md, config_path), then restart containerd",
    ),
}


def check(facts: ClusterFacts, found: Iterable[ClusterFinding]) -> Iterator[ClusterFinding]:
    """`found`: by the checks of the cluster."""
    said = {code for one in found for code in _SAID_BY.get(one.code, ())} | _OF_EVERY_POD
    by_code: dict[str, dict[str, HostFinding]] = {}
    for host, answer in sorted(facts.answered().items()):
        for one in answer.findings:
            if one.code not in said:
                by_code.setdefault(one.code, {})[host] = one
    order = [code.value for code in Code]
    for code in sorted(by_code, key=lambda code: order.index(code) if code in order else len(order)):
        yield _group(facts, code, by_code[code])
    yield from _not_asked(facts)


def _group(facts: ClusterFacts, code: str, hosts: dict[str, HostFinding]) -> ClusterFinding:
    first = next(iter(hosts.values()))
    said: dict[str, list[str]] = {}
    for host, one in hosts.items():
        said.setdefault(one.evidence, []).append(host)
    shown = [
        f"{quoted(evidence)} on {listed(some)}"
        for evidence, some in sorted(said.items(), key=lambda item: -len(item[1]))[:_SAID_MAX_COUNT]
    ]
    more = f"; and {len(said) - _SAID_MAX_COUNT} others" if len(said) > _SAID_MAX_COUNT else ""
    known = Code(code) if code in set(Code) else None
    mend = _MEND.get(known) if known is not None else None
    return ClusterFinding(
        code,
        # Of a later release than this one: as the host says.
        Level.NOTE if first.level == Level.NOTE.value else Level.PROBLEM,
        f"{counted(len(hosts), 'host')}: {quoted(first.what)}",
        "; ".join(shown) + more,
        tuple(step.format(namespace=facts.namespace, name=facts.name) for step in mend)
        if mend is not None
        else tuple(first.mend),
        tuple(hosts),
    )


def _not_asked(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    refused: dict[str, list[str]] = {}
    silent: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    for pod in facts.pods:
        match facts.answers.get(pod.name):
            case NotAsked(why):
                refused.setdefault(why, []).append(pod.host)
            case Answer(told=None, daemon_trouble=trouble, findings=()):
                silent.setdefault(trouble, []).append(pod.host)
            case Answer(doctor_trouble=trouble) if trouble:
                failed.setdefault(trouble, []).append(pod.host)
            case _:
                pass
    asked = len(facts.answers)
    if refused:
        yield _unanswered(
            ClusterCode.HOST_NOT_ASKED,
            f"{{}} of {asked} could not be asked: what is said of the daemons is of the others alone",
            refused,
            "if a right lacks: docs/doctor.md, Rights; else see that the API server reaches the kubelets (port 10250)",
        )
    if silent:
        yield _unanswered(
            Code.ADMIN_SILENT,
            "on {} the container runs and the daemon in it does not answer",
            silent,
            f"kubectl -n {facts.namespace} logs POD says what it does",
        )
    if failed:
        yield _unanswered(
            ClusterCode.HOST_DOCTOR_FAILED,
            "on {} the daemon answers and its host's doctor does not",
            failed,
            "ask again; an older release has no doctor: helm upgrade",
        )


def _unanswered(
    code: ClusterCode | Code, what: str, by_why: dict[str, list[str]], mend: str
) -> ClusterFinding:
    hosts = [host for some in by_why.values() for host in some]
    shown = [
        f"{quoted(why)} on {listed(sorted(some))}"
        for why, some in sorted(by_why.items(), key=lambda item: -len(item[1]))[:_SAID_MAX_COUNT]
    ]
    return finding(code, what.format(counted(len(hosts), "host")), "; ".join(shown), mend, hosts=hosts)
