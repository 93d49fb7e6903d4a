"""What a hosts.toml must say so that containerd asks our mirror first, and what the user wrote keeps working.

It decides order and options; it writes no text (see `splice`) and reads nothing.

Rules
1. Our mirror is the first host. The user's hosts follow in his order with his options. His `server`, or the
   registry itself, with the options at the top of his file, is the origin.
2. With a fallback host, the origin becomes the last host and `server` our fallback address, so that
   containerd asks there after the origin refused or failed. Measured on 1.6, 1.7 and 2.1; with the origin
   as `server`, it would be appended once more at the end and asked twice.
3. A host that is us is left out: containerd would only ask us twice.
4. Two hosts cannot have one key. Where the user lists his origin also as a host, it is said once if that
   is the same thing said twice, else a second spelling is used (an URL fragment, which containerd cuts
   off).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import normpath
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from containerd.hosts.errors import HostsError
from containerd.hosts.hosts_file import Host, HostsFile, same_value
from containerd.hosts.names import Registry, default_origin
from containerd.hosts.toml_text import Table, Value

Tags: TypeAlias = Literal["upstream", "peers", "off"]
"""Who answers for tags: the origin and, behind it, our fallback host; peers first; never us."""

MIRROR_DIAL_TIMEOUT = "1s"
"""For the case that our address, against advice, is not loopback. 1.6 and 1.7 ignore the key (measured)."""

FALLBACK_PATH = "/fallback/v2"
"""Where our registry listener serves as the fallback host; with `override_path`, containerd adds no `/v2`."""

ORIGIN_CAPABILITIES = ("pull", "resolve", "push")


@dataclass(frozen=True, slots=True)
class Mirror:
    """Our registry listener as containerd is to see it."""

    registry_url: str
    tags: Tags
    containerd_version: tuple[int, int] | None
    stale_tags: bool | None = None
    """Whether the fallback host may resolve tags. None: where a dead daemon is not seen (`_fallback_capabilities`)."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.registry_url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise HostsError(f"{self.registry_url!r}: write the registry's address as http://HOST:PORT")
        object.__setattr__(self, "registry_url", self.registry_url.rstrip("/"))

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.registry_url).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    def host(self) -> Host:
        capabilities = ["pull", "resolve"] if self.tags == "peers" else ["pull"]
        return Host(self.registry_url, {"capabilities": capabilities, "dial_timeout": MIRROR_DIAL_TIMEOUT})

    def is_self(self, url: str) -> bool:
        ours, theirs = urlsplit(self.registry_url), urlsplit(_with_scheme(url))
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)


def mirror_first(user: HostsFile, mirror: Mirror) -> HostsFile:
    """Our mirror in front of what the user has; everything else, `server` too, as he says it."""
    return HostsFile(user.server, user.options, (mirror.host(), *_others(user.hosts, mirror)))


def with_fallback(registry: Registry, user: HostsFile, mirror: Mirror) -> HostsFile:
    """Rule 2. For one registry only: `_default` cannot name the origin, so it cannot have a fallback host."""
    fallback: Table = {"capabilities": _fallback_capabilities(mirror), "override_path": True}
    hosts = _with_origin(_others(user.hosts, mirror), _origin(registry, user, mirror))
    return HostsFile(mirror.registry_url + FALLBACK_PATH, fallback, (mirror.host(), *hosts))


def _fallback_capabilities(mirror: Mirror) -> list[Value]:
    """Before 2.1 a dead daemon behind an origin that answers 404 hides the origin's words: containerd 1.6 and 1.7 do
    not count a 404 as an error, so our refused connection is the first one (measured). There, and where the version
    is not known, tags are the origin's alone unless the operator says otherwise."""
    may_resolve = mirror.stale_tags
    if may_resolve is None:
        may_resolve = mirror.containerd_version is not None and mirror.containerd_version >= (2, 1)
    return ["pull", "resolve"] if may_resolve else ["pull"]


def _others(hosts: Sequence[Host], mirror: Mirror) -> list[Host]:
    return [host for host in hosts if not mirror.is_self(host.url)]


def _origin(registry: Registry, user: HostsFile, mirror: Mirror) -> Host:
    # Without `server`, containerd takes the registry itself with all capabilities and the plain path, and
    # only the other options of the top of the file.
    if user.server is None or not endpoint(user.server, {})[1] or mirror.is_self(user.server):
        origin = default_origin(registry, mirror.containerd_version)
        options = {k: v for k, v in user.options.items() if k not in ("capabilities", "override_path")}
        return Host(origin.url, {"capabilities": list(ORIGIN_CAPABILITIES), **options, **origin.options})
    capabilities = user.options.get("capabilities") or list(ORIGIN_CAPABILITIES)
    return Host(user.server, {"capabilities": capabilities, **_but_capabilities(user.options)})


def _with_origin(hosts: list[Host], origin: Host) -> list[Host]:
    if hosts and _adds_nothing(origin, hosts[-1]):
        last = hosts[-1]
        return [*hosts[:-1], Host(last.url, {**last.options, "capabilities": _joined(last, origin)})]
    url = origin.url
    while any(host.url == url for host in hosts):
        url += "#origin" if "#" not in url else "-"
    return [*hosts, Host(url, origin.options)]


def _adds_nothing(origin: Host, host: Host) -> bool:
    beside = _but_capabilities(origin.options)
    return endpoint(origin.url, origin.options) == endpoint(host.url, host.options) and all(
        key in host.options and same_value(host.options[key], value) for key, value in beside.items()
    )


def _but_capabilities(options: Table) -> Table:
    return {key: value for key, value in options.items() if key != "capabilities"}


def _joined(host: Host, origin: Host) -> Value:
    have = host.options.get("capabilities")
    wanted = origin.options["capabilities"]
    if not isinstance(have, list) or not isinstance(wanted, list) or not have:
        return list(ORIGIN_CAPABILITIES)
    return [*have, *(capability for capability in wanted if capability not in have)]


def endpoint(url: str, options: Table) -> tuple[str, str, str]:
    """Scheme, host and path as containerd makes them. Source: its `parseHostConfig` and `request`, read."""
    parts = urlsplit(_with_scheme(url))
    path = normpath("/" + parts.path.lstrip("/"))
    if not options.get("override_path") and not path.endswith("/v2"):
        path = path.rstrip("/") + "/v2"
    return parts.scheme, parts.netloc, path


def _with_scheme(url: str) -> str:
    return url if url.startswith("http") else f"https://{url}"
