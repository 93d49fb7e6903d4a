"""Which kinds of containerd there are, and the paths and commands that differ between them. Pure: it knows paths, and
looks at none.

Told by the path of containerd's socket, which each of them chooses (reference: their documentation and sources).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STOCK_SOCK = "/run/containerd/containerd.sock"
K3S_SOCK = "/run/k3s/containerd/containerd.sock"
MICROK8S_SOCK = "/var/snap/microk8s/common/run/containerd.sock"
DOCKER_SOCK = "/run/docker/containerd/containerd.sock"
# In the order in which one is chosen: who brings a containerd of its own does it for Kubernetes.
KNOWN_SOCKS = (K3S_SOCK, MICROK8S_SOCK, STOCK_SOCK, DOCKER_SOCK)
DOCKER_API_SOCK = "/run/docker.sock"
# Defaults of the settings, and repeated here: their table knows paths of this machine (a test compares).
DEFAULT_HOSTS_DIR = "/etc/containerd/certs.d"
DEFAULT_REGISTRY_ADDR = "127.0.0.1:29020"
DOCKER_HOSTS_DIR = "/etc/docker/certs.d"
RKE2_DIR = "/var/lib/rancher/rke2"
CRI_NAMESPACE = "k8s.io"
DOCKER_NAMESPACE = "moby"
# nerdctl's and ctr's, if not told otherwise.
DEFAULT_NAMESPACE = "default"


class Kind(StrEnum):
    STOCK = "containerd"
    K3S = "K3s"
    RKE2 = "RKE2"
    MICROK8S = "MicroK8s"
    DOCKER = "Docker"


@dataclass(frozen=True, slots=True)
class Distribution:
    """`sock`: containerd's; `namespaces`: where its images are. `hosts_dir`: where it looks for hosts.toml files, if
    its configuration does not say another. `running_config`: the file that it is started with, made from `config_file`
    where the two differ. `registries_file`: what it makes them from at each start; "" where
    `configure` writes them. `config_file`: where a change to containerd's configuration lasts; `config_file_of_2`: the
    one with containerd 2, where that is another. `restart` and `start`: lines for a shell as root. `unit`: the
    service of systemd that it runs in, without its ending; on a host that is no server `agent_unit`."""

    kind: Kind
    sock: str
    namespaces: tuple[str, ...]
    hosts_dir: str
    running_config: str
    config_file: str
    restart: str
    start: str
    unit: str
    config_file_of_2: str = ""
    registries_file: str = ""
    agent_unit: str = ""


STOCK = Distribution(
    Kind.STOCK,
    STOCK_SOCK,
    (CRI_NAMESPACE,),
    DEFAULT_HOSTS_DIR,
    "/etc/containerd/config.toml",
    "/etc/containerd/config.toml",
    "systemctl restart containerd",
    "systemctl start containerd",
    "containerd",
)


def _rancher(kind: Kind, name: str, unit: str) -> Distribution:
    folder = f"/var/lib/rancher/{name}/agent/etc/containerd"
    agent = f"{name}-agent"
    return Distribution(
        kind,
        K3S_SOCK,
        (CRI_NAMESPACE,),
        f"{folder}/certs.d",
        f"{folder}/config.toml",
        f"{folder}/config.toml.tmpl",
        f"systemctl restart {unit} || systemctl restart {agent}",
        f"systemctl start {unit} || systemctl start {agent}",
        unit,
        f"{folder}/config-v3.toml.tmpl",
        f"/etc/rancher/{name}/registries.yaml",
        agent,
    )


K3S = _rancher(Kind.K3S, "k3s", "k3s")
RKE2 = _rancher(Kind.RKE2, "rke2", "rke2-server")
MICROK8S = Distribution(
    Kind.MICROK8S,
    MICROK8S_SOCK,
    (CRI_NAMESPACE,),
    "/var/snap/microk8s/current/args/certs.d",
    "/var/snap/microk8s/current/args/containerd.toml",
    "/var/snap/microk8s/current/args/containerd-template.toml",
    "snap restart microk8s.daemon-containerd",
    "snap start microk8s.daemon-containerd",
    "snap.microk8s.daemon-containerd",
)
# Its daemon is dockerd's child and has no file of the user's: what is said of images is said to dockerd.
DOCKER = Distribution(
    Kind.DOCKER,
    DOCKER_SOCK,
    (DOCKER_NAMESPACE,),
    DOCKER_HOSTS_DIR,
    "/var/run/docker/containerd/containerd.toml",
    "/etc/docker/daemon.json",
    "systemctl restart docker",
    "systemctl start docker",
    "docker",
)


def canonical_sock(path: str) -> str:
    """/var/run is a link to /run, and Docker tells its paths through it."""
    path = path.removeprefix("unix://")
    return path.removeprefix("/var") if path.startswith("/var/run/") else path


def distribution_of(sock: str, *, has_rke2: bool) -> Distribution:
    """`has_rke2`: there is a directory RKE2_DIR. An unknown path is taken for a containerd as it comes."""
    if "/k3s/" in sock:
        return RKE2 if has_rke2 else K3S
    if "/microk8s/" in sock:
        return MICROK8S
    return DOCKER if "/docker/" in sock else STOCK


def registry_table(release: tuple[int, int]) -> str:
    """The header of the table that config_path stands in."""
    plugin = "io.containerd.cri.v1.images" if release >= (2, 0) else "io.containerd.grpc.v1.cri"
    return f'[plugins."{plugin}".registry]'
