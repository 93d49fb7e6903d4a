"""What keeps daemons from each other, as far as the API tells: Service, endpoints, policies, ports. Pure.

A firewall outside of Kubernetes is not seen here; it shows as `islands` and `hosts-alone`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterCode, ClusterFinding, finding, listed
from mirror.doctor.cluster.objects import (
    DaemonSet,
    NetworkPolicy,
    Node,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Service,
)
from mirror.doctor.cluster.placement import selects
from mirror.doctor.finding import Code

# What the chart calls the ports of its container and its Services, by protocol.
PEER_PORTS: Final = {"TCP": "peer", "UDP": "peer-udp"}
SLICE_LABEL: Final = "kubernetes.io/service-name"


def check(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    daemonset = facts.daemonset
    if daemonset is None:
        return
    yield from _service(facts, daemonset)
    yield from _policies(facts, daemonset)
    yield from _nodeports(facts, daemonset)


def peers_service(facts: ClusterFacts) -> Service | None:
    """The headless one by which daemons find a first peer."""
    return next(
        (
            one
            for one in facts.services or ()
            if one.spec.cluster_ip == "None"
            and any(port.name == PEER_PORTS["TCP"] for port in one.spec.ports or ())
        ),
        None,
    )


def _service(facts: ClusterFacts, daemonset: DaemonSet) -> Iterator[ClusterFinding]:
    if facts.services is None:
        return
    service = peers_service(facts)
    if service is None:
        yield finding(
            ClusterCode.PEERS_SERVICE_ABSENT,
            "the headless Service by which the daemons find each other is not there",
            f"no Service of the release in {facts.namespace} has clusterIP None and a port named peer",
            "helm upgrade: the chart makes it",
        )
        return
    running = [pod for pod in facts.pods if pod.status.phase == "Running"]
    if facts.slices is None or not running:
        return
    name = service.metadata.name
    addresses = [
        address
        for one in facts.slices
        if one.metadata.labels.get(SLICE_LABEL) == name
        for endpoint in one.endpoints or ()
        for address in endpoint.addresses or ()
    ]
    if addresses:
        return
    labels = daemonset.spec.template.metadata.labels
    missed = [
        f"{key}={value}" for key, value in (service.spec.selector or {}).items() if labels.get(key) != value
    ]
    yield finding(
        ClusterCode.PEERS_SERVICE_EMPTY,
        f"the Service {name} has no addresses though pods run: a daemon that starts finds no first peer",
        f"its selector wants {listed(missed)}, which the pods do not have"
        if missed
        else "no EndpointSlice has one",
        "give the Service the labels of the pods: helm upgrade"
        if missed
        else "see that kube-controller-manager runs: it writes EndpointSlices",
    )


def _policies(facts: ClusterFacts, daemonset: DaemonSet) -> Iterator[ClusterFinding]:
    labels = daemonset.spec.template.metadata.labels
    mine = [one for one in facts.policies or () if selects(one.spec.pod_selector, labels)]
    blocked: list[str] = []
    names: set[str] = set()
    for way in ("ingress", "egress"):
        here = [one for one in mine if _governs(one, way)]
        if not here:
            continue
        for protocol, port in PEER_PORTS.items():
            number = daemonset.port(port)
            rules = [
                rule for one in here for rule in _rules(one, way) if _is_about(rule, protocol, number, port)
            ]
            if number and not _lets(rules, way, facts.nodes):
                blocked.append(f"{way} {protocol} {number}")
                names |= {one.metadata.name for one in here}
    if not blocked:
        return
    evidence = f"{listed(sorted(names))}: no rule lets {listed(blocked)} between all hosts"
    mend = "allow the peer port, TCP and UDP, from and to the hosts' addresses (the chart's networkPolicy.enabled does)"
    if daemonset.spec.template.spec.host_network:
        yield finding(
            ClusterCode.NETWORK_POLICY_MAY_BLOCK,
            "a NetworkPolicy would close the peer port; with most CNIs it does nothing for pods on the host's network",
            evidence,
            f"if hosts do not find each other: {mend}",
        )
    else:
        yield finding(
            ClusterCode.NETWORK_POLICY_BLOCKS,
            "a NetworkPolicy closes the peer port between hosts",
            evidence,
            mend,
        )


def _governs(policy: NetworkPolicy, way: str) -> bool:
    types = policy.spec.policy_types
    if types is None:
        # As the API's documentation has it; the API server fills it in.
        return way == "ingress" or policy.spec.egress is not None
    return way.capitalize() in types


def _rules(policy: NetworkPolicy, way: str) -> list[PolicyRule]:
    return (policy.spec.ingress if way == "ingress" else policy.spec.egress) or []


def _is_about(rule: PolicyRule, protocol: str, number: int, name: str) -> bool:
    return not rule.ports or any(_is_port(one, protocol, number, name) for one in rule.ports)


def _lets(rules: Sequence[PolicyRule], way: str, nodes: Sequence[Node]) -> bool:
    """Rules of all policies add up: each may name some of the hosts."""
    peers = [rule.sources if way == "ingress" else rule.to for rule in rules]
    return not all(peers) or _covers([peer for some in peers for peer in some or ()], nodes)


def _is_port(port: PolicyPort, protocol: str, number: int, name: str) -> bool:
    if port.protocol != protocol:
        return False
    if port.port is None or port.port == name:
        return True
    if not isinstance(port.port, int):
        return False
    return port.port <= number <= (port.end_port or port.port)


def _covers(peers: Sequence[PolicyPeer], nodes: Sequence[Node]) -> bool:
    """Peers are seen with the addresses of hosts, which no selector of pods names. A block counts as theirs where
    nodes were not seen."""
    wanted = [
        ipaddress.ip_address(one.address)
        for node in nodes
        for one in node.status.addresses or ()
        if one.type == "InternalIP" and _is_address(one.address)
    ]
    blocks = [peer.ip_block for peer in peers if peer.ip_block is not None]
    return bool(blocks) and all(
        any(
            address in ipaddress.ip_network(block.cidr, strict=False)
            and not any(address in ipaddress.ip_network(one, strict=False) for one in block.excepted or ())
            for block in blocks
        )
        for address in wanted
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _nodeports(facts: ClusterFacts, daemonset: DaemonSet) -> Iterator[ClusterFinding]:
    """Ports that pods open on the host itself."""
    on_host = daemonset.spec.template.spec.host_network
    range_ = facts.nodeports.ports
    inside = sorted(
        {
            f"{port.name.removesuffix('-udp')} has port {number}"
            for port in daemonset.ports
            if (number := port.host_port or (port.container_port if on_host else 0)) in range_
        }
    )
    if inside:
        source = facts.nodeports.source or "the default; what the API server was told is not readable"
        yield finding(
            Code.PORT_IN_NODEPORT_RANGE,
            f"a port of the daemon is in the NodePort range ({range_[0]}-{range_[-1]}): a Service may take it away",
            f"{', '.join(inside)}; range: {source}",
            "choose ports outside of the range: the chart's service.*.port, the same on all hosts",
        )
