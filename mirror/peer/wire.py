"""How a request between daemons proves that it comes from the cluster. Sends nothing, reads no clock.

Rules
1. Every request carries `Authorization: Peili v=1,k=…,t=…,n=…,m=…`: wire version, key id, Unix time in seconds of
   the sender's clock (corrected by what it learned), node id of the daemon that it is meant for (`-` while unknown)
   and a MAC over all of these with method, path with query, and Range.
2. A version that is not spoken is refused before anything else is looked at.
3. A request whose MAC is right but whose time or node id is not gets a challenge: the receiver's time and node id
   under a MAC that is bound to the request. The sender learns both and asks once more. A wrong clock is thereby
   compensated only after the other side proved that it knows the secret.
4. Without a secret a request carries the version alone, and only private, link-local and loopback addresses are
   served.

Byte by byte in docs/wire/peer-http.md; its examples are run as tests.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import TYPE_CHECKING

from dht.ids import IdInvalid, NodeId

if TYPE_CHECKING:
    from mirror.secret import Subkey

PEER_WIRE_VERSION = 1
SPOKEN_VERSIONS = (PEER_WIRE_VERSION,)

BLOB_PATH = "/peer/v1/blobs/"
TAG_PATH = "/peer/v1/tags"
CHANNEL_PATH = "/peer/v1/channel"
HOP_HEADER = "Peili-Hop"
VERSIONS_HEADER = "Peili-Versions"
CHALLENGE_HEADER = "Peili-Challenge"
SCHEME = "Peili"

# Wide enough for hosts without NTP discipline, narrow enough that a recorded request soon dies.
FRESHNESS_S = 120
# 128 bits: a forger has one try a request.
MAC_BYTES = 16

_FIELDS = re.compile(r"[a-z]=[0-9a-f-]{1,40}(?:,[a-z]=[0-9a-f-]{1,40}){0,7}")
_FIELD = re.compile(r"([a-z])=([^,]*)")
_VERSION = re.compile(r"v=([0-9]{1,4})(?:,|$)")


@dataclass(frozen=True, slots=True)
class Request:
    """What the MAC covers of an HTTP request. `target` is the path with its query, as sent; `range_header` is empty
    where there is none."""

    method: str
    target: str
    range_header: str


def head_of(request: Request, host: str, authorization: str, *, is_last: bool) -> bytes:
    """As it is sent. `host`: the peer's, with its port. `is_last`: on its connection."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {host}"]
    lines += [f"Authorization: {authorization}", f"{HOP_HEADER}: 1"]
    lines += ["Accept-Encoding: identity", "User-Agent: peili"]
    if request.range_header:
        lines.append(f"Range: {request.range_header}")
    if is_last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is the cluster's."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """Right secret, wrong time or node: answer 401 with `header` in `Peili-Challenge`."""

    header: str


@dataclass(frozen=True, slots=True)
class VersionUnspoken:
    """Answer 400 with `Peili-Versions`."""

    version: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer 401. `reason` is safe to send."""

    reason: str


Verdict = Accepted | Challenged | VersionUnspoken | Refused


def sign(request: Request, key: Subkey | None, *, unix_s: int, node: NodeId | None) -> str:
    """The Authorization header of a request to `node`."""
    if key is None:
        return f"{SCHEME} v={PEER_WIRE_VERSION}"
    name = "-" if node is None else str(node)
    mac = _request_mac(request, key, unix_s, name)
    return f"{SCHEME} v={PEER_WIRE_VERSION},k={key.key_id},t={unix_s},n={name},m={mac}"


def judge(
    authorization: str | None,
    request: Request,
    keys: Sequence[Subkey],
    *,
    node: NodeId,
    now_unix_s: int,
    sender_address: str,
) -> Verdict:
    """Whether to serve a request. `keys` is empty where the cluster has no secret."""
    scheme, _, rest = (authorization or "").partition(" ")
    version = _VERSION.match(rest)
    if scheme != SCHEME or version is None:
        return Refused("no Peili authorization")
    if int(version[1]) not in SPOKEN_VERSIONS:
        return VersionUnspoken(version[1])
    fields = _parse_fields(rest)
    if fields is None:
        return Refused("authorization malformed")
    if not keys:
        if "m" in fields:
            return Refused("this daemon has no cluster secret, the sender has one")
        if not _is_private(sender_address):
            return Refused("without a cluster secret only private addresses are served")
        return Accepted()
    key = _named(keys, fields)
    if key is None:
        return Refused("signed with the secret of another cluster, or with none")
    time_text, name, mac = fields.get("t", ""), fields.get("n", ""), fields.get("m", "")
    if not time_text.isdecimal() or len(time_text) > 12:
        return Refused("authorization malformed")
    unix_s = int(time_text)
    if not hmac.compare_digest(mac, _request_mac(request, key, unix_s, name)):
        return Refused("the signature does not fit the request")
    if name != str(node) or abs(unix_s - now_unix_s) > FRESHNESS_S:
        return Challenged(_challenge(key, request_mac=mac, unix_s=now_unix_s, node=str(node)))
    return Accepted()


@dataclass(frozen=True, slots=True)
class Learned:
    """What a challenge taught: the node's id and its clock."""

    node: NodeId
    unix_s: int


def read_challenge(header: str | None, authorization: str, keys: Sequence[Subkey]) -> Learned | None:
    """None: no challenge, or one that is not bound to our request under a key of ours."""
    fields = _parse_fields(header or "")
    sent = _parse_fields(authorization.partition(" ")[2])
    if fields is None or sent is None:
        return None
    key = _named(keys, fields)
    time_text, name = fields.get("t", ""), fields.get("n", "")
    if key is None or "m" not in sent or not time_text.isdecimal() or len(time_text) > 12:
        return None
    expected = _challenge(key, request_mac=sent["m"], unix_s=int(time_text), node=name)
    if not hmac.compare_digest(header or "", expected):
        return None
    try:
        return Learned(NodeId.parse(name), int(time_text))
    except IdInvalid:
        return None


def _named(keys: Sequence[Subkey], fields: Mapping[str, str]) -> Subkey | None:
    key_id = fields.get("k")
    for key in keys:
        if key.key_id == key_id:
            return key
    return None


def _request_mac(request: Request, key: Subkey, unix_s: int, node: str) -> str:
    text = "\n".join(("request", request.method, request.target, request.range_header, str(unix_s), node))
    return _mac(key, text)


def _challenge(key: Subkey, *, request_mac: str, unix_s: int, node: str) -> str:
    mac = _mac(key, "\n".join(("challenge", request_mac, str(unix_s), node)))
    return f"v={PEER_WIRE_VERSION},k={key.key_id},t={unix_s},n={node},m={mac}"


def _mac(key: Subkey, text: str) -> str:
    return blake2s(text.encode(), key=key.key, digest_size=MAC_BYTES).hexdigest()


def _parse_fields(text: str) -> dict[str, str] | None:
    if not _FIELDS.fullmatch(text):
        return None
    pairs = _FIELD.findall(text)
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def _is_private(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped or parsed
    return parsed.is_private or parsed.is_link_local or parsed.is_loopback
