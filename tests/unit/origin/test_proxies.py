"""Which proxy the environment means, by the rules that containerd goes by."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mirror.origin.proxies import Proxies, is_usable


@pytest.mark.parametrize(
    ("environ", "scheme", "expected"),
    [
        ({}, "https", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http", ""),
        ({"http_proxy": "p:1"}, "http", "http://p:1"),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:1"}, "http", "http://a:1"),
        ({"HTTP_PROXY": "", "http_proxy": "http://b:1"}, "http", "http://b:1"),
        ({"HTTPS_PROXY": " http://p:1 "}, "https", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https", ""),
    ],
)
def test_the_proxy_of_a_scheme(environ: Mapping[str, str], scheme: str, expected: str) -> None:
    assert Proxies.of(environ).choose(scheme, "reg.example.com", 443) == expected


@pytest.mark.parametrize(
    ("exempt", "host", "port", "is_direct"),
    [
        ("*", "reg.example.com", 443, True),
        ("example.com", "reg.example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        ("EXAMPLE.com", "Reg.Example.COM.", 443, True),
        (".example.com", "reg.example.com", 443, True),
        (".example.com", "example.com", 443, False),
        ("*.example.com", "reg.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("example.com:5000", "reg.example.com", 5000, True),
        ("example.com:5000", "reg.example.com", 443, False),
        ("a.org, example.com", "example.com", 443, True),
        ("a.org example.com", "example.com", 443, True),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:5000", "10.1.2.3", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "reg.example.com", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("[fd12::1]:5000", "fd12::1", 5000, True),
        ("[fd12::1]:5000", "fd12::1", 5001, False),
        ("[fd12::1]", "fd12:0::1", 5001, True),
        ("fd12::1", "fd12::1", 443, True),
        ("0.0.0.0/99", "10.1.2.3", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 5000, True),
        ("", "::1", 5000, True),
        ("", "reg.example.com", 443, False),
    ],
)
def test_what_goes_past_the_proxy(exempt: str, host: str, port: int, is_direct: bool) -> None:
    proxies = Proxies.of({"HTTPS_PROXY": "http://p:1", "NO_PROXY": exempt})
    assert (proxies.choose("https", host, port) == "") == is_direct


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://p:1", True),
        ("https://user:pass@p", True),
        ("socks5://p:1", False),
        ("http://", False),
        ("http://p:99999", False),
        ("http://[::1", False),
    ],
)
def test_a_proxy_that_can_be_used(proxy: str, expected: bool) -> None:
    assert is_usable(proxy) is expected


def test_a_password_of_a_proxy_is_not_shown() -> None:
    assert "word" not in repr(Proxies("http://user:word@p", "http://user:word@p", ()))
