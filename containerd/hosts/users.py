"""Where content of a registry comes from were we not here: the user's own hosts for it, then the registry itself.

It reads the hosts directory as it is now, with our blocks taken out, and changes nothing. It connects to nothing and
does not decide whom to trust; it only says what the user named.

Rules
1. The order and the options are those that `configure` writes behind our mirror, so they are containerd's.
2. We are never one of them, wherever our address stands.
3. The user named what his files name. The registry itself counts as named when he has a directory for it, even one
   with certificates alone; not when our entry, or `_default`, is all there is.
"""

from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

from containerd.hosts import disk, docker_daemon, state
from containerd.hosts.hosts_file import Host, HostsFile, moved
from containerd.hosts.layout import Mirror, endpoint, with_fallback
from containerd.hosts.manifest import Manifest
from containerd.hosts.names import DEFAULT, Registry, default_origin
from containerd.hosts.plan import Planner
from containerd.hosts.search import search_path
from containerd.hosts.survey import user_file
from containerd.hosts.toml_text import Table


@dataclass(frozen=True, slots=True)
class UserHost:
    base: str
    """Scheme, host, port and path as containerd makes them, such as https://quay.io/v2, without a slash at the end."""
    options: Table
    """As in hosts.toml; paths of certificates are absolute."""
    is_named: bool

    @property
    def can_pull(self) -> bool:
        return self._can("pull")

    @property
    def can_resolve(self) -> bool:
        return self._can("pull") and self._can("resolve")

    def _can(self, capability: str) -> bool:
        # Source: containerd, `parseHostConfig`, read: none listed means all.
        listed = self.options.get("capabilities")
        return not isinstance(listed, list) or not listed or capability in listed


def user_hosts(
    hosts_dir: Path,
    registry: str,
    *,
    registry_url: str,
    config_path: str | None,
    containerd_version: tuple[int, int] | None,
) -> tuple[UserHost, ...]:
    """In the order in which containerd would ask them; never empty. The arguments are those of `configure`.

    Raises: HostsError; where it is about the user's file, containerd may be using it as far as it can be read.
    """
    wanted = Registry.parse(registry)
    mirror = Mirror(registry_url, "upstream", containerd_version)
    hosts_dir = Path(normpath(hosts_dir.absolute()))
    with disk.explained(hosts_dir):
        search = search_path(str(hosts_dir), config_path, containerd_version)
        docker = docker_daemon.beside(hosts_dir)
        planner = Planner(hosts_dir, mirror, search, state.load(hosts_dir) or Manifest(), docker)
        place = planner.users_place(wanted)
        file = HostsFile() if place is None else moved(user_file(place, containerd_version), str(place.path))
        file = docker.merged(wanted, file, containerd_version)
    has_directory = place is not None and place.path.name != DEFAULT
    return _hosts(wanted, file, mirror, has_directory=has_directory)


def origin_host(registry: str, containerd_version: tuple[int, int] | None) -> UserHost:
    """The registry itself, for a host without hosts directory. Raises: RegistryNameInvalid."""
    origin = default_origin(Registry.parse(registry), containerd_version)
    return UserHost(_base(origin), origin.options, is_named=False)


def manifest_of(hosts_dir: Path) -> Manifest | None:
    """None where `configure` has not run, or was undone. Raises: HostsError."""
    with disk.explained(hosts_dir):
        return state.load(hosts_dir)


def _hosts(
    registry: Registry, file: HostsFile, mirror: Mirror, *, has_directory: bool
) -> tuple[UserHost, ...]:
    named = {_where(Host(host.url, host.options)) for host in file.hosts}
    if file.server is not None:
        named.add(_where(Host(file.server, file.options)))
    if has_directory:
        named.add(_where(default_origin(registry, mirror.containerd_version)))
    laid_out = with_fallback(registry, file, mirror).hosts
    return tuple(
        UserHost(_base(host), host.options, is_named=_where(host) in named)
        for host in laid_out
        if not mirror.is_self(host.url)
    )


def _where(host: Host) -> tuple[str, str]:
    scheme, netloc, _ = endpoint(host.url, host.options)
    return scheme, netloc


def _base(host: Host) -> str:
    scheme, netloc, path = endpoint(host.url, host.options)
    # containerd takes only host and port of what stands in front of the path.
    return f"{scheme}://{netloc.rpartition('@')[2]}{path.rstrip('/')}"
