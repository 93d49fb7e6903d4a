"""What dockerd's daemon.json says of registries, as a hosts.toml would say it. Pure but for `beside`, which reads it.

Flags of dockerd that say the same (`--registry-mirror`, `--insecure-registry`) are not seen. No name is resolved.

Rules
1. dockerd lets `registry-mirrors` (for docker.io) and `insecure-registries` count only where a registry has no more
   than one host, and a hosts.toml of ours makes them more. So what they say has to stand in that file. Source:
   dockerd 28.5.2, daemon/hosts.go, `mergeLegacyConfig`, read; seen on 28.5.2.
2. Insecure means TLS unverified, and plain HTTP on the same port where that is what answers. `http` with `skip_verify`
   says the same (`names.default_origin`); a user's own `http://` stays plain.
3. A network among the insecure ones covers registries that no file can name: there must be no `_default` then.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from containerd.hosts import disk
from containerd.hosts.errors import HostsFileInvalid, RegistryNameInvalid
from containerd.hosts.hosts_file import Host, HostsFile
from containerd.hosts.names import Registry, default_origin
from containerd.hosts.search import DOCKER_DIR
from containerd.hosts.toml_text import Table, Value

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# What a mirror of daemon.json has from the origin: dockerd makes it as a copy of that.
_SHARED = ("ca", "client", "header", "skip_verify")


@dataclass(frozen=True, slots=True)
class DockerDaemon:
    """`mirrors`: of docker.io, in order. `insecure`: registries by name. `networks`: without loopback, which
    containerd's library treats so by itself."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[Registry, ...] = ()
    networks: tuple[Network, ...] = ()

    def merged(self, registry: Registry, file: HostsFile, version: tuple[int, int] | None) -> HostsFile:
        """What dockerd makes of the user's file for this registry."""
        if file.hosts:
            return file
        origin = default_origin(registry, version)
        server = file.server
        options: dict[str, Value] = dict(file.options)
        if self._is_insecure(server or origin.url) and not (server or "").startswith("http://"):
            if server is None:  # containerd takes neither without it.
                options = {k: v for k, v in options.items() if k not in ("capabilities", "override_path")}
            server, options["skip_verify"] = _as_http(server or origin.url), True
        if registry.name != "docker.io" or not self.mirrors:
            return HostsFile(server, options)
        shared = {key: options[key] for key in _SHARED if key in options}
        return HostsFile(server, options, tuple(self._mirror(url, shared) for url in self.mirrors))

    def _mirror(self, url: str, shared: Table) -> Host:
        options: dict[str, Value] = {"capabilities": ["pull", "resolve"], **shared}
        if self._is_insecure(url) and not url.startswith("http://"):
            url, options["skip_verify"] = _as_http(url), True
        return Host(url, options)

    def _is_insecure(self, url: str) -> bool:
        netloc = urlsplit(url if "://" in url else f"https://{url}").netloc
        try:
            registry = Registry.parse(netloc)
        except RegistryNameInvalid:
            return False
        if registry in self.insecure:
            return True
        try:
            address = ipaddress.ip_address(registry.host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def read(text: str, where: str) -> DockerDaemon:
    """Raises: HostsFileInvalid."""
    try:
        document = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise HostsFileInvalid(where, getattr(error, "lineno", None), f"not JSON: {error}") from error
    if not isinstance(document, Mapping):
        raise HostsFileInvalid(where, None, "not a JSON object")
    insecure: list[Registry] = []
    networks: list[Network] = []
    for entry in _strings(document, "insecure-registries", where):
        name = entry.partition("://")[2] or entry
        try:
            if "/" in name:
                network = ipaddress.ip_network(name, strict=False)
                networks += [] if network.is_loopback else [network]
            else:
                insecure.append(Registry.parse(name))
        except RegistryNameInvalid:
            continue  # No image can name it.
        except ValueError as error:
            raise HostsFileInvalid(where, None, f"insecure-registries: {entry!r}: {error}") from error
    mirrors = tuple(url.rstrip("/") for url in _strings(document, "registry-mirrors", where))
    return DockerDaemon(mirrors, tuple(insecure), tuple(networks))


def beside(hosts_dir: Path) -> DockerDaemon:
    """What stands next to Docker's hosts directory, `…/docker/certs.d`; of any other directory nothing. Raises:
    HostsFileInvalid, OSError."""
    if not str(hosts_dir).endswith(DOCKER_DIR):
        return DockerDaemon()
    path = hosts_dir.parent / "daemon.json"
    found = disk.read(path)
    if found is None:
        return DockerDaemon()
    try:
        return read(found.content.decode(), str(path))
    except UnicodeDecodeError as error:
        raise HostsFileInvalid(str(path), None, "not UTF-8, and so not JSON") from error


def _as_http(url: str) -> str:
    return f"http://{url.partition('://')[2] or url}"


def _strings(document: Mapping[str, object], key: str, where: str) -> list[str]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise HostsFileInvalid(where, None, f"`{key}` must be a list of strings")
    return value
