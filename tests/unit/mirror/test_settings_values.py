"""What the text of each kind of setting means, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.scope import ImageScope
from mirror.settings import values
from mirror.settings.model import Address, DnsBootstrap, LanBootstrap, StaticBootstrap, StoreKind
from mirror.settings.values import ValueInvalid

MIB = 2**20
size = values.size_bytes(MIB)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1048576", MIB),
        ("1048576B", MIB),
        ("1024KiB", MIB),
        ("1MiB", MIB),
        ("007MiB", 7 * MIB),
        ("10GiB", 10 * 2**30),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    "text",
    ["1MB", "1M", "1Mi", "1mib", "1 MiB", "1.5GiB", "-1", "+1MiB", "MiB", "1_000", "٣MiB", "1MiB ", "1" * 20],
)
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(
        ValueInvalid, match=rf"^{re.escape(repr(text))} is not a size: expected .* such as 512MiB"
    ):
        size(text)


@pytest.mark.parametrize("text", ["0", "1048575", "1023KiB", str(2**63), "9999999999GiB"])
def test_sizes_out_of_range(text: str) -> None:
    with pytest.raises(ValueInvalid, match="out of range: expected at least 1MiB"):
        size(text)


def test_a_size_that_may_be_zero() -> None:
    parse = values.size_bytes(MIB, may_be_zero=True)
    assert (parse("0"), parse("0GiB"), parse("1MiB")) == (0, 0, MIB)
    with pytest.raises(ValueInvalid, match="expected 0, or at least 1MiB"):
        parse("1")


@given(st.integers(1, 2**63 - 1))
def test_size_text_is_read_back(number: int) -> None:
    assert values.size_bytes(1)(values.size_text(number)) == number


def test_size_text_is_short() -> None:
    assert [values.size_text(number) for number in (0, 1, 1024, 3 * MIB, 2**40)] == [
        "0",
        "1",
        "1KiB",
        "3MiB",
        "1024GiB",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:29020", Address("127.0.0.1", 29020)),
        ("localhost:29020", Address("127.0.0.1", 29020)),
        ("[::1]:80", Address("::1", 80)),
        ("[::0:1]:80", Address("::1", 80)),
        ("[FE80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        (":29021", Address("", 29021)),
        ("10.0.0.7:65535", Address("10.0.0.7", 65535)),
    ],
)
def test_listen_addresses(text: str, expected: Address) -> None:
    assert values.listen_address(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1", "is not an address: expected host:port"),
        ("127.0.0.1:", "is not an address: expected host:port"),
        ("29020", "is not an address: expected host:port"),
        ("127.0.0.1:http", "is not an address: expected host:port"),
        ("127.0.0.1:-1", "is not an address: expected host:port"),
        ("127.0.0.1:٢٩", "is not an address: expected host:port"),
        ("127.0.0.1:65536", "has a port above 65535"),
        ("::1:29020", r"put an IPv6 address in brackets, such as \[::1\]:29020"),
        ("[::1]", "is not an address: expected host:port"),
        ("[127.0.0.1]:80", "has no IPv6 address in its brackets"),
        ("[::g]:80", "has no IPv6 address in its brackets"),
        ("[]:80", "has no IPv6 address in its brackets"),
        ("node7:80", "does not begin with an IP address"),
        ("127.0.0.256:80", "does not begin with an IP address"),
        (" 127.0.0.1:80", "does not begin with an IP address"),
        ("http://127.0.0.1:80", "is not an address|brackets"),
    ],
)
def test_texts_that_are_no_listen_address(text: str, reason: str) -> None:
    with pytest.raises(
        ValueInvalid, match=f"^{re.escape(repr(text))} .*{reason}|^{re.escape(repr(text))} {reason}"
    ):
        values.listen_address(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_read_back_from_its_text(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    assert values.listen_address(str(address)) == address


def test_off_is_no_listener() -> None:
    assert values.listen_address_or_off("off") is None
    assert values.listen_address_or_off(":29023") == Address("", 29023)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("static:10.0.0.7:29021", "10.0.0.7"),
        ("static:[fd00::7]:29021", "fd00::7"),
        ("static:node-7:29021", "node-7"),
        ("static:seed.peili.svc.cluster.local.:29021", "seed.peili.svc.cluster.local."),
        ("static:my_host:29021", "my_host"),
    ],
)
def test_bootstraps(text: str, host: str) -> None:
    assert values.bootstrap(text) == StaticBootstrap(Address(host, 29021))
    assert str(values.bootstrap(text)) == text


def test_bootstraps_by_a_name_of_many_and_by_the_network() -> None:
    assert values.bootstrap("dns:peili.svc") == DnsBootstrap("peili.svc", 0)
    assert values.bootstrap("dns:peili.svc:4000") == DnsBootstrap("peili.svc", 4000)
    assert str(values.bootstrap("dns:peili.svc:4000")) == "dns:peili.svc:4000"
    assert values.bootstrap("lan") == LanBootstrap()
    assert str(values.bootstrap("lan")) == "lan"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.7:29021", "is not a bootstrap: expected static:HOST:PORT, dns:NAME or lan, such as "),
        ("lan:", "is not a bootstrap: expected static:HOST:PORT"),
        ("lan:eth0", "is not a bootstrap: expected static:HOST:PORT"),
        ("LAN", "is not a bootstrap: expected static:HOST:PORT"),
        ("dns", "names no host: expected dns:NAME"),
        ("dns:", "names no host: expected dns:NAME"),
        ("dns:a b", "names no host: expected dns:NAME"),
        ("dns:10.0.0.300", "names no host: expected dns:NAME"),
        ("dns:10.0.0.7", "has an address where a name belongs: use static:HOST:PORT"),
        ("dns:10.0.0.7:29021", "has an address where a name belongs: use static:HOST:PORT"),
        ("dns:[::1]:29021", "has an address where a name belongs: use static:HOST:PORT"),
        ("dns:::1", "put an IPv6 address in brackets"),
        ("dns:peili.svc:", "is not an address"),
        ("dns:peili.svc:http", "is not an address"),
        ("dns:peili.svc:0", "has port 0: peers have a port of their own"),
        ("dns:peili.svc:65536", "has a port above 65535"),
        ("static:10.0.0.7", "is not an address"),
        ("static:10.0.0.300:1", "names no host"),
        ("static:a..b:1", "names no host"),
        ("static:-a:1", "names no host"),
        ("static:a b:1", "names no host"),
        ("static:ä:1", "names no host"),
        ("static::1", "names no host"),
        (f"static:{'a' * 64}:1", "names no host"),
        (f"static:{'.'.join(['a' * 60] * 5)}:1", "names no host"),
        ("static:10.0.0.7:0", "is no address of a peer"),
        ("static:0.0.0.0:29021", "is no address of a peer"),
        ("static:[::]:29021", "is no address of a peer"),
    ],
)
def test_texts_that_are_no_bootstrap(text: str, reason: str) -> None:
    with pytest.raises(ValueInvalid, match=reason):
        values.bootstrap(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("203.0.113.9", "203.0.113.9"),
        ("FD00::0:7", "fd00::7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_advertised_addresses(text: str, expected: str) -> None:
    assert values.advertise_address(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.7:29021", "is not an IP address: expected one without a port, such as 10.0.0.7"),
        ("[fd00::7]", "is not an IP address: expected one without a port"),
        ("node-7", "is not an IP address"),
        ("10.0.0.300", "is not an IP address"),
        (" 10.0.0.7", "is not an IP address"),
        ("0.0.0.0", "is no address of a host"),
        ("::", "is no address of a host"),
        ("255.255.255.255", "is no address of a host"),
        ("240.0.0.1", "is no address of a host"),
        ("224.0.0.1", "is no address of a host"),
        ("ff02::1", "is no address of a host"),
        ("169.254.1.1", "is a link-local address"),
        ("fe80::1", "is a link-local address"),
        ("fe80::1%eth0", "is a link-local address"),
    ],
)
def test_texts_that_are_no_advertised_address(text: str, reason: str) -> None:
    with pytest.raises(ValueInvalid, match=f"^{re.escape(repr(text))} {reason}"):
        values.advertise_address(text)


def test_choices_name_the_alternatives() -> None:
    parse = values.choice(StoreKind)
    assert parse("directory") is StoreKind.DIRECTORY
    for text in ("Directory", "dir", " auto"):
        with pytest.raises(ValueInvalid, match="is not known: expected auto, containerd or directory"):
            parse(text)


def test_paths() -> None:
    assert values.path("/a b/ä") == PurePosixPath("/a b/ä")
    for text in ("/a\x00b", "/a\nb", "/a\x7f"):
        with pytest.raises(ValueInvalid, match="control characters"):
            values.path(text)


def test_socket_paths() -> None:
    expected = PurePosixPath("/run/c.sock")
    assert values.socket_path("/run/c.sock") == values.socket_path("unix:///run/c.sock") == expected
    assert values.socket_path("/" + "a" * 106) == PurePosixPath("/" + "a" * 106)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unix://", "is not a socket: expected a path"),
        ("tcp://127.0.0.1:1", "is not a socket: expected a path"),
        ("/" + "a" * 107, "is too long: Linux takes socket paths of 107 bytes"),
        ("/" + "ä" * 54, "is too long"),
        ("/a\nb", "control characters"),
    ],
)
def test_texts_that_are_no_socket(text: str, reason: str) -> None:
    with pytest.raises(ValueInvalid, match=reason):
        values.socket_path(text)


def test_registries_are_canonical() -> None:
    assert values.registry("index.docker.io") == values.registry("Docker.IO") == "docker.io"
    assert values.registry("registry.example:5000") == "registry.example:5000"
    with pytest.raises(ValueInvalid, match=r"'https://ghcr\.io' is not a registry: leave out the scheme"):
        values.registry("https://ghcr.io")
    with pytest.raises(ValueInvalid, match=r"'ghcr\.io/org' is not a registry"):
        values.registry("ghcr.io/org")


@pytest.mark.parametrize("text", ["(", "[a", "a{99999999999999999999}", "*", "(?P<a>x)(?P<a>y)", "(" * 5000])
def test_patterns_that_do_not_compile(text: str) -> None:
    with pytest.raises(ValueInvalid, match="does not compile as a regular expression: "):
        values.pattern(text)


def test_patterns() -> None:
    assert values.pattern("^ghcr").search("ghcr.io/a")


def test_names() -> None:
    assert values.cluster_name("home-1") == "home-1"
    assert values.cluster_name("a" * 63) == "a" * 63
    for text in ("-a", "a b", "a" * 64, "ä", "a-", "a\n"):
        with pytest.raises(ValueInvalid, match="is not a cluster name"):
            values.cluster_name(text)
    assert values.containerd_namespace("k8s.io") == "k8s.io"
    for text in ("k8s..io", "a/b", ".a", "a" * 77, "a\n"):
        with pytest.raises(ValueInvalid, match="is not a containerd namespace"):
            values.containerd_namespace(text)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ValueInvalid) as caught:
        values.listen_address("a" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("left", "right", "collide"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 1), True),
        (("127.0.0.1", 1), ("127.0.0.1", 2), False),
        (("127.0.0.1", 0), ("127.0.0.1", 0), False),
        (("127.0.0.1", 1), ("127.0.0.2", 1), False),
        (("127.0.0.1", 1), ("0.0.0.0", 1), True),
        (("127.0.0.1", 1), ("::", 1), True),
        (("::1", 1), ("::", 1), True),
        (("::1", 1), ("0.0.0.0", 1), False),
        (("0.0.0.0", 1), ("::", 1), True),
    ],
)
def test_collisions_of_listeners(left: tuple[str, int], right: tuple[str, int], collide: bool) -> None:
    assert Address(*left).collides_with(Address(*right)) is collide
    assert Address(*right).collides_with(Address(*left)) is collide


@pytest.mark.parametrize(
    ("host", "is_loopback", "is_every", "is_name"),
    [
        ("127.0.0.1", True, False, False),
        ("127.9.9.9", True, False, False),
        ("::1", True, False, False),
        ("10.0.0.1", False, False, False),
        ("0.0.0.0", False, True, False),
        ("::", False, True, False),
        ("fe80::1%eth0", False, False, False),
        ("seed", False, False, True),
        ("seed.peili.svc.cluster.local.", False, False, True),
    ],
)
def test_kinds_of_addresses(host: str, is_loopback: bool, is_every: bool, is_name: bool) -> None:
    found = Address(host, 1)
    assert (found.is_loopback, found.is_every_address, found.is_name) == (is_loopback, is_every, is_name)


@pytest.mark.parametrize(
    ("text", "registry", "path"),
    [
        ("ghcr.io", "ghcr.io", ""),
        ("Index.Docker.io/library/nginx", "docker.io", "library/nginx"),
        ("r.example:5000/a/b", "r.example:5000", "a/b"),
    ],
)
def test_scopes(text: str, registry: str, path: str) -> None:
    assert values.image_scope(text) == ImageScope(registry, path)


@pytest.mark.parametrize(
    "text", ["ghcr.io/", "ghcr.io/A", "ghcr.io/a:tag", "https://ghcr.io/a", "/a", "ghcr.io/a/*"]
)
def test_texts_that_are_no_scope(text: str) -> None:
    with pytest.raises(ValueInvalid):
        values.image_scope(text)
