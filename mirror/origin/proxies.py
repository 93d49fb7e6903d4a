"""Which proxy a request to an origin goes through, by the environment. Pure.

Rules
1. HTTPS_PROXY for https, HTTP_PROXY for http, in capitals (they win) or small letters; an address without a scheme is
   http. ALL_PROXY is not looked at: containerd does not either.
2. NO_PROXY, a list by commas or blanks: `*` (no proxy at all); a name (it and what ends in `.name`); `.name` or
   `*.name` (only what ends in it); an address; a CIDR, which matches addresses only, never names by what they resolve
   to; each of these but `*` and a CIDR also with `:port`.
3. localhost and loopback addresses never go through a proxy.

Source: golang.org/x/net/http/httpproxy, which containerd uses, so that one setting serves both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Proxies:
    """An empty address: none. The addresses may hold a password."""

    http: str
    https: str
    exempt: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Proxies(http={bool(self.http)}, https={bool(self.https)}, exempt={self.exempt!r})"

    @staticmethod
    def of(environ: Mapping[str, str]) -> Proxies:
        def value(name: str) -> str:
            return (environ.get(name) or environ.get(name.lower()) or "").strip()

        exempt = value("NO_PROXY").replace(",", " ").lower().split()
        return Proxies(_address(value("HTTP_PROXY")), _address(value("HTTPS_PROXY")), tuple(exempt))

    def choose(self, scheme: str, host: str, port: int) -> str:
        """The proxy's URL, or "" for none. `host` without brackets."""
        proxy = self.https if scheme == "https" else self.http
        return "" if not proxy or self._is_exempt(host.lower().rstrip("."), port) else proxy

    def _is_exempt(self, host: str, port: int) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            address = None
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, address, port) for entry in self.exempt)


def is_usable(proxy: str) -> bool:
    """Whether the address is one of an HTTP proxy: SOCKS is not spoken here."""
    try:
        parts = urlsplit(proxy)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _address(text: str) -> str:
    return text if not text or "://" in text else f"http://{text}"


def _matches(
    entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    if address is not None:
        try:
            return address == ipaddress.ip_address(name)
        except ValueError:
            return False
    if name.startswith("*."):
        name = name[1:]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdecimal() else None
    name, colon, port = entry.partition(":")
    return (name, int(port)) if colon and port.isdecimal() else (entry, None)
