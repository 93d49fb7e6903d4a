"""Which containerds there are on this host, and which of them `peili up` is about. Pure.

The choice, where several answer: Kubernetes distributions that bring their own containerd (K3s, RKE2, MicroK8s) before
the system's, and that before Docker's own. `--containerd-sock` chooses another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.host.distribution import KNOWN_SOCKS, Distribution, canonical_sock, distribution_of
from mirror.host.errors import HostError
from mirror.host.facts import Answer, DockerFacts, HostFacts, SocketFacts
from mirror.host.refusals import IMMUTABLE


@dataclass(frozen=True, slots=True)
class Installation:
    """A containerd that answers. `docker`: dockerd, where it is this containerd that it uses."""

    distribution: Distribution
    socket: SocketFacts
    docker: DockerFacts | None = None

    @property
    def name(self) -> str:
        return f"{self.distribution.kind} at {self.socket.sock}"


@dataclass(frozen=True, slots=True)
class Choice:
    """`others`: what was found besides, in the order of preference; `notes` tell of them, one line each."""

    chosen: Installation
    others: tuple[Installation, ...] = ()
    notes: tuple[str, ...] = ()


def installations(host: HostFacts) -> tuple[Installation, ...]:
    """In the order of preference; what does not answer is none."""
    return tuple(
        Installation(
            distribution_of(one.sock, has_rke2=host.has_rke2),
            one,
            host.docker if host.docker is not None and host.docker.containerd_sock == one.sock else None,
        )
        for one in host.sockets
        if one.answer is Answer.ANSWERS
    )


def choose(host: HostFacts, sock: str | None = None) -> Choice:
    """`sock`: as the operator gave it. Raises: HostError, which says what was looked for and what to do."""
    if host.os_id in IMMUTABLE:
        raise HostError(IMMUTABLE[host.os_id])
    found = installations(host)
    sock = None if sock is None else canonical_sock(sock)
    chosen = next((one for one in found if sock is None or one.socket.sock == sock), None)
    if chosen is None:
        raise HostError(_nothing(host, sock))
    others = tuple(one for one in found if one is not chosen)
    return Choice(chosen, others, tuple(_notes(host, chosen, others)))


def _notes(host: HostFacts, chosen: Installation, others: tuple[Installation, ...]) -> Iterator[str]:
    for other in others:
        yield (
            f"{other.name} is left alone: this is about {chosen.name}; peili up --containerd-sock {other.socket.sock} "
            "chooses it instead"
        )
    for one in host.sockets:
        if one.answer is not Answer.ANSWERS:
            yield f"{one.sock} is left alone, since it does not answer: {one.trouble}"


def _nothing(host: HostFacts, sock: str | None) -> str:
    there = {one.sock: one for one in host.sockets}
    seen = [
        f"{one.sock} {'is not there' if one.answer is Answer.ABSENT else f'does not answer: {one.trouble}'}"
        for one in host.sockets
    ]
    if sock is not None:
        others = [one.socket.sock for one in installations(host)]
        hint = f"; a containerd answers at {', '.join(others)}" if others else ""
        return (
            f"no containerd answers at {sock}: {there[sock].trouble if sock in there else 'not there'}{hint}"
        )
    if any(one.answer is Answer.FORBIDDEN for one in host.sockets):
        return f"containerd may be asked by root only: run peili up as root ({'; '.join(seen)})"
    if seen:
        kind = distribution_of(host.sockets[0].sock, has_rke2=host.has_rke2)
        return f"no containerd answers on this host: {'; '.join(seen)}; start it: {kind.start}"
    return (
        f"no containerd was found on this host: there is no socket at {', '.join(KNOWN_SOCKS)}. Start it, or say where "
        "it is with --containerd-sock. Podman and CRI-O keep no layers to share; they can pull through the daemon of a "
        "host with containerd (--origin relay)"
    )
