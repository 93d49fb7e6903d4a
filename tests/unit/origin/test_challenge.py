"""Reading WWW-Authenticate: what real registries send, and what only a hostile one would."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.origin.challenge import CHALLENGE_MAX_CHARS, Basic, Bearer, Challenge, choose

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/nginx:pull"'
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            [HUB],
            Bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/nginx:pull"),
        ),
        (
            ['Bearer realm="https://x/t",service="x",scope="repository:a/b:pull,push registry:catalog:*"'],
            Bearer("https://x/t", "x", "repository:a/b:pull,push registry:catalog:*"),
        ),
        (['Basic realm="Registry Realm"'], Basic()),
        (['bAsIc realm="x"'], Basic()),
        (["Basic"], Basic()),
        # Bearer before Basic, in whichever order and line.
        (['Basic realm="x"', 'Bearer realm="https://x/t"'], Bearer("https://x/t", "", "")),
        (['Basic realm="x", Bearer realm="https://x/t", service=y'], Bearer("https://x/t", "y", "")),
        (['Bearer realm="https://x/t" , service = "y"'], Bearer("https://x/t", "y", "")),
        (['Negotiate YWJj==, Bearer realm="https://x/t"'], Bearer("https://x/t", "", "")),
        (['Negotiate, Basic realm="x"'], Basic()),
        ([r'Bearer realm="https://x/\"t",service="a\\b"'], Bearer('https://x/"t', r"a\b", "")),
        # The first of two equal names, so that nothing behind can overrule it.
        (['Bearer realm="https://x/t",realm="https://evil/t"'], Bearer("https://x/t", "", "")),
        (['Bearer service="x"'], None),
        (['Bearer realm=""'], None),
        (['Bearer realm="https://x/t'], None),
        (["realm=x"], None),
        (['Digest realm="x", nonce="y"'], None),
        ([""], None),
        ([], None),
        (["\x00\xff"], None),
    ],
)
def test_table(headers: list[str], expected: Challenge | None) -> None:
    assert choose(headers) == expected


@given(st.lists(st.text(alphabet='Bearer Basic=",\\ \tx', max_size=60) | st.text(max_size=40), max_size=4))
def test_anything_is_read_without_an_error(headers: list[str]) -> None:
    found = choose(headers)
    assert found is None or isinstance(found, Basic) or found.realm


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_what_is_quoted_is_read_back(realm: str, scope: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = f"Bearer realm={quoted(realm)},scope={quoted(scope)}"
    if len(header) <= CHALLENGE_MAX_CHARS:
        assert choose([header]) == Bearer(realm, "", scope)


@pytest.mark.parametrize("piece", ['a="', "a ", "a=b,", '\\"', "a=", ",", '"'])
def test_a_long_header_costs_little(piece: str) -> None:
    begun_s = time.process_time()
    choose(["Bearer " + piece * 100_000])
    assert time.process_time() - begun_s < 1  # 5 ms; what backtracks takes minutes
