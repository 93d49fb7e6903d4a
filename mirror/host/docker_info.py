"""What Docker's `GET /info` says of its images. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.host.distribution import DOCKER_NAMESPACE, canonical_sock
from mirror.host.facts import DockerFacts

# Of DriverStatus, where images are in containerd; the classic drivers have other lines.
_CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]


def docker_facts(info: object, *, default_sock: str) -> DockerFacts | None:
    """`default_sock`: its containerd's, where it does not say it (before Docker 27). None for what is not Docker:
    Podman answers at the same socket."""
    if (
        not isinstance(info, Mapping)
        or "BuildahVersion" in info
        or not isinstance(info.get("ServerVersion"), str)
    ):
        return None
    status = info.get("DriverStatus")
    containerd = info.get("Containerd")
    told: Mapping[str, object] = containerd if isinstance(containerd, Mapping) else {}
    spaces = told.get("Namespaces")
    namespace = spaces.get("Containers") if isinstance(spaces, Mapping) else None
    return DockerFacts(
        str(info["ServerVersion"]),
        str(info.get("Driver", "")),
        isinstance(status, list) and _CONTAINERD_STORE in status,
        canonical_sock(str(told.get("Address") or default_sock)),
        str(namespace or DOCKER_NAMESPACE),
    )
