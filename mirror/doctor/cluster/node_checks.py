"""What the nodes say of themselves that keeps Peili from working there. Pure.

Only nodes that the DaemonSet is for: what the chart leaves out may run what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mirror.doctor.cluster.facts import ClusterFacts
from mirror.doctor.cluster.finding import ClusterCode, ClusterFinding, counted, finding, listed
from mirror.doctor.cluster.objects import Node
from mirror.doctor.cluster.placement import is_chosen
from mirror.doctor.containerd_checks import OLDEST
from mirror.doctor.finding import Code

# Those that `make image` builds.
IMAGE_ARCHS = ("amd64", "arm64")
_CONTAINERD = "containerd://"
_RELEASE = re.compile(r"v?(\d+)\.(\d+)")


def check(facts: ClusterFacts) -> Iterator[ClusterFinding]:
    if facts.daemonset is None:
        return
    spec = facts.daemonset.spec.template.spec
    meant = sorted((node for node in facts.nodes if is_chosen(spec, node)), key=lambda node: node.name)
    yield from _runtimes(meant)
    old = {node.name: _version(node) for node in meant if (0, 0) < _release(_version(node)) < OLDEST}
    if old:
        yield finding(
            Code.CONTAINERD_TOO_OLD,
            f"containerd is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that works with Peili, on "
            f"{counted(len(old), 'host')}",
            f"version {listed(sorted(set(old.values())))} on {listed(old)}",
            "upgrade containerd to 1.7 or later",
            hosts=old,
        )
    strange = {
        node.name: node.status.node_info.architecture
        for node in meant
        if node.status.node_info.architecture not in ("", *IMAGE_ARCHS)
    }
    if strange:
        yield finding(
            ClusterCode.ARCH_WITHOUT_IMAGE,
            f"there is no image of Peili for the processors of {counted(len(strange), 'host')}",
            f"{listed(sorted(set(strange.values())))} on {listed(strange)}",
            f"leave them out: the chart's nodeSelector kubernetes.io/arch: {' or '.join(IMAGE_ARCHS)}",
            hosts=strange,
        )


def _runtimes(meant: list[Node]) -> Iterator[ClusterFinding]:
    others = {
        node.name: node.status.node_info.container_runtime_version
        for node in meant
        if node.status.node_info.container_runtime_version
        and not node.status.node_info.container_runtime_version.startswith(_CONTAINERD)
    }
    if not others:
        return
    kinds = sorted({runtime.partition("://")[0] for runtime in others.values()})
    mend = {
        "docker": "Docker pulls into its own store, which nobody shares: move these nodes to containerd "
        "(kubelet's --container-runtime-endpoint)",
        "cri-o": "CRI-O keeps no compressed layers to share: it can only take, with peili.origin: relay "
        "(docs/kubernetes.md, OpenShift)",
    }
    yield finding(
        ClusterCode.RUNTIME_NOT_CONTAINERD,
        f"{counted(len(others), 'host')} with another container runtime than containerd: the daemon finds nothing to "
        "share there",
        f"{listed(sorted(set(others.values())))} on {listed(others)}",
        *(mend[kind] for kind in kinds if kind in mend),
        "leave the others out by the chart's nodeSelector or affinity",
        hosts=others,
    )


def _version(node: Node) -> str:
    """Empty: not containerd, or it does not say."""
    text = node.status.node_info.container_runtime_version
    return text.removeprefix(_CONTAINERD) if text.startswith(_CONTAINERD) else ""


def _release(version: str) -> tuple[int, int]:
    found = _RELEASE.match(version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
