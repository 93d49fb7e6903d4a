"""Which cluster a plain host joins, and how it proves that it belongs there: from what the user gave, a join line, and
what is left of the last time. Pure: makes no secret and writes none.

Rules
1. Without a word of the user's a host joins the open cluster of its LAN: whoever is there takes part. That is refused
   to a host that a public address leads to, unless the user says that he wants it.
2. A host that has a secret keeps it. It changes its cluster only after `peili down`. One that had one does not open
   its cluster unless the user says so.
3. What the user gives as settings (--bootstrap, --cluster, --cluster-secret-file) wins, and contradicts no join line.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from dht.endpoints import scope
from mirror.host.errors import HostError
from mirror.host.join_line import ADDRESSES_MAX_COUNT, Invitation
from mirror.settings.model import Address, StaticBootstrap

LAN = "lan"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user gave. `bootstrap`, `cluster`: as flags or variables; empty or None: not given."""

    invitation: Invitation | None = None
    is_closed: bool = False
    is_open: bool = False
    bootstrap: tuple[str, ...] = ()
    cluster: str | None = None
    has_secret_file: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of the last time. `secrets`: of the secret file in the data directory, the signing one first.
    `secret_file`: the path of the one that was to be used, there or elsewhere."""

    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    cluster: str | None = None
    peers: tuple[str, ...] = ()
    secret_file: str | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """`cluster` None: the settings' default. `keeps_secret`: the data directory's file is to be used. `new_secret`:
    what is to be written there first; `makes_secret`: random bytes are. `peers` (HOST:PORT): to be remembered."""

    cluster: str | None
    bootstrap: tuple[str, ...]
    peers: tuple[str, ...]
    keeps_secret: bool
    makes_secret: bool = False
    new_secret: bytes | None = field(default=None, repr=False)


def settle(asked: Asked, kept: Kept, own_addresses: Sequence[str]) -> Membership:
    """`own_addresses`: IP literals of this host. Raises: HostError."""
    _check(asked, kept)
    line = asked.invitation
    cluster = asked.cluster or (line.cluster if line is not None else kept.cluster)
    peers = tuple(str(one.address) for one in line.peers) if line is not None else kept.peers
    new_secret = None if line is None or kept.secrets else line.secret
    makes_secret = asked.is_closed and line is None and not kept.secrets
    keeps_secret = bool(kept.secrets) or new_secret is not None or makes_secret
    if not keeps_secret and not asked.has_secret_file and not asked.is_open:
        _check_was_open(kept)
        _check_no_public_address(own_addresses)
    bootstrap = asked.bootstrap or (LAN, *(f"static:{peer}" for peer in peers))
    return Membership(cluster, bootstrap, peers, keeps_secret, makes_secret, new_secret)


def invitation(
    cluster: str, secrets: Sequence[bytes], own_addresses: Sequence[str], peer_port: int
) -> Invitation:
    """To this host's cluster. Addresses of one link mean nothing elsewhere, public ones nothing without a secret."""
    wanted = ("private", "global") if secrets else ("private",)
    reachable = [text for text in own_addresses if scope(text) in wanted]
    peers = tuple(StaticBootstrap(Address(text, peer_port)) for text in reachable[:ADDRESSES_MAX_COUNT])
    return Invitation(cluster, peers, secrets[0] if secrets else None)


def _check(asked: Asked, kept: Kept) -> None:
    line = asked.invitation
    if line is None:
        if asked.is_closed and asked.is_open:
            raise HostError("--closed and --open contradict each other: give one")
        if asked.is_open and kept.secrets:
            raise HostError("this host's cluster has a secret: peili down, then peili up --open")
        return
    if asked.has_secret_file:
        raise HostError("--join brings the secret, and --cluster-secret-file names another: give one")
    if asked.cluster not in (None, line.cluster):
        raise HostError(f"--join names the cluster {line.cluster!r}, and --cluster another: give one")
    if asked.is_closed and line.secret is None:
        raise HostError(
            "the join line is of an open cluster, and --closed wants a secret: make one on a host of that cluster "
            "with peili up --closed, and use the line that it prints"
        )
    if asked.is_open and line.secret is not None:
        raise HostError("the join line has a secret, and --open wants none: give one")
    is_elsewhere = bool(kept.secrets) and line.secret not in kept.secrets
    if is_elsewhere or kept.cluster not in (None, line.cluster):
        raise HostError("this host belongs to another cluster: peili down, then join this one")


def _check_was_open(kept: Kept) -> None:
    """A flag that is left out, or a secret that a crash kept from being written, opens no cluster."""
    if kept.secret_file is not None:
        raise HostError(
            f"this host's cluster had the secret of {kept.secret_file}, and this time there is none: give "
            f"--cluster-secret-file, --closed or --join with its line as before; --open if everybody shall take part"
        )


def _check_no_public_address(own_addresses: Sequence[str]) -> None:
    """Of IPv4 alone: at home a public IPv6 address is usual, and the router's firewall is before it."""
    for text in own_addresses:
        if ipaddress.ip_address(text).version == 4 and scope(text) == "global":
            raise HostError(
                f"this host has the public address {text}, so its network is hardly one where everybody may be "
                f"trusted: peili up --closed makes a cluster with a secret; --open if you are sure"
            )
