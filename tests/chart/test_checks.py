"""No render has a fault that a schema does not see, and each check finds the fault that it is for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.chart_checks import faults
from tests.support.chart_golden import cases
from tests.support.helm_chart import Object, one


@pytest.mark.parametrize("name", cases())
def test_a_render_has_no_fault(case: Callable[[str], list[Object]], name: str) -> None:
    assert faults(case(name)) == []


Plant = Callable[[list[Object]], object]


def daemon(found: list[Object]) -> Any:
    return one(found, "DaemonSet", "peili")["spec"]["template"]["spec"]


def container(found: list[Object]) -> Any:
    return daemon(found)["containers"][0]


def hook(found: list[Object]) -> Any:
    return one(found, "DaemonSet", "cleanup")["spec"]["template"]["spec"]


def service(found: list[Object]) -> Any:
    return one(found, "Service", "peers")["spec"]


def secret_text(found: list[Object]) -> str:
    import base64

    return base64.b64decode(one(found, "Secret")["data"]["secret"]).decode()


PLANTED: dict[str, Plant] = {
    "Service/peili-peers: is there twice": lambda f: f.append(copy.deepcopy(one(f, "Service", "peers"))),
    "DaemonSet/Peili: is no name": lambda f: one(f, "DaemonSet", "peili")["metadata"].update(name="Peili"),
    "has no namespace": lambda f: f[0]["metadata"].pop("namespace"),
    "has no component": lambda f: f[0]["metadata"].pop("labels"),
    "has service links": lambda f: daemon(f).pop("enableServiceLinks"),
    "mounts a token": lambda f: hook(f).update(automountServiceAccountToken=True),
    "has no seccomp profile": lambda f: one(f, "Pod", "wait")["spec"].pop("securityContext"),
    "cannot ask the DNS": lambda f: daemon(f).update(dnsPolicy="ClusterFirst"),
    "has hostPID": lambda f: daemon(f).update(hostPID=True),
    "volume data is there twice": lambda f: daemon(f)["volumes"].append(daemon(f)["volumes"][3]),
    "volume spare is mounted nowhere": lambda f: daemon(f)["volumes"].append(
        {"name": "spare", "emptyDir": {}}
    ),
    "volume containerd-socket is no directory": lambda f: daemon(f)["volumes"][0]["hostPath"].update(
        type="Socket"
    ),
    "volume cluster-secret can be read": lambda f: daemon(f)["volumes"][4]["secret"].pop("defaultMode"),
    "container daemon is there twice": lambda f: daemon(f)["containers"].append(container(f)),
    "DaemonSet/peili configuration: has capabilities": lambda f: daemon(f)["initContainers"][0][
        "securityContext"
    ].pop("capabilities"),
    "DaemonSet/peili-cleanup cleanup: can write": lambda f: hook(f)["containers"][0][
        "securityContext"
    ].update(readOnlyRootFilesystem=False),
    "may become more privileged": lambda f: container(f)["securityContext"].update(privileged=True),
    "Pod/peili-test ready: has no limits": lambda f: one(f, "Pod", "test")["spec"]["containers"][0][
        "resources"
    ].pop("limits"),
    "mounts spool, which is no volume": lambda f: container(f)["volumeMounts"].append(
        {"name": "spool", "mountPath": "/spool"}
    ),
    "mounts two things at /etc/containerd": lambda f: container(f)["volumeMounts"].append(
        {"name": "data", "mountPath": "/etc/containerd"}
    ),
    "livenessProbe asks the port http": lambda f: container(f)["livenessProbe"]["httpGet"].update(
        port="http"
    ),
    "readinessProbe does not ask 127.0.0.1": lambda f: container(f)["readinessProbe"]["httpGet"].pop("host"),
    "variable PEILI_TAGS is there twice": lambda f: container(f)["env"].append(
        {"name": "PEILI_TAGS", "value": "off"}
    ),
    "REGISTRY_PASSWORD holds a secret": lambda f: container(f)["env"].append(
        {"name": "REGISTRY_PASSWORD", "value": "x"}
    ),
    "X holds a secret": lambda f: container(f)["env"].append(
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    ),
    "holds what Secret peili-cluster does": lambda f: container(f)["args"].append(f"--key={secret_text(f)}"),
    "port 29021 has no protocol": lambda f: container(f)["ports"][1].update(protocol="TPC"),
    "port 29021 is another on the host": lambda f: container(f)["ports"][1].update(hostPort=30021),
    "port registry is not on loopback": lambda f: container(f)["ports"][0].pop("hostIP"),
    "port 'peer' is named twice": lambda f: container(f)["ports"][2].update(name="peer"),
    "port (29021, 'TCP') is there twice": lambda f: container(f)["ports"][2].update(protocol="TCP"),
    "does not select its own pods": lambda f: one(f, "DaemonSet", "peili")["spec"]["selector"][
        "matchLabels"
    ].update(a="b"),
    "leads to the port peer-tcp": lambda f: service(f)["ports"][0].update(targetPort="peer-tcp"),
    "Service/peili-peers: chooses the pods of DaemonSet/peili, DaemonSet/peili-cleanup": lambda f: service(f)[
        "selector"
    ].pop("app.kubernetes.io/component"),
    "Service/peili-peers: chooses the pods of nothing": lambda f: service(f)["selector"].update(a="b"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(case: Callable[[str], list[Object]], fault: str) -> None:
    found = copy.deepcopy(case("default"))
    PLANTED[fault](found)
    assert [text for text in faults(found) if fault in text] != []


PLANTED_IN_ALL: dict[str, Plant] = {
    "ServiceMonitor/mirror: does not choose one Service": lambda f: one(f, "ServiceMonitor")["spec"][
        "selector"
    ].update(matchLabels={"a": "b"}),
    "PodMonitor/mirror: chooses the pods of nothing": lambda f: one(f, "PodMonitor")["spec"][
        "selector"
    ].update(matchLabels={"a": "b"}),
    "NetworkPolicy/mirror: chooses the pods of": lambda f: one(f, "NetworkPolicy")["spec"][
        "podSelector"
    ].update(matchLabels={"team": "images"}),
    "PodDisruptionBudget/mirror-scheduler: chooses the pods of": lambda f: one(f, "PodDisruptionBudget")[
        "spec"
    ]["selector"].update(matchLabels={}),
}


@pytest.mark.parametrize("fault", PLANTED_IN_ALL)
def test_a_fault_that_is_planted_in_everything_is_found(
    case: Callable[[str], list[Object]], fault: str
) -> None:
    found = copy.deepcopy(case("everything"))
    PLANTED_IN_ALL[fault](found)
    assert [text for text in faults(found) if fault in text] != []
