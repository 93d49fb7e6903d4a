"""What settings amount to together, and what is refused or warned of."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from mirror.errors import SettingsError
from mirror.log import LogFormat, LogLevel
from mirror.oci.scope import ImageScope
from mirror.settings import resolve
from mirror.settings.load import read
from mirror.settings.model import (
    Address,
    ConfigureSettings,
    ContainerdStoreSettings,
    DirectoryStoreSettings,
    DnsBootstrap,
    HostsSettings,
    LanBootstrap,
    OriginUse,
    ServeSettings,
    StaleTags,
    StaticBootstrap,
    Tags,
    Verify,
)
from mirror.settings.resolve import Resolved, Surroundings
from mirror.settings.setting import Command

AROUND = Surroundings(working_dir=Path("/work dir"), has_ipv6=True, is_terminal=False)
DATA_DIR = Path("/default data")


def serve(around: Surroundings = AROUND, **flags: str | tuple[str, ...]) -> Resolved[ServeSettings]:
    return resolve.serve(read(Command.SERVE, flags, {}), around, DATA_DIR)


def configure(**flags: str | tuple[str, ...]) -> Resolved[ConfigureSettings]:
    return resolve.configure(read(Command.CONFIGURE, flags, {}), AROUND)


def test_the_defaults() -> None:
    assert serve() == Resolved(
        ServeSettings(
            store=ContainerdStoreSettings(
                containerd_sock=Path("/run/containerd/containerd.sock"),
                containerd_namespaces=("k8s.io",),
                containerd_content_path=None,
                cache_size_bytes=10 * 2**30,
            ),
            data_dir=DATA_DIR,
            registry_addr=Address("127.0.0.1", 29020),
            peer_addr=Address("::", 29021),
            admin_addr=Address("127.0.0.1", 29022),
            metrics_addr=None,
            advertise_addr=None,
            bootstrap=(),
            cluster="peili",
            cluster_secret_file=None,
            mirrors=(),
            filters=(),
            origin=OriginUse.STEER,
            verify=Verify.AUTO,
            tags=Tags.UPSTREAM,
            stale_private=(),
            protect=(),
            docker_config=None,
            spool_size_bytes=10 * 2**30,
            hosts=HostsSettings(
                hosts_dir=Path("/etc/containerd/certs.d"),
                registry_url="http://127.0.0.1:29020",
                stale_tags=StaleTags.AUTO,
                containerd_config_path=None,
                add_registries=True,
            ),
            log_level=LogLevel.INFO,
            log_format=LogFormat.JSON,
        ),
        (),
    )


def test_everything_set() -> None:
    found = serve(
        store="directory",
        store_dir="/store",
        cache_size="1GiB",
        data_dir="/data",
        registry_addr="[::1]:1",
        peer_addr="10.0.0.7:2",
        admin_addr="127.0.0.1:3",
        metrics_addr="127.0.0.1:4",
        advertise_addr="192.168.0.7",
        bootstrap=("static:10.0.0.8:2", "static:seed:2", "dns:peers", "dns:peers:3", "lan"),
        cluster="home",
        cluster_secret_file="/secret",
        mirror=("ghcr.io",),
        filter=("^a", "b$"),
        origin="relay",
        verify="always",
        tags="upstream",
        stale_private=("r.example/base",),
        protect=("Docker.io/library", "r.example:5000"),
        docker_config="config.json",
        hosts_dir="/hosts",
        add_registries="off",
        stale_tags="on",
        containerd_config_path="/a:/b",
        log_level="debug",
        log_format="text",
    )
    assert found == Resolved(
        ServeSettings(
            store=DirectoryStoreSettings(store_dir=Path("/store"), cache_size_bytes=2**30),
            data_dir=Path("/data"),
            registry_addr=Address("::1", 1),
            peer_addr=Address("10.0.0.7", 2),
            admin_addr=Address("127.0.0.1", 3),
            metrics_addr=Address("127.0.0.1", 4),
            advertise_addr="192.168.0.7",
            bootstrap=(
                StaticBootstrap(Address("10.0.0.8", 2)),
                StaticBootstrap(Address("seed", 2)),
                DnsBootstrap("peers", 2),
                DnsBootstrap("peers", 3),
                LanBootstrap(),
            ),
            cluster="home",
            cluster_secret_file=Path("/secret"),
            mirrors=("ghcr.io",),
            filters=(re.compile("^a"), re.compile("b$")),
            origin=OriginUse.RELAY,
            verify=Verify.ALWAYS,
            tags=Tags.UPSTREAM,
            stale_private=(ImageScope("r.example", "base"),),
            protect=(ImageScope("docker.io", "library"), ImageScope("r.example:5000", "")),
            docker_config=Path("/work dir/config.json"),
            spool_size_bytes=2**30,
            hosts=HostsSettings(
                hosts_dir=Path("/hosts"),
                registry_url="http://[::1]:1",
                stale_tags=StaleTags.ON,
                containerd_config_path="/a:/b",
                add_registries=False,
            ),
            log_level=LogLevel.DEBUG,
            log_format=LogFormat.TEXT,
        ),
        (),
    )


def test_what_depends_on_the_machine() -> None:
    without_ipv6 = dataclasses.replace(AROUND, has_ipv6=False)
    assert serve(without_ipv6, metrics_addr=":4").settings.peer_addr == Address("0.0.0.0", 29021)
    assert serve(without_ipv6, metrics_addr=":4").settings.metrics_addr == Address("0.0.0.0", 4)
    assert serve(metrics_addr=":4").settings.metrics_addr == Address("::", 4)
    on_terminal = dataclasses.replace(AROUND, is_terminal=True)
    assert serve(on_terminal).settings.log_format is LogFormat.TEXT
    assert serve(on_terminal, log_format="json").settings.log_format is LogFormat.JSON


def test_relative_paths_are_made_absolute() -> None:
    found = serve(store="directory", store_dir="a", data_dir="b/c", cluster_secret_file="d").settings
    assert isinstance(found.store, DirectoryStoreSettings)
    assert found.store.store_dir == Path("/work dir/a")
    assert found.data_dir == Path("/work dir/b/c")
    assert found.cluster_secret_file == Path("/work dir/d")
    store = serve(containerd_sock="unix://s", containerd_content_path="t").settings.store
    assert store == ContainerdStoreSettings(Path("/work dir/s"), ("k8s.io",), Path("/work dir/t"), 10 * 2**30)
    assert configure(hosts_dir="h").settings.hosts.hosts_dir == Path("/work dir/h")


def test_auto_is_the_directory_store_where_its_directory_is_named() -> None:
    assert isinstance(serve().settings.store, ContainerdStoreSettings)
    assert isinstance(serve(store_dir="/s").settings.store, DirectoryStoreSettings)
    assert isinstance(serve(store="containerd", store_dir="/s").settings.store, ContainerdStoreSettings)


def test_the_directory_store_is_in_the_data_directory_by_default() -> None:
    assert serve(store="directory").settings.store == DirectoryStoreSettings(DATA_DIR / "store", 10 * 2**30)
    assert serve(store="directory", data_dir="/d").settings.store == DirectoryStoreSettings(
        Path("/d/store"), 10 * 2**30
    )


def test_a_setting_without_effect_is_a_warning() -> None:
    assert serve(store="directory", containerd_sock="/s", containerd_namespace=("a",)).warnings == (
        "--containerd-sock has no effect on the directory store",
        "--containerd-namespace has no effect on the directory store",
    )
    assert serve(store="containerd", store_dir="/s").warnings == (
        "--store-dir has no effect on containerd's store",
    )
    assert serve(advertise_addr="10.0.0.7").warnings == (
        "--advertise-addr has no effect without --cluster-secret-file: "
        "others take the address that datagrams come from",
    )
    assert serve(advertise_addr="10.0.0.7", cluster_secret_file="/s").warnings == ()
    assert serve(bootstrap=("lan",), peer_addr="127.0.0.1:1").warnings == (
        "--bootstrap lan finds nobody: --peer-addr 127.0.0.1:1 is reached from this host alone",
    )
    assert serve(bootstrap=("lan",)).warnings == ()
    assert serve(cluster="home").warnings == ()


def test_listeners_beyond_loopback_are_a_warning() -> None:
    assert serve(registry_addr="10.0.0.7:29020").warnings == (
        "--registry-addr 10.0.0.7:29020 is not loopback: whoever reaches it can read cached images by digest",
    )
    assert serve(registry_addr=":29020").warnings[0].startswith("--registry-addr [::]:29020 is not loopback")
    assert serve(admin_addr="0.0.0.0:29022").warnings == (
        "--admin-addr 0.0.0.0:29022 is not loopback: whoever reaches it can see what this host pulls",
    )
    assert serve(registry_addr="[::1]:29020", admin_addr="127.0.0.2:1", peer_addr=":2").warnings == ()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"admin_addr": "127.0.0.1:29020"},
            "--admin-addr: '127.0.0.1:29020' is taken by --registry-addr 127.0.0.1:29020: choose another port",
        ),
        (
            {"peer_addr": ":29020"},
            "--peer-addr: '[::]:29020' is taken by --registry-addr 127.0.0.1:29020: choose another port",
        ),
        (
            {"registry_addr": "127.0.0.1:29022"},
            "--registry-addr: '127.0.0.1:29022' is taken by --admin-addr 127.0.0.1:29022: choose another port",
        ),
        (
            {"registry_addr": "127.0.0.1:1", "peer_addr": "127.0.0.1:1"},
            "--peer-addr: '127.0.0.1:1' is taken by --registry-addr 127.0.0.1:1: choose another port",
        ),
        (
            {"metrics_addr": "127.0.0.1:29021"},
            "--metrics-addr: '127.0.0.1:29021' is taken by --peer-addr [::]:29021: choose another port",
        ),
    ],
)
def test_two_listeners_at_one_address(flags: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        serve(AROUND, **flags)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("peer_addr", "advertised"),
    [
        (":29021", "10.0.0.7"),
        (":29021", "fd00::7"),
        ("0.0.0.0:29021", "10.0.0.7"),
        ("10.0.0.7:29021", "203.0.113.7"),
        ("[fd00::7]:29021", "fd00::8"),
        ("[::ffff:10.0.0.7]:29021", "10.0.0.8"),
        ("127.0.0.2:29021", "127.0.0.1"),
        ("10.0.0.7:0", "10.0.0.7"),
    ],
)
def test_an_advertised_address_may_be_another_than_the_one_listened_at(
    peer_addr: str, advertised: str
) -> None:
    found = serve(peer_addr=peer_addr, advertise_addr=advertised, cluster_secret_file="/s")
    assert (found.settings.advertise_addr, found.warnings) == (advertised, ())


@pytest.mark.parametrize(
    ("peer_addr", "advertised", "reason"),
    [
        ("127.0.0.1:29021", "10.0.0.7", "loopback is reached from this host alone"),
        ("10.0.0.7:29021", "127.0.0.1", "loopback is reached from this host alone"),
        (":29021", "::1", "loopback is reached from this host alone"),
        ("10.0.0.7:29021", "fd00::7", "which listens to the other IP version"),
        ("0.0.0.0:29021", "fd00::7", "which listens to the other IP version"),
        ("[fd00::7]:29021", "10.0.0.7", "which listens to the other IP version"),
    ],
)
def test_an_advertised_address_must_lead_to_the_listener(
    peer_addr: str, advertised: str, reason: str
) -> None:
    with pytest.raises(
        SettingsError, match=rf"^--advertise-addr: '{advertised}' does not lead to --peer-addr .*{reason}"
    ):
        serve(peer_addr=peer_addr, advertise_addr=advertised, cluster_secret_file="/s")


def test_the_hosts_address_is_advertised_where_nothing_else_is_said() -> None:
    def advertised(flags: dict[str, str], **variables: str) -> str | None:
        values = read(Command.SERVE, flags, variables)
        return resolve.serve(values, AROUND, DATA_DIR).settings.advertise_addr

    assert advertised({}, PEILI_HOST_IP="10.0.0.1") == "10.0.0.1"
    assert advertised({}, PEILI_HOST_IP="10.0.0.1", PEILI_ADVERTISE_ADDR="10.0.0.2") == "10.0.0.2"
    assert advertised({"advertise_addr": "10.0.0.3"}, PEILI_HOST_IP="10.0.0.1") == "10.0.0.3"
    with pytest.raises(SettingsError, match=r"^--advertise-addr: 'x' is not .* \(from PEILI_HOST_IP\)$"):
        advertised({}, PEILI_HOST_IP="x")
    with pytest.raises(SettingsError, match=r"does not lead to .* \(from PEILI_HOST_IP\)$"):
        advertised({"peer_addr": "127.0.0.1:1"}, PEILI_HOST_IP="10.0.0.1")


def test_a_dns_bootstrap_needs_a_port_where_ours_is_any() -> None:
    with pytest.raises(
        SettingsError, match=r"^--bootstrap: 'dns:peers' has no port, and --peer-addr \[::\]:0"
    ):
        serve(peer_addr=":0", bootstrap=("dns:peers",))
    assert serve(peer_addr=":0", bootstrap=("dns:peers:1",)).settings.bootstrap == (DnsBootstrap("peers", 1),)


@pytest.mark.parametrize(
    ("flag", "flags"),
    [
        ("--peer-addr", {"peer_addr": "8.8.8.8:29021"}),
        ("--peer-addr", {"peer_addr": "[2001:4860:4860::8888]:29021"}),
        ("--bootstrap", {"bootstrap": ("static:10.0.0.8:1", "static:8.8.8.8:29021")}),
    ],
)
def test_a_public_address_needs_a_secret(flag: str, flags: dict[str, str | tuple[str, ...]]) -> None:
    with pytest.raises(SettingsError, match=rf"^{flag}: '.*:29021' is a public address: without --cluster"):
        serve(AROUND, **flags)
    assert serve(AROUND, cluster_secret_file="/s", **flags).warnings == ()


@pytest.mark.parametrize(
    "host", ["10.0.0.8", "[fd00::8]", "[fe80::8%eth0]", "100.64.0.8", "127.0.0.1", "seed"]
)
def test_private_addresses_and_names_need_no_secret(host: str) -> None:
    assert len(serve(bootstrap=(f"static:{host}:29021",)).settings.bootstrap) == 1


def test_an_error_across_settings_names_the_variable() -> None:
    values = read(Command.SERVE, {}, {"PEILI_ADMIN_ADDR": "127.0.0.1:29020"})
    with pytest.raises(SettingsError, match=r"^--admin-addr: .* \(from PEILI_ADMIN_ADDR\)$"):
        resolve.serve(values, AROUND, DATA_DIR)


def test_listeners_on_any_free_port_never_collide() -> None:
    serve(registry_addr="127.0.0.1:0", peer_addr="127.0.0.1:0", admin_addr="127.0.0.1:0")


def test_warnings_of_reading_are_kept() -> None:
    values = read(Command.SERVE, {"mirror": ("a.io", "a.io")}, {})
    assert resolve.serve(values, AROUND, DATA_DIR).warnings == tuple(values.warnings) != ()
    values = read(Command.CONFIGURE, {}, {"PEILI_TYPO": "1"})
    assert resolve.configure(values, AROUND).warnings == tuple(values.warnings) != ()
    values = read(Command.CLEANUP, {}, {"PEILI_TYPO": "1"})
    assert resolve.cleanup(values, AROUND).warnings == tuple(values.warnings) != ()


def test_configure_defaults() -> None:
    assert configure().settings == ConfigureSettings(
        hosts=HostsSettings(
            hosts_dir=Path("/etc/containerd/certs.d"),
            registry_url="http://127.0.0.1:29020",
            stale_tags=StaleTags.AUTO,
            containerd_config_path=None,
            add_registries=False,
        ),
        tags=Tags.UPSTREAM,
        mirrors=(),
        containerd_sock=Path("/run/containerd/containerd.sock"),
    )


def test_configure_set() -> None:
    assert configure(
        hosts_dir="/h",
        registry_addr="[::1]:5000",
        tags="off",
        mirror=("Docker.io", "r:1"),
        containerd_config_path="/a:/b",
        stale_tags="off",
        containerd_sock="/s",
    ).settings == ConfigureSettings(
        hosts=HostsSettings(
            hosts_dir=Path("/h"),
            registry_url="http://[::1]:5000",
            stale_tags=StaleTags.OFF,
            containerd_config_path="/a:/b",
            add_registries=False,
        ),
        tags=Tags.OFF,
        mirrors=("docker.io", "r:1"),
        containerd_sock=Path("/s"),
    )


@pytest.mark.parametrize("address", [":5000", "0.0.0.0:5000", "[::]:5000"])
def test_configure_points_containerd_to_loopback_where_serve_listens_everywhere(address: str) -> None:
    assert configure(registry_addr=address).settings.hosts.registry_url == "http://127.0.0.1:5000"


def test_configure_needs_a_port() -> None:
    with pytest.raises(
        SettingsError, match=r"^--registry-addr: '127\.0\.0\.1:0' has port 0: containerd needs"
    ):
        configure(registry_addr="127.0.0.1:0")


def test_described_is_what_the_log_shows() -> None:
    settings = serve(
        store_dir="/s", bootstrap=("static:[fd00::8]:2",), filter=("^a", "b"), cluster_secret_file="/secret"
    ).settings
    described = resolve.described(settings)
    assert described == {
        "store": "directory",
        "store_dir": "/s",
        "cache_size_bytes": 10737418240,
        "data_dir": "/default data",
        "registry_addr": "127.0.0.1:29020",
        "peer_addr": "[::]:29021",
        "admin_addr": "127.0.0.1:29022",
        "metrics_addr": None,
        "advertise_addr": None,
        "bootstrap": ["static:[fd00::8]:2"],
        "cluster": "peili",
        "cluster_secret_file": "/secret",
        "mirrors": [],
        "filters": ["^a", "b"],
        "origin": "steer",
        "verify": "auto",
        "tags": "upstream",
        "stale_private": [],
        "protect": [],
        "docker_config": None,
        "spool_size_bytes": 10737418240,
        "hosts_dir": "/etc/containerd/certs.d",
        "registry_url": "http://127.0.0.1:29020",
        "stale_tags": "auto",
        "containerd_config_path": None,
        "add_registries": True,
        "log_level": "info",
        "log_format": "json",
    }
    assert json.loads(json.dumps(described)) == described
    assert resolve.described(serve().settings)["store"] == "containerd"
    assert resolve.described(serve().settings)["containerd_namespaces"] == ["k8s.io"]
