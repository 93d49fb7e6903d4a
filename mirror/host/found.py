"""Which containerds there are on this host, and which of them `peili up` is about. Pure.

The choice, where several answer: Kubernetes distributions that bring their own containerd (K3s, RKE2, MicroK8s) before
the system's, and that before Docker's own. `--containerd-sock` chooses another.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.host.distribution import Distribution
from mirror.host.facts import DockerFacts, HostFacts, SocketFacts


@dataclass(frozen=True, slots=True)
class Installation:
    """A containerd that answers. `docker`: dockerd, where it is this containerd that it uses."""

    distribution: Distribution
    socket: SocketFacts
    docker: DockerFacts | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`others`: what was found besides, in the order of preference; `notes` tell of them, one line each."""

    chosen: Installation
    others: tuple[Installation, ...] = ()
    notes: tuple[str, ...] = ()


def installations(host: HostFacts) -> tuple[Installation, ...]:
    """In the order of preference."""
    raise NotImplementedError


def choose(host: HostFacts, sock: str | None = None) -> Choice:
    """`sock`: as the operator gave it. Raises: HostError, which says what was looked for and what to do."""
    raise NotImplementedError
