"""What a docker config.json says, and that no error about it tells what it holds."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.origin.docker_config import (
    HUB_KEY,
    Credential,
    CredentialsDamaged,
    HelperCall,
    IdentityToken,
    Password,
    parse_config,
    parse_helper_answer,
)

ME = Password("me", "pass:word")
AUTH = {"auth": base64.b64encode(b"me:pass:word").decode()}


@pytest.mark.parametrize(
    ("auths", "authority", "expected"),
    [
        ({"reg.example": AUTH}, "reg.example", ME),
        ({"reg.example": AUTH}, "REG.example", ME),
        ({"Reg.Example": AUTH}, "reg.example", ME),
        ({"https://reg.example": AUTH}, "reg.example", ME),
        ({"https://reg.example/v1/": AUTH}, "reg.example", ME),
        ({"http://reg.example:5000/v2/": AUTH}, "reg.example:5000", ME),
        ({"reg.example": AUTH}, "reg.example:5000", None),
        ({"reg.example:5000": AUTH}, "reg.example", None),
        ({"reg.example": AUTH}, "evil.reg.example", None),
        ({HUB_KEY: AUTH}, "registry-1.docker.io", ME),
        ({HUB_KEY: AUTH}, "docker.io", ME),
        ({"docker.io": AUTH}, "registry-1.docker.io", ME),
        ({HUB_KEY: AUTH}, "mirror.example", None),
        ({"reg.example": {"username": "me", "password": "pass:word"}}, "reg.example", ME),
        ({"reg.example": AUTH | {"username": "you", "password": "x"}}, "reg.example", Password("you", "x")),
        ({"reg.example": {"identitytoken": "t"}}, "reg.example", IdentityToken("t")),
        ({"reg.example": AUTH | {"identitytoken": "t"}}, "reg.example", IdentityToken("t")),
        ({"reg.example": {}}, "reg.example", None),
        ({"reg.example": None}, "reg.example", None),
        ({"reg.example": {"email": "x", "auth": ""}}, "reg.example", None),
        ({"https://reg.example/v1/": {"identitytoken": "old"}, "reg.example": AUTH}, "reg.example", ME),
        ({"reg.example": AUTH, "https://reg.example/v1/": {"identitytoken": "old"}}, "reg.example", ME),
    ],
)
def test_what_is_written(auths: object, authority: str, expected: Credential | None) -> None:
    config = parse_config(json.dumps({"auths": auths, "HttpHeaders": {"x": "y"}}).encode())
    assert config.written(authority) == expected
    assert config.helper(authority) is None


def test_helpers() -> None:
    config = parse_config(
        json.dumps(
            {"credsStore": "pass", "credHelpers": {"gcr.io": "gcloud", "docker.io": "hub", "off.example": ""}}
        ).encode()
    )
    assert config.helper("gcr.io") == HelperCall("gcloud", "gcr.io")
    assert config.helper("registry-1.docker.io") == HelperCall("hub", HUB_KEY)
    assert config.helper("else.example") == HelperCall("pass", "else.example")
    assert config.helper("off.example") == HelperCall("pass", "off.example")


SECRET = "vErYsEcReT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        SECRET,
        json.dumps({"auths": [SECRET]}),
        json.dumps({"auths": {"x": SECRET}}),
        json.dumps({"auths": {"x": {"auth": 5, "password": SECRET}}}),
        json.dumps({"auths": {"x": {"auth": SECRET + "!"}}}),
        json.dumps({"auths": {"x": {"auth": base64.b64encode(SECRET.encode()).decode()}}}),
        json.dumps({"auths": {"x": {"auth": base64.b64encode(b"\xff:" + SECRET.encode()).decode()}}}),
        json.dumps({"credsStore": "../../bin/sh"}),
        json.dumps({"credHelpers": {"x": "a b"}}),
        json.dumps({"credsStore": "-x"}),
        "[" * 100_000,
        '{"auths": {"x": {"password": "' + SECRET,
    ],
)
def test_a_damaged_file_is_told_without_its_content(text: str) -> None:
    with pytest.raises(CredentialsDamaged) as caught:
        parse_config(text.encode())
    told = f"{caught.value!r} {caught.value.__cause__!r}"
    assert SECRET not in told
    assert base64.b64encode(SECRET.encode()).decode() not in told


@given(st.binary())
def test_any_bytes_are_a_config_or_damaged(data: bytes) -> None:
    for parse in (parse_config, parse_helper_answer):
        with contextlib.suppress(CredentialsDamaged):
            parse(data)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ServerURL": "x", "Username": "me", "Secret": "s"}, Password("me", "s")),
        ({"ServerURL": "x", "Username": "<token>", "Secret": "s"}, IdentityToken("s")),
        ({"Username": "", "Secret": ""}, None),
    ],
)
def test_what_a_helper_says(answer: object, expected: Credential | None) -> None:
    assert parse_helper_answer(json.dumps(answer).encode()) == expected


def test_nothing_secret_is_shown() -> None:
    config = parse_config(
        json.dumps(
            {"auths": {"a": {"username": "me", "password": SECRET}, "b": {"identitytoken": SECRET}}}
        ).encode()
    )
    shown = f"{config!r} {config.written('a')!r} {config.written('b')!r}"
    assert SECRET not in shown and "me" in shown
