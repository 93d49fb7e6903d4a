"""One HTTP request to an origin, its token server or its CDN: TLS, proxy, address guard, deadlines. Nothing more.

Follows no redirect, knows no token and judges no status. Every failure to get an answer's headers is an OriginError.

Rules
1. Before each request the guard is asked about the URL, and the connector resolves names by the guard's resolver.
2. Endpoints that nobody named share their connections; each named one has its own (a pooled connection is a
   permission), and so has each set of certificates.
3. `ca_files` are trusted beside the machine's authorities, as in containerd; SSL_CERT_FILE and SSL_CERT_DIR replace
   the machine's, as everywhere with OpenSSL. ~/.netrc is never read.
4. Sessions are made anew after `SESSION_KEPT_S`, so that renewed certificates are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from mirror.origin.base import Endpoint
from mirror.origin.errors import OriginError, OriginFailing, OriginNonsense
from mirror.origin.guard import Guard
from mirror.origin.proxies import Proxies, is_usable
from mirror.version import VERSION

USER_AGENT = f"peili/{VERSION}"
# TCP and TLS. An origin that takes longer is one that containerd's user would call down, too.
CONNECT_TIMEOUT_S = 5.0
# From the request to the answer's headers, connecting included. A registry that fetches through needs some seconds;
# containerd's user waits meanwhile.
ANSWER_TIMEOUT_S = 10.0
# containerd survives pauses of 12 s on every version, so a dead body must be noticed before.
BETWEEN_BYTES_TIMEOUT_S = 10.0
# What one connection may hold in user memory before reading pauses (aiohttp pauses at twice this).
READ_BUFFER_BYTES = 256 * 1024
# Of one session; relays bound themselves far below.
CONNECTIONS_MAX_COUNT = 256
# A host pulls from a few registries; what is in use is never closed for this.
SESSIONS_MAX_COUNT = 64
SESSION_KEPT_S = 300.0
# Of names; an origin's addresses move seldom.
DNS_KEPT_S = 30


class OriginHiccup(OriginFailing):
    """5xx, or a connection that was cut before its answer: worth asking once more."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect_s: float = CONNECT_TIMEOUT_S
    answer_s: float = ANSWER_TIMEOUT_S
    between_bytes_s: float = BETWEEN_BYTES_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class _Profile:
    """What makes two requests share connections. `owner` "": endpoints that nobody named."""

    owner: str
    ca_files: tuple[str, ...]
    client_pairs: tuple[tuple[str, str], ...]
    skip_verify: bool
    proxy: str


@dataclass(slots=True)
class _Kept:
    session: aiohttp.ClientSession
    resolver: AbstractResolver
    made_at_s: float
    user_count: int = 0
    is_retired: bool = False

    async def close(self) -> None:
        await self.session.close()
        await self.resolver.close()


class Connections:
    """Use as an async context manager."""

    def __init__(
        self, guard: Guard, clock: Callable[[], float], proxies: Proxies, timeouts: Timeouts
    ) -> None:
        self.timeouts = timeouts
        self._guard = guard
        self._clock = clock
        self._proxies = proxies
        self._kept: dict[_Profile, _Kept] = {}
        self._making = asyncio.Lock()

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.close()

    @contextlib.asynccontextmanager
    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        shows_client: bool,
        form: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """`endpoint` is the one that this is for, `url` where it goes now. `shows_client`: with the endpoint's client
        certificates. Raises: OriginFailing, OriginHiccup, OriginNonsense, OriginForbidden."""
        self._guard.check(url, endpoint)
        where = str(url.origin())
        proxy = self._proxies.choose(url.scheme, url.host or "", url.port or 0)
        if proxy and not is_usable(proxy):
            raise OriginFailing(
                where, "cannot be reached: the proxy of the environment is no http or https URL"
            )
        async with (
            self._session(endpoint, proxy, shows_client=shows_client) as session,
            contextlib.AsyncExitStack() as stack,
        ):
            try:
                async with asyncio.timeout(self.timeouts.answer_s):
                    response = await stack.enter_async_context(
                        session.request(
                            method,
                            url,
                            headers=headers,
                            data=form,
                            allow_redirects=False,
                            proxy=URL(proxy) if proxy else None,
                        )
                    )
            except OriginError:
                raise  # the guard's resolver
            except aiohttp.ConnectionTimeoutError as exc:
                raise OriginFailing(
                    where, f"took no connection within {self.timeouts.connect_s:g} s"
                ) from exc
            except aiohttp.SocketTimeoutError as exc:
                silence = f"sent nothing for {self.timeouts.between_bytes_s:g} s"
                raise OriginFailing(where, silence) from exc
            except TimeoutError as exc:
                raise OriginFailing(where, f"did not answer within {self.timeouts.answer_s:g} s") from exc
            except aiohttp.ClientConnectorError as exc:
                raise OriginFailing(where, f"takes no connection: {reason(exc)}") from exc
            except aiohttp.ClientHttpProxyError as exc:
                raise OriginFailing(where, f"is not given by the proxy: {exc.status} {exc.message}") from exc
            except (aiohttp.ClientConnectionError, OSError) as exc:
                raise OriginHiccup(where, f"ended the connection before an answer: {reason(exc)}") from exc
            except (aiohttp.ClientError, ValueError) as exc:
                raise OriginNonsense(where, f"does not speak HTTP: {reason(exc)}") from exc
            yield response

    @contextlib.asynccontextmanager
    async def _session(
        self, endpoint: Endpoint, proxy: str, *, shows_client: bool
    ) -> AsyncIterator[aiohttp.ClientSession]:
        profile = _Profile(
            owner=endpoint.base if endpoint.named_by_user else "",
            ca_files=endpoint.ca_files,
            client_pairs=endpoint.client_pairs if shows_client else (),
            skip_verify=endpoint.skip_verify,
            proxy=proxy,
        )
        async with self._making:
            kept = self._kept.pop(profile, None)
            if kept is not None and self._clock() - kept.made_at_s > SESSION_KEPT_S:
                await self._retire(kept)
                kept = None
            if kept is None:
                kept = await self._make(profile, endpoint)
            self._kept[profile] = kept  # the last is the one used last
            kept.user_count += 1
        try:
            yield kept.session
        finally:
            kept.user_count -= 1
            if kept.is_retired and not kept.user_count:
                await kept.close()

    async def _make(self, profile: _Profile, endpoint: Endpoint) -> _Kept:
        try:
            context = await asyncio.to_thread(_tls_context, profile)
        except (OSError, ValueError) as exc:
            files = [*profile.ca_files, *(name for pair in profile.client_pairs for name in pair if name)]
            detail = f"cannot be asked: of its certificate files {', '.join(files)} one is unusable: {exc}"
            raise OriginFailing(endpoint.base, detail) from exc
        idle = [one for one, kept in self._kept.items() if not kept.user_count]
        surplus_count = len(self._kept) + 1 - SESSIONS_MAX_COUNT
        for one in idle[: max(0, surplus_count)]:
            await self._kept.pop(one).close()
        resolver = self._guard.resolver(endpoint, URL(profile.proxy) if profile.proxy else None)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX_COUNT, resolver=resolver, ttl_dns_cache=DNS_KEPT_S, ssl=context
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.timeouts.connect_s, sock_read=self.timeouts.between_bytes_s
            ),
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            trust_env=False,  # proxies are chosen here; it would read ~/.netrc
        )
        return _Kept(session, resolver, self._clock())

    async def _retire(self, kept: _Kept) -> None:
        kept.is_retired = True
        if not kept.user_count:
            await kept.close()


def reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def _tls_context(profile: _Profile) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in profile.ca_files:
        context.load_verify_locations(cafile=name)
    for certificate, key in profile.client_pairs:
        context.load_cert_chain(certificate, key or None)
    if profile.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
