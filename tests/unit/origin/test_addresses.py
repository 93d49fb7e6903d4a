"""Which addresses, names and spellings no image may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.provisional import domains

from mirror.origin.addresses import literal, meanings, spelled, why_not_address, why_not_name

FORBIDDEN = {
    "127.0.0.1": "a loopback address",
    "127.255.255.254": "a loopback address",
    "::1": "a loopback address",
    "0.0.0.0": "an unspecified address",
    "0.1.2.3": "an unspecified address",
    "::": "an unspecified address",
    "169.254.0.1": "a link-local address",
    "169.254.169.254": "a link-local address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "224.0.0.251": "a multicast address",
    "ff02::1": "a multicast address",
    "240.0.0.1": "a reserved address",
    "255.255.255.255": "a reserved address",
    "192.0.0.8": "a reserved address",
    "100::1": "a reserved address",
    "4000::1": "a reserved address",
    "100.100.100.200": "the address of a metadata service",
    "168.63.129.16": "the address of a metadata service",
    "192.0.0.192": "the address of a metadata service",
    "fd00:ec2::254": "the address of a metadata service",
    "fd00:ec2::254%eth0": "the address of a metadata service",
    "fd20:ce::254": "the address of a metadata service",
    "fd00:42::42": "the address of a metadata service",
}
ALLOWED = (
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "203.0.113.7",
    "168.63.129.17",
    "1.1.1.1",
    "fd00::1",
    "fc00::1",
    "2001:db8::1",
    "2606:4700::1111",
)


@pytest.mark.parametrize(("address", "reason"), FORBIDDEN.items())
def test_an_address_that_only_this_host_reaches_is_refused(address: str, reason: str) -> None:
    assert why_not_address(ip_address(address)) == reason


@pytest.mark.parametrize("address", ALLOWED)
def test_a_registry_may_have_a_public_or_a_private_address(address: str) -> None:
    assert why_not_address(ip_address(address)) is None


def forms(v4: IPv4Address) -> dict[str, IPv6Address]:
    """Every form that carries an IPv4 address."""
    value = int(v4)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | value),
        "translated": IPv6Address(0xFFFF << 48 | value),
        "compatible": IPv6Address(value),
        "nat64": IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        "local nat64": IPv6Address(int(IPv6Address("64:ff9b:1::")) | value),
        "6to4": IPv6Address(0x2002 << 112 | value << 80 | 1),
        "teredo server": IPv6Address(0x20010000 << 96 | value << 64 | 0xF7F7F7F7),
        "teredo client": IPv6Address(0x20010000 << 96 | 0x01010101 << 64 | (~value & 0xFFFFFFFF)),
        "isatap": IPv6Address(0xFD00 << 112 | 0x5EFE << 32 | value),
        "global isatap": IPv6Address(0xFD00 << 112 | 0x02005EFE << 32 | value),
    }


FORBIDDEN_V4 = [address for address in FORBIDDEN if "." in address]


@pytest.mark.parametrize("form", forms(IPv4Address(0)))
@pytest.mark.parametrize("address", FORBIDDEN_V4)
def test_a_form_of_a_forbidden_address_is_refused(form: str, address: str) -> None:
    dressed = forms(IPv4Address(address))[form]
    reason = why_not_address(dressed)
    # ::0.0.0.0 is the unspecified address of IPv6 itself, as is ::0.0.0.1 its loopback.
    assert reason is not None
    assert int(dressed) <= 1 or reason == f"{address} in another form, {FORBIDDEN[address]}"


@given(st.ip_addresses(v=4))
def test_a_form_is_judged_as_what_it_stands_for(v4: IPv4Address) -> None:
    for dressed in forms(v4).values():
        assert int(dressed) <= 1 or v4 in meanings(dressed)
    if why_not_address(v4) is None:
        assert [form for form, dressed in forms(v4).items() if why_not_address(dressed)] == []


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        ("Quay.IO", "quay.io"),
        ("quay.io.", "quay.io"),
        ("LOCALHOST.", "localhost"),
        ("registry_1.example", "registry_1.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("registry", "registry"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1.", "10.0.0.1"),
        ("0:0:0:0:0:FFFF:7F00:1", "::ffff:127.0.0.1"),
        ("FD00::0001", "fd00::1"),
    ],
)
def test_a_host_has_one_spelling(raw: str, host: str) -> None:
    found = spelled(raw)
    assert found is not None
    assert found == str(ip_address(host) if ":" in host else host)
    assert spelled(found) == found


@pytest.mark.parametrize(
    "raw",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.5",
        "300.1.1.1",
        "evil.example.0x",
        "evil.example.09",
        "localhost..",
        "a..b",
        ".localhost",
        "",
        ".",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "::1::",
        "%6c%6f%63alhost",
        "local host",
        "localhost\x00.example",
        "127。0。0。1",
        "ⓛocalhost",
        "-a.example",
        "a-.example",
        "user@localhost",
        "localhost:80",
        "[::1]",
        f"{'a' * 64}.example",
        ".".join(["a" * 60] * 5),
    ],
)
def test_what_a_resolver_might_read_otherwise_is_no_host(raw: str) -> None:
    assert spelled(raw) is None


@given(domains())
def test_ordinary_names_are_hosts(name: str) -> None:
    assert spelled(name) == name.lower()
    assert literal(name) is None


@given(st.text(max_size=30))
def test_a_host_has_only_plain_characters(raw: str) -> None:
    host = spelled(raw)
    if host is not None:
        assert host
        assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.:-_")
        assert literal(host) is not None or ":" not in host


@given(st.ip_addresses())
def test_an_address_is_a_host(address: IPv4Address | IPv6Address) -> None:
    assert literal(spelled(address.exploded) or "") == address


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "db.localhost",
        "ip6-localhost",
        "metadata.google.internal",
        "metadata",
        "instance-data",
        "registry.invalid",
    ],
)
def test_names_of_this_host_and_of_metadata_services(name: str) -> None:
    assert why_not_name(name) is not None


@pytest.mark.parametrize("name", ["localhost.example", "notlocalhost", "metadata.example", "quay.io"])
def test_names_that_only_look_so(name: str) -> None:
    assert why_not_name(name) is None
