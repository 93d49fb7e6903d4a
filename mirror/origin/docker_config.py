"""What a docker config.json says of one registry. Runs no credential helper and reads no file.

Source: Docker's `config.json`, as `docker login` and Kubernetes' `kubernetes.io/dockerconfigjson` secrets write it.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

import msgspec

from mirror.errors import MirrorError

# Docker Hub's credentials stand under this key, whatever its endpoint is called.
HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
# A helper says so of a secret that is an identity token.
_IDENTITY_USER = "<token>"
# It becomes part of a program's name.
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CredentialsDamaged(MirrorError):
    """The credentials file cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Password:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """A refresh token: exchanged at the token server, never sent to the registry."""

    token: str = field(repr=False)


Credential = Password | IdentityToken


class _Auth(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""

    def __repr__(self) -> str:
        return "_Auth(…)"


class _File(msgspec.Struct):
    auths: dict[str, _Auth | None] | None = None
    credHelpers: dict[str, str] | None = None
    credsStore: str = ""


class _HelperAnswer(msgspec.Struct):
    Username: str
    Secret: str

    def __repr__(self) -> str:
        return "_HelperAnswer(…)"


@dataclass(frozen=True, slots=True)
class HelperCall:
    """`docker-credential-NAME get`, with `server` on its standard input."""

    name: str
    server: str


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """By host and port, lower-case; Docker Hub by `HUB_KEY`."""

    _written: dict[str, Credential] = field(repr=False)
    _helpers: dict[str, str]
    _store: str

    def helper(self, authority: str) -> HelperCall | None:
        """Who is asked before what is written in the file."""
        key = _key(authority)
        name = self._helpers.get(key) or self._store
        return HelperCall(name, key) if name else None

    def written(self, authority: str) -> Credential | None:
        return self._written.get(_key(authority))


NO_CONFIG = DockerConfig({}, {}, "")


def parse_config(data: bytes) -> DockerConfig:
    """Raises: CredentialsDamaged, whose message holds no secret."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise CredentialsDamaged(f"it is not a docker config.json: {exc}") from None
    written: dict[str, Credential] = {}
    # An exact key wins over one that only names the same host, as with `https://HOST/v1/`.
    for name, auth in sorted((file.auths or {}).items(), key=lambda item: item[0] == _key(item[0])):
        credential = _credential(name, auth) if auth is not None else None
        if credential is not None:
            written[_key(name)] = credential
    helpers = {_key(name): helper for name, helper in (file.credHelpers or {}).items() if helper}
    for helper in (*helpers.values(), *filter(None, [file.credsStore])):
        if not _HELPER_NAME.fullmatch(helper):
            raise CredentialsDamaged(f"{helper[:70]!r} is not the name of a credential helper")
    return DockerConfig(written, helpers, file.credsStore)


def parse_helper_answer(data: bytes) -> Credential | None:
    """None: it knows none. Raises: CredentialsDamaged."""
    try:
        answer = msgspec.json.decode(data, type=_HelperAnswer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise CredentialsDamaged(f"its answer is not that of a credential helper: {exc}") from None
    if not answer.Secret:
        return None
    return (
        IdentityToken(answer.Secret)
        if answer.Username == _IDENTITY_USER
        else Password(answer.Username, answer.Secret)
    )


def _credential(name: str, auth: _Auth) -> Credential | None:
    if auth.identitytoken:
        return IdentityToken(auth.identitytoken)
    if auth.username or auth.password:
        return Password(auth.username, auth.password)
    if not auth.auth:
        return None  # a mark that a helper has it
    try:
        username, colon, password = base64.b64decode(auth.auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise CredentialsDamaged(f'"auth" of {name[:140]!r} is not base64 of user:password') from None
    if not colon:
        raise CredentialsDamaged(f'"auth" of {name[:140]!r} has no colon between user and password')
    return Password(username, password.strip("\0"))


def _key(name: str) -> str:
    host = re.sub(r"^https?://", "", name.lower()).partition("/")[0]
    return HUB_KEY if host in _HUB_HOSTS else host
