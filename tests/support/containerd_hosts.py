"""How containerd reads a hosts directory, in a few lines of Python, so that tests can ask what a change did.

Written from containerd's documentation and from what 1.6, 1.7 and 2.1 were seen to do, and apart from
`containerd.hosts`, so that both must be wrong in the same way for a test to miss it.
"""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from posixpath import isabs, join, normpath
from typing import TypeAlias
from urllib.parse import urlsplit

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json]"
Document: TypeAlias = dict[str, Json]

ALL = frozenset({"pull", "resolve", "push"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One host that containerd would ask, in its turn."""

    scheme: str
    host: str
    path: str
    capabilities: frozenset[str]
    ca: tuple[str, ...]
    client: tuple[tuple[str, ...], ...]
    skip_verify: bool | None
    header: str
    dial_timeout: str
    other: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}"


def hosts_asked(roots: list[Path], registry: str, version: tuple[int, int]) -> list[Asked]:
    directory = _directory(roots, registry)
    hosts = _certificates_alone(directory) if directory is None else _of_directory(directory, version)
    last = hosts[-1]
    if last.host:
        return hosts
    return [*hosts[:-1], _registry_itself(last, registry, version)]


def _directory(roots: list[Path], registry: str) -> Path | None:
    names = [registry, "_default"]
    host, colon, port = registry.rpartition(":")
    if colon:
        names.insert(0, f"{host}_{port}_")
    return next((root / name for root in roots for name in names if (root / name).exists()), None)


def _of_directory(directory: Path, version: tuple[int, int]) -> list[Asked]:
    file = directory / "hosts.toml"
    text = file.read_bytes().decode() if file.exists() else ""
    if not text:
        return _certificates_alone(directory)
    try:
        document: Document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return _certificates_alone(directory)
    tables = document.pop("host", {})
    assert isinstance(tables, dict)
    if not tables and version < (2, 0):
        return _certificates_alone(directory)
    server = document.pop("server", "")
    assert isinstance(server, str)
    hosts = []
    for url, options in tables.items():
        assert isinstance(options, dict)
        hosts.append(_host(url, options, directory))
    return [*hosts, _host(server, document, directory)]


def _certificates_alone(directory: Path | None) -> list[Asked]:
    names = sorted(it.name for it in directory.iterdir() if not it.is_dir()) if directory else []
    pairs: list[Json] = [
        [name, key if (key := name[:-5] + ".key") in names else name]
        for name in names
        if name.endswith(".cert")
    ]
    options: Document = {"client": pairs} if pairs else {}
    authorities: list[Json] = [name for name in names if name.endswith(".crt")]
    if authorities:
        options["ca"] = authorities
    return [_host("", options, directory or Path("/"))]


def _host(url: str, options: Document, directory: Path) -> Asked:
    rest = dict(options)
    parts = urlsplit(url if not url or url.startswith("http") else f"https://{url}")
    path = "/" + normpath(parts.path).strip("/").lstrip(".")
    if not rest.pop("override_path", False) and not path.endswith("/v2"):
        path = path.rstrip("/") + "/v2"
    capabilities = rest.pop("capabilities", [])
    ca = rest.pop("ca", [])
    client = rest.pop("client", [])
    skip_verify = rest.pop("skip_verify", None)
    assert isinstance(capabilities, list) and (skip_verify is None or isinstance(skip_verify, bool))
    return Asked(
        parts.scheme,
        parts.netloc,
        path,
        frozenset(map(str, capabilities)) or ALL,
        tuple(_absolute(it, directory) for it in ([ca] if isinstance(ca, str) else _strings(ca))),
        tuple(_pair(it, directory) for it in ([client] if isinstance(client, str) else _items(client))),
        skip_verify,
        repr(sorted(_mapping(rest.pop("header", {})).items())),
        str(rest.pop("dial_timeout", "")),
        repr(sorted(rest.items())),
    )


def _registry_itself(root: Asked, registry: str, version: tuple[int, int]) -> Asked:
    host, scheme, skip_verify = registry, "https", root.skip_verify
    if registry == "docker.io":
        host = "registry-1.docker.io"
    elif _is_loopback(registry):
        skip_verify = True
        port = registry.rpartition(":")[2] if ":" in registry else ""
        scheme = "https" if port in ("", "443") and version >= (1, 7) else "http"
    return Asked(
        scheme,
        host,
        "/v2",
        ALL,
        root.ca,
        root.client,
        skip_verify,
        root.header,
        root.dial_timeout,
        root.other,
    )


def _is_loopback(registry: str) -> bool:
    host = registry.rpartition(":")[0] or registry
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _pair(item: Json, directory: Path) -> tuple[str, ...]:
    if isinstance(item, str):
        return (_absolute(item, directory),) * 2
    first, second = (_absolute(it, directory) for it in _strings(item))
    return first, second


def _absolute(name: str, directory: Path) -> str:
    return name if isabs(name) else normpath(join(str(directory), name))


def _items(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value


def _strings(value: Json) -> list[str]:
    return [item for item in _items(value) if isinstance(item, str)]


def _mapping(value: Json) -> Document:
    assert isinstance(value, dict)
    return value
