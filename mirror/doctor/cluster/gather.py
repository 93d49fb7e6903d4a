"""Looks at a cluster: the objects of its API, and what each daemon says. What may not be seen is a fact, too."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final, TypeVar

from mirror.doctor.cluster.asking import HOST_LIMIT_S, ask_all
from mirror.doctor.cluster.facts import ClusterFacts, NodePorts, Unseen
from mirror.doctor.cluster.objects import (
    DaemonSet,
    EndpointSlice,
    Event,
    NetworkPolicy,
    Node,
    Pod,
    Service,
)
from mirror.doctor.cluster.port import ApiUnheard, ClusterApi, ListRefused
from mirror.errors import SettingsError
from mirror.version import VERSION

Item = TypeVar("Item")

# The chart's own labels. Its name may be another one by nameOverride, and then helm's label tells it.
_CHART: Final = "peili"
_COMPONENT: Final = "app.kubernetes.io/component=daemon"
_INSTANCE: Final = "app.kubernetes.io/instance"
_NODEPORT_FLAG: Final = re.compile(r"--service-node-port-range=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class ClusterAsked:
    """Empty: any."""

    namespace: str = ""
    release: str = ""


async def gather(api: ClusterApi, asked: ClusterAsked, limit_s: float = HOST_LIMIT_S) -> ClusterFacts:
    """`limit_s`: for each host. Raises: ApiUnheard, also in a group, SettingsError."""
    looked_in = f"namespace {asked.namespace}" if asked.namespace else "any namespace"
    found = await _daemonset(api, asked)
    if found is None:
        return ClusterFacts(VERSION, looked_in)
    look = _Look(api)
    namespace = found.metadata.namespace
    labels = ",".join(f"{key}={value}" for key, value in (found.spec.selector.match_labels or {}).items())
    inside = f"namespaces/{namespace}"
    # First and alone: without them there is nothing to look at.
    seen = tuple(await _pods(api, f"/api/v1/{inside}/pods", labels))
    async with asyncio.TaskGroup() as tasks:
        nodes = tasks.create_task(look.seen("nodes", "/api/v1/nodes", Node))
        events = tasks.create_task(
            look.seen("events", f"/api/v1/{inside}/events", Event, fields="type=Warning")
        )
        services = tasks.create_task(
            look.seen("services", f"/api/v1/{inside}/services", Service, labels=labels)
        )
        slices = tasks.create_task(
            look.seen("endpointslices", f"/apis/discovery.k8s.io/v1/{inside}/endpointslices", EndpointSlice)
        )
        policies = tasks.create_task(
            look.seen(
                "networkpolicies", f"/apis/networking.k8s.io/v1/{inside}/networkpolicies", NetworkPolicy
            )
        )
        nodeports = tasks.create_task(_nodeports(api))
    services_seen, slices_seen, policies_seen = services.result(), slices.result(), policies.result()
    return ClusterFacts(
        VERSION,
        looked_in,
        found,
        seen,
        nodes.result() or (),
        events.result() or (),
        services_seen,
        slices_seen,
        policies_seen,
        nodeports.result(),
        await ask_all(api, seen, limit_s),
        tuple(look.unseen),
    )


class _Look:
    """Collects what the API did not give."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self.unseen: list[Unseen] = []

    async def seen(
        self, what: str, path: str, kind: type[Item], *, labels: str = "", fields: str = ""
    ) -> tuple[Item, ...] | None:
        try:
            return tuple(await self._api.items(path, kind, labels=labels, fields=fields))
        except ListRefused as exc:
            self.unseen.append(Unseen(what, str(exc)))
            return None


async def _daemonset(api: ClusterApi, asked: ClusterAsked) -> DaemonSet | None:
    labels = f"{_COMPONENT},{_INSTANCE}={asked.release}" if asked.release else _COMPONENT
    inside = f"namespaces/{asked.namespace}/" if asked.namespace else ""
    try:
        every = await api.items(f"/apis/apps/v1/{inside}daemonsets", DaemonSet, labels=labels)
    except ListRefused as exc:
        hint = "" if asked.namespace else "; with rights in one namespace only, give it: --namespace NS"
        raise ApiUnheard(f"the Kubernetes API does not list DaemonSets: {exc}{hint}") from exc
    found = [one for one in every if _is_ours(one)]
    if len(found) > 1:
        where = ", ".join(
            f"--namespace {one.metadata.namespace} --release {one.metadata.labels.get(_INSTANCE, '')}"
            for one in found
        )
        raise SettingsError(
            "--release", f"the cluster has {len(found)} releases of Peili; give one of: {where}"
        )
    return found[0] if found else None


def _is_ours(daemonset: DaemonSet) -> bool:
    labels = daemonset.metadata.labels
    return labels.get("app.kubernetes.io/name") == _CHART or labels.get("helm.sh/chart", "").startswith(
        f"{_CHART}-"
    )


async def _pods(api: ClusterApi, path: str, labels: str) -> list[Pod]:
    try:
        return await api.items(path, Pod, labels=labels)
    except ListRefused as exc:
        raise ApiUnheard(f"the Kubernetes API does not list the daemon's pods: {exc}") from exc


async def _nodeports(api: ClusterApi) -> NodePorts:
    """As the API server's own pod was told, where there is one and it may be seen; managed clusters show none."""
    try:
        servers = await api.items(
            "/api/v1/namespaces/kube-system/pods", Pod, labels="component=kube-apiserver"
        )
    except ListRefused:
        return NodePorts()
    for pod in servers:
        for container in pod.spec.containers:
            for word in [*(container.command or ()), *(container.args or ())]:
                if told := _NODEPORT_FLAG.fullmatch(word):
                    return NodePorts(range(int(told[1]), int(told[2]) + 1), f"of {pod.name}")
    return NodePorts()
