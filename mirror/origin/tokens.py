"""The Authorization that answers a challenge: Basic, or a token from the token server that the challenge names.

Rules
1. Anonymous and with user and password: GET of the realm, as Docker does. With an identity token: POST (OAuth 2).
2. A token is used until shortly before it expires, for its endpoint, realm, service, scope and credential only; each
   is asked for once at a time. One that the registry refuses is not offered again.
3. A realm is an address that an origin gives: the guard is asked about it, and https never leads to http.

Source: the CNCF distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec
from yarl import URL

from mirror.origin.answers import status_error
from mirror.origin.base import Endpoint, Repository
from mirror.origin.challenge import Basic, Challenge
from mirror.origin.connections import Connections
from mirror.origin.docker_config import Credential, IdentityToken, Password
from mirror.origin.errors import OriginForbidden, OriginNonsense, OriginRefused
from mirror.origin.exchange import Arrival, Call, error_text, follow, parse_address, place_of, whole
from mirror.origin.flights import Flights

# Token answers have up to 5 KB.
ANSWER_MAX_BYTES = 64 * 1024
# From the headers to the end of so small an answer.
ANSWER_READ_TIMEOUT_S = 5.0
# What the specification says where the answer does not.
LIFETIME_DEFAULT_S = 60.0
# Whatever a server promises, rights that were taken away should end.
LIFETIME_MAX_S = 3600.0
# It must outlive the way to the registry; a shorter-lived one is used for half its life.
MARGIN_S = 10.0
# One for each repository that is asked about; a kilobyte or two each.
TOKENS_MAX_COUNT = 1024
CLIENT_ID = "peili"

# What a token server says that has no token for us: these are answers of real ones, 400 is ACR's, 404 Artifactory's.
_REFUSALS = frozenset({400, 404})


@dataclass(frozen=True, slots=True)
class _Key:
    base: str
    realm: str
    service: str
    scope: str
    credential: Credential | None
    is_anonymous: bool


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until_s: float


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: int | float | str | None = None


class Tokens:
    def __init__(
        self, connections: Connections, clock: Callable[[], float], unix_clock: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._unix_clock = unix_clock
        self._kept: OrderedDict[_Key, _Token] = OrderedDict()
        self._flights: Flights[_Key, _Token] = Flights()

    async def authorization(
        self,
        endpoint: Endpoint,
        repository: Repository,
        challenge: Challenge,
        credential: Credential | None,
        *,
        is_anonymous: bool,
        refused: str = "",
    ) -> str:
        """The header's text; "": there is no answer to this challenge, or only `refused`, which the registry has just
        refused. Raises: OriginError."""
        if isinstance(challenge, Basic):
            text = _basic(credential) if isinstance(credential, Password) else ""
            return "" if text == refused else text
        scope = challenge.scope or f"repository:{repository.name}:pull"
        key = _Key(endpoint.base, challenge.realm, challenge.service, scope, credential, is_anonymous)
        kept = self._kept.get(key)
        if kept is not None and (_bearer(kept) == refused or self._clock() >= kept.until_s):
            del self._kept[key]
            kept = None
        if kept is None:
            kept = await self._flights.share(key, lambda: self._fetch(endpoint, repository, key))
        return _bearer(kept)

    async def _fetch(self, endpoint: Endpoint, repository: Repository, key: _Key) -> _Token:
        asked_at_s = self._clock()
        async with follow(self._connections, _call(endpoint, key)) as arrival:
            token = await self._read(arrival, repository, asked_at_s)
        self._kept[key] = token
        if len(self._kept) > TOKENS_MAX_COUNT:
            self._kept.popitem(last=False)
        return token

    async def _read(self, arrival: Arrival, repository: Repository, asked_at_s: float) -> _Token:
        response, what = arrival.response, f"a token for {repository}"
        if response.status != 200:
            text = await error_text(response)
            if response.status in _REFUSALS:
                raise OriginRefused(arrival.where, f"refuses {what} with {response.status}")
            raise status_error(
                arrival.where, what, response.status, response.headers, text, self._unix_clock()
            )
        data = await whole(arrival, ANSWER_MAX_BYTES, ANSWER_READ_TIMEOUT_S)
        try:
            answer = msgspec.json.decode(data, type=_Answer)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            # Not its words: they may hold half a token.
            raise OriginNonsense(arrival.where, f"sent no usable answer for {what}") from None
        text = answer.token or answer.access_token
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise OriginNonsense(arrival.where, f"sent no usable answer for {what}")
        lifetime_s = _lifetime_s(answer.expires_in)
        return _Token(text, asked_at_s + max(lifetime_s - MARGIN_S, lifetime_s / 2))


def _call(endpoint: Endpoint, key: _Key) -> Call:
    """Raises: OriginNonsense, OriginForbidden."""
    realm = parse_address(key.realm, endpoint.base)
    if realm.scheme == "http" and URL(endpoint.base).scheme == "https":
        raise OriginForbidden(endpoint.base, "has its tokens at an http address, and itself at an https one")
    fields = [("service", key.service)] if key.service else []
    fields += [("scope", scope) for scope in key.scope.split()]
    headers = {"Accept": "application/json"}
    shows_client = not key.is_anonymous
    if isinstance(key.credential, IdentityToken):
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", key.credential.token),
            ("client_id", CLIENT_ID),
            ("service", key.service),
            ("scope", key.scope),
        ]
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return Call(endpoint, "POST", realm, headers, {}, {}, shows_client, urlencode(form).encode())
    secrets = {place_of(realm): _basic(key.credential)} if key.credential is not None else {}
    # By hand: yarl would spell what the realm's own query holds anew.
    query = "&".join(filter(None, [realm.raw_query_string, urlencode(fields, safe=":/,")]))
    url = URL(f"{str(realm.with_fragment(None)).partition('?')[0]}?{query}", encoded=True)
    return Call(endpoint, "GET", url, headers, {}, secrets, shows_client)


def _lifetime_s(told: float | str | None) -> float:
    try:
        lifetime_s = float(told or 0)
    except ValueError:
        return LIFETIME_DEFAULT_S
    return min(lifetime_s, LIFETIME_MAX_S) if lifetime_s > 0 else LIFETIME_DEFAULT_S


def _basic(credential: Password) -> str:
    return f"Basic {base64.b64encode(f'{credential.username}:{credential.password}'.encode()).decode()}"


def _bearer(token: _Token) -> str:
    return f"Bearer {token.text}"
