"""Routes as endpoints, from real hosts directories."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint, Routes
from mirror.origin.hosts_routes import NOWHERE, ROUTE_KEPT_S, ROUTES_MAX_COUNT, HostsRoutes
from tests.support.hosts_runs import URL, run_configure, write


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def routes_of(hosts_dir: Path | None, clock: Clock | None = None) -> HostsRoutes:
    return HostsRoutes(
        hosts_dir, config_path=None, containerd_version=(2, 1), registry_url=URL, clock=clock or Clock()
    )


def as_port(hosts_dir: Path) -> Routes:
    """For the type checker."""
    return routes_of(hosts_dir)


async def test_without_a_hosts_directory_each_registry_is_reached_directly(tmp_path: Path) -> None:
    for routes in (routes_of(None), routes_of(tmp_path), routes_of(tmp_path / "not there")):
        assert await routes.route("docker.io") == (Endpoint("https://registry-1.docker.io/v2"),)
        assert await routes.route("quay.io:8443") == (Endpoint("https://quay.io:8443/v2"),)
        assert await routes.route("169.254.169.254") == (Endpoint("https://169.254.169.254/v2"),)
        assert await routes.route("localhost:2375") == (
            Endpoint("http://localhost:2375/v2", skip_verify=True),
        )


USERS = """\
server = "https://upstream.example"
ca = "/etc/ssl/top.crt"

[host."http://mirror.lan:5000/prefix"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/b.crt"]
  client = [["c.cert", "c.key"], ["/d.pem", "/d.pem"]]
  skip_verify = true
  [host."http://mirror.lan:5000/prefix".header]
    authorization = "Basic c2VjcmV0"
    x-list = ["one", "two"]
[host."http://127.0.0.1:5001"]
  capabilities = ["push"]
  client = "only.pem"
[host."https://other.lan"]
  client = ["e.pem", "/f.pem"]
"""


async def test_the_words_of_the_users_file_become_endpoints(tmp_path: Path) -> None:
    write(tmp_path / "quay.io/hosts.toml", USERS)
    run_configure(tmp_path, registries=["quay.io"])
    here = tmp_path / "quay.io"
    routes = routes_of(tmp_path)
    assert await routes.route("quay.io") == (
        Endpoint(
            "http://mirror.lan:5000/prefix/v2",
            named_by_user=True,
            ca_files=(f"{here}/a.crt", "/b.crt"),
            client_pairs=((f"{here}/c.cert", f"{here}/c.key"), ("/d.pem", "")),
            skip_verify=True,
            headers={"authorization": "Basic c2VjcmV0", "x-list": "one, two"},
        ),
        Endpoint(
            "https://other.lan/v2",
            named_by_user=True,
            client_pairs=((f"{here}/e.pem", ""), ("/f.pem", "")),
        ),
        Endpoint("https://upstream.example/v2", named_by_user=True, ca_files=("/etc/ssl/top.crt",)),
    )


async def test_what_is_named_beside_an_endpoint(tmp_path: Path) -> None:
    write(tmp_path / "quay.io/hosts.toml", USERS)
    write(tmp_path / "ghcr.io/hosts.toml", '[host."http://127.0.0.1:7000"]\n')
    routes = routes_of(tmp_path)
    first = (await routes.route("quay.io"))[0]
    await routes.route("ghcr.io")
    assert routes.named_with(first) == {
        Place("mirror.lan", 5000),
        # Not an endpoint, but the user's word.
        Place("127.0.0.1", 5001),
        Place("other.lan", 443),
        Place("upstream.example", 443),
    }
    assert routes.named_with(Endpoint("https://elsewhere.example/v2", named_by_user=True)) == set()


async def test_a_registry_that_a_default_serves_is_not_named_by_it(tmp_path: Path) -> None:
    write(tmp_path / "_default/hosts.toml", '[host."https://cache.lan"]\nskip_verify = false\n')
    routes = routes_of(tmp_path)
    cache, itself = await routes.route("a.example")
    assert (cache.named_by_user, cache.skip_verify) == (True, False)
    assert itself == Endpoint("https://a.example/v2")
    assert routes.named_with(cache) == {Place("cache.lan", 443)}
    # Even if another file names it: that says nothing of what is named here.
    assert routes.named_with(Endpoint("https://a.example/v2", named_by_user=True)) == set()


async def test_an_entry_of_ours_names_nothing(tmp_path: Path) -> None:
    run_configure(tmp_path, registries=["docker.io"])
    routes = routes_of(tmp_path)
    for registry in ("docker.io", "quay.io"):
        route = await routes.route(registry)
        assert [it.named_by_user for it in route] == [False]
        assert routes.named_with(route[0]) == set()


async def test_files_are_read_anew_after_a_second(tmp_path: Path) -> None:
    clock = Clock()
    routes = routes_of(tmp_path, clock)
    before = await routes.route("quay.io")
    write(tmp_path / "quay.io/hosts.toml", 'server = "http://new.example"\n')
    clock.now_s += ROUTE_KEPT_S * 0.9
    assert await routes.route("quay.io") == before
    clock.now_s += ROUTE_KEPT_S * 0.2
    assert await routes.route("quay.io") == (Endpoint("http://new.example/v2", named_by_user=True),)


@pytest.mark.parametrize(
    "registry", ["nodots", "../x", "", "a b", "x/y", "quay.io:0", "quay.io@evil.example"]
)
async def test_what_is_no_registry_leads_nowhere(
    tmp_path: Path, registry: str, caplog: pytest.LogCaptureFixture
) -> None:
    for routes in (routes_of(None), routes_of(tmp_path)):
        assert await routes.route(registry) == (NOWHERE,)
    assert list(tmp_path.iterdir()) == []
    assert len(caplog.messages) == 2


async def test_what_may_only_be_pushed_to_leads_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "quay.io/hosts.toml", 'server = "https://quay.io"\ncapabilities = ["push"]\n')
    assert await routes_of(tmp_path).route("quay.io") == (NOWHERE,)


async def test_a_damaged_file_is_told_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "quay.io/hosts.toml", "server = ")
    clock = Clock()
    routes = routes_of(tmp_path, clock)
    for _ in range(3):
        assert await routes.route("quay.io") == (Endpoint("https://quay.io/v2"),)
        clock.now_s += ROUTE_KEPT_S
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "quay.io/hosts.toml, line 1" in caplog.text


async def test_hosts_and_headers_that_cannot_be_used_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (
        '[host."https://two words.example"]\n[host."http://127.1:5000"]\n[host."https://fine.example"]\n'
        '[host."https://fine.example".header]\nx-bad = "secret\\nvalue"\nx-good = "y"\n"x y" = "z"\n'
    )
    write(tmp_path / "quay.io/hosts.toml", text)
    route = await routes_of(tmp_path).route("quay.io")
    assert [(it.base, dict(it.headers)) for it in route] == [
        ("https://fine.example/v2", {"x-good": "y"}),
        ("https://quay.io/v2", {}),
    ]
    assert len(caplog.messages) == 4
    assert "secret" not in caplog.text


async def test_a_directory_that_cannot_be_read_is_no_failure(tmp_path: Path) -> None:
    write(tmp_path / "quay.io", "a file where a directory should be")
    (tmp_path / "ghcr.io/hosts.toml").mkdir(parents=True)
    routes = routes_of(tmp_path)
    assert [it.base for it in await routes.route("quay.io")] == ["https://quay.io/v2"]
    assert [it.base for it in await routes.route("ghcr.io")] == ["https://ghcr.io/v2"]


async def test_registries_named_by_requests_do_not_fill_the_memory() -> None:
    routes = routes_of(None)
    for number in range(ROUTES_MAX_COUNT + 10):
        await routes.route(f"r{number}.example")
    # White box: there is no other way to see it.
    assert len(routes._known) == ROUTES_MAX_COUNT


async def test_a_mirror_that_may_only_pull_is_not_asked_for_tags(tmp_path: Path) -> None:
    write(
        tmp_path / "quay.io/hosts.toml",
        '[host."https://pulls.lan"]\ncapabilities = ["pull"]\n[host."https://resolves.lan"]\n',
    )
    run_configure(tmp_path, registries=["quay.io"])
    route = await routes_of(tmp_path).route("quay.io")
    assert [(it.base, it.can_resolve) for it in route] == [
        ("https://pulls.lan/v2", False),
        ("https://resolves.lan/v2", True),
        ("https://quay.io/v2", True),
    ]
