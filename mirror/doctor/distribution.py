"""What doctor's mends say on this kind of host. Pure. What differs between the kinds: `mirror.host.distribution`."""

from __future__ import annotations

from mirror.doctor.facts import Facts
from mirror.host.distribution import (
    DEFAULT_HOSTS_DIR,
    DEFAULT_REGISTRY_ADDR,
    STOCK_SOCK,
    Distribution,
    Kind,
    distribution_of,
)


def distribution(facts: Facts) -> Distribution:
    return distribution_of(facts.asked.sock, has_rke2=facts.has_rke2)


def config_file(facts: Facts) -> str:
    """The running containerd's own, where its process says it; else the distribution's."""
    found, kind = facts.containerd.config, distribution(facts)
    # The others write theirs anew at each start, from a template.
    if kind.kind is Kind.STOCK and found is not None and found.file:
        return found.file
    return (kind.config_file_of_2 if facts.containerd.release >= (2, 0) else "") or kind.config_file


def configure_command(facts: Facts, *more: str) -> str:
    """As it must be called here: what is not the default is given."""
    asked = facts.asked
    flags = ["peili", "configure"]
    if asked.hosts_dir != DEFAULT_HOSTS_DIR:
        flags.append(f"--hosts-dir {asked.hosts_dir}")
    if asked.configured_addr != DEFAULT_REGISTRY_ADDR:
        flags.append(f"--registry-addr {asked.configured_addr}")
    if asked.sock != STOCK_SOCK:
        flags.append(f"--containerd-sock {asked.sock}")
    flags += [f"--mirror {name}" for name in asked.mirrors]
    return " ".join([*flags, *more])
