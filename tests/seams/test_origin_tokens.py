"""The origin client and its credentials: which secret goes where, and which never does."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.origin import asker as asker_module
from mirror.origin import tokens as tokens_module
from mirror.origin.base import Repository
from mirror.origin.client import OriginClient
from mirror.origin.credentials import Credentials
from mirror.origin.errors import (
    OriginAbsent,
    OriginError,
    OriginFailing,
    OriginForbidden,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
)
from mirror.origin.resolver import AddressGuard
from tests.support.origin_clients import (
    APP,
    IMAGE,
    NO_PROXIES,
    QUICK,
    SECRET,
    SECRET_IMAGE,
    FixedRoutes,
    an_origin,
    client_of,
    docker_config,
    endpoint_of,
    read_blob,
)
from tests.support.token_origin import (
    RESET,
    Asked,
    BlackHole,
    End,
    Good,
    Redirect,
    Status,
    rate_limited,
)


@pytest.mark.parametrize("is_token_apart", [False, True])
@pytest.mark.parametrize("field", ["token", "access_token"])
async def test_an_anonymous_token_is_fetched_once_and_used_again(is_token_apart: bool, field: str) -> None:
    async with an_origin("bearer", is_token_apart=is_token_apart) as origin, client_of(origin) as client:
        origin.token_field = "token" if field == "token" else "access_token"
        for _ in range(3):
            await client.head(APP, "v1", is_anonymous=True)
        await client.manifest(APP, "v1", is_anonymous=True)
        assert origin.trace() == [
            "HEAD head v1", "GET token", "HEAD head v1", "HEAD head v1", "HEAD head v1", "GET manifest v1",
        ]  # fmt: skip
        token = origin.of("token")[0].asked
        assert dict(token.query) == {"service": origin.service, "scope": f"repository:{APP.name}:pull"}
        assert token.authorization == ""


async def test_a_herd_of_questions_asks_for_one_token() -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        origin.behave(Good(first_byte_after_s=0.05), "token")
        digests = [Digest.parse(blob.digest) for blob in (*IMAGE.layers, IMAGE.config)]
        await asyncio.gather(*(read_blob(client, digest) for digest in digests * 4))
        assert len(origin.of("token")) == 1


async def test_a_token_is_for_its_repository_only() -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        origin.add(IMAGE, "library/other", "v1")
        await client.head(APP, "v1", is_anonymous=True)
        await client.head(Repository("reg.example", "library/other"), "v1", is_anonymous=True)
        scopes = [exchange.asked.query["scope"] for exchange in origin.of("token")]
        assert scopes == ["repository:library/app:pull", "repository:library/other:pull"]


async def test_a_token_that_the_registry_forgot_is_replaced() -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        await client.head(APP, "v1", is_anonymous=True)
        origin.forget_tokens()
        await client.head(APP, "v1", is_anonymous=True)
        assert origin.trace()[3:] == ["HEAD head v1", "GET token", "HEAD head v1"]


async def test_a_short_lived_token_is_asked_for_again() -> None:
    now_s = 1000.0
    async with an_origin("bearer") as origin:
        origin.token_lifetime_s = 60
        routes, credentials = FixedRoutes(endpoint_of(origin)), Credentials(None, time.monotonic)
        async with OriginClient(
            routes, credentials, AddressGuard(), lambda: now_s, proxies=NO_PROXIES
        ) as client:
            for later_s, count in [(0.0, 1), (49.0, 1), (2.0, 2)]:
                now_s += later_s
                await client.head(APP, "v1", is_anonymous=True)
                assert len(origin.of("token")) == count, now_s


@pytest.mark.parametrize(
    ("told", "lives_s"),
    [(None, 50), ("300", 290), ("soon", 50), (-5, 50), (0, 50), (8, 4), (10**9, 3590), (120.5, 110)],
)
async def test_how_long_a_token_is_used(told: object, lives_s: float) -> None:
    now_s = 1000.0
    async with an_origin("bearer") as origin:
        routes, credentials = FixedRoutes(endpoint_of(origin)), Credentials(None, time.monotonic)

        def tell(asked: Asked) -> Status | None:
            expiry = {} if told is None else {"expires_in": told}
            if asked.kind == "token":
                return Status(200, body=json.dumps({"token": "any", **expiry}))
            return Status(404) if asked.authorization == "Bearer any" else None

        origin.answer = tell
        async with OriginClient(
            routes, credentials, AddressGuard(), lambda: now_s, proxies=NO_PROXIES
        ) as client:
            for later_s, count in [(0.0, 1), (lives_s - 1, 1), (2.0, 2)]:
                now_s += later_s
                with pytest.raises(OriginAbsent):
                    await client.head(APP, "v1", is_anonymous=True)
                assert len(origin.of("token")) == count, now_s


async def test_what_the_realm_and_the_scope_say_is_kept() -> None:
    async with an_origin("bearer") as origin, client_of(origin) as client:
        challenge = (
            f'Bearer realm="{origin.url}/token?account=a%2Fb%7E",service="s&t",'
            f'scope="repository:{APP.name}:pull repository:other:pull,push"'
        )
        origin.behave(Status(401, (("WWW-Authenticate", challenge),)), "head", times=1)
        await client.head(APP, "v1", is_anonymous=True)
        assert origin.of("token")[0].asked.target == (
            f"/token?account=a%2Fb%7E&service=s%26t&scope=repository:{APP.name}:pull"
            "&scope=repository:other:pull,push"
        )


async def test_a_token_server_that_moved_is_found_again() -> None:
    async with an_origin("bearer", is_token_apart=True) as origin, client_of(origin) as client:
        await client.head(APP, "v1", is_anonymous=True)
        origin.forget_tokens()
        origin.realm = f"{origin.url}/token"
        await client.head(APP, "v1", is_anonymous=True)
        assert [exchange.asked.authority for exchange in origin.of("token")] == [
            f"127.0.0.1:{origin.token_port}",
            origin.authority,
        ]


async def test_a_token_server_that_is_gone_is_forgotten() -> None:
    now_s = 0.0
    async with an_origin("bearer") as origin:
        routes, credentials = FixedRoutes(endpoint_of(origin)), Credentials(None, time.monotonic)
        async with OriginClient(
            routes, credentials, AddressGuard(), lambda: now_s, proxies=NO_PROXIES
        ) as client:
            await client.head(APP, "v1", is_anonymous=True)
            now_s += 1000
            origin.behave(Status(404), "token")
            with pytest.raises(OriginRefused):
                await client.head(APP, "v1", is_anonymous=True)
            # The registry wants no tokens any more.
            origin.auth = "none"
            await client.head(APP, "v1", is_anonymous=True)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Repository("reg.example", "library/other")
    for module, name, trace in [
        (tokens_module, "TOKENS_MAX_COUNT", ["GET token", "HEAD head v1"]),
        (asker_module, "CHALLENGES_MAX_COUNT", ["HEAD head v1", "HEAD head v1"]),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 1)
            async with an_origin("bearer") as origin, client_of(origin) as client:
                origin.add(IMAGE, other.name, "v1")
                await client.head(APP, "v1", is_anonymous=True)
                await client.head(other, "v1", is_anonymous=True)
                origin.journal.clear()
                await client.head(APP, "v1", is_anonymous=True)
                assert origin.trace() == trace, name


async def test_the_users_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password pass:word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with an_origin("basic") as origin, client_of(origin) as client:
        with pytest.raises(OriginRefused):
            await client.manifest(SECRET, "v1", is_anonymous=False)
        assert all(exchange.asked.authorization == "" for exchange in origin.journal)


async def test_a_private_image_is_refused_to_anonymous_questions(tmp_path: Path) -> None:
    for denies in (False, True):
        async with an_origin("bearer") as origin:
            origin.denies_anonymous_tokens = denies
            async with client_of(origin, config=docker_config(tmp_path, origin)) as client:
                with pytest.raises(OriginRefused):
                    await client.head(SECRET, "v1", is_anonymous=True)
                assert all("Basic" not in exchange.asked.authorization for exchange in origin.journal)
                fetched = await client.manifest(SECRET, "v1", is_anonymous=False)
                assert fetched.data == SECRET_IMAGE.manifest.content
                # The other's token is not borrowed.
                with pytest.raises(OriginRefused):
                    await client.head(SECRET, "v1", is_anonymous=True)


async def test_wrong_credentials_are_refused_in_the_token_servers_words(tmp_path: Path) -> None:
    async with an_origin("bearer") as origin:
        config = docker_config(tmp_path, origin, "me:wrong")
        async with client_of(origin, config=config) as client:
            with pytest.raises(OriginRefused, match="incorrect username or password"):
                await client.manifest(SECRET, "v1", is_anonymous=False)


async def test_credentials_written_later_are_used(tmp_path: Path) -> None:
    async with an_origin("bearer") as origin:
        config = docker_config(tmp_path, origin, "me:wrong")
        now_s = 0.0
        credentials = Credentials(config, lambda: now_s)
        guard = AddressGuard()
        routes = FixedRoutes(endpoint_of(origin))
        async with OriginClient(routes, credentials, guard, time.monotonic, proxies=NO_PROXIES) as client:
            with pytest.raises(OriginRefused):
                await client.manifest(SECRET, "v1", is_anonymous=False)
            docker_config(tmp_path, origin)
            now_s += 2
            assert (await client.manifest(SECRET, "v1", is_anonymous=False)).data


async def test_basic_credentials_answer_a_basic_challenge_only(tmp_path: Path) -> None:
    async with an_origin("basic") as origin:
        async with client_of(origin, config=docker_config(tmp_path, origin)) as client:
            with pytest.raises(OriginRefused):
                await client.head(SECRET, "v1", is_anonymous=True)
            assert (await client.manifest(SECRET, "v1", is_anonymous=False)).data
            assert [exchange.asked.authorization[:5] for exchange in origin.journal] == ["", "", "Basic"]
            await client.manifest(APP, "v1", is_anonymous=False)
            # Asked for nothing, it tells nothing.
            assert origin.journal[-1].asked.authorization == ""


async def test_an_identity_token_is_posted_to_the_token_server_and_nowhere_else(tmp_path: Path) -> None:
    async with an_origin("bearer") as origin:
        origin.identity_tokens["refresh-me"] = "me"
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {origin.authority: {"identitytoken": "refresh-me"}}}))
        async with client_of(origin, config=config) as client:
            assert (await client.manifest(SECRET, "v1", is_anonymous=False)).data
        assert origin.trace("token") == ["POST token"]
        assert all("refresh-me" not in str(exchange.asked) for exchange in origin.journal)


async def test_a_form_with_a_secret_is_not_redirected(tmp_path: Path) -> None:
    async with an_origin("bearer") as origin, an_origin() as stranger:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {origin.authority: {"identitytoken": "refresh-me"}}}))
        async with client_of(origin, config=config, named=[stranger]) as client:
            origin.behave(Status(307, (("Location", f"{stranger.url}/token"),)), "token")
            with pytest.raises(OriginNonsense, match="307"):
                await client.manifest(SECRET, "v1", is_anonymous=False)
        assert stranger.journal == []


async def test_a_token_replaces_what_the_users_file_says() -> None:
    async with an_origin("bearer") as origin:
        endpoint = replace(endpoint_of(origin), headers={"authorization": "Basic bm9uZQ=="})
        async with client_of(endpoint) as client:
            await client.head(APP, "v1", is_anonymous=False)
        sent = [exchange.asked.authorization for exchange in origin.of("head")]
        assert sent[0] == "Basic bm9uZQ==" and sent[1].startswith("Bearer ") and "Basic" not in sent[1]


async def test_credentials_of_docker_hub_are_for_its_endpoint_alone(tmp_path: Path) -> None:
    """Here the endpoint is a mirror of docker.io, which has another name."""
    async with an_origin("basic") as origin:
        config = tmp_path / "config.json"
        auth = base64.b64encode(b"me:pass:word").decode()
        config.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
        async with client_of(origin, config=config) as client:
            with pytest.raises(OriginRefused):
                await client.manifest(Repository("docker.io", SECRET.name), "v1", is_anonymous=False)
        assert all(exchange.asked.authorization == "" for exchange in origin.journal)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Status(401), OriginRefused),
        (Status(403), OriginRefused),
        (Status(400), OriginRefused),
        (Status(404), OriginRefused),
        (rate_limited("7"), OriginRateLimited),
        (Status(500), OriginFailing),
        (RESET, OriginFailing),
        (BlackHole(), OriginFailing),
        (Status(200, body="{"), OriginNonsense),
        (Status(200, body="{}"), OriginNonsense),
        (Status(200, body=json.dumps({"token": "a b"})), OriginNonsense),
        (Status(200, body=json.dumps({"token": "a" * 70_000})), OriginNonsense),
        (Redirect("http://127.0.0.1:1/token"), OriginForbidden),
    ],
)
async def test_what_a_token_server_may_do_wrong(answer: object, kind: type[OriginError]) -> None:
    async with an_origin("bearer") as origin, client_of(origin, timeouts=QUICK) as client:
        assert isinstance(answer, Status | End | BlackHole | Redirect)
        if isinstance(answer, Redirect):
            answer = Status(307, (("Location", answer.location),))
        origin.behave(answer, "token")
        with pytest.raises(kind) as caught:
            await client.head(APP, "v1", is_anonymous=True)
        assert "aaaa" not in str(caught.value)
        # It was not the registry's fault, so the next question may succeed.
        origin.behave_well()
        await client.head(APP, "v1", is_anonymous=True)
