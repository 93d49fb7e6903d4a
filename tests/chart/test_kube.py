"""The chart in a real API server, by real helm: install, upgrade, uninstall. There is no controller and no kubelet."""

from __future__ import annotations

import asyncio
import base64
import copy
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from mirror.secret import ClusterSecret
from tests.support.helm_chart import (
    CASES,
    CHART,
    HelmError,
    Object,
    one,
    pod_specs,
    rendered,
    run,
    values_file,
)
from tests.support.kube_apiserver_build import kube_apiserver
from tests.support.kube_bed import ApiError, KubeBed
from tests.support.missing import NO_TOOLS, Missing
from tests.support.skips import require, tool_bin

pytestmark = [pytest.mark.matrix, pytest.mark.asyncio(loop_scope="module")]

HOOKS = {"daemonsets/peili-cleanup", "services/peili-cleanup", "pods/peili-cleanup-wait"}
INSTALLED = {
    "daemonsets/peili",
    "secrets/peili-cluster",
    "serviceaccounts/peili",
    "services/peili-metrics",
    "services/peili-peers",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kube(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeBed]:
    server = require(kube_apiserver())
    if shutil.which("openssl") is None:
        require(Missing(NO_TOOLS, "openssl is not installed.", "install openssl."))
    async with KubeBed(tool_bin("etcd") / "etcd", server, tmp_path_factory.mktemp("kube")) as bed:
        yield bed


async def helm(kube: KubeBed, major: int, *arguments: str) -> str:
    return await asyncio.to_thread(run, major, *arguments, home=kube.folder, kubeconfig=kube.kubeconfig)


async def install(kube: KubeBed, major: int, namespace: str, values: dict[str, Any]) -> str:
    path = str(values_file(kube.folder, values))
    return await helm(
        kube, major, "upgrade", "--install", "peili", str(CHART), "--namespace", namespace, "--values", path
    )


def secret(kube: KubeBed, namespace: str) -> dict[str, str]:
    data: dict[str, str] = kube.ask(f"/api/v1/namespaces/{namespace}/secrets/peili-cluster")["data"]
    return data


@pytest.mark.parametrize("major", [3, 4])
async def test_a_secret_is_made_once_and_stays(kube: KubeBed, major: int) -> None:
    namespace = f"secret-{major}"
    kube.namespace(namespace)
    notes = await install(kube, major, namespace, {})
    assert "The cluster's secret was made for you: peili-cluster" in notes
    assert kube.names(namespace) >= INSTALLED
    made = secret(kube, namespace)
    assert len(ClusterSecret.parse(base64.b64decode(made["secret"]), "the Secret").secrets) == 1
    await install(kube, major, namespace, {"peili": {"cacheSize": "1GiB"}})
    assert secret(kube, namespace) == made
    # What the operator writes into it while he changes it stays, too.
    lines = base64.b64decode(made["secret"]) + b"\n" + base64.b64encode(b"n" * 32)
    rotated = {"secret": base64.b64encode(lines).decode()}
    path = f"/api/v1/namespaces/{namespace}/secrets/peili-cluster"
    kube.ask(path, "PATCH", {"data": rotated}, "application/merge-patch+json")
    await install(kube, major, namespace, {})
    assert secret(kube, namespace) == rotated
    # The same for who only looks.
    flags = ["--namespace", namespace]
    looked = await helm(kube, major, "upgrade", "peili", str(CHART), *flags, "--dry-run=server")
    assert rotated["secret"] in looked
    # A rollback is to all of that time. Helm 4 sees that somebody else wrote the Secret since then, and refuses.
    if major == 3:
        await helm(kube, 3, "rollback", "peili", "2", *flags)
        assert secret(kube, namespace) == made
    else:
        with pytest.raises(HelmError, match=r"conflict.*\.data\.secret"):
            await helm(kube, 4, "rollback", "peili", "2", *flags)
        assert secret(kube, namespace) == rotated


async def test_a_secret_without_the_key_is_named(kube: KubeBed) -> None:
    kube.namespace("key")
    await install(kube, 4, "key", {})
    with pytest.raises(HelmError, match=r'Secret peili-cluster has no key "lines"; name the one that it has'):
        await install(kube, 4, "key", {"clusterSecret": {"key": "lines"}})


async def test_a_secret_of_the_user_s_takes_the_place_of_ours(kube: KubeBed) -> None:
    kube.namespace("own")
    await install(kube, 4, "own", {})
    await install(kube, 4, "own", {"clusterSecret": {"existingSecret": "mine"}})
    assert "secrets/peili-cluster" not in kube.names("own")


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("is_clean", [True, False])
async def test_an_uninstall_waits_for_all_hosts(kube: KubeBed, major: int, is_clean: bool) -> None:
    namespace = f"uninstall-{major}-{is_clean}".lower()
    kube.namespace(namespace)
    before = kube.names(namespace)
    await install(kube, major, namespace, {})
    async with asyncio.TaskGroup() as tasks:
        uninstall = tasks.create_task(
            _outcome(helm(kube, major, "uninstall", "peili", "--namespace", namespace))
        )
        # The kubelet's part.
        await kube.appears(f"/api/v1/namespaces/{namespace}/pods/peili-cleanup-wait")
        there = kube.names(namespace) - before
        kube.set_phase(namespace, "peili-cleanup-wait", "Succeeded" if is_clean else "Failed")
    # Nothing of the release is left when hosts are cleaned, nor its account, which the pods must not name.
    assert there == HOOKS
    if is_clean:
        assert uninstall.result() is None
        assert kube.names(namespace) == before
    else:
        assert "peili-cleanup-wait" in str(uninstall.result())
        # Helm 3.17 leaves what the docs say; Helm 4 deletes the hooks that succeeded before the one that failed.
        left = HOOKS if major == 3 else {"pods/peili-cleanup-wait"}
        assert kube.names(namespace) - before == left
        # It can be installed again, and uninstalled.
        await install(kube, major, namespace, {})


async def _outcome(command: Any) -> HelmError | None:
    try:
        await command
    except HelmError as error:
        return error
    return None


CRDS = {"ServiceMonitor": "servicemonitors", "PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}


def crd(kind: str, plural: str) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    group = "monitoring.coreos.com"
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": spec,
    }


@pytest.mark.parametrize("name", ["default", "minimal", "everything", "hostport", "nodeport"])
async def test_every_object_is_taken(kube: KubeBed, name: str) -> None:
    """Unknown fields are refused, as are a protocol, a path type, a port or a quantity that there cannot be."""
    if name == "everything":
        for kind, plural in CRDS.items():
            kube.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "POST", crd(kind, plural))
            await kube.appears(f"/apis/monitoring.coreos.com/v1/{plural}")
        kube.namespace("elsewhere")
    namespace = f"take-{name}"
    kube.namespace(namespace)
    values = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    notes = await install(kube, 4, namespace, values)
    assert ("seed and scheduler come with a later release" in notes) is (name == "everything")
    if name == "nodeport":
        # The installed one has its port.
        values["service"] = {"registry": {"nodePort": 30021}}
    found = rendered(kube.folder, values)
    for it in found:
        strictly_taken(kube, it)
    for where, spec in pod_specs(found):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x", "namespace": namespace},
            "spec": spec,
        }
        # A StatefulSet's claims become volumes.
        if where.startswith("StatefulSet/"):
            pod["spec"] = {**spec, "volumes": [*spec["volumes"], {"name": "data", "emptyDir": {}}]}
        strictly_taken(kube, pod)


def strictly_taken(kube: KubeBed, it: Object, namespace: str = "default") -> None:
    """Raises: ApiError."""
    group = it["apiVersion"]
    base = f"/apis/{group}" if "/" in group else f"/api/{group}"
    plural = CRDS.get(it["kind"]) or {"NetworkPolicy": "networkpolicies"}.get(
        it["kind"], f"{it['kind'].lower()}s"
    )
    it = {**it, "metadata": {**it["metadata"], "namespace": namespace}}
    kube.ask(f"{base}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict", "POST", it)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda spec: spec["containers"][0].update(volumeMount=[]), "unknown field"),
        (lambda spec: spec["containers"][0]["ports"][0].update(protocol="TPC"), "TPC"),
        (lambda spec: spec["volumes"][0]["hostPath"].update(type="Sock"), "Sock"),
        (lambda spec: spec["containers"][0]["volumeMounts"][0].update(name="none"), "none"),
        (lambda spec: spec["containers"][0]["ports"][0].update(hostPort=99999), "99999"),
        (lambda spec: spec["containers"][0]["resources"]["limits"].update(memory="12Qi"), "quantities"),
    ],
)
async def test_a_planted_fault_is_refused(kube: KubeBed, plant: Any, said: str) -> None:
    """Else the test above would say nothing."""
    daemon = copy.deepcopy(one(rendered(kube.folder, {}), "DaemonSet", "peili"))
    plant(daemon["spec"]["template"]["spec"])
    with pytest.raises(ApiError, match=said):
        strictly_taken(kube, daemon)


@pytest.mark.parametrize("mode", ["host", "hostPort", "nodePort"])
@pytest.mark.parametrize("level", ["privileged", "baseline"])
async def test_which_pod_security_lets_the_daemon_in(kube: KubeBed, level: str, mode: str) -> None:
    """docs/kubernetes.md says that the namespace must be privileged, and why."""
    namespace = f"{level}-{mode}".lower()
    kube.namespace(namespace, level)
    found = rendered(kube.folder, {"network": {"mode": mode}})
    spec = one(found, "DaemonSet", "peili")["spec"]["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    if level == "privileged":
        strictly_taken(kube, pod, namespace)
        return
    with pytest.raises(ApiError, match="violates PodSecurity") as refused:
        strictly_taken(kube, pod, namespace)
    assert "hostPath" in str(refused.value) and "hostPort" in str(refused.value)
    assert ("host namespaces" in str(refused.value)) is (mode == "host")
    for never in ("privileged (container", "non-default capabilities", "seccompProfile"):
        assert never not in str(refused.value)


async def test_a_test_pod_is_made_and_taken_away(kube: KubeBed) -> None:
    kube.namespace("helm-test")
    await install(kube, 4, "helm-test", {})
    async with asyncio.TaskGroup() as tasks:
        tested = tasks.create_task(helm(kube, 4, "test", "peili", "--namespace", "helm-test"))
        await kube.appears("/api/v1/namespaces/helm-test/pods/peili-test")
        kube.set_phase("helm-test", "peili-test", "Succeeded")
    assert "Succeeded" in tested.result()
    assert "pods/peili-test" not in kube.names("helm-test")
