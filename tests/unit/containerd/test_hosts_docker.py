"""What daemon.json says of registries keeps working when a hosts.toml of ours stands before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from containerd.hosts.cleanup import cleanup
from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.names import Registry
from containerd.hosts.users import user_hosts
from tests.support.containerd_hosts import Asked, hosts_asked
from tests.support.hosts_runs import FALLBACK, MIRROR, URL, run_configure, write
from tests.support.hosts_trees import snapshot


@pytest.fixture
def hosts_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "docker" / "certs.d"
    folder.mkdir(parents=True)
    return folder


def settings(hosts_dir: Path, **said: object) -> None:
    (hosts_dir.parent / "daemon.json").write_text(json.dumps({"features": {}} | said))


def between(hosts_dir: Path, registry: str) -> list[Asked]:
    """The hosts that are asked behind our mirror and before our fallback host."""
    first, *others, last = hosts_asked([hosts_dir], registry, (2, 1))
    assert (first, last) == (MIRROR, FALLBACK)
    return others


@pytest.mark.parametrize("entry", ["reg.test:5000", "http://reg.test:5000"])
def test_an_insecure_registry_stays_one_and_has_an_entry(hosts_dir: Path, entry: str) -> None:
    settings(hosts_dir, **{"insecure-registries": [entry]})
    run_configure(hosts_dir, registries=["ghcr.io"])
    (origin,) = between(hosts_dir, "reg.test:5000")
    # To containerd, plain HTTP and an unverified certificate together mean: TLS first, whoever shows it.
    assert (origin.url, origin.skip_verify) == ("http://reg.test:5000/v2", True)
    (secure,) = between(hosts_dir, "ghcr.io")
    assert (secure.url, secure.skip_verify) == ("https://ghcr.io/v2", None)


@pytest.mark.parametrize("entry", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_loopback_among_the_insecure_has_no_entry_of_its_own(hosts_dir: Path, entry: str) -> None:
    settings(hosts_dir, **{"insecure-registries": [entry, "10.0.0.1:5000"]})
    run_configure(hosts_dir, registries=["ghcr.io"])
    made = {path.name for path in hosts_dir.iterdir()}
    assert "10.0.0.1:5000" in made and not made & set(Registry.parse(entry).directories)
    origin = hosts_asked([hosts_dir], entry, (2, 1))[-1]
    assert (origin.url, origin.skip_verify) == (f"http://{entry}/v2", True)


def test_mirrors_are_dockers_own_registry_only_and_before_it(hosts_dir: Path) -> None:
    mirrors = ["https://m.test/", "http://10.0.0.1:5000", "https://own.test"]
    settings(hosts_dir, **{"registry-mirrors": mirrors, "insecure-registries": ["own.test"]})
    run_configure(hosts_dir)
    assert [(it.url, it.skip_verify) for it in between(hosts_dir, "docker.io")] == [
        ("https://m.test/v2", None),
        ("http://10.0.0.1:5000/v2", None),
        ("http://own.test/v2", True),
        ("https://registry-1.docker.io/v2", None),
    ]
    assert between(hosts_dir, "docker.io")[0].capabilities == {"pull", "resolve"}
    assert [it.url for it in between(hosts_dir, "ghcr.io")] == ["https://ghcr.io/v2"]


def test_a_file_with_hosts_of_the_users_is_all_that_counts(hosts_dir: Path) -> None:
    """So it is to dockerd."""
    settings(hosts_dir, **{"registry-mirrors": ["https://m.test"], "insecure-registries": ["reg.test"]})
    write(hosts_dir / "docker.io/hosts.toml", '[host."https://mine.test"]\n')
    write(hosts_dir / "reg.test/hosts.toml", '[host."https://mine.test"]\n')
    run_configure(hosts_dir)
    assert [it.url for it in between(hosts_dir, "docker.io")] == [
        "https://mine.test/v2",
        "https://registry-1.docker.io/v2",
    ]
    assert [it.skip_verify for it in between(hosts_dir, "reg.test")] == [None, None]


def test_what_the_user_says_of_his_server_stays(hosts_dir: Path) -> None:
    settings(hosts_dir, **{"insecure-registries": ["reg.test", "plain.test"]})
    write(hosts_dir / "reg.test/hosts.toml", 'server = "https://reg.test/sub/v2"\noverride_path = true\n')
    write(hosts_dir / "plain.test/hosts.toml", 'server = "http://plain.test"\n')
    write(hosts_dir / "reg.test/own.crt", "PEM")
    run_configure(hosts_dir)
    (origin,) = between(hosts_dir, "reg.test")
    assert (origin.url, origin.skip_verify) == ("http://reg.test/sub/v2", True)
    (plain,) = between(hosts_dir, "plain.test")
    assert (plain.url, plain.skip_verify) == ("http://plain.test/v2", None)


def test_networks_leave_no_entry_for_all(hosts_dir: Path) -> None:
    run_configure(hosts_dir)
    assert (hosts_dir / "_default").exists()
    settings(hosts_dir, **{"insecure-registries": ["10.0.0.0/8", "127.0.0.0/8"]})
    report = run_configure(hosts_dir, registries=["10.1.2.3:5000", "11.1.2.3:5000"])
    assert not (hosts_dir / "_default").exists()
    assert ["10.0.0.0/8" in warning for warning in report.warnings] == [True]
    assert "127.0.0.0/8" not in report.warnings[0]
    assert [it.url for it in between(hosts_dir, "10.1.2.3:5000")] == ["http://10.1.2.3:5000/v2"]
    assert [it.url for it in between(hosts_dir, "11.1.2.3:5000")] == ["https://11.1.2.3:5000/v2"]


def test_the_daemon_goes_the_same_ways(hosts_dir: Path) -> None:
    settings(hosts_dir, **{"registry-mirrors": ["https://m.test"], "insecure-registries": ["reg.test:5000"]})
    run_configure(hosts_dir)

    def ways(registry: str) -> list[tuple[str, bool]]:
        found = user_hosts(hosts_dir, registry, registry_url=URL, config_path=None, containerd_version=(2, 1))
        return [(host.base, host.is_named) for host in found]

    assert ways("docker.io") == [("https://m.test/v2", True), ("https://registry-1.docker.io/v2", False)]
    assert ways("reg.test:5000") == [("http://reg.test:5000/v2", True)]


def test_dockers_directory_is_read_by_nobody_else(hosts_dir: Path, tmp_path: Path) -> None:
    """From containerd 2.2 on, its default setting is a list with that directory in it."""
    write(tmp_path / "etc/containerd/certs.d/_default/hosts.toml", 'server = "https://x.test"\n')
    docker = tmp_path / "etc/docker/certs.d"
    docker.mkdir(parents=True)
    report = run_configure(docker, config_path=None, containerd_version=(2, 2))
    assert report.warnings == ()
    assert not Path(f"{tmp_path}/etc/containerd/certs.d:").exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"registry-mirrors": "m"}', '{"insecure-registries": ["10.0.0.0/99"]}', "\xff"]
)
def test_what_dockerd_would_refuse_is_named_and_nothing_is_written(hosts_dir: Path, text: str) -> None:
    (hosts_dir.parent / "daemon.json").write_bytes(text.encode("latin-1"))
    before = snapshot(hosts_dir)
    with pytest.raises(HostsFileInvalid, match=r"daemon\.json"):
        run_configure(hosts_dir)
    assert snapshot(hosts_dir) == before


def test_only_dockers_directory_has_a_daemon_json(tmp_path: Path) -> None:
    (tmp_path / "certs.d").mkdir()
    (tmp_path / "daemon.json").write_text("{")
    run_configure(tmp_path / "certs.d")


@pytest.mark.parametrize(
    "text", ["", "{}", '{"registry-mirrors": null, "insecure-registries": ["unqualified"]}']
)
def test_what_says_nothing_changes_nothing(hosts_dir: Path, tmp_path: Path, text: str) -> None:
    (hosts_dir.parent / "daemon.json").write_text(text)
    run_configure(hosts_dir)
    other = tmp_path / "certs.d"
    other.mkdir()
    run_configure(other)
    theirs, ours = (
        {path.relative_to(root): path.read_text() for path in sorted(root.rglob("hosts.toml"))}
        for root in (other, hosts_dir)
    )
    assert theirs == ours
    before = (hosts_dir.parent / "daemon.json").read_text()
    cleanup(hosts_dir)
    assert not list(hosts_dir.iterdir())
    assert (hosts_dir.parent / "daemon.json").read_text() == before
