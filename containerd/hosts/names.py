"""Which strings are registries, under which directory names containerd looks them up, and what their
origin is.

It does not know which registries exist, and reads no directory.

Rules
1. A name that passes has no `/`, no `..` and nothing that could leave the hosts directory.
2. `host:port` is looked up as `host_port_` first and as `host:port` second. Source: containerd,
   core/remotes/docker/config, `hostPaths`; read, and documented in its docs/hosts.md.
3. Without a `server`, containerd speaks https to the registry itself, but for loopback: see `default_origin`.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from containerd.hosts.errors import RegistryNameInvalid
from containerd.hosts.hosts_file import Host

DEFAULT = "_default"
"""The directory that containerd takes for every registry without one of its own."""

NAME_LIMIT_CHARS = 255
"""A domain name has at most 253 characters, and a directory's name 255 bytes."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
# Source: the distribution project's reference grammar, `domain` and `port-number`.
_NAME = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_PORT_DIRECTORY = re.compile(r"(?P<host>.+)_(?P<port>[0-9]{1,5})_")


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry as it stands in front of an image's name."""

    host: str
    """Without brackets, also for IPv6."""
    port: int | None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Raises: RegistryNameInvalid. Docker Hub's older name becomes docker.io."""
        if len(name) > NAME_LIMIT_CHARS:
            raise RegistryNameInvalid(name[:40] + "…", f"longer than {NAME_LIMIT_CHARS} characters")
        match = _NAME.fullmatch(name)
        if match is None:
            raise RegistryNameInvalid(
                name, "not a registry; write host or host:port, without scheme and path"
            )
        host = match["host"].strip("[]")
        if match["host"].startswith("["):
            try:
                ipaddress.IPv6Address(host)
            except ValueError as error:
                raise RegistryNameInvalid(name, "not an IPv6 address in brackets") from error
        port = int(match["port"]) if match["port"] else None
        if port is not None and not 0 < port < 65536:
            raise RegistryNameInvalid(name, "the port is not between 1 and 65535")
        if port is None and "." not in host and ":" not in host and host != "localhost":
            raise RegistryNameInvalid(name, "an image's name cannot start so; a registry has a dot or a port")
        return cls("docker.io" if host == "index.docker.io" else host, port)

    @classmethod
    def from_directory(cls, directory: str) -> Self | None:
        """The registry whose directory has this name; None for `_default` and for what cannot be one."""
        with_port = _PORT_DIRECTORY.fullmatch(directory)
        try:
            return cls.parse(f"{with_port['host']}:{with_port['port']}" if with_port else directory)
        except RegistryNameInvalid:
            return None

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def directories(self) -> tuple[str, ...]:
        """The directory names that containerd tries, in its order; without `_default`."""
        if self.port is None:
            return (self.name,)
        host = self.name.rpartition(":")[0]
        return (f"{host}_{self.port}_", self.name)

    @property
    def is_loopback(self) -> bool:
        """As containerd decides it: `localhost`, or an address of the loopback network."""
        address = self._address
        return self.host == "localhost" or (address is not None and address.is_loopback)

    @property
    def is_address(self) -> bool:
        """`localhost` counts: nobody else can pull by such a name."""
        return self.host == "localhost" or self._address is not None

    @property
    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def default_origin(registry: Registry, containerd_version: tuple[int, int] | None) -> Host:
    """Where containerd pulls from, and how, when no file names a `server`.

    For loopback it means plain http, or TLS unverified: 1.7 and later try TLS first and then http on the same
    port when a host says `http` and `skip_verify`, so the pair says the same as no entry. 1.6 knows only
    http. Source: containerd, core/remotes/docker/config/hosts.go, read; http on loopback seen on 1.6, 1.7
    and 2.1.
    """
    if registry.name == "docker.io":
        return Host("https://registry-1.docker.io", {})
    if not registry.is_loopback:
        return Host(f"https://{registry.name}", {})
    only_https = registry.port in (None, 443) and (containerd_version or (2, 0)) >= (1, 7)
    return Host(f"{'https' if only_https else 'http'}://{registry.name}", {"skip_verify": True})
