"""Proof that an address can hear us, for clusters without a secret (BEP 5's tokens).

A token says nothing about who is there, only that what we sent to that address arrived.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire.envelope import TOKEN_BYTES

_SECRET_BYTES: Final = 32
# The secret of this period and the one before: a token lives between one and two periods.
_SECRETS_COUNT: Final = 2


class Tokens:
    """Those that we issue. Keeps nothing per asker."""

    def __init__(self, random_bytes: Callable[[int], bytes], params: Params) -> None:
        self._random_bytes = random_bytes
        self._rotate_s = params.token_rotate_s
        self._period = -_SECRETS_COUNT
        # Newest first.
        self._secrets: list[bytes] = []

    def issue(self, endpoint: Endpoint, node: bytes, now: float) -> bytes:
        self._rotate(now)
        return _token(self._secrets[0], endpoint, node)

    def valid(self, token: bytes, endpoint: Endpoint, node: bytes, now: float) -> bool:
        if len(token) != TOKEN_BYTES:
            return False
        self._rotate(now)
        return any(hmac.compare_digest(token, _token(secret, endpoint, node)) for secret in self._secrets)

    def _rotate(self, now: float) -> None:
        period = int(now // self._rotate_s)
        if period == self._period:
            return
        # After a whole period without a call nothing that was issued may live on.
        kept = self._secrets[: _SECRETS_COUNT - 1] if period == self._period + 1 else []
        self._secrets = [self._random_bytes(_SECRET_BYTES), *kept]
        self._period = period


class TokenJar:
    """Those that others gave us, each good for one endpoint."""

    def __init__(self, params: Params) -> None:
        self._max_count = params.members_max_count + params.strangers_max_count
        # An older one is no longer accepted by whoever issued it.
        self._keep_s = _SECRETS_COUNT * params.token_rotate_s
        # In the order of learning.
        self._tokens: dict[Endpoint, tuple[bytes, float]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def put(self, endpoint: Endpoint, token: bytes, now: float) -> None:
        """A token of another length is nobody's and is not kept."""
        if len(token) != TOKEN_BYTES:
            return
        self._tokens.pop(endpoint, None)
        self._tokens[endpoint] = (token, now)
        if len(self._tokens) > self._max_count:
            del self._tokens[next(iter(self._tokens))]

    def get(self, endpoint: Endpoint, now: float) -> bytes:
        """Empty where there is none."""
        found = self._tokens.get(endpoint)
        if found is None:
            return b""
        token, learned_at = found
        if now - learned_at > self._keep_s:
            del self._tokens[endpoint]
            return b""
        return token


def _token(secret: bytes, endpoint: Endpoint, node: bytes) -> bytes:
    place = f"{endpoint.address} {endpoint.port}".encode()
    return hashlib.blake2b(node + place, key=secret, digest_size=TOKEN_BYTES).digest()
