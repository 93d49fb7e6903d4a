"""Which redirects are followed, and how far credentials go along."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.origin.redirects import (
    LOCATION_MAX_CHARS,
    REDIRECTS_MAX_COUNT,
    Place,
    Trail,
    location_fault,
    step,
)

HTTPS = Place("https", "reg.example.com", 443)
HTTP = Place("http", "reg.example.com", 80)
CDN = Place("https", "cdn.example.com", 443)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("https", "Reg.Example.com", None, HTTPS),
        ("https", "reg.example.com", 443, HTTPS),
        ("http", "reg.example.com", None, HTTP),
        ("ftp", "reg.example.com", None, None),
        ("", "reg.example.com", None, None),
        ("https", "", None, None),
        ("https", None, None, None),
    ],
)
def test_places(scheme: str, host: str | None, port: int | None, expected: Place | None) -> None:
    assert Place.of(scheme, host, port) == expected


@pytest.mark.parametrize(
    ("there", "is_at_home"),
    [
        (HTTPS, True),
        (CDN, False),
        (Place("https", "reg.example.com", 8443), False),
        (Place("https", "evil.reg.example.com", 443), False),
    ],
)
def test_credentials_stay_at_home(there: Place, is_at_home: bool) -> None:
    assert step(Trail(HTTPS), there) == Trail(HTTPS, 1, is_at_home)


def test_https_is_not_left_for_http() -> None:
    assert step(Trail(HTTPS), HTTP) == "redirects from https to http"
    assert isinstance(step(Trail(HTTP), Place("http", "cdn.example.com", 80)), Trail)
    # From http to https the scheme is another, and so is the place.
    assert step(Trail(HTTP), HTTPS) == Trail(HTTP, 1, False)


@given(st.lists(st.sampled_from([HTTPS, CDN]), max_size=8))
def test_once_away_never_home_again(places: list[Place]) -> None:
    trail = Trail(HTTPS)
    for number, place in enumerate(places, 1):
        ahead = step(trail, place)
        if number > REDIRECTS_MAX_COUNT:
            assert ahead == f"redirects more than {REDIRECTS_MAX_COUNT} times"
            return
        assert isinstance(ahead, Trail)
        trail = ahead
        assert trail.is_at_home == (CDN not in places[:number])


@pytest.mark.parametrize(
    "location",
    ["", "http://x/\n", "http://x/ y", "http://é/", "http:\\\\x", "http://x/\x7f", "/" * (LOCATION_MAX_CHARS + 1)],
)  # fmt: skip
def test_no_location(location: str) -> None:
    assert location_fault(location) is not None


@pytest.mark.parametrize(
    "location", ["/a", "?x", "//h/p", "https://h/p?sig=a%2Fb%3D", "/" * LOCATION_MAX_CHARS]
)
def test_a_location(location: str) -> None:
    assert location_fault(location) is None
