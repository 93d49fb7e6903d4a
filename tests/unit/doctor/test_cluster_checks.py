"""Each check of a cluster by a table: what is planted, and the finding that follows. A cluster in order has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mirror.doctor.cluster.diagnosis import diagnose
from mirror.doctor.cluster.finding import ClusterCode
from mirror.doctor.cluster.port import Printed
from mirror.doctor.cluster.report import lines
from mirror.doctor.finding import Level
from tests.support.cluster_findings import alone, found, seen
from tests.support.cluster_plan import DAEMONSETS, SERVICES, SLICES, ClusterPlan, cluster_in_order

Plant = Callable[[ClusterPlan], object]


@pytest.mark.parametrize("case", ["default", "hostport", "nodeport", "minimal"])
def test_a_cluster_in_order_has_no_finding(case: str) -> None:
    plan = cluster_in_order(3, case)
    assert found(plan) == ()
    assert lines(seen(plan), ()) == ["healthy, no problems; 3 of 3 daemons answered"]


# --- One fault each, with what must be in its evidence or mend, and the hosts that it names


def waiting(number: int, reason: str, message: str = "") -> Plant:
    def plant(plan: ClusterPlan) -> None:
        plan.not_running(number)
        plan.state(number)["state"] = {"waiting": {"reason": reason, "message": message}}

    return plant


def crashing(plan: ClusterPlan) -> None:
    waiting(1, "CrashLoopBackOff", "back-off 5m0s")(plan)
    plan.pod(1)["status"]["phase"] = "Running"
    ended = {"reason": "Error", "exitCode": 1, "message": "starting\npeili: port 29021 is taken\n"}
    plan.state(1)["lastState"] = {"terminated": ended}


def init_crashing(plan: ClusterPlan) -> None:
    plan.not_running(1)
    status = {"name": "configuration", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    ended = {"terminated": {"reason": "Error", "exitCode": 2, "message": "peili: no such directory"}}
    plan.pod(1)["status"]["initContainerStatuses"] = [{**status, "lastState": ended}]


def evicted(plan: ClusterPlan) -> None:
    plan.not_running(1, "Failed")
    plan.state(1)["state"] = {}
    plan.pod(1)["status"].update(reason="Evicted", message="The node was low on resource: memory.")


def unscheduled(plan: ClusterPlan) -> None:
    plan.not_running(1)
    del plan.pod(1)["spec"]["nodeName"]
    why = "0/3 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    plan.pod(1)["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
    ]


def mount_fails(plan: ClusterPlan) -> None:
    plan.not_running(1)
    plan.event("Pod", "peili-00001", "FailedMount", "old", "2026-11-30T07:00:00Z")
    plan.event("Pod", "peili-00001", "FailedMount", 'secret "peili-cluster" not found')


def unready(plan: ClusterPlan) -> None:
    plan.state(1)["ready"] = False
    plan.daemon(1).status["unready"] = ["containerd is away"]
    plan.find(1, "daemon-not-ready")


def node_down(plan: ClusterPlan) -> None:
    plan.state(1)["ready"] = False
    plan.node(1)["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]


def refused(message: str) -> Plant:
    def plant(plan: ClusterPlan) -> None:
        for number in (2, 1, 0):
            plan.without_pod(number)
        plan.daemonset["status"]["currentNumberScheduled"] = 0
        plan.event("DaemonSet", "peili", "FailedCreate", message)

    return plant


def tainted(plan: ClusterPlan) -> None:
    plan.without_pod(1)
    plan.spec["tolerations"] = [{"key": "CriticalAddonsOnly", "operator": "Exists"}]
    plan.node(1)["spec"]["taints"] = [
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
    ]


def left_out(plan: ClusterPlan) -> None:
    plan.without_pod(1)
    plan.spec["nodeSelector"] = {"pool": "main"}
    for number in (0, 2):
        plan.node(number)["metadata"]["labels"]["pool"] = "main"


def runtime(text: str) -> Plant:
    return lambda plan: plan.node(1)["status"]["nodeInfo"].update(containerRuntimeVersion=text)


def no_service(plan: ClusterPlan) -> None:
    plan.objects[SERVICES] = [it for it in plan.objects[SERVICES] if it["metadata"]["name"] != "peili-peers"]


def other_selector(plan: ClusterPlan) -> None:
    plan.objects[SLICES][0]["endpoints"] = None
    service = next(it for it in plan.objects[SERVICES] if it["metadata"]["name"] == "peili-peers")
    service["spec"]["selector"]["tier"] = "x"


def on_own_network(plan: ClusterPlan) -> None:
    plan.spec["hostNetwork"] = False


def status_of(number: int, **values: object) -> Plant:
    return lambda plan: plan.daemon(number).status.update(values)


def islands(plan: ClusterPlan) -> None:
    ids = [plan.daemon(number).status["node_id"] for number in range(5)]
    for number in range(5):
        mine = ids[:3] if number < 3 else ids[3:]
        plan.daemon(number).peers = [one for one in mine if one != ids[number]]
        plan.daemon(number).status["members"] = len(mine) - 1


def hears_nobody(plan: ClusterPlan) -> None:
    plan.daemon(1).peers = []
    plan.daemon(1).status["members"] = 0
    plan.find(1, "no-peers")


def knows_fewer(plan: ClusterPlan) -> None:
    plan.daemon(1).peers.pop()
    plan.daemon(1).status["members"] = 1


def clocks(plan: ClusterPlan) -> None:
    plan.daemon(1).status["clock_offset_s"] = 90.0
    plan.find(1, "clock-skew")


def rotated(plan: ClusterPlan) -> None:
    plan.daemon(1).status["key_ids"] = ["ffffffff"]
    plan.find(1, "secret-mismatch")


def old_and_mute(plan: ClusterPlan) -> None:
    del plan.daemon(1).status["key_ids"]
    plan.daemon(1).status["refused_datagrams"] = {"mac": 3}


def said(number: int, command: str, answer: Printed) -> Plant:
    return lambda plan: plan.daemon(number).broken.update({command: answer})


def silent(plan: ClusterPlan) -> None:
    said(1, "status", Printed(1, b"", b"peili: no daemon answers at 127.0.0.1:29022\n"))(plan)


def in_range(plan: ClusterPlan) -> None:
    plan.find(1, "port-in-nodeport-range")
    for port in plan.spec["containers"][0]["ports"]:
        if port["name"].startswith("peer"):
            port.update(containerPort=30021, hostPort=30021)


PEER_RULE = [{"ports": [{"port": 29021, "protocol": "TCP"}]}]
PLANTED: list[tuple[str, Plant, str, list[int]]] = [
    ("daemonset-absent", lambda plan: plan.objects[DAEMONSETS].clear(), "--namespace", []),
    (
        "pod-security",
        refused('pods "peili-x" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes'),
        "kubectl label namespace peili-system pod-security.kubernetes.io/enforce=privileged",
        [],
    ),
    ("pods-refused", refused("exceeded quota: critical, limited: pods=0"), "exceeded quota", []),
    ("pod-unscheduled", unscheduled, "didn't have free ports", [1]),
    ("taint-not-tolerated", tainted, "gpu:NoSchedule on host-1", [1]),
    ("host-without-pod", lambda plan: plan.without_pod(1), "describe daemonset peili", [1]),
    ("host-left-out", left_out, "nodeSelector", [1]),
    ("image-not-pulled", waiting(1, "ImagePullBackOff", "not found"), "imagePullSecrets", [1]),
    ("image-not-pulled", waiting(1, "InvalidImageName"), "image.repository", [1]),
    ("pod-crashes", crashing, "daemon: Error, exit code 1: peili: port 29021 is taken", [1]),
    ("pod-crashes", init_crashing, "configuration: Error, exit code 2: peili: no such directory", [1]),
    ("pod-crashes", evicted, "Evicted: The node was low", [1]),
    ("pod-not-started", mount_fails, 'secret "peili-cluster" not found', [1]),
    ("pod-not-started", waiting(1, "CreateContainerConfigError", "no key"), "no key", [1]),
    ("pod-not-ready", unready, "containerd is away", [1]),
    ("pod-not-ready", node_down, "the node itself is not ready", [1]),
    ("runtime-not-containerd", runtime("cri-o://1.33.0"), "peili.origin: relay", [1]),
    ("runtime-not-containerd", runtime("docker://27.0"), "move these nodes to containerd", [1]),
    ("containerd-too-old", runtime("containerd://1.5.9"), "version 1.5.9 on host-1", [1]),
    (
        "arch-without-image",
        lambda plan: plan.node(1)["status"]["nodeInfo"].update(architecture="s390x"),
        "kubernetes.io/arch: amd64 or arm64",
        [1],
    ),
    ("peers-service-absent", no_service, "helm upgrade", []),
    ("peers-service-empty", lambda plan: plan.objects[SLICES].clear(), "kube-controller-manager", []),
    ("peers-service-empty", other_selector, "tier=x", []),
    ("network-policy-may-block", lambda plan: plan.policy(ingress=PEER_RULE), "UDP 29021", []),
    ("cluster-names-differ", status_of(1, cluster="other"), "'other' on 1 host (host-1)", [1]),
    ("secrets-differ", rotated, "key ffffffff on 1 host (host-1)", [1]),
    ("secrets-differ", status_of(1, key_ids=[]), "no secret on 1 host (host-1)", [1]),
    # Both sign with the old one, and one lacks the new: fine. The other way round it is not.
    ("secrets-differ", status_of(1, key_ids=["ffffffff", "0a1b2c3d"]), "ffffffff and 0a1b2c3d", [1]),
    ("secrets-differ", old_and_mute, "3 datagrams on host-1", [1]),
    ("wire-versions-apart", status_of(1, peer_wire_version=3), "version 3 on 1 host (host-1)", [1]),
    ("islands", islands, "3 hosts: host-0, host-1, host-2; 2 hosts: host-3, host-4", [3, 4]),
    ("hosts-alone", hears_nobody, "security groups", [1]),
    ("members-differ", knows_fewer, "host-1 lacks 1", [1]),
    ("clocks-differ", clocks, "host-1 is 90 s behind", [1]),
    ("releases-differ", status_of(1, version="9.9"), "9.9 on 1 host (host-1)", [1]),
    ("host-doctor-failed", said(1, "doctor", Printed(2, b"", b"Error: No such command")), "No such", [1]),
    ("host-doctor-failed", said(1, "doctor", Printed(0, b"{", b"")), "no document of Peili", [1]),
    ("admin-silent", silent, "no daemon answers at 127.0.0.1:29022", [1]),
    ("admin-silent", said(1, "status", Printed(0, b"[]", b"")), "no document of Peili", [1]),
    ("port-in-nodeport-range", in_range, "peer has port 30021; range: the default", []),
    # Of a host.
    ("nobody-asked", lambda plan: plan.find(1, "nobody-asked"), "config_path", [1]),
    ("hosts-absent", lambda plan: plan.find(1, "hosts-absent"), "rollout restart daemonset/peili", [1]),
    ("layers-discarded", lambda plan: plan.find(1, "layers-discarded", "note"), "m", [1]),
    # Of a later release.
    ("moon-phase", lambda plan: plan.find(1, "moon-phase"), "e on host-1", [1]),
]
OF_LARGER = {"islands": 5}


@pytest.mark.parametrize(
    ("code", "plant", "text", "hosts"), PLANTED, ids=[f"{n}-{row[0]}" for n, row in enumerate(PLANTED)]
)
def test_what_is_wrong_is_found_alone_with_its_mend(
    code: str, plant: Plant, text: str, hosts: list[int]
) -> None:
    plan = cluster_in_order(OF_LARGER.get(code, 3))
    plant(plan)
    codes = {one.code: one for one in found(plan)}
    # Pods that are refused lack on their hosts.
    also = {"host-without-pod"} if code in ("pod-security", "pods-refused") else set()
    assert set(codes) - also == {code}, codes
    one = codes[code]
    assert text in " | ".join([one.evidence, *one.mend])
    assert one.hosts == tuple(f"host-{number}" for number in hosts)
    assert one.what and one.evidence and one.mend
    assert "\n" not in one.what + one.evidence + "".join(one.mend)


def test_every_code_is_planted() -> None:
    planted = {code for code, _, _, _ in PLANTED}
    # Those two are below: they take another API, or another network.
    assert {code.value for code in ClusterCode} - planted == {
        "host-not-asked",
        "not-seen",
        "network-policy-blocks",
    }


# --- What is no fault


def settled_late(plan: ClusterPlan) -> None:
    hears_nobody(plan)
    plan.daemon(1).status["uptime_s"] = 5.0
    plan.daemon(1).findings.clear()


def windows(plan: ClusterPlan) -> None:
    plan.without_pod(1)
    plan.node(1)["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    plan.node(1)["status"]["nodeInfo"].update(operatingSystem="windows", containerRuntimeVersion="docker://1")


def going(plan: ClusterPlan) -> None:
    plan.pod(1)["metadata"]["deletionTimestamp"] = "2026-11-30T08:00:00Z"
    plan.state(1)["ready"] = False


def known_by_a_third(plan: ClusterPlan) -> None:
    """host-0 and host-2 do not know each other, and both know the one that was not asked."""
    middle = plan.daemon(1).status["node_id"]
    plan.not_running(1)
    for number in (0, 2):
        plan.daemon(number).peers = [middle]
        plan.daemon(number).status["members"] = 1


@pytest.mark.parametrize(
    "plant",
    [
        # A pod that was made a moment ago.
        lambda plan: plan.not_running(1),
        settled_late,
        windows,
        going,
        # What every pod says.
        lambda plan: plan.find(1, "config-unknown", "note"),
        # A secret on its way in.
        status_of(1, key_ids=["0a1b2c3d", "ffffffff"]),
        # An upgrade to the next wire version. The release tells of itself.
        status_of(1, peer_wire_version=2),
        status_of(1, clock_offset_s=4.0),
        status_of(1, refused_datagrams={"foreign": 3}),
        lambda plan: plan.policy(ingress=[{}]),
        lambda plan: plan.event("DaemonSet", "peili", "FailedCreate", "violates PodSecurity, an hour ago"),
        lambda plan: plan.node(1)["metadata"]["labels"].update(arch="x"),
    ],
)
def test_what_is_no_fault(plant: Plant) -> None:
    plan = cluster_in_order(3)
    plant(plan)
    assert found(plan) == ()


def test_two_that_know_a_third_are_no_islands() -> None:
    plan = cluster_in_order(3)
    known_by_a_third(plan)
    assert {one.code for one in found(plan)} == {"members-differ"}


# --- What could not be looked at


def test_a_host_that_cannot_be_asked_keeps_no_other_from_it() -> None:
    plan = cluster_in_order(3)
    plan.find(2, "nobody-asked")
    facts = seen(plan, not_run={"peili-00001": "the right to create and get pods/exec lacks"})
    codes = {one.code: one for one in diagnose(facts)}
    assert set(codes) == {"host-not-asked", "nobody-asked"}
    assert codes["host-not-asked"].hosts == ("host-1",)
    assert codes["host-not-asked"].evidence == "the right to create and get pods/exec lacks on host-1"
    assert lines(facts, diagnose(facts))[-1] == "2 problems; 2 of 3 daemons answered"


def test_a_list_that_may_not_be_seen_is_a_note() -> None:
    (one,) = found(
        cluster_in_order(3), forbidden=("/nodes", "/endpointslices", "/networkpolicies", "/events")
    )
    assert one.code == "not-seen" and one.level is Level.NOTE
    for lacking in ("nodes", "endpointslices", "networkpolicies", "events"):
        assert lacking in one.what and f"may not list {lacking}" in one.evidence


def test_the_range_of_the_api_server_is_read_where_it_may_be() -> None:
    plan = cluster_in_order(3)
    words = ["kube-apiserver", "--service-node-port-range=29000-29999"]
    plan.objects["/api/v1/pods"].append(
        {
            "metadata": {
                "name": "kube-apiserver-a",
                "namespace": "kube-system",
                "labels": {"component": "kube-apiserver"},
            },
            "spec": {"containers": [{"name": "kube-apiserver", "command": words}]},
        }
    )
    one = alone(plan)
    assert one.code == "port-in-nodeport-range" and one.evidence.endswith("range: of kube-apiserver-a")


def test_nodes_that_are_not_seen_are_not_looked_for() -> None:
    plan = cluster_in_order(3)
    plan.objects["/api/v1/nodes"].clear()
    assert found(plan) == ()
