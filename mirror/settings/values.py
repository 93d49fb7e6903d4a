"""What the text of a setting means. Pure: a path or an address is read, not looked at.

Every parser takes the text as given, never empty, and raises `ValueInvalid` with a message that says what was
expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TypeVar

from dht.endpoints import EndpointInvalid, canonical, scope
from mirror.errors import MirrorError
from mirror.oci.distribution import NameInvalid, canonical_registry, is_repository
from mirror.oci.scope import ImageScope
from mirror.settings.model import Address, Bootstrap, DnsBootstrap, LanBootstrap, StaticBootstrap

Choice = TypeVar("Choice", bound=StrEnum)

# File offsets are signed 64-bit numbers.
SIZE_MAX_BYTES = 2**63 - 1
# Linux's sockaddr_un: 108 bytes with the closing zero.
SOCKET_PATH_MAX_BYTES = 107
# containerd's limit on identifiers, of which a namespace is one.
NAMESPACE_MAX_LENGTH = 76
# What fits into a message line.
_SHOWN_CHARACTERS = 100

_SIZE = re.compile(r"([0-9]{1,19})(B|KiB|MiB|GiB)?")
_UNITS_BYTES = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ADDRESS = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_SECONDS = re.compile(r"[0-9]{1,9}")
_CLUSTER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


class ValueInvalid(MirrorError):
    """The text is not what the setting takes. The message begins with the text."""


def size_bytes(minimum_bytes: int, *, may_be_zero: bool = False) -> Callable[[str], int]:
    """A parser of sizes: whole bytes, or with the suffix KiB, MiB or GiB."""

    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise _invalid(
                text, "is not a size: expected bytes, or a number with KiB, MiB or GiB, such as 512MiB"
            )
        size = int(found[1]) * _UNITS_BYTES[found[2]]
        if not minimum_bytes <= size <= SIZE_MAX_BYTES and not (may_be_zero and size == 0):
            zero = "0, or " if may_be_zero else ""
            raise _invalid(
                text, f"is out of range: expected {zero}at least {size_text(minimum_bytes)}, below 8 EiB"
            )
        return size

    return parse


def size_text(size: int) -> str:
    """The shortest exact text that `size_bytes` reads back."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _UNITS_BYTES[unit] == 0:
            return f"{size // _UNITS_BYTES[unit]}{unit}"
    return str(size)


def choice(kind: type[Choice]) -> Callable[[str], Choice]:
    """A parser of one of the words of `kind`."""

    def parse(text: str) -> Choice:
        try:
            return kind(text)
        except ValueError as exc:
            *most, last = (member.value for member in kind)
            raise _invalid(text, f"is not known: expected {', '.join(most)} or {last}") from exc

    return parse


def listen_address(text: str) -> Address:
    """``ADDRESS:PORT``. An empty address means every one of this host and stays empty: which wildcard that is
    depends on the machine."""
    host, port = _split(text)
    if not host:
        return Address("", port)
    literal = _ip_address("127.0.0.1" if host == "localhost" else host)
    if literal is None:
        raise _invalid(text, "does not begin with an IP address: a listener is bound to one, not to a name")
    return Address(literal, port)


def listen_address_or_off(text: str) -> Address | None:
    return None if text == "off" else listen_address(text)


def advertise_address(text: str) -> str:
    """An IP address by which others can mean this host. The canonical spelling."""
    try:
        address = canonical(text)
    except EndpointInvalid as exc:
        raise _invalid(
            text, "is not an IP address: expected one without a port, such as 10.0.0.7 or fd00::7"
        ) from exc
    if "%" in address or scope(address) == "link":
        raise _invalid(text, "is a link-local address: it means something else on every other host")
    if scope(address) == "none":
        raise _invalid(text, "is no address of a host: nobody can be reached at it")
    return address


def bootstrap(text: str) -> Bootstrap:
    """``static:HOST:PORT``, ``dns:NAME`` with or without a port, or ``lan``."""
    kind, _, rest = text.partition(":")
    match kind:
        case "static":
            return _static_bootstrap(text, rest)
        case "dns":
            return _dns_bootstrap(text, rest)
        case "lan" if text == "lan":
            return LanBootstrap()
    raise _invalid(
        text,
        "is not a bootstrap: expected static:HOST:PORT, dns:NAME or lan, such as static:10.0.0.7:29021",
    )


def _static_bootstrap(text: str, rest: str) -> StaticBootstrap:
    host, port = _split(rest)
    literal = _ip_address(host)
    name = literal or (host if _is_name(host) else None)
    if name is None:
        raise _invalid(text, "names no host: expected static:HOST:PORT with an IP address or a DNS name")
    address = Address(name, port)
    if port == 0 or address.is_every_address:
        raise _invalid(text, "is no address of a peer: a peer has an address and a port of its own")
    return StaticBootstrap(address)


def _dns_bootstrap(text: str, rest: str) -> DnsBootstrap:
    name, port = _split(rest) if ":" in rest else (rest, None)
    if _ip_address(name) is not None:
        raise _invalid(text, "has an address where a name belongs: use static:HOST:PORT for one peer")
    if not _is_name(name):
        raise _invalid(text, "names no host: expected dns:NAME or dns:NAME:PORT with a DNS name")
    if port == 0:
        raise _invalid(text, "has port 0: peers have a port of their own")
    return DnsBootstrap(name, port or 0)


def name_and_port(text: str) -> Address:
    """``NAME:PORT`` of others: a DNS name, or the address of one."""
    host, port = _split(text)
    name = _ip_address(host) or (host if _is_name(host) else None)
    if name is None:
        raise _invalid(text, "names no host: expected NAME:PORT, such as peili-cleanup:29021")
    if port == 0:
        raise _invalid(text, "has port 0: others have a port of their own")
    return Address(name, port)


def seconds(minimum_s: int, maximum_s: int) -> Callable[[str], int]:
    """A parser of whole seconds."""

    def parse(text: str) -> int:
        if not _SECONDS.fullmatch(text) or not minimum_s <= int(text) <= maximum_s:
            raise _invalid(text, f"is not a time: expected whole seconds, {minimum_s} to {maximum_s}")
        return int(text)

    return parse


def path(text: str) -> PurePosixPath:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise _invalid(text, "is not a path: it has control characters")
    return PurePosixPath(text)


def socket_path(text: str) -> PurePosixPath:
    """A path, also as the `unix://` address that the CRI's tools print."""
    bare = text.removeprefix("unix://")
    if "://" in bare or not bare:
        raise _invalid(text, "is not a socket: expected a path, such as /run/containerd/containerd.sock")
    if len(bare.encode()) > SOCKET_PATH_MAX_BYTES:
        raise _invalid(text, f"is too long: Linux takes socket paths of {SOCKET_PATH_MAX_BYTES} bytes")
    return path(bare)


def registry(text: str) -> str:
    """Canonical: lower-case, docker.io in one spelling."""
    if "://" in text:
        raise _invalid(
            text, "is not a registry: leave out the scheme, such as in ghcr.io or registry.example:5000"
        )
    try:
        return canonical_registry(text)
    except NameInvalid as exc:
        raise ValueInvalid(str(exc)) from exc


def image_scope(text: str) -> ImageScope:
    """``REGISTRY`` or ``REGISTRY/PATH``."""
    name, slash, repository = text.partition("/")
    if slash and not is_repository(repository):
        raise _invalid(
            text,
            "is not an image path: expected REGISTRY or REGISTRY/PATH, such as ghcr.io/team or docker.io/library",
        )
    return ImageScope(registry(name), repository)


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        raise _invalid(text, f"does not compile as a regular expression: {exc}") from exc


def cluster_name(text: str) -> str:
    if not _CLUSTER.fullmatch(text):
        raise _invalid(
            text, "is not a cluster name: expected up to 63 letters, digits, dots, dashes or underscores"
        )
    return text


def containerd_namespace(text: str) -> str:
    """Source: containerd's identifiers, which are letters and digits joined by single `.`, `-` or `_`."""
    if len(text) > NAMESPACE_MAX_LENGTH or not _NAMESPACE.fullmatch(text):
        raise _invalid(text, "is not a containerd namespace: expected a name such as k8s.io or moby")
    return text


def any_text(text: str) -> str:
    return text


def _split(text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        if text.count(":") > 1 and "[" not in text:
            raise _invalid(text, "is not an address: put an IPv6 address in brackets, such as [::1]:29020")
        raise _invalid(text, "is not an address: expected host:port, such as 127.0.0.1:29020")
    port = int(found["port"])
    if port > 65535:
        raise _invalid(text, "has a port above 65535")
    if found["bracketed"] is None:
        return found["plain"], port
    if ":" not in found["bracketed"] or _ip_address(found["bracketed"]) is None:
        raise _invalid(text, "has no IPv6 address in its brackets")
    return found["bracketed"], port


def _ip_address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    return _HOST_NAME.fullmatch(host) is not None and not _looks_numeric(host)


def _looks_numeric(host: str) -> bool:
    """Names like 10.0.0.300 are mistyped addresses: no top-level domain is a number."""
    return host.rstrip(".").rpartition(".")[2].isdecimal()


def _invalid(text: str, reason: str) -> ValueInvalid:
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return ValueInvalid(f"{shown!r} {reason}")
