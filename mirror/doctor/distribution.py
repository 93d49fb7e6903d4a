"""Which kind of host this is, and the commands and files that differ there. Pure: it knows paths, and looks at none.

Told by the path of containerd's socket, which each of them chooses (reference: their documentation).
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.doctor.facts import Facts

STOCK_SOCK = "/run/containerd/containerd.sock"
K3S_SOCK = "/run/k3s/containerd/containerd.sock"
MICROK8S_SOCK = "/var/snap/microk8s/common/run/containerd.sock"
DOCKER_SOCK = "/run/docker/containerd/containerd.sock"
KNOWN_SOCKS = (STOCK_SOCK, K3S_SOCK, MICROK8S_SOCK, DOCKER_SOCK)
# Defaults of the settings, and repeated here: their table knows paths of this machine (a test compares).
DEFAULT_HOSTS_DIR = "/etc/containerd/certs.d"
DEFAULT_REGISTRY_ADDR = "127.0.0.1:29020"
RKE2_DIR = "/var/lib/rancher/rke2"


@dataclass(frozen=True, slots=True)
class Distribution:
    """`config_file`: where a change to containerd's configuration lasts; `config_file_of_2`: the one with containerd 2,
    where that is another."""

    config_file: str
    restart: str
    start: str
    config_file_of_2: str = ""


STOCK = Distribution(
    "/etc/containerd/config.toml",
    "systemctl restart containerd",
    "systemctl start containerd",
)
_RANCHER = "/var/lib/rancher/{0}/agent/etc/containerd"
_K3S = Distribution(
    f"{_RANCHER.format('k3s')}/config.toml.tmpl",
    "systemctl restart k3s || systemctl restart k3s-agent",
    "systemctl start k3s || systemctl start k3s-agent",
    f"{_RANCHER.format('k3s')}/config-v3.toml.tmpl",
)
_RKE2 = Distribution(
    f"{_RANCHER.format('rke2')}/config.toml.tmpl",
    "systemctl restart rke2-server || systemctl restart rke2-agent",
    "systemctl start rke2-server || systemctl start rke2-agent",
    f"{_RANCHER.format('rke2')}/config-v3.toml.tmpl",
)
_MICROK8S = Distribution(
    "/var/snap/microk8s/current/args/containerd-template.toml",
    "snap restart microk8s.daemon-containerd",
    "snap start microk8s.daemon-containerd",
)


def distribution(facts: Facts) -> Distribution:
    sock = facts.asked.sock
    if "/k3s/" in sock:
        return _RKE2 if facts.has_rke2 else _K3S
    return _MICROK8S if "/microk8s/" in sock else STOCK


def registry_table(release: tuple[int, int]) -> str:
    """The header of the table that config_path stands in."""
    plugin = "io.containerd.cri.v1.images" if release >= (2, 0) else "io.containerd.grpc.v1.cri"
    return f'[plugins."{plugin}".registry]'


def config_file(facts: Facts) -> str:
    """The running containerd's own, where its process says it; else the distribution's."""
    found, kind = facts.containerd.config, distribution(facts)
    # The others write theirs anew at each start, from a template.
    if kind is STOCK and found is not None and found.file:
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
