"""What is wrong with the DaemonSet and its pods: are they there, do they start, do they stay. Pure.

Hosts with the same trouble are one finding, however many they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterCode, ClusterFinding, counted, finding, listed
from mirror.doctor.cluster.objects import ContainerStatus, DaemonSet, Node, Pod
from mirror.doctor.cluster.placement import is_chosen, untolerated
from mirror.doctor.cluster.told import Told

_IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_STARTING = ("", "ContainerCreating", "PodInitializing")
# The controller's and admission's words for a pod that Pod Security does not let in.
_POD_SECURITY = "violates PodSecurity"


def check(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    daemonset = facts.daemonset
    if daemonset is None:
        yield finding(
            ClusterCode.DAEMONSET_ABSENT,
            f"there is no DaemonSet of Peili's chart in {facts.looked_in}",
            "no DaemonSet has app.kubernetes.io/component=daemon and the chart's name",
            "install the chart: docs/kubernetes.md",
            "or give doctor the --namespace, --release or --context where it is",
        )
        return
    yield from _refused(facts, daemonset)
    yield from _missing(facts, daemonset)
    yield from _unscheduled(facts)
    yield from _containers(facts)


def _refused(facts: ClusterFacts, daemonset: DaemonSet) -> Iterator[ClusterFinding]:
    """Events outlive what they tell of: they count while pods lack."""
    lacking = daemonset.status.desired_number_scheduled - len(facts.pods)
    said = _last(facts, "DaemonSet", daemonset.metadata.name, "FailedCreate")
    if lacking <= 0 or not said:
        return
    if _POD_SECURITY in said:
        yield finding(
            ClusterCode.POD_SECURITY,
            f"Pod Security does not let the daemon's pods into the namespace {facts.namespace}",
            said,
            f"kubectl label namespace {facts.namespace} pod-security.kubernetes.io/enforce=privileged --overwrite",
        )
    else:
        yield finding(
            ClusterCode.PODS_REFUSED,
            f"the API server refuses {counted(lacking, 'pod')} of the daemon",
            said,
            "mend what it names; a quota for priority classes: docs/kubernetes.md, GKE",
        )


def _missing(facts: ClusterFacts, daemonset: DaemonSet) -> Iterator[ClusterFinding]:
    spec = daemonset.spec.template.spec
    there = {pod.host for pod in facts.pods}
    lacking = [node for node in facts.nodes if node.name not in there]
    left_out = [node for node in lacking if not is_chosen(spec, node)]
    tainted = {node.name: untolerated(spec, node) for node in lacking if is_chosen(spec, node)}
    kept_off = {name: taints for name, taints in tainted.items() if taints}
    if kept_off:
        taints = sorted({f"{one.key}:{one.effect}" for some in kept_off.values() for one in some})
        yield finding(
            ClusterCode.TAINT_NOT_TOLERATED,
            f"{counted(len(kept_off), 'host')} without a daemon: it does not tolerate their taints",
            f"{listed(taints)} on {listed(sorted(kept_off))}",
            "add them to the chart's tolerations (the default tolerates every one), then helm upgrade",
            hosts=kept_off,
        )
    bare = sorted(set(tainted) - set(kept_off))
    if bare:
        refused = _last(facts, "DaemonSet", daemonset.metadata.name, "FailedCreate")
        yield finding(
            ClusterCode.HOST_WITHOUT_POD,
            f"{counted(len(bare), 'host')} should have a daemon and have no pod of it",
            f"{listed(bare)}{f'; {refused}' if refused else ''}",
            f"kubectl -n {facts.namespace} describe daemonset {facts.name}",
            hosts=bare,
        )
    # Windows has no containerd that shares what Linux pulls.
    linux = [node.name for node in left_out if node.status.node_info.operating_system in ("", "linux")]
    if linux:
        yield finding(
            ClusterCode.HOST_LEFT_OUT,
            f"{counted(len(linux), 'host')} left out by the chart's nodeSelector or affinity",
            listed(sorted(linux)),
            "nothing, if that is meant; else change nodeSelector or affinity, then helm upgrade",
            hosts=linux,
        )


def _unscheduled(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    waiting: dict[str, list[Pod]] = {}
    for pod in facts.pods:
        condition = pod.condition("PodScheduled")
        if condition is not None and condition.status == "False" and not pod.spec.node_name:
            waiting.setdefault(condition.message, []).append(pod)
    if waiting:
        pods = [pod for some in waiting.values() for pod in some]
        hosts = {pod.host or pod.name for pod in pods}
        yield finding(
            ClusterCode.POD_UNSCHEDULED,
            f"{counted(len(pods), 'pod')} of the daemon cannot be placed on {counted(len(hosts), 'host')}",
            f"{_most(waiting)} on {listed(sorted(hosts))}",
            "make room for the chart's resources.requests, or keep its priorityClassName (system-node-critical)",
            "free ports: another program may have those of the chart's service.*.port",
            hosts=hosts,
        )


def _containers(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    """Each pod counts once, with what comes first."""
    images: dict[str, list[Pod]] = {}
    crashes: dict[str, list[Pod]] = {}
    stuck: dict[str, list[Pod]] = {}
    unready: dict[str, list[Pod]] = {}
    nodes, told = {node.name: node for node in facts.nodes}, facts.told()
    for pod in facts.pods:
        if not pod.spec.node_name or pod.metadata.deletion_timestamp:
            continue
        statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
        if (pull := _pull_trouble(statuses)) is not None:
            images.setdefault(pull, []).append(pod)
        elif (crash := _crash(statuses)) is not None:
            crashes.setdefault(crash, []).append(pod)
        elif pod.status.phase == "Failed":
            crashes.setdefault(f"{pod.status.reason}: {pod.status.message}", []).append(pod)
        elif pod.status.phase != "Running":
            if (why := _not_started(facts, pod, statuses)) is not None:
                stuck.setdefault(why, []).append(pod)
        elif not all(one.ready for one in pod.status.container_statuses or ()):
            unready.setdefault(_unready(facts, pod, nodes, told.get(pod.host)), []).append(pod)
    namespace = facts.namespace
    if images:
        yield _pods(
            ClusterCode.IMAGE_NOT_PULLED,
            "the daemon's image cannot be pulled",
            images,
            "see that image.repository and image.tag of the chart name an image that is there, and imagePullSecrets "
            "its credentials; it must be reached without Peili",
        )
    if crashes:
        yield _pods(
            ClusterCode.POD_CRASHES,
            "a container of the daemon's pod ends again and again",
            crashes,
            "mend what it names",
            f"kubectl -n {namespace} logs --previous {_first(crashes)} --all-containers",
        )
    if stuck:
        yield _pods(
            ClusterCode.POD_NOT_STARTED,
            "the daemon's pod does not start",
            stuck,
            "mend what it names (a Secret, a directory of the host, a taken port)",
            f"kubectl -n {namespace} describe pod {_first(stuck)}",
        )
    if unready:
        yield _pods(
            ClusterCode.POD_NOT_READY,
            "the daemon runs and is not ready",
            unready,
            "mend what it names",
            f"kubectl -n {namespace} logs {_first(unready)}",
        )


def _pull_trouble(statuses: Sequence[ContainerStatus]) -> str | None:
    for one in statuses:
        if one.state.waiting is not None and one.state.waiting.reason in _IMAGE_REASONS:
            return one.state.waiting.message or one.state.waiting.reason
    return None


def _crash(statuses: Sequence[ContainerStatus]) -> str | None:
    for one in statuses:
        waiting = one.state.waiting
        if waiting is None or waiting.reason != "CrashLoopBackOff":
            continue
        ended = one.last_state.terminated
        if ended is None:
            return f"{one.name}: {waiting.message}"
        said = ended.message.strip().splitlines()
        reason = ended.reason or "ended"
        return f"{one.name}: {reason}, exit code {ended.exit_code}{f': {said[-1]}' if said else ''}"
    return None


def _not_started(facts: ClusterFacts, pod: Pod, statuses: Sequence[ContainerStatus]) -> str | None:
    for one in statuses:
        waiting = one.state.waiting
        if waiting is not None and waiting.reason not in _STARTING:
            return f"{one.name}: {waiting.reason}: {waiting.message}"
        ended = one.state.terminated
        if ended is not None and ended.exit_code:
            said = ended.message.strip().splitlines()
            return f"{one.name}: exit code {ended.exit_code}{f': {said[-1]}' if said else ''}"
    # Without a word it may have been made a second ago.
    return _last(facts, "Pod", pod.name) or None


def _unready(facts: ClusterFacts, pod: Pod, nodes: dict[str, Node], told: Told | None) -> str:
    if told is not None and told.unready:
        return "; ".join(told.unready)
    node = nodes.get(pod.host)
    if node is not None and not node.is_ready:
        return "the node itself is not ready"
    return _last(facts, "Pod", pod.name) or "no reason is known"


def _pods(code: ClusterCode, what: str, by_why: dict[str, list[Pod]], *mend: str) -> ClusterFinding:
    hosts = {pod.host for some in by_why.values() for pod in some}
    return finding(
        code,
        f"{what}, on {counted(len(hosts), 'host')}",
        f"{_most(by_why)} on {listed(sorted(hosts))}",
        *mend,
        hosts=hosts,
    )


def _most(by_why: dict[str, list[Pod]]) -> str:
    """The reason that most have, and how many others there are."""
    why, _ = max(by_why.items(), key=lambda item: len(item[1]))
    more = counted(len(by_why) - 1, "other reason") if len(by_why) > 1 else ""
    return f"{why.strip() or 'no reason is given'}{f' (and {more})' if more else ''}"


def _first(by_why: dict[str, list[Pod]]) -> str:
    return min(pod.name for some in by_why.values() for pod in some)


def _last(facts: ClusterFacts, kind: str, name: str, reason: str = "") -> str:
    """The last warning about an object, `reason`: of this kind alone."""
    found = [
        event
        for event in facts.events
        if event.type == "Warning"
        and (event.involved_object.kind, event.involved_object.name) == (kind, name)
        and reason in ("", event.reason)
    ]
    return max(found, key=lambda event: event.when).message if found else ""
