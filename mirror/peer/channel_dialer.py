"""Opens the connection of a state channel to one peer: the signed upgrade request, once, and what its answer means.

Whom to call, and what is said then, is for others. Every failure is one of `mirror.peer.errors`.
"""

from __future__ import annotations

import aiohttp
from aiohttp import ClientHandlerType
from yarl import URL

from mirror.discovery.base import Peer
from mirror.peer import wire
from mirror.peer.channel_params import ChannelParams
from mirror.peer.client import CONNECT_TIMEOUT_S
from mirror.peer.contacts import Contacts
from mirror.peer.errors import (
    PeerIncompatible,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.frames import MESSAGE_MAX_BYTES
from mirror.peer.strangers import Strangers

ClientSocket = aiohttp.ClientWebSocketResponse[bool]


async def _as_it_is(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp follows redirects of an upgrade, and cannot be told not to: a peer could send us anywhere."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientPayloadError(f"answered {response.status}")
    return response


class ChannelDialer:
    """Use as an async context manager. `contacts` are those of the peer client: what one learned both know.

    `address`: where this daemon listens, if at one address alone. It calls from there, since who is called names the
    caller to others by the address that the call came from. None: the kernel chooses."""

    def __init__(
        self, contacts: Contacts, strangers: Strangers, params: ChannelParams, address: str | None = None
    ) -> None:
        self._contacts = contacts
        self._strangers = strangers
        self._params = params
        self._local_addr = None if address is None else (address, 0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ChannelDialer:
        self._session = aiohttp.ClientSession(
            # How many there may be is decided by who dials.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, local_addr=self._local_addr),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._params.handshake_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={wire.HOP_HEADER: "1", "Accept-Encoding": "identity", "User-Agent": "peili"},
            trust_env=False,  # a proxy is for the origin, never for peers
            middlewares=(_as_it_is,),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def dial(self, peer: Peer) -> ClientSocket:
        """Raises: PeerError."""
        what = wire.Request("GET", wire.CHANNEL_PATH, "")
        authorization = self._contacts.sign(peer, what)
        try:
            return await self._upgrade(peer, authorization)
        except aiohttp.WSServerHandshakeError as exc:
            challenge = exc.headers.get(wire.CHALLENGE_HEADER) if exc.headers is not None else None
            if exc.status != 401 or not self._contacts.learn(peer, challenge, authorization):
                raise self._refusal(peer, exc) from exc
        try:
            return await self._upgrade(peer, self._contacts.sign(peer, what))
        except aiohttp.WSServerHandshakeError as exc:
            raise self._refusal(peer, exc) from exc

    async def _upgrade(self, peer: Peer, authorization: str) -> ClientSocket:
        assert self._session is not None
        try:
            return await self._session.ws_connect(
                URL(f"http://{peer}{wire.CHANNEL_PATH}", encoded=True),
                headers={"Authorization": authorization},
                timeout=aiohttp.ClientWSTimeout(ws_close=self._params.close_s),
                heartbeat=self._params.ping_after_s,
                autoping=False,
                max_msg_size=MESSAGE_MAX_BYTES + 1,
                decode_text=False,
            )
        except aiohttp.WSServerHandshakeError:
            raise
        except aiohttp.SocketTimeoutError as exc:
            raise PeerStalled(str(peer), "did not answer the call for a channel in time") from exc
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as exc:
            raise PeerUnreachable(str(peer), str(exc) or type(exc).__name__) from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise PeerNonsense(str(peer), f"no answer to the call for a channel: {exc}") from exc

    def _refusal(self, peer: Peer, exc: aiohttp.WSServerHandshakeError) -> Exception:
        versions = exc.headers.get(wire.VERSIONS_HEADER) if exc.headers is not None else None
        if exc.status == 400 and versions is not None:
            self._strangers.of_another_version(peer.address, versions[:40])
            return PeerIncompatible(str(peer), f"speaks wire versions {versions[:40]}")
        if exc.status in (404, 405):
            return PeerIncompatible(str(peer), "has no state channel")
        if exc.status == 101:
            return PeerNonsense(str(peer), f"a wrong upgrade: {exc.message}")
        return PeerRefused(str(peer), f"answered {exc.status} to the call for a channel")
