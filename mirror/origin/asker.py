"""One question to one endpoint, with the credentials that it asks for: the token dance.

Rules
1. A challenge (401) is answered once in a question, and remembered when that led somewhere, so that the next question
   brings its token along.
2. The endpoint itself is told what the credentials give for its own host. A place that it redirects to gets an
   anonymous token at most: which content is asked for there was not this host's choice.
3. An anonymous question brings nothing: no credentials, none of the headers of hosts.toml, no client certificate.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from yarl import URL

from mirror.oci.distribution import DOCKER_HUB
from mirror.origin import answers
from mirror.origin.base import Endpoint, Repository
from mirror.origin.challenge import Challenge, choose
from mirror.origin.connections import Connections
from mirror.origin.credentials import Credentials
from mirror.origin.errors import OriginError, OriginNonsense
from mirror.origin.exchange import Arrival, Call, error_text, follow, place_of
from mirror.origin.redirects import Place
from mirror.origin.tokens import Tokens

# The endpoint's own, and one of the registry that it stands before.
CHALLENGES_PER_QUESTION_MAX_COUNT = 2
# Remembered: one or two for each repository at each endpoint.
CHALLENGES_MAX_COUNT = 4096

GOOD = frozenset({200, 206})
_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Question:
    """`path` follows the repository's name. `statuses` are answers; all others are errors."""

    repository: Repository
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    is_anonymous: bool
    statuses: frozenset[int] = GOOD

    def __str__(self) -> str:
        return f"{self.repository}/{self.path}"


class Asker:
    def __init__(
        self,
        connections: Connections,
        credentials: Credentials,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._unix_clock = unix_clock
        self._tokens = Tokens(connections, clock, unix_clock)
        self._challenges: OrderedDict[tuple[str, Repository], dict[Place, Challenge]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def once(self, endpoint: Endpoint, question: Question) -> AsyncIterator[Arrival]:
        """Gives an answer of `question.statuses`. Raises: OriginError."""
        url = _url(endpoint, question)
        home = place_of(url)
        authorizations = await self._remembered(endpoint, question, home)
        answered: set[Place] = set()
        while True:
            own_headers = {} if question.is_anonymous else endpoint.headers
            call = Call(
                endpoint,
                question.method,
                url,
                dict(question.headers),
                own_headers,
                authorizations,
                shows_client=not question.is_anonymous,
            )
            async with follow(self._connections, call) as arrival:
                response, place = arrival.response, arrival.place
                if response.status in question.statuses:
                    yield arrival
                    return
                text = await error_text(response)
                error = answers.status_error(
                    arrival.where, str(question), response.status, response.headers, text, self._unix_clock()
                )
            if (
                response.status != 401
                or place in answered
                or len(answered) >= CHALLENGES_PER_QUESTION_MAX_COUNT
                # By way of a stranger to the endpoint.
                or (place == home and not arrival.is_at_home)
            ):
                raise error
            challenge = choose(response.headers.getall("WWW-Authenticate", []))
            if challenge is None:
                raise error
            refused = authorizations.get(place, "")
            authorization = await self._authorize(
                endpoint, question, challenge, is_home=place == home, refused=refused
            )
            if not authorization:
                raise error
            answered.add(place)
            authorizations[place] = authorization
            self._remember(endpoint, question, place, challenge)

    async def _authorize(
        self, endpoint: Endpoint, question: Question, challenge: Challenge, *, is_home: bool, refused: str
    ) -> str:
        is_anonymous = question.is_anonymous or not is_home
        credential = None if is_anonymous else await self._credentials.find(_authority(endpoint))
        return await self._tokens.authorization(
            endpoint, question.repository, challenge, credential, is_anonymous=is_anonymous, refused=refused
        )

    async def _remembered(self, endpoint: Endpoint, question: Question, home: Place) -> dict[Place, str]:
        key = (endpoint.base, question.repository)
        authorizations = {}
        try:
            for place, challenge in list(self._challenges.get(key, {}).items()):
                authorizations[place] = await self._authorize(
                    endpoint, question, challenge, is_home=place == home, refused=""
                )
        except OriginError:
            # The registry may have moved its tokens: the next question begins without.
            self._challenges.pop(key, None)
            raise
        return authorizations

    def _remember(self, endpoint: Endpoint, question: Question, place: Place, challenge: Challenge) -> None:
        key = (endpoint.base, question.repository)
        known = self._challenges.setdefault(key, {})
        if place not in known and len(known) >= CHALLENGES_PER_QUESTION_MAX_COUNT:
            known.clear()
        known[place] = challenge
        self._challenges.move_to_end(key)
        if len(self._challenges) > CHALLENGES_MAX_COUNT:
            self._challenges.popitem(last=False)


def _url(endpoint: Endpoint, question: Question) -> URL:
    """Raises: OriginNonsense."""
    registry, name = question.repository.registry, question.repository.name
    try:
        url = URL(endpoint.base).joinpath(*name.split("/"), *question.path.split("/"))
    except ValueError as exc:
        raise OriginNonsense(endpoint.base[:140], f"is no address: {exc}") from exc
    # As containerd: whoever is not the registry itself is told which one is meant.
    authority = _authority(endpoint)
    if authority == registry or (registry, authority) == (DOCKER_HUB, _HUB_HOST):
        return url
    return url.update_query(ns=registry)


def _authority(endpoint: Endpoint) -> str:
    """As it is written, since a registry's name has a port or has none. (yarl's always has one.)"""
    return endpoint.base.partition("://")[2].partition("/")[0].lower()
