"""The user's own hosts for a registry, read back from a directory that has our blocks in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.errors import HostsFileInvalid, RegistryNameInvalid
from containerd.hosts.toml_text import Table
from containerd.hosts.users import UserHost, manifest_of, origin_host, user_hosts
from tests.support.hosts_runs import URL, run_add, run_configure, write


def hosts(
    certs: Path, registry: str, version: tuple[int, int] | None = (2, 1), config_path: str | None = None
) -> tuple[UserHost, ...]:
    return user_hosts(certs, registry, registry_url=URL, config_path=config_path, containerd_version=version)


def said(certs: Path, registry: str) -> list[tuple[str, bool]]:
    return [(host.base, host.is_named) for host in hosts(certs, registry)]


HUB = ("https://registry-1.docker.io/v2", False)


def test_without_any_file_it_is_the_registry_itself(certs: Path) -> None:
    assert said(certs, "docker.io") == [HUB]
    assert said(certs, "quay.io") == [("https://quay.io/v2", False)]
    assert said(certs, "reg.test:5000") == [("https://reg.test:5000/v2", False)]
    assert said(certs, "[fd00::1]:5000") == [("https://[fd00::1]:5000/v2", False)]
    assert said(certs / "not there", "quay.io") == [("https://quay.io/v2", False)]
    assert list(certs.iterdir()) == []


def test_loopback_is_plain_http_and_nobodys_word(certs: Path) -> None:
    assert said(certs, "localhost:2375") == [("http://localhost:2375/v2", False)]
    assert said(certs, "127.0.0.1:5000") == [("http://127.0.0.1:5000/v2", False)]
    (certs / "localhost:2375").mkdir()
    assert said(certs, "localhost:2375") == [("http://localhost:2375/v2", True)]


USERS = """\
server = "https://upstream.example"
skip_verify = true

[host."https://first.example/some/path"]
  capabilities = ["pull"]
  ca = "first.crt"
  override_path = true
  [host."https://first.example/some/path".header]
    x-team = ["a", "b"]
[host."http://user:word@second.example:8080"]
  capabilities = ["pull", "resolve"]
[host."https://only-push.example"]
  capabilities = ["push"]
"""
EXPECTED = [
    ("https://first.example/some/path", True),
    ("http://second.example:8080/v2", True),
    ("https://only-push.example/v2", True),
    ("https://upstream.example/v2", True),
]


@pytest.mark.parametrize("is_configured", [False, True])
def test_the_users_hosts_in_his_order_then_his_server(certs: Path, *, is_configured: bool) -> None:
    write(certs / "quay.io/hosts.toml", USERS)
    if is_configured:
        run_configure(certs, registries=["quay.io"])
    found = hosts(certs, "quay.io")
    assert [(host.base, host.is_named) for host in found] == EXPECTED
    assert found[0].options["ca"] == str(certs / "quay.io/first.crt")
    assert found[0].options["header"] == {"x-team": ["a", "b"]}
    assert found[3].options["skip_verify"] is True
    assert [host.can_pull for host in found] == [True, True, False, True]
    assert [host.can_resolve for host in found] == [False, True, False, True]


def test_our_entries_are_never_among_them(certs: Path) -> None:
    write(certs / "ghcr.io/hosts.toml", f'server = "{URL}"\n[host."{URL}"]\n[host."https://m.example"]\n')
    for _ in range(2):
        assert said(certs, "ghcr.io") == [("https://m.example/v2", True), ("https://ghcr.io/v2", True)]
        run_configure(certs, registries=["docker.io", "ghcr.io"])
    assert said(certs, "docker.io") == [HUB]
    # Served by our `_default`.
    assert said(certs, "quay.io") == [("https://quay.io/v2", False)]
    cleanup(certs)
    assert said(certs, "docker.io") == [HUB]


@pytest.mark.parametrize("is_configured", [False, True])
def test_his_default_counts_where_he_has_no_directory(certs: Path, *, is_configured: bool) -> None:
    write(certs / "_default/hosts.toml", '[host."https://cache.example"]\nca = "ca.crt"\n')
    write(certs / "ghcr.io/ca.crt", "")
    if is_configured:
        run_configure(certs, registries=["docker.io", "ghcr.io"])
    for registry in ("docker.io", "quay.io"):
        first, last = hosts(certs, registry)
        assert first.base == "https://cache.example/v2"
        assert first.is_named
        assert first.options["ca"] == str(certs / "_default/ca.crt")
        # `_default` says nothing of this registry itself.
        assert not last.is_named
    assert [(it.base, it.is_named, it.options["ca"]) for it in hosts(certs, "ghcr.io")] == [
        ("https://ghcr.io/v2", True, [str(certs / "ghcr.io/ca.crt")])
    ]


def test_both_names_of_a_directory_with_a_port(certs: Path) -> None:
    write(certs / "reg.test:5000/hosts.toml", 'server = "https://b.example"\n')
    assert said(certs, "reg.test:5000")[-1] == ("https://b.example/v2", True)
    write(certs / "reg.test_5000_/hosts.toml", 'server = "https://a.example"\n')
    assert said(certs, "reg.test:5000")[-1] == ("https://a.example/v2", True)


def test_a_later_directory_of_a_list(certs: Path) -> None:
    docker = certs.parent.parent / "docker/certs.d"
    write(docker / "quay.io/hosts.toml", '[host."https://m.example"]\n')
    found = hosts(certs, "quay.io", config_path=f"{certs}:{docker}")
    assert [host.base for host in found] == ["https://m.example/v2", "https://quay.io/v2"]


def test_no_capabilities_listed_are_all() -> None:
    tables: list[Table] = [{}, {"capabilities": []}]
    for options in tables:
        host = UserHost("https://m.example/v2", options, is_named=True)
        assert host.can_pull
        assert host.can_resolve


def test_trouble_is_told(certs: Path) -> None:
    write(certs / "quay.io/hosts.toml", "server = ")
    with pytest.raises(HostsFileInvalid, match=r"quay\.io"):
        hosts(certs, "quay.io")
    for name in ("../x", "quay.io/x", "nodots", ""):
        with pytest.raises(RegistryNameInvalid):
            hosts(certs, name)
        with pytest.raises(RegistryNameInvalid):
            origin_host(name, None)


def test_the_registry_itself_needs_no_directory() -> None:
    assert origin_host("docker.io", None) == UserHost(HUB[0], {}, is_named=False)


# --- Who named an entry


def test_an_entry_that_requests_brought_about_is_told_from_an_operators(certs: Path) -> None:
    assert manifest_of(certs) is None
    run_configure(certs, registries=["docker.io"])
    run_add(certs, "quay.io")
    run_add(certs, "quay.io")
    run_add(certs, "docker.io")
    assert first_seen(certs) == {"quay.io": True, "docker.io": False, "_default": False}
    run_configure(certs, registries=["docker.io"])
    assert first_seen(certs)["quay.io"]
    run_configure(certs, registries=["docker.io", "quay.io"])
    assert not first_seen(certs)["quay.io"]


def test_a_manifest_of_the_last_release_has_no_such_word(certs: Path) -> None:
    run_configure(certs, registries=["docker.io"])
    path = certs / "_peili/manifest.json"
    text = path.read_text()
    assert '"first_seen"' in text
    path.write_text("\n".join(line for line in _without_last_field(text)))
    assert first_seen(certs) == {"docker.io": False, "_default": False}


def _without_last_field(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if '"first_seen"' not in line]
    # Its comma stays behind on the line before.
    return [
        line.removesuffix(",") if after.strip().startswith("}") and not line.strip().startswith("}") else line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
    ]


def first_seen(certs: Path) -> dict[str, bool]:
    manifest = manifest_of(certs)
    assert manifest is not None
    return {entry.registry: entry.first_seen for entry in manifest.entries}
