"""What a finding about a cluster is, and every code that only a cluster has. Pure.

A host's own codes (`mirror.doctor.finding.Code`) keep their meaning here: such a finding is about the hosts that it
lists. docs/doctor.md lists each code with its mend (a test compares the two).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mirror.doctor.finding import Code, Level

# Hosts in a line for people; --json has all of them.
NAMED_MAX_COUNT: Final = 5
# Characters of what another program said.
QUOTED_MAX_CHARS: Final = 300


class ClusterCode(StrEnum):
    # the DaemonSet and its pods
    DAEMONSET_ABSENT = "daemonset-absent"
    PODS_REFUSED = "pods-refused"
    POD_SECURITY = "pod-security"
    POD_UNSCHEDULED = "pod-unscheduled"
    TAINT_NOT_TOLERATED = "taint-not-tolerated"
    HOST_WITHOUT_POD = "host-without-pod"
    HOST_LEFT_OUT = "host-left-out"
    IMAGE_NOT_PULLED = "image-not-pulled"
    POD_CRASHES = "pod-crashes"
    POD_NOT_STARTED = "pod-not-started"
    POD_NOT_READY = "pod-not-ready"
    # the hosts
    RUNTIME_NOT_CONTAINERD = "runtime-not-containerd"
    ARCH_WITHOUT_IMAGE = "arch-without-image"
    # the network
    PEERS_SERVICE_ABSENT = "peers-service-absent"
    PEERS_SERVICE_EMPTY = "peers-service-empty"
    NETWORK_POLICY_BLOCKS = "network-policy-blocks"
    NETWORK_POLICY_MAY_BLOCK = "network-policy-may-block"
    # the daemons together
    CLUSTER_NAMES_DIFFER = "cluster-names-differ"
    SECRETS_DIFFER = "secrets-differ"
    WIRE_VERSIONS_APART = "wire-versions-apart"
    ISLANDS = "islands"
    HOSTS_ALONE = "hosts-alone"
    MEMBERS_DIFFER = "members-differ"
    CLOCKS_DIFFER = "clocks-differ"
    RELEASES_DIFFER = "releases-differ"
    # what could not be looked at
    HOST_NOT_ASKED = "host-not-asked"
    HOST_DOCTOR_FAILED = "host-doctor-failed"
    NOT_SEEN = "not-seen"


CLUSTER_NOTES: Final = frozenset(
    {
        ClusterCode.HOST_LEFT_OUT,
        ClusterCode.NETWORK_POLICY_MAY_BLOCK,
        ClusterCode.MEMBERS_DIFFER,
        ClusterCode.RELEASES_DIFFER,
        ClusterCode.HOST_DOCTOR_FAILED,
        ClusterCode.NOT_SEEN,
    }
)


@dataclass(frozen=True, slots=True)
class ClusterFinding:
    """`code`: of a cluster, or as a host's doctor wrote it. `hosts`: all that it is about, empty where it is about none
    of them; `level` as the host said, where it is a host's. `mend`: one step each, in order."""

    code: str
    level: Level
    what: str
    evidence: str
    mend: tuple[str, ...]
    hosts: tuple[str, ...] = ()


def finding(
    code: ClusterCode | Code,
    what: str,
    evidence: str,
    *mend: str,
    hosts: Iterable[str] = (),
    note: bool = False,
) -> ClusterFinding:
    """`note`: for a host's code; a cluster's own has its level."""
    level = Level.NOTE if note or code in CLUSTER_NOTES else Level.PROBLEM
    return ClusterFinding(code.value, level, what, quoted(evidence), mend, tuple(sorted(hosts)))


def listed(names: Iterable[str]) -> str:
    """In the order given."""
    every = list(names)
    more = len(every) - NAMED_MAX_COUNT
    return ", ".join(every[:NAMED_MAX_COUNT]) + (f", and {more} more" if more > 0 else "")


def counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def quoted(text: str) -> str:
    """One line, cut: messages of a kubelet have several, and some are long."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTED_MAX_CHARS else f"{line[:QUOTED_MAX_CHARS]}…"
