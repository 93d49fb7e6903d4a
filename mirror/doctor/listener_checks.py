"""What is wrong with the port where containerd asks the daemon. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from mirror.doctor.distribution import configure_command
from mirror.doctor.facts import Facts, Port
from mirror.doctor.finding import Code, Finding

# kube-apiserver's default for --service-node-port-range.
NODEPORTS = range(30000, 32768)
# containerd's namespace of the CRI: who pulls there is a kubelet, as a rule.
_KUBERNETES = "k8s.io"


def check(facts: Facts) -> Iterator[Finding]:
    listen, asked = facts.listen, facts.asked
    if listen.port is Port.CLOSED:
        yield Finding(
            Code.REGISTRY_CLOSED,
            f"nobody listens at {asked.registry_addr}: the daemon does not run; pulls go to the registries",
            listen.said,
            ("peili serve (its log says why it ended), or give doctor the daemon's own --registry-addr",),
        )
    elif listen.port is Port.TAKEN:
        yield Finding(
            Code.REGISTRY_TAKEN,
            f"another program listens at {asked.registry_addr}, and containerd asks it",
            f"{listen.owner or 'a process that is not seen'}: {listen.said}",
            (
                "stop that program, or choose another port: peili serve --registry-addr 127.0.0.1:PORT",
                configure_command(facts, "--registry-addr 127.0.0.1:PORT"),
            ),
        )
    yield from _routable(facts)
    yield from _nodeport(facts)


def _routable(facts: Facts) -> Iterator[Finding]:
    # A forwarded port ends at an address that is not loopback: whoever sets one up has taken that.
    if facts.asked.is_forwarded:
        return
    bound = [one for one in facts.listen.bound if not ipaddress.ip_address(one).is_loopback]
    if facts.listen.port is Port.OURS and bound:
        yield Finding(
            Code.REGISTRY_ROUTABLE,
            "the registry port can be reached from outside: whoever reaches it can read cached images by digest",
            f"port {facts.asked.registry_port} is bound to {', '.join(bound)}",
            (f"peili serve --registry-addr 127.0.0.1:{facts.asked.registry_port} (restart it)",),
        )


def _nodeport(facts: Facts) -> Iterator[Finding]:
    if _KUBERNETES not in facts.containerd.namespaces:
        return
    ports = {"--registry-addr": facts.asked.registry_port, "--peer-addr": facts.asked.peer_port}
    ports["--admin-addr"] = facts.asked.admin_port
    inside = [f"{flag} has port {port}" for flag, port in ports.items() if port in NODEPORTS]
    if inside:
        yield Finding(
            Code.PORT_IN_NODEPORT_RANGE,
            f"a port is in Kubernetes' NodePort range ({NODEPORTS[0]}-{NODEPORTS[-1]}): a Service may take it away",
            ", ".join(inside),
            ("choose a port outside of the range, the same for serve, configure and doctor",),
        )
