"""Whether a DaemonSet's pod may run on a node, and what keeps it off. Pure.

As the DaemonSet controller decides it: node selector, required node affinity, taints that no toleration bears. What the
controller adds to every pod's tolerations by itself (reference: Kubernetes' documentation of DaemonSet) counts as
tolerated.
"""

from __future__ import annotations

from collections.abc import Mapping

from mirror.doctor.cluster.objects import Node, NodeTerm, PodSpec, Requirement, Selector, Taint, Toleration

# PreferNoSchedule keeps nobody off.
_KEEPS_OFF = ("NoSchedule", "NoExecute")
_BORNE_BY_DAEMONSETS = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
        "network-unavailable",
    )
)


def is_chosen(spec: PodSpec, node: Node) -> bool:
    """By node selector and required affinity."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in (spec.node_selector or {}).items()):
        return False
    affinity = spec.affinity.node_affinity if spec.affinity is not None else None
    if affinity is None or affinity.required is None:
        return True
    return any(_matches_term(term, node) for term in affinity.required.node_selector_terms or ())


def untolerated(spec: PodSpec, node: Node) -> tuple[Taint, ...]:
    return tuple(
        taint
        for taint in node.spec.taints or ()
        if taint.effect in _KEEPS_OFF
        and taint.key not in _BORNE_BY_DAEMONSETS
        and not any(_tolerates(one, taint) for one in spec.tolerations or ())
    )


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """An empty selector selects everything."""
    return all(labels.get(key) == value for key, value in (selector.match_labels or {}).items()) and all(
        _meets(one, labels) for one in selector.match_expressions or ()
    )


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _matches_term(term: NodeTerm, node: Node) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    return all(_meets(one, node.metadata.labels) for one in term.match_expressions or ()) and all(
        _meets(one, {"metadata.name": node.name}) for one in term.match_fields or ()
    )


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(requirement.key), requirement.values or []
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return value is not None and _compares(requirement.operator, value, values)
        case _:
            # A later one: not known to keep anything off.
            return True


def _compares(operator: str, value: str, values: list[str]) -> bool:
    try:
        number, limit = int(value), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit
