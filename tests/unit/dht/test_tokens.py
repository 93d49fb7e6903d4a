from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given
from hypothesis import strategies as st

from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire.tokens import TokenJar, Tokens

PARAMS = Params()
NODE = b"n" * 20
HERE, THERE = Endpoint("10.0.0.1", 29021), Endpoint("10.0.0.2", 29021)


def tokens() -> Tokens:
    numbers = itertools.count(1)
    return Tokens(lambda count: next(numbers).to_bytes(count, "big"), PARAMS)


def test_a_token_is_good_for_whom_it_was_made() -> None:
    own = tokens()
    token = own.issue(HERE, NODE, 0.0)
    assert len(token) == 8
    assert own.valid(token, HERE, NODE, 1.0)
    assert not own.valid(token, THERE, NODE, 1.0)
    assert not own.valid(token, HERE._replace(port=29022), NODE, 1.0)
    assert not own.valid(token, HERE, b"m" * 20, 1.0)
    assert not own.valid(b"", HERE, NODE, 1.0)
    assert not own.valid(bytes(8), HERE, NODE, 1.0)
    assert not own.valid(token + b"\x00", HERE, NODE, 1.0)


def test_nobody_else_makes_them() -> None:
    other = Tokens(lambda count: b"\xff" * count, PARAMS)
    assert not tokens().valid(other.issue(HERE, NODE, 0.0), HERE, NODE, 0.0)


@given(st.floats(0.0, 1e6), st.lists(st.floats(0.0, 400.0), max_size=20))
def test_a_token_lives_one_rotation_and_at_most_two(begin: float, calls: list[float]) -> None:
    """Whatever happens in between."""
    own = tokens()
    token = own.issue(HERE, NODE, begin)
    now = begin
    for gap in calls:
        now += gap
        alive = own.valid(token, HERE, NODE, now)
        if now - begin < PARAMS.token_rotate_s:
            assert alive
        if now - begin >= 2 * PARAMS.token_rotate_s:
            assert not alive


def test_a_long_silence_ends_all_tokens() -> None:
    own = tokens()
    token = own.issue(HERE, NODE, 0.0)
    assert not own.valid(token, HERE, NODE, 2 * PARAMS.token_rotate_s)


def test_the_jar_keeps_one_per_endpoint() -> None:
    jar = TokenJar(PARAMS)
    assert jar.get(HERE, 0.0) == b""
    jar.put(HERE, b"12345678", 0.0)
    jar.put(HERE, b"87654321", 1.0)
    assert jar.get(HERE, 2.0) == b"87654321"
    assert jar.get(THERE, 2.0) == b""
    assert len(jar) == 1


def test_the_jar_takes_no_odd_sizes() -> None:
    jar = TokenJar(PARAMS)
    for token in (b"", b"1234567", b"123456789"):
        jar.put(HERE, token, 0.0)
    assert len(jar) == 0


def test_what_no_one_accepts_any_more_is_thrown_away() -> None:
    jar = TokenJar(PARAMS)
    jar.put(HERE, b"12345678", 0.0)
    assert jar.get(HERE, 2 * PARAMS.token_rotate_s) == b"12345678"
    assert jar.get(HERE, 2 * PARAMS.token_rotate_s + 1) == b""
    assert len(jar) == 0


def test_the_jar_is_bounded() -> None:
    jar = TokenJar(dataclasses.replace(PARAMS, members_max_count=3, strangers_max_count=2))
    for port in range(1, 20):
        jar.put(Endpoint("10.0.0.1", port), b"12345678", 0.0)
    assert len(jar) == 5
    assert jar.get(Endpoint("10.0.0.1", 19), 0.0)
    assert not jar.get(Endpoint("10.0.0.1", 14), 0.0)
