"""What is wrong with rendered objects that a schema does not see. Pure.

Each check is named by what it finds; tests/chart/test_checks.py plants every fault once. What Kubernetes itself checks
(types, unknown fields) is left to the API server of `kube_bed`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

from tests.support.helm_chart import Object, containers, pod_specs

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_HOST_PATH_TYPES = {"Directory", "DirectoryOrCreate"}
_SECRET_WORDS = re.compile(r"secret|password|token", re.IGNORECASE)


def faults(found: list[Object]) -> list[str]:
    """One sentence each, empty when all is well."""
    return [
        *_objects(found),
        *(fault for name, spec in pod_specs(found) for fault in _pod(name, spec)),
        *_selectors(found),
        *_secrets(found),
    ]


def _objects(found: list[Object]) -> Iterator[str]:
    seen = set()
    for it in found:
        kind, name = it["kind"], it["metadata"]["name"]
        where = f"{kind}/{name}"
        if (kind, name) in seen:
            yield f"{where}: is there twice"
        seen.add((kind, name))
        if not _NAME.fullmatch(name) or len(name) > 63:
            yield f"{where}: is no name of an object"
        if "namespace" not in it["metadata"]:
            yield f"{where}: has no namespace"
        if "app.kubernetes.io/component" not in it["metadata"].get("labels", {}):
            yield f"{where}: has no component"


def _secrets(found: list[Object]) -> Iterator[str]:
    texts = {
        base64.b64decode(text).decode().strip(): it["metadata"]["name"]
        for it in found
        if it["kind"] == "Secret"
        for text in it["data"].values()
    }
    for it in found:
        if it["kind"] != "Secret":
            shown = json.dumps(it)
            where = f"{it['kind']}/{it['metadata']['name']}"
            yield from (
                f"{where}: holds what Secret {name} does" for text, name in texts.items() if text in shown
            )


def _pod(where: str, spec: Object) -> Iterator[str]:
    if spec.get("enableServiceLinks") is not False:
        yield f"{where}: has service links"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{where}: mounts a token"
    if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: has no seccomp profile"
    if spec.get("hostNetwork") and spec.get("dnsPolicy") != "ClusterFirstWithHostNet":
        yield f"{where}: cannot ask the DNS of the cluster"
    for word in ("hostPID", "hostIPC"):
        if spec.get(word):
            yield f"{where}: has {word}"
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    mounted = {mount["name"] for it in containers(spec) for mount in it.get("volumeMounts", [])}
    yield from (f"{where}: volume {name} is there twice" for name in set(volumes) if volumes.count(name) > 1)
    yield from (f"{where}: volume {name} is mounted nowhere" for name in set(volumes) - mounted)
    for volume in spec.get("volumes", []):
        if "hostPath" in volume and volume["hostPath"].get("type") not in _HOST_PATH_TYPES:
            yield f"{where}: volume {volume['name']} is no directory: a file or socket is gone when it is replaced"
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o400:
            yield f"{where}: volume {volume['name']} can be read by others"
    names = [it["name"] for it in containers(spec)]
    yield from (f"{where}: container {name} is there twice" for name in set(names) if names.count(name) > 1)
    for it in containers(spec):
        yield from _container(f"{where} {it['name']}", it, spec, set(volumes))
    yield from _ports(where, spec)


def _container(where: str, it: Object, spec: Object, volumes: set[str]) -> Iterator[str]:
    context = it.get("securityContext", {})
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{where}: has capabilities"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{where}: may become more privileged"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: can write to its root file system"
    for kind in ("requests", "limits"):
        if "memory" not in it.get("resources", {}).get(kind, {}):
            yield f"{where}: has no {kind} of memory"
    paths = [mount["mountPath"] for mount in it.get("volumeMounts", [])]
    for mount in it.get("volumeMounts", []):
        # Those of a StatefulSet's claims are not in the pod's list.
        if mount["name"] not in volumes and not (
            where.startswith("StatefulSet/") and mount["name"] == "data"
        ):
            yield f"{where}: mounts {mount['name']}, which is no volume"
        if paths.count(mount["mountPath"]) > 1:
            yield f"{where}: mounts two things at {mount['mountPath']}"
    ports = {port["name"] for port in it.get("ports", [])}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = it.get(kind, {}).get("httpGet")
        if asked is None:
            continue
        if asked["port"] not in ports:
            yield f"{where}: {kind} asks the port {asked['port']}, which there is not"
        if spec.get("hostNetwork") and asked.get("host") != "127.0.0.1":
            yield f"{where}: {kind} does not ask 127.0.0.1"
    names = [item["name"] for item in it.get("env", [])]
    yield from (f"{where}: variable {name} is there twice" for name in set(names) if names.count(name) > 1)
    for item in it.get("env", []):
        from_secret = "secretKeyRef" in item.get("valueFrom", {})
        named = _SECRET_WORDS.search(item["name"]) and not item["name"].endswith("_FILE")
        if from_secret or named:
            yield f"{where}: {item['name']} holds a secret, which whoever sees the process sees"


def _ports(where: str, spec: Object) -> Iterator[str]:
    names: list[str] = []
    taken: list[tuple[int, str]] = []
    for it in spec["containers"]:
        for port in it.get("ports", []):
            names.append(port.get("name", ""))
            taken.append((port["containerPort"], port.get("protocol", "")))
            if port.get("protocol") not in ("TCP", "UDP"):
                yield f"{where}: port {port['containerPort']} has no protocol"
            if spec.get("hostNetwork") and port.get("hostPort") != port["containerPort"]:
                yield f"{where}: port {port['containerPort']} is another on the host's network"
            # Without a host port it is on no address of the host at all; on the host's network each has one, see above.
            if (
                port["name"] in ("registry", "admin")
                and "hostPort" in port
                and port.get("hostIP") != "127.0.0.1"
            ):
                yield f"{where}: port {port['name']} is not on loopback"
    yield from (f"{where}: port {name!r} is named twice" for name in set(names) if names.count(name) > 1)
    yield from (f"{where}: port {one} is there twice" for one in set(taken) if taken.count(one) > 1)


def _selectors(found: list[Object]) -> Iterator[str]:
    pods: dict[str, tuple[dict[str, str], Object]] = {}
    for it in found:
        if it["kind"] in ("DaemonSet", "StatefulSet", "Deployment"):
            template, wanted = it["spec"]["template"], it["spec"]["selector"]["matchLabels"]
            where = f"{it['kind']}/{it['metadata']['name']}"
            labels = template["metadata"]["labels"]
            pods[where] = (labels, template["spec"])
            if not wanted.items() <= labels.items():
                yield f"{where}: does not select its own pods"
        elif it["kind"] == "Pod":
            pods[f"Pod/{it['metadata']['name']}"] = (it["metadata"]["labels"], it["spec"])
    services = {it["metadata"]["name"]: it["metadata"]["labels"] for it in found if it["kind"] == "Service"}
    for it in found:
        where = f"{it['kind']}/{it['metadata']['name']}"
        if it["kind"] == "Service":
            chosen = _chosen(it["spec"]["selector"], pods)
            yield from _only_one(where, chosen)
            ports = {
                port["name"]
                for _, spec in chosen.values()
                for c in spec["containers"]
                for port in c.get("ports", [])
            }
            for port in it["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{where}: leads to the port {port['targetPort']}, which there is not"
        elif it["kind"] == "ServiceMonitor":
            wanted = it["spec"]["selector"]["matchLabels"]
            if sum(wanted.items() <= labels.items() for labels in services.values()) != 1:
                yield f"{where}: does not choose one Service"
        elif it["kind"] in ("PodMonitor", "PodDisruptionBudget"):
            yield from _only_one(where, _chosen(it["spec"]["selector"]["matchLabels"], pods))
        elif it["kind"] == "NetworkPolicy":
            yield from _only_one(where, _chosen(it["spec"]["podSelector"]["matchLabels"], pods))


def _chosen(
    wanted: dict[str, str], pods: dict[str, tuple[dict[str, str], Object]]
) -> dict[str, tuple[dict[str, str], Object]]:
    return {where: pod for where, pod in pods.items() if wanted.items() <= pod[0].items()}


def _only_one(where: str, chosen: dict[str, tuple[dict[str, str], Object]]) -> Iterator[str]:
    if len(chosen) != 1:
        yield f"{where}: chooses the pods of {', '.join(sorted(chosen)) or 'nothing'}"
