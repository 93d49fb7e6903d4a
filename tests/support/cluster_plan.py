"""A Kubernetes cluster on paper: the objects as its API gives them, and what each daemon's commands print. In order,
until a test breaks it.

The DaemonSet and the Services are those that the chart renders (tests/chart/golden); pods, nodes, events and
EndpointSlices have the shapes that controllers and kubelets of 1.35 give them, reduced to what a reader needs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirror.doctor.cluster.port import Printed
from mirror.version import VERSION
from tests.support.helm_chart import NAMESPACE, Object, objects, one

GOLDEN: Final = Path(__file__).resolve().parents[1] / "chart" / "golden"
# The collection of each kind, as it stands in paths.
NODES: Final = "/api/v1/nodes"
DAEMONSETS: Final = "/apis/apps/v1/daemonsets"
PODS: Final = "/api/v1/pods"
EVENTS: Final = "/api/v1/events"
SERVICES: Final = "/api/v1/services"
SLICES: Final = "/apis/discovery.k8s.io/v1/endpointslices"
POLICIES: Final = "/apis/networking.k8s.io/v1/networkpolicies"
KINDS: Final = {
    NODES: ("v1", "Node"),
    DAEMONSETS: ("apps/v1", "DaemonSet"),
    PODS: ("v1", "Pod"),
    EVENTS: ("v1", "Event"),
    SERVICES: ("v1", "Service"),
    SLICES: ("discovery.k8s.io/v1", "EndpointSlice"),
    POLICIES: ("networking.k8s.io/v1", "NetworkPolicy"),
}
KEY_ID: Final = "0a1b2c3d"


@dataclass(slots=True)
class Daemon:
    """What the commands in one pod print. `status` None: no daemon answers; `peers`: their node ids; `findings`: of the
    host's doctor. `broken`: by the last word of a command before its flags, another answer."""

    status: Object
    peers: list[str]
    findings: list[Object] = field(default_factory=list)
    broken: dict[str, Printed] = field(default_factory=dict)

    def answer(self, command: list[str]) -> Printed:
        assert command[0] == "peili" and command[2] == "--json", command
        if (other := self.broken.get(command[1])) is not None:
            return other
        problems = any(one["level"] == "problem" for one in self.findings)
        match command[1]:
            case "status":
                return printed(self.status)
            case "peers":
                peers = [{"node_id": node[:12], "state": "known"} for node in self.peers]
                return printed({"total": len(peers), "truncated": False, "peers": peers})
            case "doctor":
                told = {"schema": 1, "healthy": not problems, "findings": self.findings}
                return Printed(3 if problems else 0, json.dumps(told).encode(), b"")
            case _:
                return Printed(2, b"", b"Error: No such command\n")


def printed(document: object) -> Printed:
    return Printed(0, json.dumps(document).encode() + b"\n", b"")


@dataclass(slots=True)
class ClusterPlan:
    """`objects`: by collection. `daemons`: by pod."""

    objects: dict[str, list[Object]]
    daemons: dict[str, Daemon]

    @property
    def daemonset(self) -> Object:
        return self.objects[DAEMONSETS][0]

    @property
    def spec(self) -> Object:
        """Of the DaemonSet's pods."""
        found: Object = self.daemonset["spec"]["template"]["spec"]
        return found

    def node(self, number: int) -> Object:
        return self.objects[NODES][number]

    def pod(self, number: int) -> Object:
        return self.objects[PODS][number]

    def daemon(self, number: int) -> Daemon:
        return self.daemons[self.pod(number)["metadata"]["name"]]

    def state(self, number: int) -> Object:
        """Of the daemon's container."""
        found: Object = self.pod(number)["status"]["containerStatuses"][0]
        return found

    def without_pod(self, number: int) -> None:
        pod = self.objects[PODS].pop(number)
        del self.daemons[pod["metadata"]["name"]]

    def find(self, number: int, code: str, level: str = "problem", evidence: str = "e") -> None:
        """A finding of the host's own doctor."""
        found = {"code": code, "level": level, "what": "w", "evidence": evidence, "mend": ["m"]}
        self.daemon(number).findings.append(found)

    def event(
        self, kind: str, name: str, reason: str, message: str, at: str = "2026-11-30T08:00:00Z"
    ) -> None:
        number = len(self.objects[EVENTS])
        self.objects[EVENTS].append(
            {
                "metadata": {"name": f"{name}.{number}", "namespace": NAMESPACE, "creationTimestamp": at},
                "involvedObject": {"kind": kind, "name": name, "namespace": NAMESPACE},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "firstTimestamp": at,
                "lastTimestamp": at,
                "count": 1,
            }
        )

    def policy(self, **spec: object) -> None:
        """That selects the daemon's pods."""
        selected = {"matchLabels": self.daemonset["spec"]["selector"]["matchLabels"]}
        self.objects[POLICIES].append(
            {
                "metadata": {"name": "narrow", "namespace": NAMESPACE},
                "spec": {"podSelector": selected, "policyTypes": ["Ingress"], **spec},
            }
        )

    def not_running(self, number: int, phase: str = "Pending") -> None:
        self.pod(number)["status"]["phase"] = phase
        self.state(number).update(ready=False, state={"waiting": {"reason": "ContainerCreating"}})

    def all_objects(self) -> Iterator[tuple[str, Object]]:
        for collection, found in self.objects.items():
            yield from ((collection, it) for it in found)


def cluster_in_order(host_count: int = 3, case: str = "default") -> ClusterPlan:
    """`case`: of the chart's values, by its golden file."""
    chart = objects((GOLDEN / f"{case}.yaml").read_text())
    daemonset = copy.deepcopy(one([it for it in chart if _is_daemon(it)], "DaemonSet"))
    services = [
        copy.deepcopy(it) for it in chart if it["kind"] == "Service" and "helm.sh/hook" not in _notes(it)
    ]
    daemonset["status"] = {
        "currentNumberScheduled": host_count,
        "desiredNumberScheduled": host_count,
        "numberMisscheduled": 0,
        "numberReady": host_count,
    }
    numbers = range(host_count)
    nodes = [_node(number) for number in numbers]
    pods = [_pod(daemonset, number) for number in numbers]
    ids = [f"{number + 1:040x}"[::-1] for number in numbers]
    daemons = {
        pods[number]["metadata"]["name"]: Daemon(
            _status(ids[number], host_count - 1), [one for one in ids if one != ids[number]]
        )
        for number in numbers
    }
    found: dict[str, list[Object]] = {kind: [] for kind in KINDS}
    found[NODES], found[DAEMONSETS], found[PODS], found[SERVICES] = nodes, [daemonset], pods, services
    found[SLICES] = [_slice("peili-peers", host_count)]
    return ClusterPlan(found, daemons)


def _is_daemon(it: Object) -> bool:
    labels: dict[str, str] = it["metadata"].get("labels", {})
    return labels.get("app.kubernetes.io/component") == "daemon"


def _notes(it: Object) -> dict[str, Any]:
    found: dict[str, Any] = it["metadata"].get("annotations", {})
    return found


def _node(number: int) -> Object:
    return {
        "metadata": {
            "name": f"host-{number}",
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "number": str(number)},
        },
        "spec": {"taints": []},
        "status": {
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": "v1.35.0",
                # The API server wants them all.
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage"), "x"),
                "kubeProxyVersion": "",
            },
            "addresses": [{"type": "InternalIP", "address": _address(number)}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def _pod(daemonset: Object, number: int) -> Object:
    template = daemonset["spec"]["template"]
    spec = copy.deepcopy(template["spec"])
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [f"host-{number}"]}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    spec["affinity"] = {"nodeAffinity": required}
    spec["nodeName"] = f"host-{number}"
    status = {
        "name": "daemon",
        "image": "x",
        "imageID": "x",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-30T07:00:00Z"}},
        "lastState": {},
    }
    return {
        "metadata": {
            "name": f"peili-{number:05d}",
            "namespace": NAMESPACE,
            "labels": {**template["metadata"]["labels"], "controller-revision-hash": "5f6d"},
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
            "containerStatuses": [status],
        },
    }


def _slice(service: str, host_count: int) -> Object:
    return {
        "metadata": {
            "name": f"{service}-x1",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [_address(number)]} for number in range(host_count)],
        "ports": [{"name": "peer", "port": 29021, "protocol": "TCP"}],
    }


def _address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250 + 1}"


def _status(node: str, members: int) -> Object:
    return {
        "version": VERSION,
        "peer_wire_version": 1,
        "node_id": node,
        "cluster": "peili",
        "unready": [],
        "members": members,
        "records": 10,
        "isolated": False,
        "trouble": None,
        "bootstrap": ["dns:peili-peers"],
        "uptime_s": 3600.0,
        "requests": 12,
        "clock_offset_s": 0.1,
        "refused_datagrams": {"foreign": 0, "mac": 0, "tag": 0, "version": 0, "clock": 0},
        "key_ids": [KEY_ID],
    }
