"""Objects of Kubernetes as its API gives them, with the fields that are looked at. Pure.

The API leaves out what is empty, and gives null for some lists: every field has a default. Names and meanings are the
API's (core/v1, apps/v1, discovery.k8s.io/v1, networking.k8s.io/v1).
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct, field


class _Object(Struct, rename="camel", frozen=True, kw_only=True):
    pass


class Meta(_Object, frozen=True):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    creation_timestamp: str = ""
    deletion_timestamp: str = ""


class Requirement(_Object, frozen=True):
    """Of labels, or of fields of a node; `operator`: In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class Selector(_Object, frozen=True):
    match_labels: dict[str, str] | None = None
    match_expressions: list[Requirement] | None = None


# --- Nodes


class Taint(_Object, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(_Object, frozen=True):
    taints: list[Taint] | None = None


class NodeInfo(_Object, frozen=True):
    architecture: str = ""
    operating_system: str = ""
    container_runtime_version: str = ""


class NodeAddress(_Object, frozen=True):
    type: str = ""
    address: str = ""


class Condition(_Object, frozen=True):
    type: str = ""
    status: str = ""
    message: str = ""


class NodeStatus(_Object, frozen=True):
    node_info: NodeInfo = field(default_factory=NodeInfo)
    addresses: list[NodeAddress] | None = None
    conditions: list[Condition] | None = None


class Node(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def is_ready(self) -> bool:
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())


# --- Pods and their DaemonSet


class Port(_Object, frozen=True):
    name: str = ""
    container_port: int = 0
    host_port: int = 0


class Container(_Object, frozen=True):
    name: str = ""
    args: list[str] | None = None
    command: list[str] | None = None
    ports: list[Port] | None = None


class Toleration(_Object, frozen=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class NodeTerm(_Object, frozen=True):
    match_expressions: list[Requirement] | None = None
    match_fields: list[Requirement] | None = None


class NodeTerms(_Object, frozen=True):
    node_selector_terms: list[NodeTerm] | None = None


class NodeAffinity(_Object, frozen=True):
    required: NodeTerms | None = field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)


class Affinity(_Object, frozen=True):
    node_affinity: NodeAffinity | None = None


class PodSpec(_Object, frozen=True):
    node_name: str = ""
    host_network: bool = False
    node_selector: dict[str, str] | None = None
    tolerations: list[Toleration] | None = None
    affinity: Affinity | None = None
    containers: list[Container] = []


class Waiting(_Object, frozen=True):
    reason: str = ""
    message: str = ""


class Terminated(_Object, frozen=True):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class State(_Object, frozen=True):
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Object, frozen=True):
    name: str = ""
    ready: bool = False
    state: State = field(default_factory=State)
    last_state: State = field(default_factory=State)


class PodStatus(_Object, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Pod(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def host(self) -> str:
        """The node that it is on, or is made for: a DaemonSet's pod names it before it is scheduled."""
        if self.spec.node_name or self.spec.affinity is None or self.spec.affinity.node_affinity is None:
            return self.spec.node_name
        required = self.spec.affinity.node_affinity.required
        for term in (required.node_selector_terms or ()) if required is not None else ():
            for one in term.match_fields or ():
                if one.key == "metadata.name" and one.values:
                    return one.values[0]
        return ""

    def condition(self, kind: str) -> Condition | None:
        return next((one for one in self.status.conditions or () if one.type == kind), None)


class Template(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: PodSpec = field(default_factory=PodSpec)


class DaemonSetSpec(_Object, frozen=True):
    selector: Selector = field(default_factory=Selector)
    template: Template = field(default_factory=Template)


class DaemonSetStatus(_Object, frozen=True):
    desired_number_scheduled: int = 0


class DaemonSet(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: DaemonSetSpec = field(default_factory=DaemonSetSpec)
    status: DaemonSetStatus = field(default_factory=DaemonSetStatus)

    def port(self, name: str) -> int:
        """0: it has none of this name."""
        return next((one.container_port for one in self.ports if one.name == name), 0)

    @property
    def ports(self) -> list[Port]:
        return [port for one in self.spec.template.spec.containers for port in one.ports or ()]


class EventObject(_Object, frozen=True):
    kind: str = ""
    name: str = ""


class Event(_Object, frozen=True):
    """`type`: Normal or Warning."""

    metadata: Meta = field(default_factory=Meta)
    involved_object: EventObject = field(default_factory=EventObject)
    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None

    @property
    def when(self) -> str:
        """RFC 3339, which sorts as text."""
        return self.last_timestamp or self.event_time or self.metadata.creation_timestamp


# --- The network


class ServicePort(_Object, frozen=True):
    name: str = ""


class ServiceSpec(_Object, frozen=True):
    cluster_ip: str = field(name="clusterIP", default="")
    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None


class Service(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: ServiceSpec = field(default_factory=ServiceSpec)


class Endpoint(_Object, frozen=True):
    addresses: list[str] | None = None


class EndpointSlice(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    endpoints: list[Endpoint] | None = None


class IpBlock(_Object, frozen=True):
    cidr: str = ""
    excepted: list[str] | None = field(name="except", default=None)


class PolicyPeer(_Object, frozen=True):
    """`ip_block` None: pods, by selectors."""

    ip_block: IpBlock | None = None


class PolicyPort(_Object, frozen=True):
    """`port`: a number, or the name of a container's port; None: all."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class PolicyRule(_Object, frozen=True):
    """Of ingress or egress; no `ports`: all; no peers: everybody."""

    ports: list[PolicyPort] | None = None
    sources: list[PolicyPeer] | None = field(name="from", default=None)
    to: list[PolicyPeer] | None = None


class PolicySpec(_Object, frozen=True):
    pod_selector: Selector = field(default_factory=Selector)
    policy_types: list[str] | None = None
    ingress: list[PolicyRule] | None = None
    egress: list[PolicyRule] | None = None


class NetworkPolicy(_Object, frozen=True):
    metadata: Meta = field(default_factory=Meta)
    spec: PolicySpec = field(default_factory=PolicySpec)


Item = TypeVar("Item")


class ListMeta(_Object, frozen=True):
    next: str = field(name="continue", default="")


class ObjectList(_Object, Generic[Item], frozen=True):
    """One page."""

    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[Item] | None = None


class Refusal(_Object, frozen=True):
    """What the API answers in the place of an object: a `Status`."""

    message: str = ""
    reason: str = ""
