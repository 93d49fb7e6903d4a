"""What was seen of a cluster: values for the checks, gathered by `mirror.doctor.cluster.gather`. Pure.

None means that it could not be seen; `unseen` says why, and is never more than a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.doctor.cluster.objects import (
    DaemonSet,
    EndpointSlice,
    Event,
    NetworkPolicy,
    Node,
    Pod,
    Service,
)
from mirror.doctor.cluster.told import HostFinding, Told

# kube-apiserver's default for --service-node-port-range.
NODEPORTS = range(30000, 32768)


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Why a daemon's state is not known, in words."""

    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host said. `told` None: the daemon's container runs and the daemon does not answer in it, and
    `daemon_trouble` says how; the host's own doctor may have found something all the same. `doctor_trouble`: why there
    are no `findings`; empty where there are."""

    told: Told | None
    findings: tuple[HostFinding, ...] = ()
    daemon_trouble: str = ""
    doctor_trouble: str = ""


@dataclass(frozen=True, slots=True)
class NodePorts:
    """`source`: where the range was read; empty for the default, where it could not be."""

    ports: range = NODEPORTS
    source: str = ""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A list that the API did not give."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """`answers`: by the name of the pod, of those that could be asked at all. `looked_in`: the namespace, or words for
    all of them."""

    release: str
    looked_in: str
    daemonset: DaemonSet | None = None
    pods: tuple[Pod, ...] = ()
    nodes: tuple[Node, ...] = ()
    events: tuple[Event, ...] = ()
    services: tuple[Service, ...] | None = None
    slices: tuple[EndpointSlice, ...] | None = None
    policies: tuple[NetworkPolicy, ...] | None = None
    nodeports: NodePorts = NodePorts()
    answers: Mapping[str, Answer | NotAsked] = field(default_factory=dict)
    unseen: tuple[Unseen, ...] = ()

    @property
    def namespace(self) -> str:
        return "" if self.daemonset is None else self.daemonset.metadata.namespace

    @property
    def name(self) -> str:
        return "" if self.daemonset is None else self.daemonset.metadata.name

    def answered(self) -> dict[str, Answer]:
        """By host."""
        return {
            pod.host: answer for pod in self.pods if isinstance(answer := self.answers.get(pod.name), Answer)
        }

    def told(self) -> dict[str, Told]:
        """By host, what the daemons said of themselves."""
        return {host: answer.told for host, answer in self.answered().items() if answer.told is not None}
