"""`peili doctor --cluster` by an API: the same on a stub over HTTP and on a real API server with a kubelet's exec."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.support.cluster_plan import ClusterPlan, cluster_in_order
from tests.support.doctor_bed import run
from tests.support.kube_apiserver_build import kube_apiserver
from tests.support.kube_bed import LOOKER_TOKEN, KubeBed
from tests.support.kube_beds import PlantedApi, config, real_api, stub_api
from tests.support.missing import NO_TOOLS, Missing
from tests.support.skips import require, tool_bin

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

Planted = Callable[[ClusterPlan], AbstractAsyncContextManager[PlantedApi]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kube(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeBed]:
    server = require(kube_apiserver())
    if shutil.which("openssl") is None:
        require(Missing(NO_TOOLS, "openssl is not installed.", "install openssl."))
    async with KubeBed(tool_bin("etcd") / "etcd", server, tmp_path_factory.mktemp("kube")) as bed:
        yield bed


@pytest.fixture(params=["stub", pytest.param("real", marks=pytest.mark.matrix)])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Planted:
    if request.param == "stub":
        return lambda plan: stub_api(plan, tmp_path)
    kube: KubeBed = request.getfixturevalue("kube")
    return lambda plan: real_api(plan, kube)


async def doctor(kubeconfig: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, findings by code, what was said to standard error."""
    command = (sys.executable, "-m", "mirror", "doctor", "--cluster", f"--kubeconfig={kubeconfig}", "--json")
    code, out, err = await run(*command, *more)
    if code not in (0, 3):
        return code, {}, err
    told = json.loads(out)
    assert told["healthy"] == (code == 0)
    return code, {one["code"]: one for one in told["findings"]}, err


async def test_a_cluster_in_order(planted: Planted) -> None:
    plan = cluster_in_order(3)
    # More than one page of a document, and more than one message.
    plan.daemon(0).peers += [f"{number:040x}" for number in range(2000)]
    plan.spec["containers"][0]["args"] += ["--mirror=ghcr.io", "--filter=x$$"]
    for number in range(3):
        plan.pod(number)["spec"]["containers"][0]["args"] = plan.spec["containers"][0]["args"]
    async with planted(plan) as api:
        assert await doctor(api.kubeconfig) == (0, {}, "")
    commands = [command for pod, _, command in api.answers.asked if pod == "peili-00001"]
    assert commands == [
        ["peili", "status", "--json"],
        ["peili", "peers", "--json"],
        ["peili", "doctor", "--json", "--containerd-namespace=k8s.io", "--mirror=ghcr.io"],
    ]
    assert {container for _, container, _ in api.answers.asked} == {"daemon"}


async def test_what_is_wrong_is_found_through_the_api(planted: Planted) -> None:
    plan = cluster_in_order(5)
    plan.without_pod(0)
    plan.not_running(0)
    plan.event("Pod", "peili-00001", "FailedMount", 'secret "peili-cluster" not found')
    plan.find(1, "nobody-asked", evidence="3 pulled in 60 s")
    plan.daemon(2).status["key_ids"] = ["ffffffff"]
    plan.node(4)["status"]["nodeInfo"]["containerRuntimeVersion"] = "cri-o://1.33.0"
    plan.policy(ingress=[{"ports": [{"port": 29021, "protocol": "TCP"}]}])
    async with planted(plan) as api:
        code, found, _ = await doctor(api.kubeconfig)
        people, out, _ = await run(
            *(sys.executable, "-m", "mirror", "doctor", "--cluster", f"--kubeconfig={api.kubeconfig}"),
            *("--namespace", "peili-system", "--release", "peili", "--context", "tests"),
        )
    assert (code, people) == (3, 3)
    assert {name: one["hosts"] for name, one in found.items()} == {
        "host-without-pod": ["host-0"],
        "pod-not-started": ["host-1"],
        "runtime-not-containerd": ["host-4"],
        "secrets-differ": ["host-3"],
        "nobody-asked": ["host-2"],
        "network-policy-may-block": [],
    }
    assert found["pod-not-started"]["evidence"] == 'secret "peili-cluster" not found on host-1'
    assert out.splitlines()[-1] == "5 problems, 1 note; 3 of 4 daemons answered"
    assert "problem nobody-asked: 1 host: w\n    seen: 3 pulled in 60 s on host-2\n    mend: " in out


async def test_no_daemonset(planted: Planted) -> None:
    plan = cluster_in_order(1)
    async with planted(plan) as api:
        code, found, _ = await doctor(api.kubeconfig, "--namespace=default")
        assert (code, set(found)) == (3, {"daemonset-absent"})
        assert "in namespace default" in found["daemonset-absent"]["what"]
        code, found, _ = await doctor(api.kubeconfig, "--release=other")
        assert (code, set(found)) == (3, {"daemonset-absent"})


async def test_exec_that_fails_keeps_no_other_host_from_being_asked(planted: Planted) -> None:
    plan = cluster_in_order(4)
    async with planted(plan) as api:
        api.answers.internal.add("peili-00001")
        api.answers.cut.add("peili-00002")
        code, found, _ = await doctor(api.kubeconfig)
    assert (code, set(found)) == (3, {"host-not-asked"})
    assert found["host-not-asked"]["hosts"] == ["host-1", "host-2"]
    evidence = found["host-not-asked"]["evidence"]
    assert "container is not running on host-1" in evidence
    assert "the connection ended before the command did on host-2" in evidence


async def test_credentials_that_are_not_taken(planted: Planted, tmp_path: Path) -> None:
    async with planted(cluster_in_order(1)) as api:
        told = json.loads(api.kubeconfig.read_text())
        other = tmp_path / "other"
        other.write_text(json.dumps(config(told["clusters"][0]["cluster"]["server"], "wrong")))
        code, _, err = await doctor(other)
    assert code == 1 and "does not take the credentials of the context" in err


# --- Rights, on a real API server


RIGHTS = Path(__file__).resolve().parents[2] / "docs" / "doctor-rights.yaml"
GROUP_PATH = "/apis/rbac.authorization.k8s.io/v1"


def without(rules: list[dict[str, Any]], resource: str, verb: str = "") -> list[dict[str, Any]]:
    """`verb` empty: all."""
    return [
        {
            **rule,
            "resources": [one for one in rule["resources"] if one != resource or verb],
            "verbs": [one for one in rule["verbs"] if resource not in rule["resources"] or one != verb],
        }
        for rule in rules
        if rule["resources"] != [resource] or verb
    ]


def on_the_page() -> set[tuple[str, str]]:
    """Every right, as resource and verb."""
    rules = [rule for it in yaml.safe_load_all(RIGHTS.read_text()) for rule in it.get("rules", [])]
    return {(one, verb) for rule in rules for one in rule["resources"] for verb in rule["verbs"]}


def grant(kube: KubeBed, resource: str = "", verb: str = "") -> None:
    """What the page says, without one right."""
    for it in yaml.safe_load_all(RIGHTS.read_text()):
        plural = f"{it['kind'].lower()}s"
        namespace = it["metadata"].get("namespace")
        inside = f"namespaces/{namespace}/" if namespace else ""
        if "rules" in it and resource:
            it["rules"] = without(it["rules"], resource, verb)
        path = f"{GROUP_PATH}/{inside}{plural}"
        name = it["metadata"]["name"]
        if name in {one["metadata"]["name"] for one in kube.ask(path)["items"]}:
            kube.ask(f"{path}/{name}", "DELETE")
        kube.ask(f"{path}?fieldValidation=Strict", "POST", it)


@pytest.mark.matrix
async def test_the_rights_of_the_page_are_enough_and_none_is_idle(kube: KubeBed, tmp_path: Path) -> None:
    plan = cluster_in_order(2)
    async with real_api(plan, kube) as api:
        server = json.loads(api.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        looker = tmp_path / "looker"
        looker.write_text(json.dumps(config(server, LOOKER_TOKEN)))
        code, _, err = await doctor(looker)
        assert code == 1 and "does not list DaemonSets" in err and "--namespace NS" in err
        grant(kube)
        assert await doctor(looker) == (0, {}, "")
        noted = ("nodes", "events", "services", "endpointslices", "networkpolicies")
        needed, of_exec = ("daemonsets", "pods"), ("get", "create")
        assert {(one, "list") for one in (*noted, *needed)} | {
            ("pods/exec", verb) for verb in of_exec
        } == on_the_page()
        for resource in noted:
            grant(kube, resource)
            code, found, _ = await doctor(looker)
            assert (code, set(found)) == (0, {"not-seen"}) and f"show {resource}:" in found["not-seen"][
                "what"
            ]
        for resource, said in zip(needed, ("does not list DaemonSets", "the daemon's pods"), strict=True):
            grant(kube, resource)
            code, _, err = await doctor(looker, "--namespace=peili-system")
            assert code == 1 and said in err
        for verb in of_exec:
            grant(kube, "pods/exec", verb)
            code, found, _ = await doctor(looker)
            assert (code, set(found)) == (3, {"host-not-asked"}), verb
            assert found["host-not-asked"]["evidence"] == (
                "the right to create and get pods/exec lacks on host-0, host-1"
            )
        # In one namespace alone.
        grant(kube)
        kube.ask(f"{GROUP_PATH}/clusterrolebindings/peili-doctor", "DELETE")
        code, found, _ = await doctor(looker, "--namespace=peili-system")
        assert (code, set(found)) == (0, {"not-seen"})
