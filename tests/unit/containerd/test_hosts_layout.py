"""Which hosts in which order with which options: names, origins, layout and the search path, by table."""

import pytest

from containerd.hosts.errors import HostsError, RegistryNameInvalid
from containerd.hosts.hosts_file import Host, HostsFile
from containerd.hosts.layout import Mirror, mirror_first, with_fallback
from containerd.hosts.names import Registry, default_origin
from containerd.hosts.search import DEFAULT_LIST, search_path
from containerd.hosts.toml_text import Table, Value

URL = "http://127.0.0.1:29020"
UPSTREAM = Mirror(URL, "upstream", (2, 1))
OURS = Host(URL, {"capabilities": ["pull"], "dial_timeout": "1s"})
ALL = ["pull", "resolve", "push"]


@pytest.mark.parametrize(
    ("name", "directories"),
    [
        ("docker.io", ("docker.io",)),
        ("ghcr.io", ("ghcr.io",)),
        ("harbor:5000", ("harbor_5000_", "harbor:5000")),
        ("Reg.Example-1.com:80", ("Reg.Example-1.com_80_", "Reg.Example-1.com:80")),
        ("localhost", ("localhost",)),
        ("127.0.0.1:5000", ("127.0.0.1_5000_", "127.0.0.1:5000")),
        ("[::1]:5000", ("[::1]_5000_", "[::1]:5000")),
    ],
)
def test_registries_and_their_directories(name: str, directories: tuple[str, ...]) -> None:
    registry = Registry.parse(name)
    assert (registry.name, registry.directories) == (name, directories)
    assert all(Registry.from_directory(directory) == registry for directory in directories)


def test_docker_hub_has_one_spelling() -> None:
    assert Registry.parse("index.docker.io") == Registry.parse("docker.io")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../etc",
        "a/b",
        "reg.example/v2",
        "https://reg.example",
        "reg.example:",
        "reg.example:0",
        "reg.example:65536",
        "reg.example:123456",
        "reg..example",
        "-reg.example",
        "reg-.example",
        "reg_example.com",
        "_default",
        "_peili",
        "library",
        "reg.example\n",
        "reg.example\x00",
        "[::1",
        "[..]:1",
        "::1",
        "a." * 127 + "example",
    ],
)
def test_what_is_no_registry(name: str) -> None:
    with pytest.raises(RegistryNameInvalid, match="registry "):
        Registry.parse(name)
    assert Registry.from_directory(name) is None


@pytest.mark.parametrize("name", ["localhost", "localhost:5000", "10.0.0.1", "127.0.0.1:80", "[::1]:5000"])
def test_addresses(name: str) -> None:
    assert Registry.parse(name).is_address


@pytest.mark.parametrize("name", ["localhost.example", "docker.io", "10.0.0.1.example:80", "localhosts:1"])
def test_names(name: str) -> None:
    assert not Registry.parse(name).is_address
    assert not Registry.parse(name).is_loopback


@pytest.mark.parametrize(
    ("name", "version", "url", "options"),
    [
        ("docker.io", None, "https://registry-1.docker.io", {}),
        ("ghcr.io", (1, 6), "https://ghcr.io", {}),
        ("10.0.0.1:5000", (2, 1), "https://10.0.0.1:5000", {}),
        ("localhost:5000", (1, 6), "http://localhost:5000", {"skip_verify": True}),
        ("localhost:5000", (2, 1), "http://localhost:5000", {"skip_verify": True}),
        ("localhost:5000", None, "http://localhost:5000", {"skip_verify": True}),
        ("127.0.0.9:80", (2, 1), "http://127.0.0.9:80", {"skip_verify": True}),
        ("[::1]:5000", (2, 1), "http://[::1]:5000", {"skip_verify": True}),
        ("localhost", (1, 6), "http://localhost", {"skip_verify": True}),
        ("localhost", (1, 7), "https://localhost", {"skip_verify": True}),
        ("localhost:443", (2, 1), "https://localhost:443", {"skip_verify": True}),
    ],
)
def test_the_origin_of_a_registry_without_a_server(
    name: str, version: tuple[int, int] | None, url: str, options: Table
) -> None:
    assert default_origin(Registry.parse(name), version) == Host(url, options)


def _layout(registry: str, user: HostsFile, mirror: Mirror = UPSTREAM) -> HostsFile:
    return with_fallback(Registry.parse(registry), user, mirror)


def test_without_anything_of_the_user() -> None:
    assert _layout("docker.io", HostsFile()) == HostsFile(
        f"{URL}/fallback/v2",
        {"capabilities": ["pull", "resolve"], "override_path": True},
        (OURS, Host("https://registry-1.docker.io", {"capabilities": ALL})),
    )


@pytest.mark.parametrize(
    ("version", "capabilities"),
    [
        (None, ["pull"]),
        ((1, 6), ["pull"]),
        ((1, 7), ["pull"]),
        ((2, 0), ["pull"]),
        ((2, 1), ["pull", "resolve"]),
        ((2, 3), ["pull", "resolve"]),
    ],
)
def test_tags_are_asked_of_the_fallback_host_from_2_1_on(
    version: tuple[int, int] | None, capabilities: list[Value]
) -> None:
    """Before, a dead daemon there would hide the origin's "not found" (measured)."""
    file = _layout("docker.io", HostsFile(), Mirror(URL, "upstream", version))
    assert file.options["capabilities"] == capabilities


def test_tags_from_peers() -> None:
    file = _layout("docker.io", HostsFile(), Mirror(URL, "peers", None))
    assert file.hosts[0].options["capabilities"] == ["pull", "resolve"]
    assert file.server == f"{URL}/fallback/v2"


def test_mirror_first_leaves_all_else() -> None:
    user = HostsFile("s", {"ca": "a"}, (Host("m", {"skip_verify": True}),))
    assert mirror_first(user, UPSTREAM) == HostsFile("s", {"ca": "a"}, (OURS, *user.hosts))


@pytest.mark.parametrize(
    ("server", "options", "origin"),
    [
        ("http://r:1", {}, Host("http://r:1", {"capabilities": ALL})),
        ("r:1", {"ca": "a"}, Host("r:1", {"capabilities": ALL, "ca": "a"})),
        # containerd honours these only where a server is named.
        ("http://r:1", {"capabilities": ["pull"]}, Host("http://r:1", {"capabilities": ["pull"]})),
        (
            "http://r:1/x",
            {"override_path": True},
            Host("http://r:1/x", {"capabilities": ALL, "override_path": True}),
        ),
        (None, {"capabilities": ["pull"], "override_path": True, "ca": "a"}, None),
        ("", {"capabilities": ["pull"], "ca": "a"}, None),
        # To containerd, an address that starts with "http" has a scheme; this one has no host then.
        ("httpbin.example", {"ca": "a"}, None),
        (f"{URL}/x", {"ca": "a"}, None),
    ],
)
def test_the_origin_is_the_users_server_with_his_options(
    server: str | None, options: Table, origin: Host | None
) -> None:
    expected = origin or Host("https://reg.example", {"capabilities": ALL, "ca": "a"})
    assert _layout("reg.example", HostsFile(server, options)).hosts == (OURS, expected)


def test_a_loopback_registry_stays_http_also_with_options_of_the_user() -> None:
    file = _layout("localhost:5000", HostsFile(None, {"skip_verify": False, "header": {"x": "1"}}))
    assert file.hosts[-1] == Host(
        "http://localhost:5000", {"capabilities": ALL, "skip_verify": True, "header": {"x": "1"}}
    )


@pytest.mark.parametrize(
    ("hosts", "server", "options", "expected"),
    [
        # The same thing said twice is said once, and can do all that the two could.
        (
            [Host("http://r:1", {"capabilities": ["pull"], "skip_verify": True})],
            "http://r:1",
            {},
            [Host("http://r:1", {"capabilities": ["pull", "resolve", "push"], "skip_verify": True})],
        ),
        (
            [Host("http://r:1/v2", {"ca": "a"})],
            "http://r:1/",
            {"ca": "a"},
            [Host("http://r:1/v2", {"ca": "a", "capabilities": ALL})],
        ),
        # Not the same: other options, or not last. One key cannot be written twice.
        (
            [Host("http://r:1", {})],
            "http://r:1",
            {"ca": "a"},
            [Host("http://r:1", {}), Host("http://r:1#origin", {"capabilities": ALL, "ca": "a"})],
        ),
        (
            [Host("http://r:1", {}), Host("http://m", {})],
            "http://r:1",
            {},
            [Host("http://r:1", {}), Host("http://m", {}), Host("http://r:1#origin", {"capabilities": ALL})],
        ),
        (
            [Host("http://r:1", {}), Host("http://r:1#origin", {"ca": "b"})],
            "http://r:1",
            {"ca": "a"},
            [
                Host("http://r:1", {}),
                Host("http://r:1#origin", {"ca": "b"}),
                Host("http://r:1#origin-", {"capabilities": ALL, "ca": "a"}),
            ],
        ),
        # What is us already is not asked twice.
        ([Host(URL, {"ca": "x"}), Host(f"{URL}/v2", {}), Host("http://m", {})], None, {}, None),
    ],
)
def test_origins_that_are_also_hosts(
    hosts: list[Host], server: str | None, options: Table, expected: list[Host] | None
) -> None:
    if expected is None:
        expected = [Host("http://m", {}), Host("https://reg.example", {"capabilities": ALL})]
    assert _layout("reg.example", HostsFile(server, options, tuple(hosts))).hosts == (OURS, *expected)


@pytest.mark.parametrize("url", ["127.0.0.1:29020", "http://", "http://h:1/v2", "ftp://h:1", "http://h:1?x"])
def test_an_address_of_ours_that_cannot_be_one(url: str) -> None:
    with pytest.raises(HostsError, match="http://HOST:PORT"):
        Mirror(url, "upstream", None)


def test_a_slash_at_the_end_of_our_address_does_not_matter() -> None:
    assert Mirror(URL + "/", "upstream", None) == Mirror(URL, "upstream", None)


CERTS = "/etc/containerd/certs.d"
DOCKER = "/etc/docker/certs.d"


@pytest.mark.parametrize(
    ("hosts_dir", "config_path", "version", "before", "after", "literal"),
    [
        (CERTS, CERTS, (2, 1), (), (), None),
        (CERTS, CERTS + "/", (2, 1), (), (), None),
        ("/host" + CERTS, CERTS, (2, 1), (), (), None),
        (CERTS, DEFAULT_LIST, (2, 1), (), (DOCKER,), f"{CERTS}:{DOCKER}"),
        (CERTS, DEFAULT_LIST, (1, 6), (), (DOCKER,), f"{CERTS}:{DOCKER}"),
        (DOCKER, DEFAULT_LIST, (2, 1), (CERTS,), (), f"{CERTS}:{DOCKER}"),
        (
            "/host" + CERTS,
            f"{CERTS}:{DOCKER}:/x/",
            None,
            (),
            ("/host" + DOCKER, "/host/x"),
            f"/host{CERTS}:{DOCKER}:/x",
        ),
        (CERTS, None, (2, 2), (), (DOCKER,), f"{CERTS}:{DOCKER}"),
        (CERTS, None, (2, 1), (), (), None),
        (CERTS, None, None, (), (), None),
        ("/var/lib/rancher/certs.d", None, (2, 2), (), (), None),
    ],
)
def test_search_path(
    hosts_dir: str,
    config_path: str | None,
    version: tuple[int, int] | None,
    before: tuple[str, ...],
    after: tuple[str, ...],
    literal: str | None,
) -> None:
    found = search_path(hosts_dir, config_path, version)
    assert (found.before, found.after, found.literal, found.warnings) == (before, after, literal, ())


@pytest.mark.parametrize(
    ("config_path", "words"),
    [
        ("", "config_path is empty"),
        ("/other", "config_path is /other"),
        (f"/a:{DOCKER}", f"config_path is /a:{DOCKER}"),
        ("certs.d", "config_path is certs.d"),
    ],
)
def test_a_setting_that_does_not_name_our_directory_is_a_warning_and_no_guess(
    config_path: str, words: str
) -> None:
    found = search_path(CERTS, config_path, (2, 2))
    assert (found.before, found.after, found.literal) == ((), (), None)
    assert words in found.warnings[0]
    assert CERTS in found.warnings[0]
