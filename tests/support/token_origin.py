"""A registry with a token server and a CDN, in this process: it counts what is asked of it and fails as it is told.

Rules
1. A request is of one kind: ping, head, manifest, blob, token or cdn. For each kind an `Answer` may be set at any
   time, for ever or for the next `times` requests; without one it is a good registry. `answer` overrules all that.
2. A failure is answered before any question of credentials is asked; a good answer, a cut, a pause and a redirect
   only after it.
3. A repository holds only what was added to it: a digest of another repository is absent. A public one is for
   everybody, but with `auth="bearer"` nobody reads without a token of its scope, as at the large registries.
4. There is one journal. The token server has its own port where `is_token_apart`, the CDN always has.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.oci_image import Blob, Image, Index
from tests.support.origin_answers import (
    RESET,
    Answer,
    Asked,
    BlackHole,
    Exchange,
    FileContent,
    Good,
    Held,
    Kind,
    Redirect,
    Stall,
    asked_of,
    http_date,
    rate_limited,
    send_body,
    server_tls,
    silence,
)
from tests.support.recording_mirror import Cut, End, Status, end_connection

__all__ = [
    "RESET",
    "Answer",
    "Asked",
    "BlackHole",
    "Cut",
    "End",
    "Exchange",
    "FileContent",
    "Good",
    "Redirect",
    "Stall",
    "Status",
    "TokenOrigin",
    "http_date",
    "rate_limited",
    "server_tls",
]

Auth = Literal["none", "basic", "bearer"]

_SCOPE: Final = re.compile(r"repository:(?P<name>[^:]+):(?P<actions>[^: ]+)")
# Requests under way when the origin stops are cut off: tests end them by design.
_SHUTDOWN_S: Final = 0.1


@dataclass(slots=True)
class _Repository:
    is_private: bool = False
    manifests: dict[str, Held] = field(default_factory=dict)
    blobs: dict[str, Held] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Grant:
    repositories: frozenset[str]
    user: str
    expires_s: float


class TokenOrigin:
    """`async with TokenOrigin(auth="bearer") as origin:`; everything public may be changed while it runs.

    `address` is bound, `advertised` (a host without a port; "": what the client's Host header says) stands in realms
    and redirects. `users` are names and passwords, `identity_tokens` refresh tokens and their users.
    """

    def __init__(
        self,
        auth: Auth = "none",
        *,
        address: str = "127.0.0.1",
        advertised: str = "",
        tls: ssl.SSLContext | None = None,
        is_token_apart: bool = False,
    ) -> None:
        self.auth = auth
        self.address = address
        self.advertised = advertised
        self.users: dict[str, str] = {}
        self.identity_tokens: dict[str, str] = {}
        # None: the answer has no expires_in.
        self.token_lifetime_s: float | None = 300.0
        self.token_field: Literal["token", "access_token"] = "token"
        # An anonymous request for a private repository: a token that opens nothing (Docker Hub), or a 403 (GHCR).
        self.denies_anonymous_tokens = False
        # False: POST to the token server is answered 405.
        self.speaks_oauth = True
        self.service = "token-origin"
        self.realm = ""  # "": its own
        self.answer: Callable[[Asked], Answer | None] = lambda _: None
        self.journal: list[Exchange] = []
        self.port = 0
        self.cdn_port = 0
        self.token_port = 0
        self._is_token_apart = is_token_apart
        self._tls = tls
        self._repositories: dict[str, _Repository] = {}
        self._answers: dict[Kind, list[Answer]] = {}
        self._lasting: dict[Kind, Answer] = {}
        self._grants: dict[str, _Grant] = {}
        self._runners: list[web.ServerRunner] = []
        self._registry_runner: web.ServerRunner | None = None

    # --- what it has

    def add(self, image: Image | Index, repository: str, tag: str, *, is_private: bool = False) -> None:
        """Adding another image under the same tag moves the tag."""
        held = self._repositories.setdefault(repository, _Repository())
        held.is_private = is_private
        manifests = {image.manifest.digest}
        if isinstance(image, Index):
            manifests |= {platform.manifest.digest for platform in image.images}
        for blob in image:
            shelf = held.manifests if blob.digest in manifests else held.blobs
            shelf[blob.digest] = Held(blob.media_type, blob.digest, blob.content)
        held.tags[tag] = image.manifest.digest

    def add_blob(self, repository: str, blob: Blob | FileContent, digest: str = "") -> None:
        """`digest` is needed with a file only; the bytes are served whether they match it or not."""
        held = self._repositories.setdefault(repository, _Repository())
        if isinstance(blob, Blob):
            held.blobs[blob.digest] = Held(blob.media_type, blob.digest, blob.content)
        else:
            held.blobs[digest] = Held("application/octet-stream", digest, blob)

    def set_private(self, repository: str, is_private: bool) -> None:
        self._repositories[repository].is_private = is_private

    def remove_tag(self, repository: str, tag: str) -> None:
        del self._repositories[repository].tags[tag]

    # --- how it behaves

    def behave(self, answer: Answer, *kinds: Kind, times: int | None = None) -> None:
        """No kinds: head, manifest and blob. times None: until told otherwise."""
        for kind in kinds or ("head", "manifest", "blob"):
            if times is None:
                self._lasting[kind] = answer
            else:
                self._answers.setdefault(kind, []).extend([answer] * times)

    def behave_well(self) -> None:
        self._lasting.clear()
        self._answers.clear()
        self.answer = lambda _: None

    def forget_tokens(self) -> None:
        """Every token that was given out is refused from now on."""
        self._grants.clear()

    async def refuse(self) -> None:
        """Closes the registry's listener and its connections: connecting is refused."""
        runner, self._registry_runner = self._registry_runner, None
        if runner is not None:
            await _end(runner)

    async def listen_again(self) -> None:
        """On the same port."""
        if self._registry_runner is None:
            self._registry_runner, self.port = await self._listen(self.port)

    # --- what was asked

    def of(self, *kinds: Kind, reference: str | None = None) -> list[Exchange]:
        return [
            exchange
            for exchange in self.journal
            if (not kinds or exchange.asked.kind in kinds) and reference in (None, exchange.asked.reference)
        ]

    def trace(self, *kinds: Kind) -> list[str]:
        return [exchange.asked.short for exchange in self.of(*kinds)]

    @property
    def connection_count(self) -> int:
        """The registry's, idle ones included."""
        runner = self._registry_runner
        return 0 if runner is None or runner.server is None else len(runner.server.connections)

    @property
    def authority(self) -> str:
        return f"{self.advertised or self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def scheme(self) -> str:
        return "http" if self._tls is None else "https"

    # --- life

    async def __aenter__(self) -> Self:
        self._registry_runner, self.port = await self._listen(self.port)
        cdn, self.cdn_port = await self._listen(self.cdn_port)
        self._runners.append(cdn)
        self.token_port = self.port
        if self._is_token_apart:
            token, self.token_port = await self._listen(0)
            self._runners.append(token)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()
        for runner in self._runners:
            await _end(runner)
        self._runners.clear()

    async def _listen(self, port: int) -> tuple[web.ServerRunner, int]:
        # Without the cancellation a handler that answers never would outlive its client, and the test.
        server = web.Server(self._handle, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        await web.TCPSite(runner, self.address, port, reuse_address=True, ssl_context=self._tls).start()
        return runner, runner.addresses[0][1]

    # --- one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(asked_of(request), time.monotonic())
        self.journal.append(exchange)
        try:
            response = await self._respond(request, exchange)
            if response is None:
                return web.Response()  # nobody hears it
            exchange.status = response.status
            return response
        except ConnectionError:
            exchange.client_left = True
            return web.Response()
        except asyncio.CancelledError:
            exchange.client_left = True
            raise
        finally:
            exchange.ended_s = time.monotonic()

    async def _respond(self, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse | None:
        asked = exchange.asked
        answer = self._answer_to(asked)
        if isinstance(answer, BlackHole):
            await silence()
        if isinstance(answer, End):
            await end_connection(request, answer.ending)
            return None
        if isinstance(answer, Status):
            headers = list(answer.headers)
            is_told = any(name == "WWW-Authenticate" for name, _ in headers)
            if answer.code == 401 and asked.kind != "token" and not is_told:
                headers += list(self._challenge(asked).items())
            return web.Response(status=answer.code, headers=headers, text=answer.body)
        if isinstance(answer, Good) and answer.first_byte_after_s:
            await asyncio.sleep(answer.first_byte_after_s)
        if asked.kind == "token":
            return await self._give_token(request, asked)
        if asked.kind == "other":
            return web.Response(status=404)
        if asked.kind == "cdn" and asked.authorization:
            # As S3 does with a signed URL.
            return web.Response(status=400, text="only one authentication mechanism is allowed")
        if asked.kind != "cdn" and not self._may(asked):
            return _error(401, "UNAUTHORIZED", "authentication required", self._challenge(asked))
        if asked.kind == "ping":
            return web.json_response({})
        if isinstance(answer, Redirect):
            return web.Response(status=answer.code, headers={"Location": answer.location or self._cdn(asked)})
        held = self._find(asked)
        if held is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {})
        return await send_body(request, held, answer, exchange)

    def _answer_to(self, asked: Asked) -> Good | Status | Cut | End | BlackHole | Stall | Redirect:
        chosen = self.answer(asked)
        if chosen is not None:
            return chosen
        queue = self._answers.get(asked.kind)
        if queue:
            return queue.pop(0)
        return self._lasting.get(asked.kind, Good())

    def _find(self, asked: Asked) -> Held | None:
        repository = self._repositories.get(asked.repository)
        if repository is None:
            return None
        if asked.path.startswith("/v2/") and "/blobs/" not in asked.path:
            return repository.manifests.get(repository.tags.get(asked.reference, asked.reference))
        # As registries do: a manifest's bytes may be asked for as a blob, too.
        return repository.blobs.get(asked.reference) or repository.manifests.get(asked.reference)

    def _host(self, asked: Asked) -> str:
        return self.advertised or asked.authority.rpartition(":")[0] or asked.authority

    def _cdn(self, asked: Asked) -> str:
        place = f"{asked.repository}/{asked.reference}"
        return f"{self.scheme}://{self._host(asked)}:{self.cdn_port}/cdn/{place}?signature=abc%2F1%7E"

    # --- credentials

    def _challenge(self, asked: Asked) -> dict[str, str]:
        if self.auth == "none":
            return {}
        if self.auth == "basic":
            return {"WWW-Authenticate": f'Basic realm="{self.service}"'}
        realm = self.realm or f"{self.scheme}://{self._host(asked)}:{self.token_port}/token"
        scope = f',scope="repository:{asked.repository}:pull"' if asked.repository else ""
        return {"WWW-Authenticate": f'Bearer realm="{realm}",service="{self.service}"{scope}'}

    def _may(self, asked: Asked) -> bool:
        repository = self._repositories.get(asked.repository)
        is_private = repository is not None and repository.is_private
        if self.auth == "none":
            return True
        if self.auth == "basic":
            user = self._user(asked.authorization)
            return bool(user) if is_private or asked.kind == "ping" else user != ""
        scheme, _, token = asked.authorization.partition(" ")
        grant = self._grants.get(token)
        if scheme != "Bearer" or grant is None or grant.expires_s < time.monotonic():
            return False
        return asked.kind == "ping" or asked.repository in grant.repositories

    def _user(self, authorization: str) -> str | None:
        """None: anonymous. "": wrong."""
        if not authorization:
            return None
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return user if scheme == "Basic" and user and self.users.get(user) == password else ""

    async def _give_token(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        query = parse_qs(request.query_string)
        user = self._user(asked.authorization)
        if asked.method == "POST":
            if not self.speaks_oauth:
                return web.Response(status=405)
            query = parse_qs((await request.read()).decode())
            user = self._oauth_user(query)
        if user == "":
            return _error(401, "UNAUTHORIZED", "incorrect username or password", {})
        scopes = [scope for text in query.get("scope", []) for scope in text.split(" ")]
        names = {found["name"] for scope in scopes if (found := _SCOPE.fullmatch(scope))}
        private = {
            name for name in names if name in self._repositories and self._repositories[name].is_private
        }
        if user is None and private and self.denies_anonymous_tokens:
            return _error(403, "DENIED", "requested access to the resource is denied", {})
        opened = names if user is not None else names - private
        lifetime_s = 60.0 if self.token_lifetime_s is None else self.token_lifetime_s
        token = secrets.token_urlsafe(24)
        self._grants[token] = _Grant(frozenset(opened), user or "", time.monotonic() + lifetime_s)
        answer: dict[str, object] = {self.token_field: token}
        if self.token_lifetime_s is not None:
            answer["expires_in"] = int(self.token_lifetime_s)
        return web.json_response(answer)

    def _oauth_user(self, form: Mapping[str, list[str]]) -> str:
        def one(name: str) -> str:
            return form.get(name, [""])[0]

        if one("grant_type") == "refresh_token":
            return self.identity_tokens.get(one("refresh_token"), "")
        user = one("username")
        return user if user and self.users.get(user) == one("password") else ""


def _error(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)


async def _end(runner: web.ServerRunner) -> None:
    """TLS ends by a word of the other side, for which a client that is gone is waited for: for longer than the test
    lasts."""
    server = runner.server
    transports = [one.transport for one in ([] if server is None else server.connections)]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    # The socket below is closed in the next turn of the loop.
    await asyncio.sleep(0)
